/**
 * Attribution data (BOLT 4, "Initialization of attribution_data" and after):
 * hold times and truncated HMACs that let the origin of a payment see how long
 * each hop held an HTLC, and which hop garbled a failure. The same block
 * travels in `update_fail_htlc` and, covering no message, in
 * `update_fulfill_htlc`.
 *
 * Layout: 20 hold times (u32, units of 100 ms), then 210 HMACs of 4 bytes.
 * `hmac_x_y` was added by the node x hops downstream of the one that holds the
 * block, for the case that the route ends y hops further on; node x keeps 20−x
 * of them, largest y first.
 */
import { concatBytes } from '@fulmen/codec';
import { constantTimeEqual, hmacSha256 } from '@fulmen/crypto';
import { deriveKey, deriveStream, xorInto } from './keys.ts';

/** Hops that attribution data has room for. */
export const ATTRIBUTION_MAX_HOPS = 20;
const HOLD_TIME_LENGTH = 4;
const SHORT_HMAC_LENGTH = 4;
const HOLD_TIMES_LENGTH = ATTRIBUTION_MAX_HOPS * HOLD_TIME_LENGTH;
const HMAC_COUNT = (ATTRIBUTION_MAX_HOPS * (ATTRIBUTION_MAX_HOPS + 1)) / 2;
/** Bytes of attribution data: 920. */
export const ATTRIBUTION_DATA_LENGTH = HOLD_TIMES_LENGTH + HMAC_COUNT * SHORT_HMAC_LENGTH;

const U32_MAX = 0xffff_ffff;

/** What the origin reads out of attribution data. */
export interface Attribution {
  /**
   * Hold times from the first hop on, in units of 100 ms, for as many hops as
   * their HMACs are right; 0 means that the hop does not tell.
   */
  readonly holdTimes: readonly number[];
  /** The first hop whose HMAC is wrong: it, or the one after it, garbled the data (or does not support it). */
  readonly invalidHopIndex: number | undefined;
}

/** Offset of hmac_x_y in the block. */
function hmacOffset(x: number, y: number): number {
  const before = x * ATTRIBUTION_MAX_HOPS - (x * (x - 1)) / 2;
  return HOLD_TIMES_LENGTH + (before + ATTRIBUTION_MAX_HOPS - 1 - x - y) * SHORT_HMAC_LENGTH;
}

function hmacAt(block: Uint8Array, x: number, y: number): Uint8Array {
  const offset = hmacOffset(x, y);
  return block.subarray(offset, offset + SHORT_HMAC_LENGTH);
}

/** hmac_0_y over the packet, the first y+1 hold times and the y HMACs downstream. */
function shortHmac(umKey: Uint8Array, packet: Uint8Array, block: Uint8Array, y: number): Uint8Array {
  const parts = [packet, block.subarray(0, (y + 1) * HOLD_TIME_LENGTH)];
  for (let x = 1; x <= y; x++) parts.push(hmacAt(block, x, y - x));
  return hmacSha256(umKey, concatBytes(...parts)).subarray(0, SHORT_HMAC_LENGTH);
}

/**
 * A node's contribution: shifts what came from downstream, adds its hold time
 * and HMACs, and obfuscates the block.
 *
 * @param sharedSecret of this hop's onion.
 * @param packet the return packet before this hop's obfuscation; empty for a fulfil.
 * @param downstream the block received; undefined at the erring or final node,
 *   and when the downstream peer sent none (BOLT 4: "MUST instantiate an
 *   all-zeroes attribution_data block").
 * @param holdTime how long this node held the HTLC, in units of 100 ms.
 */
export function addAttribution(
  sharedSecret: Uint8Array,
  packet: Uint8Array,
  downstream: Uint8Array | undefined,
  holdTime: number,
): Uint8Array {
  const block = new Uint8Array(ATTRIBUTION_DATA_LENGTH);
  if (downstream !== undefined && downstream.length === ATTRIBUTION_DATA_LENGTH) {
    block.set(downstream.subarray(0, HOLD_TIMES_LENGTH - HOLD_TIME_LENGTH), HOLD_TIME_LENGTH);
    // hmac_x_y becomes hmac_(x+1)_y; "The left-most HMAC for each hop is discarded."
    for (let x = 0; x < ATTRIBUTION_MAX_HOPS - 1; x++) {
      for (let y = 0; x + 1 + y < ATTRIBUTION_MAX_HOPS; y++) {
        block.set(hmacAt(downstream, x, y), hmacOffset(x + 1, y));
      }
    }
  }
  new DataView(block.buffer).setUint32(0, Math.max(0, Math.min(Math.floor(holdTime), U32_MAX)));
  const umKey = deriveKey('um', sharedSecret);
  for (let y = 0; y < ATTRIBUTION_MAX_HOPS; y++)
    block.set(shortHmac(umKey, packet, block, y), hmacOffset(0, y));
  xorInto(block, deriveStream('ammagext', sharedSecret, ATTRIBUTION_DATA_LENGTH));
  return block;
}

/** The block one hop further downstream, after its hop's layer was removed. */
function unshift(block: Uint8Array): Uint8Array {
  const out = new Uint8Array(ATTRIBUTION_DATA_LENGTH);
  out.set(block.subarray(HOLD_TIME_LENGTH, HOLD_TIMES_LENGTH), 0);
  for (let x = 1; x < ATTRIBUTION_MAX_HOPS; x++) {
    for (let y = 0; x + y < ATTRIBUTION_MAX_HOPS; y++) out.set(hmacAt(block, x, y), hmacOffset(x - 1, y));
  }
  return out;
}

/** Walks the block hop by hop beside the packet; used by `unwrapFailure` and `unwrapFulfillAttribution`. */
export class AttributionReader {
  readonly #hopCount: number;
  readonly #holdTimes: number[] = [];
  #block: Uint8Array | undefined;
  #hopIndex = 0;
  #invalidHopIndex: number | undefined;

  /** A block of another length than 920 counts as wrong from the first hop on. */
  constructor(block: Uint8Array, hopCount: number) {
    this.#hopCount = hopCount;
    this.#block = block.length === ATTRIBUTION_DATA_LENGTH ? block.slice() : undefined;
    if (this.#block === undefined) this.#invalidHopIndex = 0;
  }

  /** Removes one hop's layer; `packet` is the return packet after this hop's obfuscation was removed. */
  next(sharedSecret: Uint8Array, packet: Uint8Array): void {
    const hopIndex = this.#hopIndex++;
    const block = this.#block;
    if (block === undefined || hopIndex >= this.#hopCount) return;
    xorInto(block, deriveStream('ammagext', sharedSecret, ATTRIBUTION_DATA_LENGTH));
    const y = this.#hopCount - 1 - hopIndex;
    if (y >= ATTRIBUTION_MAX_HOPS) {
      // A longer route than the block has room for: its HMACs were pruned, nobody is to blame.
      this.#block = undefined;
      return;
    }
    if (!constantTimeEqual(shortHmac(deriveKey('um', sharedSecret), packet, block, y), hmacAt(block, 0, y))) {
      this.#invalidHopIndex = hopIndex;
      this.#block = undefined;
      return;
    }
    this.#holdTimes.push(new DataView(block.buffer).getUint32(0));
    this.#block = unshift(block);
  }

  /** Nothing downstream of the erring hop has written into the block. */
  stop(): void {
    this.#block = undefined;
  }

  /** What was learnt. */
  result(): Attribution {
    return { holdTimes: this.#holdTimes, invalidHopIndex: this.#invalidHopIndex };
  }
}

/**
 * Reads the attribution data of a fulfilled HTLC.
 *
 * @param sharedSecrets of every hop, from the first to the final one.
 */
export function unwrapFulfillAttribution(
  sharedSecrets: readonly Uint8Array[],
  attributionData: Uint8Array,
): Attribution {
  const reader = new AttributionReader(attributionData, sharedSecrets.length);
  for (const secret of sharedSecrets) reader.next(secret, EMPTY);
  return reader.result();
}

/** A node's contribution to the attribution data of a fulfilled HTLC; see `addAttribution`. */
export function wrapFulfillAttribution(
  sharedSecret: Uint8Array,
  downstream: Uint8Array | undefined,
  holdTime: number,
): Uint8Array {
  return addAttribution(sharedSecret, EMPTY, downstream, holdTime);
}

const EMPTY = new Uint8Array(0);
