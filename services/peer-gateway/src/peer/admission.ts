/** Which inbound connections may begin a handshake, and whether there is room for a peer: bounds in all and for each address. */
import { toHex } from '@fulmen/codec';
import { ipAddress } from '@fulmen/wire';
import { type GatewayLimits, MAX_RATED_ADDRESSES } from '../limits.ts';
import { TokenBucket } from './token-bucket.ts';

/** The bound that was reached. */
export type Refusal = 'per_address' | 'pending_handshakes' | 'handshake_rate';

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

export class Admission {
  readonly #limits: GatewayLimits;
  readonly #perAddress = new Map<string, number>();
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
    if ((this.#perAddress.get(key) ?? 0) >= this.#limits.maxConnectionsPerAddress) return 'per_address';
    if (!this.#rate(key, nowMs)) return 'handshake_rate';
    this.opened(host);
    this.#pending += 1;
    return undefined;
  }

  /** An outbound connection: counted, never refused. */
  opened(host: string): void {
    const key = addressKey(host);
    this.#connections += 1;
    this.#perAddress.set(key, (this.#perAddress.get(key) ?? 0) + 1);
  }

  /** Handshake and init of an admitted connection ended, well or not. */
  established(): void {
    this.#pending -= 1;
  }

  /** The connection is closed. */
  closed(host: string): void {
    const key = addressKey(host);
    this.#connections -= 1;
    const left = (this.#perAddress.get(key) ?? 1) - 1;
    if (left <= 0) this.#perAddress.delete(key);
    else this.#perAddress.set(key, left);
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
