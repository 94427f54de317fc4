/** Decoded monitors of the channels that are being settled: read once, and again when they moved. */
import { fromHex, toHex } from '@fulmen/codec';
import { type ChannelMonitor, isAtHand, withChunks } from '@fulmen/monitor';
import type { Logger } from '@fulmen/service';
import type { ChainStore } from '@fulmen/store/chain/chain-store';
import { eachMonitor } from '@fulmen/store/chain/chain-store';
import { MonitorFaultError, monitorOf } from '../monitors/drain.ts';

/** Monitors kept; the least recently used goes, and is read again when it is needed. */
const MAX_MONITORS = 2_000;

export class MonitorCache {
  readonly #store: Pick<ChainStore, 'loadMonitors' | 'monitorChunks'>;
  readonly #logger: Logger;
  readonly #monitors = new Map<string, ChannelMonitor>();
  /** Those that cannot be read, told once. */
  readonly #faulty = new Set<string>();

  constructor(store: Pick<ChainStore, 'loadMonitors' | 'monitorChunks'>, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  clear(): void {
    this.#monitors.clear();
  }

  /** A monitor moved: what was read before is old. */
  updated(channelId: string, monitor: ChannelMonitor): void {
    if (this.#monitors.has(channelId)) this.#put(channelId, monitor);
  }

  #put(channelId: string, monitor: ChannelMonitor): void {
    this.#monitors.delete(channelId);
    this.#monitors.set(channelId, monitor);
    while (this.#monitors.size > MAX_MONITORS) {
      const oldest = this.#monitors.keys().next();
      if (oldest.done === true) return;
      this.#monitors.delete(oldest.value);
    }
  }

  /** Those of these channels that have a readable monitor. @throws store errors */
  async get(channelIds: readonly string[]): Promise<ReadonlyMap<string, ChannelMonitor>> {
    const found = new Map<string, ChannelMonitor>();
    const missing: string[] = [];
    for (const id of channelIds) {
      const known = this.#monitors.get(id);
      if (known === undefined) missing.push(id);
      else {
        found.set(id, known);
        this.#put(id, known);
      }
    }
    if (missing.length === 0) return found;
    for await (const loaded of eachMonitor(this.#store, missing.map(fromHex))) {
      const id = toHex(loaded.channelId);
      if (loaded.snapshot === undefined && loaded.birth === undefined) continue;
      try {
        const monitor = monitorOf(loaded);
        found.set(id, monitor);
        this.#put(id, monitor);
        this.#faulty.delete(id);
      } catch (error) {
        if (!(error instanceof MonitorFaultError)) throw error;
        if (!this.#faulty.has(id))
          this.#logger.error(
            { channelId: loaded.channelId, reason: error.message },
            'ALARM: the monitor of a channel cannot be read: it is not settled',
          );
        this.#faulty.add(id);
      }
    }
    return found;
  }

  /**
   * The monitor with whatever rebuilds these commitments, should they be revoked ones. The channel keeps that at hand: its
   * close is looked at in every block.
   * @throws store errors
   */
  async withRevoked(
    channelId: string,
    monitor: ChannelMonitor,
    commitmentNumbers: readonly bigint[],
  ): Promise<ChannelMonitor> {
    if (commitmentNumbers.every((number) => isAtHand(monitor, number))) return monitor;
    const chunks = await this.#store.monitorChunks(fromHex(channelId), commitmentNumbers);
    const ready = withChunks(monitor, commitmentNumbers, chunks);
    this.updated(channelId, ready);
    return ready;
  }
}
