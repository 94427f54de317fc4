/**
 * Monitors that come whole, one at a time and beside the updates: however long
 * one takes, and whatever becomes of it, it holds up its own channel only.
 */
import { equalBytes, toHex } from '@fulmen/codec';
import { type ChannelMonitor, decodeMonitor, splitMonitor, withoutChunks } from '@fulmen/monitor';
import type { MonitorOrigin, TowerFeedServiceService } from '@fulmen/proto/tower/v1/tower';
import { type Client, RpcError } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import { ChainFenceLostError } from '@fulmen/store/chain/chain-store';
import { StatementError, StoreError } from '@fulmen/store/error';
import {
  InboxSetBackError,
  type ReceivedMonitorResult,
  type TowerInbox,
} from '@fulmen/store/tower/tower-store';
import { NotWriterError, type Writer } from '../state/writer.ts';
import { Doorbell } from './doorbell.ts';
import { checkOrigin, FeedFaultError, type JusticeClient } from './origin.ts';
import type { SetBackWatch } from './set-back.ts';

/** Channels whose monitor waits to be fetched; the node names others later. */
const MAX_WANTED = 10_000;
/** Bytes of one monitor: some millions of states. */
const MAX_MONITOR_BYTES = 256 * 1024 * 1024;
/** For one of them, over a slow line. */
const DEADLINE_MS = 600_000;
/** Doubles with each failure. */
const FIRST_RETRY_MS = 1_000;
/** Then it is forgotten; the node names it again if it is still due. */
const MAX_TRIES = 6;
const IDLE_MS = 20_000;

export type FeedClient = Client<TowerFeedServiceService>;

export interface MonitorFetcherPorts {
  readonly towerId: string;
  /** The replica of the node that is asked now. */
  readonly feed: () => FeedClient;
  readonly inbox: Pick<TowerInbox, 'receiveMonitor'>;
  readonly setBack: Pick<SetBackWatch, 'known' | 'saw'>;
  readonly justice: Pick<JusticeClient, 'checkKey'>;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly writer: Pick<Writer, 'lease' | 'exclusive'>;
  /** A monitor is stored in place of an older one. Called while the writer is held. */
  readonly onMoved: (channelId: Uint8Array, monitor: ChannelMonitor) => void;
  /** Something was stored. */
  readonly onStored: () => void;
  /** What came contradicts what is here. */
  readonly onFault: (channelId: Uint8Array, reason: string) => void;
}

interface Wanted {
  readonly channelId: Uint8Array;
  readonly tries: number;
  /** Monotonic; not before. */
  readonly atMs: number;
}

export class MonitorFetcher {
  readonly #ports: MonitorFetcherPorts;
  readonly #doorbell: Doorbell;
  /** By channel id in hex; one of them may be on its way. */
  readonly #wanted = new Map<string, Wanted>();
  readonly #waiting;

  constructor(ports: MonitorFetcherPorts) {
    this.#ports = ports;
    this.#waiting = ports.metrics.gauge('tower_monitors_waiting', 'Monitors that are to be fetched whole');
    this.#doorbell = new Doorbell(ports.runtime);
  }

  /** Channels that the node need not name again. */
  get deferred(): readonly Uint8Array[] {
    return [...this.#wanted.values()].map(({ channelId }) => channelId);
  }

  /** Fetches these, too. Resolves with how many of them are news. */
  want(channelIds: readonly Uint8Array[]): number {
    const before = this.#wanted.size;
    for (const channelId of channelIds) {
      if (this.#wanted.size >= MAX_WANTED) break;
      const id = toHex(channelId);
      if (!this.#wanted.has(id))
        this.#wanted.set(id, { channelId, tries: 0, atMs: this.#ports.runtime.monotonicMs() });
    }
    if (this.#wanted.size > before) this.#doorbell.ring();
    return this.#wanted.size - before;
  }

  /** Until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { runtime, writer } = this.#ports;
    while (!signal.aborted) {
      // The one that writes now asks for itself.
      if (writer.lease === undefined) this.#wanted.clear();
      this.#waiting.set(this.#wanted.size);
      const next = this.#next();
      const inMs = next === undefined ? IDLE_MS : next.atMs - runtime.monotonicMs();
      if (next === undefined || inMs > 0) await this.#doorbell.wait(inMs, signal);
      else await this.#try(next, signal);
    }
  }

  #next(): Wanted | undefined {
    let next: Wanted | undefined;
    for (const one of this.#wanted.values()) if (next === undefined || one.atMs < next.atMs) next = one;
    return next;
  }

  async #try({ channelId, tries }: Wanted, signal: AbortSignal): Promise<void> {
    const { towerId, feed, runtime, logger, onFault, onStored } = this.#ports;
    const id = toHex(channelId);
    try {
      const { progress, mark } = await this.#fetch(channelId, signal);
      onStored();
      const report = { progress: [progress], preimages: [], missing: [], faults: [], mark };
      await feed().acknowledge({ towerId, ...report });
      this.#wanted.delete(id);
    } catch (error) {
      if (signal.aborted) return;
      this.#wanted.delete(id);
      if (error instanceof FeedFaultError) return onFault(channelId, error.message);
      if (!isExpected(error)) throw error;
      logger.warn({ channelId, reason: error.message }, 'a monitor could not be fetched whole');
      if (tries + 1 < MAX_TRIES)
        this.#wanted.set(id, {
          channelId,
          tries: tries + 1,
          atMs: runtime.monotonicMs() + FIRST_RETRY_MS * 2 ** tries,
        });
    }
  }

  async #fetch(channelId: Uint8Array, signal: AbortSignal): Promise<ReceivedMonitorResult> {
    const { inbox, justice, writer, setBack, onMoved } = this.#ports;
    const { updateId, snapshot, origin: wire } = await this.#download(channelId, signal);
    const decoded = decodeMonitor(snapshot);
    if (!decoded.ok) throw new FeedFaultError(`the monitor does not decode: ${decoded.error.message}`);
    const monitor = decoded.value;
    if (monitor.updateId !== updateId || !equalBytes(monitor.parameters.channelId, channelId))
      throw new FeedFaultError('the monitor is not what it is said to be');
    const { origin, watch } = await checkOrigin(justice, channelId, wire);
    // Alone: a channel that is being settled goes on from this monitor, and from none that was read before.
    return writer.exclusive(async (_, lease) => {
      const whole = { channelId, updateId, ...splitMonitor(monitor) };
      const result = await inbox.receiveMonitor(lease, whole, origin, watch, setBack.known);
      setBack.saw(result.mark);
      if (result.outcome === 'taken') onMoved(channelId, withoutChunks(monitor));
      return result;
    });
  }

  async #download(
    channelId: Uint8Array,
    signal: AbortSignal,
  ): Promise<{ readonly updateId: bigint; readonly snapshot: Uint8Array; readonly origin: MonitorOrigin }> {
    const { towerId, feed } = this.#ports;
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    let first: { readonly updateId: bigint; readonly origin: MonitorOrigin } | undefined;
    const call = { signal, deadlineMs: DEADLINE_MS };
    for await (const piece of feed().getMonitor({ towerId, channelId }, call)) {
      if (first === undefined) {
        if (piece.origin === undefined || piece.totalBytes > BigInt(MAX_MONITOR_BYTES))
          throw new RpcError('failed_precondition', 'a monitor without its origin, or too large');
        first = { updateId: piece.updateId, origin: piece.origin };
      }
      bytes += piece.snapshot.length;
      if (bytes > MAX_MONITOR_BYTES) throw new RpcError('resource_exhausted', 'a monitor is too large');
      pieces.push(Uint8Array.from(piece.snapshot));
    }
    if (first === undefined) throw new RpcError('not_found', 'a monitor without a piece');
    return { ...first, snapshot: joined(pieces, bytes) };
  }
}

/** What is tried again: anything else ends the service. */
export function isExpected(error: unknown): error is Error {
  return (
    error instanceof RpcError ||
    error instanceof StoreError ||
    error instanceof StatementError ||
    error instanceof ChainFenceLostError ||
    error instanceof InboxSetBackError ||
    error instanceof NotWriterError
  );
}

function joined(pieces: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
