/** What the in-memory model forgets: the rows that nothing needs any more. */
import type { HtlcSource } from './forwarding-rows.ts';
import type { Fence } from './manager-store.ts';
import { byKey, type MemoryManagerState } from './memory-state.ts';
import { decodeSource, hexKey, sourceKey } from './source.ts';

/** @returns how many rows went: of each kind at most `limit` */
export function prune(
  state: MemoryManagerState,
  {
    limit,
    blockHeight,
    idempotencyMs,
    nowMs,
  }: {
    readonly limit: number;
    readonly blockHeight: number;
    readonly idempotencyMs: number;
    readonly nowMs: number;
  },
): number {
  const taken = byKey(state.resolutions)
    .filter((entry) => entry.taken || isOrphaned(state, entry.resolution.source))
    .map(({ resolution }) => resolution.source);
  const cancelled = [...state.claims]
    .filter(([key, { outcome }]) => outcome === 'cancelled' && state.resolutions.get(key)?.taken !== false)
    .map(([key]) => decodeSource(Uint8Array.from(Buffer.from(key, 'hex'))));
  const prunable = (sources: readonly HtlcSource[]): readonly HtlcSource[] =>
    sources.filter((source) => !state.sourceIsLive(source)).slice(0, limit);
  const ended = new Map(
    [...prunable(taken), ...prunable(cancelled)].map((source) => [sourceKey(source), source]),
  );
  let removed = 0;
  for (const key of ended.keys()) {
    const intent = state.intents.get(key);
    const forward = intent && state.forwardOf(intent);
    if (forward !== undefined && !state.forwardHistory.has(key)) state.forwardHistory.set(key, forward);
    removed += 1;
    state.intents.delete(key);
    state.claims.delete(key);
    state.resolutions.delete(key);
    state.preimages.delete(key);
  }
  const replays = [...state.onionReplays]
    .filter(([, { cltvExpiryHeight }]) => cltvExpiryHeight < blockHeight)
    .slice(0, limit);
  for (const [key] of replays) state.onionReplays.delete(key);
  const keys = [...state.idempotency]
    .filter(([, { createdMs }]) => createdMs < nowMs - idempotencyMs)
    .slice(0, limit);
  for (const [key] of keys) state.idempotency.delete(key);
  const strangers = [...state.connections]
    .filter(([key, peer]) => isForgettable(state, key, peer))
    .slice(0, limit);
  for (const [key] of strangers) state.connections.delete(key);
  return removed + replays.length + keys.length + strangers.length;
}

/** Nobody will take the end of an HTLC whose channel is closed, or of a payment's that was taken before. */
const isOrphaned = (state: MemoryManagerState, source: HtlcSource): boolean =>
  source.type === 'htlc'
    ? state.channels.get(hexKey(source.channelId))?.row.phase === 'closed'
    : !state.intents.has(sourceKey(source));

/** A peer that is away, or whose connection ended with an owner before the present one, and that has nothing here. */
const isForgettable = (
  { peers, channels, shards }: MemoryManagerState,
  key: string,
  {
    gatewayId,
    fence,
  }: { readonly gatewayId: string | undefined; readonly fence: Pick<Fence, 'shard' | 'epoch'> },
): boolean =>
  (gatewayId === undefined || fence.epoch < (shards.get(fence.shard)?.epoch ?? 0n)) &&
  !peers.has(key) &&
  [...channels.values()].every(({ row }) => row.phase === 'closed' || hexKey(row.counterpartyNodeId) !== key);
