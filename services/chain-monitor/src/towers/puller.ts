/**
 * The tower's side of the feed: fetches what the node has for it, stores it,
 * and only then acknowledges. What contradicts what is stored is reported, and
 * nothing of that channel is taken any more until an operator looks.
 */
import { equalBytes, fromHex, toHex } from '@fulmen/codec';
import { decodeChannelMonitorUpdate } from '@fulmen/monitor';
import type { PullResponse } from '@fulmen/proto/tower/v1/tower';
import { RpcError } from '@fulmen/rpc';
import type { Task } from '@fulmen/service';
import type {
  ChannelFault,
  ChannelProgress,
  ReceivedOrigin,
  ReceivedWatch,
  TowerInbox,
  TowerUpdate,
} from '@fulmen/store/tower/tower-store';
import { type FeedClient, isExpected, MonitorFetcher, type MonitorFetcherPorts } from './monitor-fetcher.ts';
import { checkOrigin, FeedFaultError } from './origin.ts';
import { SetBackWatch } from './set-back.ts';

const WAIT_MS = 20_000;
const CALL_DEADLINE_MS = 30_000;
const RETRY_MS = 500;
/** Of a database that has taken nothing yet. */
const FIRST_MARK = 1n;

/** Only the writer of the tower's database pulls. */
export interface PullerPorts extends Omit<MonitorFetcherPorts, 'feed' | 'inbox' | 'setBack' | 'onFault'> {
  /** The node's replicas, asked in turn. */
  readonly feeds: readonly FeedClient[];
  readonly inbox: TowerInbox;
  /** Channels whose log does not apply, by id in hex, with why. */
  readonly broken: () => ReadonlyMap<string, string>;
  /** Oldest inbound HTLC of channels that moved since the last question: preimages of older ones are of no use. */
  readonly oldestHtlcs: () => readonly { readonly channelId: Uint8Array; readonly htlcId: bigint }[];
}

export class TowerPuller {
  readonly #ports: PullerPorts;
  readonly #monitors: MonitorFetcher;
  readonly #setBack: SetBackWatch;
  readonly #faults = new Map<string, string>();
  readonly #reported = new Set<string>();
  readonly #received;
  readonly #faulty;
  #feed = 0;

  constructor(ports: PullerPorts) {
    this.#ports = ports;
    this.#setBack = new SetBackWatch(ports);
    this.#monitors = new MonitorFetcher({
      ...ports,
      setBack: this.#setBack,
      feed: () => this.#client(),
      onFault: (channelId, reason) => this.#fault(toHex(channelId), reason),
    });
    this.#received = ports.metrics.counter('tower_updates_received_total', 'Monitor updates stored here');
    this.#faulty = ports.metrics.gauge(
      'tower_channels_faulty',
      'Channels of which nothing is taken any more',
    );
  }

  start(): Task {
    return this.#ports.runtime.spawn('pull', async (signal) => {
      await Promise.all([this.#follow(signal), this.#monitors.run(signal)]);
    });
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { runtime, writer, logger } = this.#ports;
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
      await feed.acknowledge({ towerId, progress: [], preimages: [], missing: [], faults, mark: 0n });
      for (const { channelId } of faults) this.#reported.add(toHex(channelId));
    }
    const mark = await this.#ports.inbox.mark();
    const waitMs = mark === FIRST_MARK || mark < this.#setBack.known ? 0 : WAIT_MS;
    const request = { towerId, waitMs, deferredMonitors: [...this.#monitors.deferred], mark };
    const page = await feed.pull(request, { deadlineMs: CALL_DEADLINE_MS, signal });
    if (await this.#setBack.found(page.mark, feed)) return;
    const { progress, missing, refusal, mark: counted } = await this.#store(page);
    const preimages = page.preimages.map(({ channelId, htlcId }) => ({ channelId, htlcId }));
    const isStored = progress.length + missing.length + preimages.length > 0;
    if (isStored) {
      this.#ports.onStored();
      await feed.acknowledge({ towerId, progress, preimages, missing, faults: [], mark: counted });
    }
    const due = page.monitors.map((id) => Uint8Array.from(id)).filter((id) => !this.#faults.has(toHex(id)));
    const isWanted = this.#monitors.want(due) > 0;
    if (refusal !== undefined) throw refusal;
    // A node that does not know what is deferred names it all the same, and does not wait.
    if (!isStored && !isWanted && due.length > 0) await this.#ports.runtime.sleep(RETRY_MS, signal);
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

  /** `refusal`: why the justice signer did not say whether a new channel's key opens; that channel waits for it. */
  async #store(page: PullResponse): Promise<{
    readonly progress: ChannelProgress[];
    readonly missing: Uint8Array[];
    readonly refusal: RpcError | undefined;
    readonly mark: bigint;
  }> {
    const origins: ReceivedOrigin[] = [];
    const watches: ReceivedWatch[] = [];
    const updates: TowerUpdate[] = [];
    const skipped = new Set<string>();
    let refusal: RpcError | undefined;
    for (const entry of page.updates) {
      const id = toHex(entry.channelId);
      if (this.#faults.has(id) || skipped.has(id)) continue;
      try {
        const update = updateOf(entry);
        if (entry.origin !== undefined) {
          const { origin, watch } = await checkOrigin(this.#ports.justice, update.channelId, entry.origin);
          origins.push(origin);
          watches.push(watch);
        }
        updates.push(update);
      } catch (error) {
        skipped.add(id);
        if (error instanceof FeedFaultError) this.#fault(id, error.message);
        else if (error instanceof RpcError) refusal ??= error;
        else throw error;
      }
    }
    const preimages = page.preimages.map(({ channelId, htlcId, preimage }) => ({
      channelId: Uint8Array.from(channelId),
      htlcId,
      preimage: Uint8Array.from(preimage),
    }));
    const { known } = this.#setBack;
    // A new database is told from one that only counted nothing yet: that counts once, with nothing.
    if (updates.length + preimages.length === 0 && known > FIRST_MARK)
      return { progress: [], missing: [], refusal, mark: known };
    const stored = await this.#ports.inbox.receive({ origins, watches, updates, preimages }, known);
    this.#setBack.saw(stored.mark);
    this.#received.inc(updates.length);
    return { progress: [...stored.progress], missing: [...stored.missing], refusal, mark: stored.mark };
  }
}

function updateOf({ channelId, updateId, payload }: PullResponse['updates'][number]): TowerUpdate {
  const bytes = Uint8Array.from(payload);
  const decoded = decodeChannelMonitorUpdate(bytes);
  if (!decoded.ok) throw new FeedFaultError(`update ${updateId} does not decode: ${decoded.error.message}`);
  if (decoded.value.updateId !== updateId || !equalBytes(decoded.value.channelId, channelId))
    throw new FeedFaultError(`update ${updateId} is another one`);
  return { channelId: Uint8Array.from(channelId), updateId, payload: bytes };
}
