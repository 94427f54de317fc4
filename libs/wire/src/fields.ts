// The convenience types of BOLT 1, "Fundamental Types", under the names that the messages use.
import { bytes16, fixedBytes, struct, fixedArray, u32, u64 } from '@fulmen/codec';
import type { Coder } from '@fulmen/codec';

export const chainHash: Coder<Uint8Array> = fixedBytes(32);
export const channelId: Coder<Uint8Array> = fixedBytes(32);
export const sha256: Coder<Uint8Array> = fixedBytes(32);
export const secret: Coder<Uint8Array> = fixedBytes(32);
/** Compact r ‖ s. Range and low-S are checked where it is verified. */
export const signature: Coder<Uint8Array> = fixedBytes(64);
/** block << 40 | transaction << 16 | output. */
export const shortChannelIdField: Coder<bigint> = u64;
export const featureVector: Coder<Uint8Array> = bytes16;

/** Hops of which attribution data speaks (BOLT 4, "Attribution Data"). */
export const ATTRIBUTION_HOPS = 20;
/** Truncated HMACs: 20 + 19 + … + 1, 4 bytes each. */
export const ATTRIBUTION_HMACS = 210;

/** Attribution data of update_fulfill_htlc and update_fail_htlc; hold times in units of 100 ms. */
export const attributionData = struct({
  htlcHoldTimes: fixedArray(u32, ATTRIBUTION_HOPS),
  truncatedHmacs: fixedBytes(4 * ATTRIBUTION_HMACS),
});
