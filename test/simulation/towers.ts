/**
 * Towers as channel-managers see them: acknowledgements that come late, out of
 * order between channels, and for a while not at all. It also holds the fleet to
 * what it owes them: no revocation and no signature reaches a peer before enough
 * towers have the update behind it.
 */
import { toHex } from '@fulmen/codec';
import { type ChannelMonitorUpdateStep, decodeChannelMonitorUpdate } from '@fulmen/monitor';
import type { MemoryManagerDatabase } from '@fulmen/store/manager/memory';
import type { DurableThrough, TowerAcknowledgements } from '@fulmen/store/tower/tower-store';
import type { Prng, Scheduler } from '@fulmen/testing/simulation/index';

const TOWERS = 2;
/** Between two visits of a tower. */
const VISIT_MS = [5, 40, 250] as const;
/** How long a tower may be away at once, and how likely a visit begins such a time. */
const AWAY_MS = 4_000;
const AWAY_CHANCE = 0.004;

interface Tower {
  /** Update ids by channel. */
  readonly acknowledged: Map<string, bigint>;
  nextVisitMs: number;
}

export class SimTowers implements TowerAcknowledgements {
  readonly required: number;
  readonly #scheduler: Scheduler;
  readonly #database: MemoryManagerDatabase;
  readonly #random: Prng;
  readonly #towers: readonly Tower[];
  readonly #visitMs: number;

  constructor(scheduler: Scheduler, database: MemoryManagerDatabase, random: Prng) {
    this.#scheduler = scheduler;
    this.#database = database;
    this.#random = random;
    this.required = random.integer(1, TOWERS);
    this.#visitMs = random.pick(VISIT_MS);
    this.#towers = Array.from({ length: TOWERS }, () => ({ acknowledged: new Map(), nextVisitMs: 0 }));
  }

  async durableThrough(
    channelIds: readonly Uint8Array[],
    required: number,
  ): Promise<readonly DurableThrough[]> {
    for (const tower of this.#towers) this.#visit(tower);
    return channelIds.flatMap((channelId) => {
      const updateId = this.#durable(toHex(channelId), required);
      return updateId === 0n ? [] : [{ channelId, updateId }];
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #visit(tower: Tower): void {
    if (this.#scheduler.nowMs < tower.nextVisitMs) return;
    const pauseMs = this.#random.chance(AWAY_CHANCE) ? AWAY_MS : this.#visitMs;
    tower.nextVisitMs = this.#scheduler.nowMs + this.#random.fraction() * pauseMs;
    for (const [channel, log] of this.#database.state.monitorLog) {
      const before = tower.acknowledged.get(channel) ?? 0n;
      const waiting = log.filter(({ updateId }) => updateId > before);
      // A page may end anywhere.
      const taken = waiting.slice(0, this.#random.integer(0, waiting.length)).at(-1);
      if (taken !== undefined) tower.acknowledged.set(channel, taken.updateId);
    }
  }

  #durable(channel: string, required: number): bigint {
    const ids = this.#towers
      .map(({ acknowledged }) => acknowledged.get(channel) ?? 0n)
      .toSorted((a, b) => (a > b ? -1 : 1));
    return ids[required - 1] ?? 0n;
  }

  /** What is wrong with a commitment of the fleet's reaching its peer now; undefined: nothing. */
  early(
    channelId: Uint8Array,
    type: 'latest_holder_commitment' | 'latest_counterparty_commitment',
    commitmentNumber: bigint,
  ): string | undefined {
    const key = toHex(channelId);
    const isIt = (step: ChannelMonitorUpdateStep): boolean =>
      step.type === type && step.content.commitmentNumber === commitmentNumber;
    for (const { updateId, payload } of this.#database.state.monitorLog.get(key) ?? []) {
      const update = decodeChannelMonitorUpdate(payload);
      if (!update.ok || !update.value.steps.some(isIt)) continue;
      const durable = this.#durable(key, this.required);
      return durable >= updateId
        ? undefined
        : `${type} ${commitmentNumber} is update ${updateId}, but the towers have ${durable}`;
    }
    return `${type} ${commitmentNumber} is in no monitor update`;
  }
}
