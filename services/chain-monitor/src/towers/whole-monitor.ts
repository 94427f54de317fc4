/**
 * A node's monitor whole, as towers take it: what is stored in pieces is put
 * together while it is sent, and never in memory.
 */
import { decodeMonitor, encodeWholeFrame, isSplit } from '@fulmen/monitor';
import { RpcError } from '@fulmen/rpc';
import type { MonitorChunk } from '@fulmen/store/chain/chain-store';
import type { TowerFeedStore } from '@fulmen/store/tower/tower-store';

/** Chunks read at once: somewhat more than 1 MiB at most. */
const CHUNKS_AT_ONCE = 128;

type Store = Pick<TowerFeedStore, 'monitor' | 'measureChunks' | 'readChunks'>;

export interface WholeMonitor {
  readonly updateId: bigint;
  readonly totalBytes: bigint;
  /** Its bytes in order, in parts of any length. */
  readonly parts: AsyncIterable<Uint8Array>;
}

/** Undefined before its first update was drained. @throws RpcError `internal` when the stored monitor cannot be read; store errors */
export async function wholeMonitor(store: Store, channelId: Uint8Array): Promise<WholeMonitor | undefined> {
  const stored = await store.monitor(channelId);
  if (stored === undefined) return undefined;
  const { updateId, snapshot } = stored;
  // A release before this one stored it as it is sent.
  if (!isSplit(snapshot)) return { updateId, totalBytes: BigInt(snapshot.length), parts: one(snapshot) };
  const monitor = decodeMonitor(snapshot);
  if (!monitor.ok) throw new RpcError('internal', `the monitor does not decode: ${monitor.error.message}`);
  const { revokedStates, revokedHtlcs } = monitor.value;
  const { head, middle, tail } = encodeWholeFrame(monitor.value);
  const archives = [
    { kind: 'state', count: revokedStates.sealedCount },
    { kind: 'htlc', count: revokedHtlcs.sealedCount },
  ] as const;
  let totalBytes = BigInt(head.length + middle.length + tail.length);
  for (const { kind, count } of archives) {
    const { found, bytes } = await store.measureChunks(channelId, kind, count);
    if (found !== count) throw new RpcError('internal', `${count - found} chunks of the monitor are missing`);
    totalBytes += bytes;
  }
  const [states, htlcs] = archives;
  // Chunks never change, so that what the snapshot counts stays what it is while updates go on.
  async function* parts(): AsyncGenerator<Uint8Array> {
    yield head;
    yield* chunksOf(store, channelId, states);
    yield middle;
    yield* chunksOf(store, channelId, htlcs);
    yield tail;
  }
  return { updateId, totalBytes, parts: parts() };
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* chunksOf(
  store: Store,
  channelId: Uint8Array,
  { kind, count }: { readonly kind: MonitorChunk['kind']; readonly count: number },
): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < count; from += CHUNKS_AT_ONCE)
    yield* await store.readChunks(channelId, kind, { from, until: Math.min(from + CHUNKS_AT_ONCE, count) });
}

/** The same bytes in pieces of one length; the last may be shorter. */
export async function* inPieces(
  parts: AsyncIterable<Uint8Array>,
  length: number,
): AsyncGenerator<Uint8Array> {
  let piece = new Uint8Array(length);
  let filled = 0;
  for await (const part of parts)
    for (let at = 0; at < part.length;) {
      const taken = part.subarray(at, at + length - filled);
      piece.set(taken, filled);
      filled += taken.length;
      at += taken.length;
      if (filled < length) continue;
      yield piece;
      piece = new Uint8Array(length);
      filled = 0;
    }
  if (filled > 0) yield piece.subarray(0, filled);
}
