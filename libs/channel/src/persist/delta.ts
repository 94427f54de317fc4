/** What a step writes: the difference between two states, as rows and blobs. */
import { equalBytes } from '@fulmen/codec';
import { MAX_COMMITMENT_NUMBER } from '@fulmen/keys';
import type { SecretStore } from '@fulmen/keys';
import type { HtlcBody, HtlcDirection } from '../htlc.ts';
import type { PersistedDelta } from '../persist.ts';
import type { ChannelState, EstablishedChannel, Funding, Htlc } from '../state.ts';
import { encodeColdChannel, encodeOpening } from './cold.ts';
import { encodeHot, encodeHotOpening } from './hot.ts';
import { encodeSignatures } from './signatures.ts';

/**
 * The delta from what is persisted (undefined: nothing is) to `next`. To be
 * applied in this order: `settledHtlcs` deletes bodies and removals, then
 * `newHtlcs` and `newRemovals` are upserted. After a disconnect an id may come
 * back with another body, and a removal that was rolled back with another
 * content; a removal that the hot blob does not name is void.
 */
export function persistDelta(previous: ChannelState | undefined, next: ChannelState): PersistedDelta {
  if (next.type === 'opening') {
    const cold = previous === next ? undefined : encodeOpening(next);
    return {
      hot: encodeHotOpening(),
      ...(cold === undefined ? {} : { cold }),
      newHtlcs: [],
      newRemovals: [],
      settledHtlcs: [],
      secretBuckets: [],
    };
  }
  const before = previous?.type === 'established' ? previous : undefined;
  const cold = coldDelta(before, next);
  return {
    hot: encodeHot(next),
    ...(cold === undefined ? {} : { cold }),
    ...htlcDelta(before?.changes.htlcs ?? [], next.changes.htlcs),
    secretBuckets: secretDelta(before?.changes.counterpartySecrets, next.changes.counterpartySecrets),
    ...(before !== undefined && sameSignatures(before.fundings, next.fundings)
      ? {}
      : { holderSignatures: encodeSignatures(next) }),
  };
}

/** The encoding is compared only when a part was replaced by another object. */
function coldDelta(before: EstablishedChannel | undefined, next: EstablishedChannel): Uint8Array | undefined {
  if (before !== undefined) {
    const sameParts =
      before.parameters === next.parameters &&
      before.phase === next.phase &&
      before.aliasScid === next.aliasScid &&
      before.counterpartyAliasScid === next.counterpartyAliasScid &&
      before.fundings.length === next.fundings.length &&
      before.fundings.every(
        (funding, i) =>
          funding.confirmation === next.fundings[i]?.confirmation &&
          funding.announcement === next.fundings[i]?.announcement,
      );
    if (sameParts) return undefined;
  }
  const encoded = encodeColdChannel(next);
  return before !== undefined && equalBytes(encodeColdChannel(before), encoded) ? undefined : encoded;
}

type HtlcDelta = Pick<PersistedDelta, 'newHtlcs' | 'newRemovals' | 'settledHtlcs'>;

function htlcDelta(before: readonly Htlc[], next: readonly Htlc[]): HtlcDelta {
  const known = new Map(before.map((htlc) => [keyOf(htlc.body), htlc]));
  const newHtlcs: HtlcBody[] = [];
  const newRemovals: PersistedDelta['newRemovals'][number][] = [];
  const settledHtlcs: { readonly direction: HtlcDirection; readonly id: bigint }[] = [];
  for (const htlc of next) {
    const { direction, id } = htlc.body;
    const old = known.get(keyOf(htlc.body));
    known.delete(keyOf(htlc.body));
    const isSame = old !== undefined && sameBody(old.body, htlc.body);
    if (!isSame) {
      if (old !== undefined) settledHtlcs.push({ direction, id });
      newHtlcs.push(htlc.body);
    }
    const oldRemoval = isSame && 'removal' in old ? old.removal : undefined;
    if ('removal' in htlc && htlc.removal !== oldRemoval)
      newRemovals.push({ direction, id, removal: htlc.removal });
  }
  for (const { body } of known.values()) settledHtlcs.push({ direction: body.direction, id: body.id });
  return { newHtlcs, newRemovals, settledHtlcs };
}

function keyOf({ direction, id }: HtlcBody): string {
  return `${direction}:${id}`;
}

function sameBody(a: HtlcBody, b: HtlcBody): boolean {
  return (
    a === b ||
    (a.amountMsat === b.amountMsat &&
      a.cltvExpiryHeight === b.cltvExpiryHeight &&
      equalBytes(a.paymentHash, b.paymentHash) &&
      equalBytes(a.onionRoutingPacket, b.onionRoutingPacket) &&
      equalBytes(a.pathKey ?? new Uint8Array(0), b.pathKey ?? new Uint8Array(0)))
  );
}

function sameSignatures(before: readonly Funding[], next: readonly Funding[]): boolean {
  return (
    before.length === next.length &&
    before.every(
      (funding, i) =>
        funding.signature === next[i]?.signature && funding.htlcSignatures === next[i].htlcSignatures,
    )
  );
}

function secretDelta(before: SecretStore | undefined, next: SecretStore): PersistedDelta['secretBuckets'] {
  if (before === next) return [];
  return next.slots.flatMap((secret, bucket) => {
    const old = before?.slots[bucket];
    return old === secret ? [] : [{ bucket, index: indexInBucket(next.count, bucket), secret }];
  });
}

/** The newest index (BOLT 3; counting down from 2^48 - 1) with this many trailing zeros, after `count` secrets. */
function indexInBucket(count: bigint, bucket: number): bigint {
  if (bucket === 48) return 0n;
  const newest = MAX_COMMITMENT_NUMBER + 1n - count;
  const unit = 1n << BigInt(bucket);
  return (((newest + unit - 1n) / unit) | 1n) * unit;
}
