/**
 * The tower's side of the feed: fetches what the node has for it, stores it,
 * and only then acknowledges. What contradicts what is stored is reported, and
 * nothing of that channel is taken any more until an operator looks.
 */
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { equalBytes, fromHex, toHex } from '@fulmen/codec';
import {
  type ChannelMonitor,
  decodeChannelMonitorUpdate,
  decodeMonitor,
  decodeMonitorParameters,
  type MonitorParameters,
} from '@fulmen/monitor';
import type {
  JusticeSignerServiceService,
  MonitorOrigin,
  PullResponse,
  TowerFeedServiceService,
} from '@fulmen/proto/tower/v1/tower';
import { type Client, RpcError } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime, Task } from '@fulmen/service';
import { ChainFenceLostError } from '@fulmen/store/chain/chain-store';
import { StatementError, StoreError } from '@fulmen/store/error';
import type {
  ChannelFault,
  ChannelProgress,
  ReceivedOrigin,
  ReceivedWatch,
  TowerInbox,
  TowerUpdate,
} from '@fulmen/store/tower/tower-store';
import { NotWriterError, type Writer } from '../state/writer.ts';

const WAIT_MS = 20_000;
const CALL_DEADLINE_MS = 30_000;
const RETRY_MS = 500;
/** Bytes of one monitor: some millions of states. */
const MAX_MONITOR_BYTES = 256 * 1024 * 1024;

export type FeedClient = Client<TowerFeedServiceService>;
export type JusticeClient = Client<JusticeSignerServiceService>;

export interface PullerPorts {
  readonly towerId: string;
  /** The node's replicas, asked in turn. */
  readonly feeds: readonly FeedClient[];
  readonly inbox: TowerInbox;
  readonly justice: Pick<JusticeClient, 'checkKey'>;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Only the writer of the tower's database pulls. */
  readonly writer: Pick<Writer, 'lease' | 'exclusive'>;
  /** Channels whose log does not apply, by id in hex, with why. */
  readonly broken: () => ReadonlyMap<string, string>;
  /** A monitor came whole, and is stored in place of an older one. */
  readonly onMoved: (channelId: Uint8Array, monitor: ChannelMonitor) => void;
  /** Something was stored. */
  readonly onStored: () => void;
  /** Oldest inbound HTLC of channels that moved since the last question: preimages of older ones are of no use. */
  readonly oldestHtlcs: () => readonly { readonly channelId: Uint8Array; readonly htlcId: bigint }[];
}

/** What came does not make sense together with what is here. */
class FeedFaultError extends Error {
  override readonly name = 'FeedFaultError';
}

export class TowerPuller {
  readonly #ports: PullerPorts;
  readonly #faults = new Map<string, string>();
  readonly #reported = new Set<string>();
  readonly #received;
  readonly #faulty;
  #feed = 0;

  constructor(ports: PullerPorts) {
    this.#ports = ports;
    this.#received = ports.metrics.counter('tower_updates_received_total', 'Monitor updates stored here');
    this.#faulty = ports.metrics.gauge(
      'tower_channels_faulty',
      'Channels of which nothing is taken any more',
    );
  }

  start(): Task {
    const { runtime, writer, logger } = this.#ports;
    return runtime.spawn('pull', async (signal) => {
      while (!signal.aborted) {
        try {
          if (writer.lease !== undefined) await this.#round(signal);
          else await runtime.sleep(RETRY_MS, signal);
        } catch (error) {
          if (signal.aborted) return;
          if (!isExpected(error)) throw error;
          logger.warn({ reason: error.message }, 'the node’s feed could not be followed; trying again');
          this.#feed += 1;
          await runtime.sleep(RETRY_MS, signal);
        }
      }
    });
  }

  #client(): FeedClient {
    const client = this.#ports.feeds[this.#feed % this.#ports.feeds.length];
    if (client === undefined) throw new RpcError('failed_precondition', 'no address of the node is known');
    return client;
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { towerId } = this.#ports;
    const feed = this.#client();
    const faults = this.#newFaults();
    if (faults.length > 0) {
      await feed.acknowledge({ towerId, progress: [], preimages: [], missing: [], faults });
      for (const { channelId } of faults) this.#reported.add(toHex(channelId));
    }
    const page = await feed.pull({ towerId, waitMs: WAIT_MS }, { deadlineMs: CALL_DEADLINE_MS, signal });
    const { progress, missing } = await this.#store(page);
    for (const channelId of page.monitors) {
      const got = await this.#fetchMonitor(feed, Uint8Array.from(channelId), signal);
      if (got !== undefined) progress.push(got);
    }
    const preimages = page.preimages.map(({ channelId, htlcId }) => ({ channelId, htlcId }));
    if (progress.length + missing.length + preimages.length > 0) {
      this.#ports.onStored();
      await feed.acknowledge({ towerId, progress, preimages, missing, faults: [] });
    }
    await this.#ports.inbox.forgetPreimages(this.#ports.oldestHtlcs());
  }

  #newFaults(): ChannelFault[] {
    for (const [id, reason] of this.#ports.broken()) this.#fault(id, reason);
    return [...this.#faults]
      .filter(([id]) => !this.#reported.has(id))
      .map(([id, reason]) => ({ channelId: fromHex(id), reason }));
  }

  #fault(id: string, reason: string): void {
    if (this.#faults.has(id)) return;
    this.#faults.set(id, reason);
    this.#faulty.set(this.#faults.size);
    this.#ports.logger.error({ channel: id, reason }, 'ALARM: what the node sent contradicts what is stored');
  }

  async #store(
    page: PullResponse,
  ): Promise<{ readonly progress: ChannelProgress[]; readonly missing: Uint8Array[] }> {
    const origins: ReceivedOrigin[] = [];
    const watches: ReceivedWatch[] = [];
    const updates: TowerUpdate[] = [];
    const skipped = new Set<string>();
    for (const entry of page.updates) {
      const id = toHex(entry.channelId);
      if (this.#faults.has(id) || skipped.has(id)) continue;
      try {
        const update = updateOf(entry);
        if (entry.origin !== undefined) {
          const { origin, watch } = await this.#originOf(update.channelId, entry.origin);
          origins.push(origin);
          watches.push(watch);
        }
        updates.push(update);
      } catch (error) {
        if (!(error instanceof FeedFaultError)) throw error;
        skipped.add(id);
        this.#fault(id, error.message);
      }
    }
    const preimages = page.preimages.map(({ channelId, htlcId, preimage }) => ({
      channelId: Uint8Array.from(channelId),
      htlcId,
      preimage: Uint8Array.from(preimage),
    }));
    if (updates.length + preimages.length === 0) return { progress: [], missing: [] };
    const stored = await this.#ports.inbox.receive({ origins, watches, updates, preimages });
    this.#received.inc(updates.length);
    return { progress: [...stored.progress], missing: [...stored.missing] };
  }

  /** What a channel is born with: its key must open before anything of it is acknowledged. */
  async #originOf(
    channelId: Uint8Array,
    wire: MonitorOrigin,
  ): Promise<{ readonly origin: ReceivedOrigin; readonly watch: ReceivedWatch }> {
    const parameters = Uint8Array.from(wire.parameters);
    const sealedKey = Uint8Array.from(wire.sealedKey);
    const decoded = decodeMonitorParameters(parameters);
    if (!decoded.ok) throw new FeedFaultError(`the parameters do not decode: ${decoded.error.message}`);
    if (!equalBytes(decoded.value.channelId, channelId))
      throw new FeedFaultError('the parameters are of another channel');
    try {
      await this.#ports.justice.checkKey({ parameters, sealedKey });
    } catch (error) {
      if (error instanceof RpcError && error.code === 'permission_denied')
        throw new FeedFaultError(`the justice signer: ${error.message}`);
      throw error;
    }
    return { origin: { channelId, parameters, sealedKey }, watch: watchOf(decoded.value) };
  }

  async #fetchMonitor(
    feed: FeedClient,
    channelId: Uint8Array,
    signal: AbortSignal,
  ): Promise<ChannelProgress | undefined> {
    const id = toHex(channelId);
    if (this.#faults.has(id)) return undefined;
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    let first: { readonly updateId: bigint; readonly origin: MonitorOrigin } | undefined;
    for await (const piece of feed.getMonitor({ towerId: this.#ports.towerId, channelId }, { signal })) {
      if (first === undefined) {
        if (piece.origin === undefined || piece.totalBytes > BigInt(MAX_MONITOR_BYTES))
          throw new RpcError('failed_precondition', 'a monitor without its origin, or too large');
        first = { updateId: piece.updateId, origin: piece.origin };
      }
      bytes += piece.snapshot.length;
      if (bytes > MAX_MONITOR_BYTES) throw new RpcError('resource_exhausted', 'a monitor is too large');
      pieces.push(Uint8Array.from(piece.snapshot));
    }
    if (first === undefined) return undefined;
    try {
      const snapshot = joined(pieces, bytes);
      const monitor = decodeMonitor(snapshot);
      if (!monitor.ok) throw new FeedFaultError(`the monitor does not decode: ${monitor.error.message}`);
      if (
        monitor.value.updateId !== first.updateId ||
        !equalBytes(monitor.value.parameters.channelId, channelId)
      )
        throw new FeedFaultError('the monitor is not what it is said to be');
      const { origin, watch } = await this.#originOf(channelId, first.origin);
      const { writer, inbox, onMoved } = this.#ports;
      const whole = { channelId, updateId: first.updateId, snapshot };
      // Alone: a channel that is being settled goes on from this monitor, and from none that was read before.
      return await writer.exclusive(async (_, lease) => {
        const { outcome, progress } = await inbox.receiveMonitor(lease, whole, origin, watch);
        if (outcome === 'taken') onMoved(channelId, monitor.value);
        return progress;
      });
    } catch (error) {
      if (!(error instanceof FeedFaultError)) throw error;
      this.#fault(id, error.message);
      return undefined;
    }
  }
}

/** What is tried again: anything else ends the service. */
function isExpected(error: unknown): error is Error {
  return (
    error instanceof RpcError ||
    error instanceof StoreError ||
    error instanceof StatementError ||
    error instanceof ChainFenceLostError ||
    error instanceof NotWriterError
  );
}

function updateOf({ channelId, updateId, payload }: PullResponse['updates'][number]): TowerUpdate {
  const bytes = Uint8Array.from(payload);
  const decoded = decodeChannelMonitorUpdate(bytes);
  if (!decoded.ok) throw new FeedFaultError(`update ${updateId} does not decode: ${decoded.error.message}`);
  if (decoded.value.updateId !== updateId || !equalBytes(decoded.value.channelId, channelId))
    throw new FeedFaultError(`update ${updateId} is another one`);
  return { channelId: Uint8Array.from(channelId), updateId, payload: bytes };
}

function watchOf({ channelId, fundings }: MonitorParameters): ReceivedWatch {
  const [funding] = fundings;
  if (funding === undefined) throw new FeedFaultError('a channel without a funding');
  return {
    channelId,
    fundingTxid: funding.fundingTxid,
    fundingOutputIndex: funding.fundingOutputIndex,
    fundingValueSat: funding.fundingValueSat,
    scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
  };
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
