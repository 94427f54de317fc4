/**
 * What waits to be sent to one peer: channel and control messages first and in
 * order, gossip when nothing else waits. Bounded in bytes.
 */
import { OUTBOUND_GOSSIP_LIMIT_BYTES, OUTBOUND_LIMIT_BYTES } from '../limits.ts';

export interface OutboundItem {
  readonly message: Uint8Array;
  /** The manager's number, of which the sending is reported. */
  readonly number?: bigint;
}

export class OutboundQueue {
  #urgent: OutboundItem[] = [];
  #gossip: OutboundItem[] = [];
  #urgentBytes = 0;
  #gossipBytes = 0;

  /** Channel and control bytes. */
  get urgentBytes(): number {
    return this.#urgentBytes;
  }

  get gossipBytes(): number {
    return this.#gossipBytes;
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
    const from = (items: OutboundItem[]): number => {
      let count = 0;
      let moved = 0;
      for (const item of items) {
        if (taken.length > 0 && bytes + item.message.length > maxBytes) break;
        taken.push(item);
        bytes += item.message.length;
        moved += item.message.length;
        count += 1;
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
