/**
 * Drains the channels' monitor logs into snapshots, each channel's updates in
 * order of their ids. A log that does not apply is left as it is and alarms:
 * what justice would need must not be lost by going on.
 */
import { compareBytes, fromHex, toHex } from '@fulmen/codec';
import {
  type ChannelMonitor,
  applyUpdate,
  decodeChannelMonitorUpdate,
  decodeMonitor,
  decodeMonitorParameters,
  newMonitor,
  splitMonitor,
  withoutChunks,
} from '@fulmen/monitor';
import type { Logger } from '@fulmen/service';
import type {
  CloseState,
  DrainedMonitor,
  LoadedMonitor,
  MonitorLogEntry,
} from '@fulmen/store/chain/chain-store';
import { eachMonitor } from '@fulmen/store/chain/chain-store';
import type { ChainMetrics } from '../metrics.ts';
import { nextDeadlineOf } from '../settlement/deadlines.ts';
import type { Writer } from '../state/writer.ts';

/** Updates read at once. */
const PAGE = 256;
/** Pages before a block is processed all the same: new updates keep coming, and the block must not wait for ever. */
const MAX_PAGES = 64;

/** Bytes of monitors and their chunks in one commit, but for a single one that has more. */
const COMMIT_BYTES = 8 * 1024 * 1024;

/** A monitor's log contradicts it. */
export class MonitorFaultError extends Error {
  override readonly name = 'MonitorFaultError';
}

export interface DrainPorts {
  readonly writer: Writer;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  /** A monitor moved, and its new state is stored; without its chunks. */
  readonly onMoved: (channelId: Uint8Array, monitor: ChannelMonitor, closeState: CloseState) => void;
}

interface Advanced {
  readonly drained: DrainedMonitor;
  /** Without its chunks. */
  readonly monitor: ChannelMonitor;
}

function lengthOf({ snapshot, chunks = [] }: DrainedMonitor): number {
  return chunks.reduce((sum, { bytes }) => sum + bytes.length, snapshot.length);
}

export class MonitorDrain {
  readonly #ports: DrainPorts;
  /** Channels whose log does not apply, with why; the one that was tried last is last. */
  readonly #broken = new Map<string, string>();
  /** Those of them whose log is not read any more in this run. */
  #passedOver = new Set<string>();

  constructor(ports: DrainPorts) {
    this.#ports = ports;
  }

  /** Channels whose log does not apply, by id in hex, with why. */
  get broken(): ReadonlyMap<string, string> {
    return this.#broken;
  }

  /**
   * Drains everything that was in the log when it began; resolves with how many updates. Of the channels whose log does
   * not apply one is tried again, the others are passed over: their managers may go on writing what never leaves.
   */
  async run(): Promise<number> {
    let drained = 0;
    const tried = this.#nextTrial();
    this.#passedOver = new Set([...this.#broken.keys()].filter((id) => id !== tried));
    let after: { readonly channelId: Uint8Array; readonly updateId: bigint } | undefined;
    for (let page = 0; page < MAX_PAGES; page++) {
      const passedOver = [...this.#passedOver].map(fromHex);
      const entries = await this.#ports.writer.store.readMonitorLog(after, PAGE, passedOver);
      drained += await this.#apply(entries);
      const last = entries.at(-1);
      if (entries.length < PAGE || last === undefined) break;
      after = { channelId: last.channelId, updateId: last.updateId };
    }
    return drained;
  }

  #nextTrial(): string | undefined {
    const [next] = this.#broken;
    if (next === undefined) return undefined;
    const [id, reason] = next;
    this.#broken.delete(id);
    this.#broken.set(id, reason);
    return id;
  }

  async #apply(entries: readonly MonitorLogEntry[]): Promise<number> {
    const byChannel = new Map<string, MonitorLogEntry[]>();
    for (const entry of entries) {
      const key = toHex(entry.channelId);
      const known = byChannel.get(key);
      if (known === undefined) byChannel.set(key, [entry]);
      else known.push(entry);
    }
    if (byChannel.size === 0) return 0;
    const { writer, metrics } = this.#ports;
    return writer.exclusive(async (_, lease) => {
      const ids = [...byChannel.values()].flatMap(([first]) =>
        first === undefined ? [] : [first.channelId],
      );
      let results: Advanced[] = [];
      let bytes = 0;
      let count = 0;
      const commit = async (): Promise<void> => {
        results.sort((a, b) => compareBytes(a.drained.channelId, b.drained.channelId));
        await writer.store.commitMonitors(
          lease,
          results.map(({ drained }) => drained),
        );
        for (const { drained, monitor } of results)
          this.#ports.onMoved(drained.channelId, monitor, drained.closeState);
        results = [];
        bytes = 0;
      };
      for await (const loaded of eachMonitor(writer.store, ids)) {
        const updates = byChannel.get(toHex(loaded.channelId)) ?? [];
        const advanced = this.#advance(loaded, updates);
        if (advanced === undefined) continue;
        results.push(advanced);
        count += updates.length;
        bytes += lengthOf(advanced.drained);
        if (bytes >= COMMIT_BYTES) await commit();
      }
      await commit();
      metrics.drained.inc(count);
      return count;
    });
  }

  #advance(loaded: LoadedMonitor, updates: readonly MonitorLogEntry[]): Advanced | undefined {
    const key = toHex(loaded.channelId);
    try {
      const monitor = updates.reduce(applyEntry, monitorOf(loaded));
      this.#broken.delete(key);
      const nextDeadlineHeight = nextDeadlineOf(monitor);
      const drained: DrainedMonitor = {
        channelId: loaded.channelId,
        expectedUpdateId: loaded.updateId,
        updateId: monitor.updateId,
        // What is at hand was sealed by these updates, or comes from a release that kept monitors whole.
        ...splitMonitor(monitor),
        closeState: nextCloseState(loaded.closeState, monitor),
        ...(nextDeadlineHeight !== undefined && { nextDeadlineHeight }),
      };
      return { drained, monitor: withoutChunks(monitor) };
    } catch (error) {
      if (!(error instanceof MonitorFaultError)) throw error;
      if (this.#broken.get(key) !== error.message)
        this.#ports.logger.error(
          { channelId: loaded.channelId, reason: error.message },
          'the monitor log of a channel does not apply',
        );
      this.#broken.set(key, error.message);
      this.#passedOver.add(key);
      return undefined;
    } finally {
      this.#ports.metrics.brokenMonitors.set(this.#broken.size);
    }
  }
}

/** The monitor as stored, or as born; without its chunks unless it is stored whole. @throws MonitorFaultError */
export function monitorOf({ snapshot, birth }: LoadedMonitor): ChannelMonitor {
  if (snapshot !== undefined) {
    const decoded = decodeMonitor(snapshot);
    if (!decoded.ok) throw new MonitorFaultError(`the snapshot does not decode: ${decoded.error.message}`);
    return decoded.value;
  }
  if (birth === undefined) throw new MonitorFaultError('updates without the parameters of the monitor');
  const parameters = decodeMonitorParameters(birth);
  if (!parameters.ok)
    throw new MonitorFaultError(`the parameters do not decode: ${parameters.error.message}`);
  return newMonitor(parameters.value);
}

function applyEntry(monitor: ChannelMonitor, entry: MonitorLogEntry): ChannelMonitor {
  const update = decodeChannelMonitorUpdate(entry.payload);
  if (!update.ok)
    throw new MonitorFaultError(`update ${entry.updateId} does not decode: ${update.error.message}`);
  if (update.value.updateId !== entry.updateId)
    throw new MonitorFaultError(`the row of update ${entry.updateId} holds update ${update.value.updateId}`);
  const applied = applyUpdate(monitor, update.value);
  if (!applied.ok)
    throw new MonitorFaultError(`update ${entry.updateId} does not fit: ${applied.error.type}`);
  return applied.value.monitor;
}

function nextCloseState(state: CloseState, { forceClose }: ChannelMonitor): CloseState {
  // BOLT 2: "MUST NOT broadcast its commitment transaction", also where a deadline had decided to, from the same old state.
  if (state === 'pending' && forceClose?.shouldBroadcast === 'passive') return 'passive';
  if (state !== 'open' || forceClose === undefined) return state;
  return forceClose.shouldBroadcast === 'broadcast' ? 'pending' : 'passive';
}
