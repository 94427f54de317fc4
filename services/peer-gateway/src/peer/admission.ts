/** Which inbound connections may begin a handshake, and whether there is room for a peer: bounds in all and for each address. */
import { toHex } from '@fulmen/codec';
import { ipAddress } from '@fulmen/wire';
import { type GatewayLimits, MAX_RATED_ADDRESSES, PENDING_HANDSHAKES_SHARE } from '../limits.ts';
import { TokenBucket } from './token-bucket.ts';

/** The bound that was reached. */
export type Refusal =
  | 'per_address'
  | 'pending_handshakes'
  | 'pending_handshakes_per_address'
  | 'handshake_rate';

/** Room for bursts: as many seconds' worth of handshakes at once. */
const BURST_SECONDS = 10;

/** The part of an IPv6 address that names a network, which is the least that anybody has to themselves (RFC 4291). */
const IPV6_NETWORK_BYTES = 8;

/** What counts as one address: IPv6 by the network, since whoever has one address of it has all. */
function addressKey(host: string): string {
  // Any port: only the host is looked at.
  const parsed = ipAddress(host, 1);
  return parsed?.kind === 'ipv6' ? toHex(parsed.address.subarray(0, IPV6_NETWORK_BYTES)) : host;
}

/** How many there are of each address; of one without any nothing is kept. */
class Tally {
  readonly #counts = new Map<string, number>();

  of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  add(key: string): void {
    this.#counts.set(key, this.of(key) + 1);
  }

  remove(key: string): void {
    const left = this.of(key) - 1;
    if (left <= 0) this.#counts.delete(key);
    else this.#counts.set(key, left);
  }
}

export class Admission {
  readonly #limits: GatewayLimits;
  readonly #perAddress = new Tally();
  readonly #pendingPerAddress = new Tally();
  readonly #rates = new Map<string, TokenBucket>();
  #connections = 0;
  #pending = 0;

  constructor(limits: GatewayLimits) {
    this.#limits = limits;
  }

  get connections(): number {
    return this.#connections;
  }

  get pendingHandshakes(): number {
    return this.#pending;
  }

  /**
   * Whether peers take up all connections. Handshakes are bounded apart from them: who is there can be told only after one.
   */
  get isFull(): boolean {
    return this.#connections - this.#pending >= this.#limits.maxConnections;
  }

  /** Counts a new inbound connection in, or names the bound that forbids it. */
  admit(host: string, nowMs: number): Refusal | undefined {
    if (this.#pending >= this.#limits.maxPendingHandshakes) return 'pending_handshakes';
    const key = addressKey(host);
    if (this.#perAddress.of(key) >= this.#limits.maxConnectionsPerAddress) return 'per_address';
    const share = Math.ceil(this.#limits.maxPendingHandshakes / PENDING_HANDSHAKES_SHARE);
    if (this.#pendingPerAddress.of(key) >= share) return 'pending_handshakes_per_address';
    if (!this.#rate(key, nowMs)) return 'handshake_rate';
    this.opened(host);
    this.#pending += 1;
    this.#pendingPerAddress.add(key);
    return undefined;
  }

  /** An outbound connection: counted, never refused. */
  opened(host: string): void {
    this.#connections += 1;
    this.#perAddress.add(addressKey(host));
  }

  /** Handshake and init of an admitted connection ended, well or not. */
  established(host: string): void {
    this.#pending -= 1;
    this.#pendingPerAddress.remove(addressKey(host));
  }

  /** The connection is closed. */
  closed(host: string): void {
    this.#connections -= 1;
    this.#perAddress.remove(addressKey(host));
  }

  #rate(key: string, nowMs: number): boolean {
    let bucket = this.#rates.get(key);
    if (bucket === undefined) {
      if (this.#rates.size >= MAX_RATED_ADDRESSES) this.#forgetIdle(nowMs);
      const perSecond = this.#limits.handshakesPerSecondPerAddress;
      bucket = new TokenBucket({ burst: perSecond * BURST_SECONDS, perSecond, nowMs });
      this.#rates.set(key, bucket);
    }
    return bucket.take(nowMs);
  }

  /** Makes room: addresses that did nothing lately, or else the one known longest. */
  #forgetIdle(nowMs: number): void {
    for (const [key, bucket] of this.#rates) if (bucket.isFull(nowMs)) this.#rates.delete(key);
    const [oldest] = this.#rates.keys();
    if (this.#rates.size >= MAX_RATED_ADDRESSES && oldest !== undefined) this.#rates.delete(oldest);
  }
}
