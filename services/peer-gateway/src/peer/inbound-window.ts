/**
 * The frames of one connection on their way to a manager: numbered, waiting
 * until the manager accepted the connection, and bounded by the manager's
 * credit until it acknowledged them.
 */
import { DEFAULT_CREDIT_BYTES, FRAME_OVERHEAD_BYTES, MAX_CREDIT_BYTES } from '../limits.ts';

export interface NumberedFrame {
  /** 1, 2, 3 … within the connection. */
  readonly number: bigint;
  readonly message: Uint8Array;
}

export class InboundWindow {
  #unsent: NumberedFrame[] = [];
  /** What each frame costs that was handed to the link and is not acknowledged, the oldest first. */
  readonly #sentCosts: number[] = [];
  #nextNumber = 1n;
  #acknowledgedThrough = 0n;
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
    this.#unsent.push(frame);
    this.#heldBytes += cost(message);
    return frame;
  }

  /** Frames not yet handed to the link, which hereby are. */
  takeUnsent(): readonly NumberedFrame[] {
    const unsent = this.#unsent;
    this.#unsent = [];
    for (const { message } of unsent) this.#sentCosts.push(cost(message));
    return unsent;
  }

  /** Frees frames through a number that was sent; a credit of 0 leaves it as it is. */
  acknowledge(through: bigint, creditBytes: number): void {
    const count = Number(through - this.#acknowledgedThrough);
    if (count > this.#sentCosts.length) return;
    if (count > 0) {
      for (const freed of this.#sentCosts.splice(0, count)) this.#heldBytes -= freed;
      this.#acknowledgedThrough = through;
    }
    if (creditBytes > 0) this.#creditBytes = Math.min(creditBytes, MAX_CREDIT_BYTES);
  }
}

function cost(message: Uint8Array): number {
  return message.length + FRAME_OVERHEAD_BYTES;
}
