/**
 * What waits to be sent to one peer: channel and control messages first and in
 * order, gossip when nothing else waits. Bounded in bytes.
 */
import { encodeMessage, make } from '@fulmen/wire';
import {
  FRAME_OVERHEAD_BYTES,
  OUTBOUND_GOSSIP_LIMIT_BYTES,
  OUTBOUND_LIMIT_BYTES,
  OUTBOUND_PAUSE_BYTES,
  PONG_BURST,
} from '../limits.ts';

export interface OutboundItem {
  readonly message: Uint8Array;
  /** The manager's number, of which the sending is reported. */
  readonly number?: bigint;
}

/** A ping of six bytes asks for a pong of 64 KiB: until it is sent, only its length is kept. */
interface WaitingPong {
  readonly pongLength: number;
}

/** The type and the length before what a pong repeats. */
const PONG_HEADER_BYTES = 4;

export class OutboundQueue {
  #urgent: (OutboundItem | WaitingPong)[] = [];
  #gossip: OutboundItem[] = [];
  #urgentBytes = 0;
  #gossipBytes = 0;
  #pongs = 0;

  /** Channel and control bytes that are held. */
  get urgentBytes(): number {
    return this.#urgentBytes;
  }

  get gossipBytes(): number {
    return this.#gossipBytes;
  }

  /** So much is held of what the counterparty does not read that it must not be read either: what it says would be answered. */
  get isCrowded(): boolean {
    const overheadBytes = (this.#urgent.length - this.#pongs) * FRAME_OVERHEAD_BYTES;
    return this.#urgentBytes + overheadBytes >= OUTBOUND_PAUSE_BYTES;
  }

  get isEmpty(): boolean {
    return this.#urgent.length + this.#gossip.length === 0;
  }

  /** False at the limit: the connection must end, for nothing may be left out. */
  pushUrgent(item: OutboundItem): boolean {
    if (this.#urgentBytes + item.message.length > OUTBOUND_LIMIT_BYTES) return false;
    this.#urgent.push(item);
    this.#urgentBytes += item.message.length;
    return true;
  }

  /** Promises a pong in its place among the messages; false when too many wait already. */
  pushPong(pongLength: number): boolean {
    if (this.#pongs >= PONG_BURST) return false;
    this.#urgent.push({ pongLength });
    this.#pongs += 1;
    return true;
  }

  /** False when the message was dropped. */
  pushGossip(message: Uint8Array): boolean {
    if (this.#gossipBytes + message.length > OUTBOUND_GOSSIP_LIMIT_BYTES) return false;
    this.#gossip.push({ message });
    this.#gossipBytes += message.length;
    return true;
  }

  /** Takes what is to be sent next: one item at least, more while they fit in `maxBytes`. */
  take(maxBytes: number): OutboundItem[] {
    const taken: OutboundItem[] = [];
    let bytes = 0;
    const from = (items: (OutboundItem | WaitingPong)[]): number => {
      let count = 0;
      let moved = 0;
      for (const item of items) {
        const length = lengthOf(item);
        if (taken.length > 0 && bytes + length > maxBytes) break;
        bytes += length;
        count += 1;
        if ('pongLength' in item) {
          taken.push({ message: pongOf(item) });
          this.#pongs -= 1;
        } else {
          taken.push(item);
          moved += length;
        }
      }
      items.splice(0, count);
      return moved;
    };
    this.#urgentBytes -= from(this.#urgent);
    if (this.#urgent.length === 0) this.#gossipBytes -= from(this.#gossip);
    return taken;
  }

  dropGossip(): void {
    this.#gossip = [];
    this.#gossipBytes = 0;
  }
}

function lengthOf(item: OutboundItem | WaitingPong): number {
  return 'pongLength' in item ? PONG_HEADER_BYTES + item.pongLength : item.message.length;
}

function pongOf({ pongLength }: WaitingPong): Uint8Array {
  return encodeMessage(make('pong', { ignored: new Uint8Array(pongLength) }));
}
