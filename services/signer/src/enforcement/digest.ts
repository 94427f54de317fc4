/** Digests by which an identical retry is recognised. */
import type { CommitmentHtlc, CommitmentSpec } from '@fulmen/channel/commitment-spec';
import { Writer } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';

function compareHtlcs(a: CommitmentHtlc, b: CommitmentHtlc): number {
  if (a.direction !== b.direction) return a.direction === 'outbound' ? -1 : 1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

/** SHA-256 of a commitment's content; the order of its HTLCs does not matter. `point`: the counterparty's per-commitment point. */
export function commitmentDigest(spec: CommitmentSpec, point?: Uint8Array): Uint8Array {
  const writer = new Writer(64 + 64 * spec.htlcs.length);
  writer
    .u64(spec.commitmentNumber)
    .u32(spec.feerateSatPerKw)
    .u64(spec.toHolderMsat)
    .u64(spec.toCounterpartyMsat);
  writer.bytes(point ?? new Uint8Array(0));
  for (const htlc of spec.htlcs.toSorted(compareHtlcs)) {
    writer
      .u8(htlc.direction === 'outbound' ? 1 : 0)
      .u64(htlc.id)
      .u64(htlc.amountMsat);
    writer.bytes(htlc.paymentHash).u32(htlc.cltvExpiryHeight);
  }
  return sha256(writer.finish());
}
