/** From rows and blobs to the state that wrote them. */
import { DecodeError, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { SecretStore } from '@fulmen/keys';
import type { HtlcBody, HtlcRemoval } from '../htlc.ts';
import type { PersistedChannel } from '../persist.ts';
import type { ChannelState, Funding, Htlc, HtlcAddState, HtlcRemovalState } from '../state.ts';
import { decodeColdChannel, decodeOpening } from './cold.ts';
import type { HotChannel, HotHtlc } from './hot.ts';
import { decodeHot } from './hot.ts';
import { decodeSignatures } from './signatures.ts';

/** What is persisted does not make a channel: corrupt, or written by a later version. */
export interface RestoreError {
  readonly type:
    | 'unreadable_blob'
    | 'missing_htlc'
    | 'missing_removal'
    | 'missing_secret'
    | 'missing_signatures';
  readonly reason: string;
}

/**
 * The persisted state, exactly. The connection is as it was (a planned
 * hand-over continues it): a shell that starts without one feeds
 * `peer_disconnected` first, which gives back what was never committed.
 */
export function restore(persisted: PersistedChannel): Result<ChannelState, RestoreError> {
  try {
    const hot = decodeHot(persisted.hot);
    if (hot === 'opening') return ok({ type: 'opening', ...decodeOpening(persisted.cold) });
    return restoreEstablished(persisted, hot);
  } catch (error) {
    if (error instanceof DecodeError) return fail('unreadable_blob', error.message);
    throw error;
  }
}

function restoreEstablished(
  persisted: PersistedChannel,
  hot: HotChannel,
): Result<ChannelState, RestoreError> {
  const cold = decodeColdChannel(persisted.cold);
  if (persisted.holderSignatures === undefined)
    return fail('missing_signatures', 'no signatures on the holder commitment');
  const signatures = decodeSignatures(persisted.holderSignatures);
  const fundings: Funding[] = [];
  for (const [i, funding] of cold.fundings.entries()) {
    const balances = hot.balances[i];
    const signed = signatures[i];
    if (balances === undefined || signed === undefined)
      return fail('missing_signatures', `funding ${i} lacks balances or signatures`);
    fundings.push({ ...funding, ...balances, ...signed });
  }
  if (fundings.length === 0) return fail('unreadable_blob', 'a channel has at least one funding');

  const bodies = new Map(persisted.htlcs.map((body) => [`${body.direction}:${body.id}`, body]));
  const removals = new Map(
    persisted.removals.map(({ direction, id, removal }) => [`${direction}:${id}`, removal]),
  );
  const htlcs: Htlc[] = [];
  for (const entry of hot.changes.htlcs) {
    const key = `${entry.direction}:${entry.id}`;
    const htlc = htlcOf(entry, bodies.get(key), removals.get(key));
    if (!htlc.ok) return htlc;
    htlcs.push(htlc.value);
  }
  const secrets = secretsOf(persisted, hot.changes.counterpartySecretCount);
  if (!secrets.ok) return secrets;
  const { counterpartySecretCount: _count, ...changes } = hot.changes;
  return ok({
    type: 'established',
    ...cold,
    changes: { ...changes, htlcs, counterpartySecrets: secrets.value },
    fundings,
    connection: hot.connection,
    monitor: hot.monitor,
  });
}

function htlcOf(
  entry: HotHtlc,
  body: HtlcBody | undefined,
  removal: HtlcRemoval | undefined,
): Result<Htlc, RestoreError> {
  const name = `${entry.direction} HTLC ${entry.id}`;
  if (body === undefined) return fail('missing_htlc', `${name} has no row`);
  // The hot blob has a removal exactly in the removal states.
  if (entry.removalType === undefined) return ok({ body, state: entry.state as HtlcAddState });
  if (removal?.type !== entry.removalType)
    return fail('missing_removal', `${name} has no removal of type ${entry.removalType}`);
  return ok({ body, state: entry.state as HtlcRemovalState, removal });
}

function secretsOf(persisted: PersistedChannel, count: bigint): Result<SecretStore, RestoreError> {
  const filled = count === 0n ? 0 : count.toString(2).length;
  const slots: Uint8Array[] = [];
  const byBucket = new Map(persisted.secretBuckets.map(({ bucket, secret }) => [bucket, secret]));
  for (let bucket = 0; bucket < filled; bucket += 1) {
    const secret = byBucket.get(bucket);
    if (secret?.length !== 32) return fail('missing_secret', `secret bucket ${bucket} is missing`);
    slots.push(secret);
  }
  return ok({ count, slots });
}

function fail(
  type: RestoreError['type'],
  reason: string,
): { readonly ok: false; readonly error: RestoreError } {
  return err({ type, reason });
}
