/**
 * The frames of one connection on their way to a manager: numbered, kept until
 * acknowledged (so that a link that breaks and returns loses nothing), and
 * bounded by the manager's credit.
 */
import { DEFAULT_CREDIT_BYTES, FRAME_OVERHEAD_BYTES, MAX_CREDIT_BYTES } from '../limits.ts';

export interface NumberedFrame {
  /** 1, 2, 3 … within the connection. */
  readonly number: bigint;
  readonly message: Uint8Array;
}

export class InboundWindow {
  #frames: NumberedFrame[] = [];
  #nextNumber = 1n;
  #sentThrough = 0n;
  #heldBytes = 0;
  #creditBytes = DEFAULT_CREDIT_BYTES;

  /** Bytes that no manager has acknowledged. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** No more may be read from the peer. */
  get isExhausted(): boolean {
    return this.#heldBytes >= this.#creditBytes;
  }

  push(message: Uint8Array): NumberedFrame {
    const frame = { number: this.#nextNumber, message };
    this.#nextNumber += 1n;
    this.#frames.push(frame);
    this.#heldBytes += cost(message);
    return frame;
  }

  /** Frames not yet handed to the link, which hereby are. */
  takeUnsent(): readonly NumberedFrame[] {
    const unsent = this.#frames.filter((frame) => frame.number > this.#sentThrough);
    this.#sentThrough = this.#nextNumber - 1n;
    return unsent;
  }

  /** The link is a new one: everything unacknowledged is to be sent again. */
  rewind(): void {
    this.#sentThrough = 0n;
  }

  /** Frees frames through a number that was sent; a credit of 0 leaves it as it is. */
  acknowledge(through: bigint, creditBytes: number): void {
    if (through > this.#sentThrough) return;
    let count = 0;
    for (const frame of this.#frames) {
      if (frame.number > through) break;
      this.#heldBytes -= cost(frame.message);
      count += 1;
    }
    this.#frames.splice(0, count);
    if (creditBytes > 0) this.#creditBytes = Math.min(creditBytes, MAX_CREDIT_BYTES);
  }
}

function cost(message: Uint8Array): number {
  return message.length + FRAME_OVERHEAD_BYTES;
}
