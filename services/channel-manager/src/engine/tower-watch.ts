/**
 * Which channels wait for towers, and what they hear when enough of them have
 * everything (LDK `Completed`). Acknowledgements are rows: a hint makes it quick,
 * polling makes it certain.
 */
import { toHex } from '@fulmen/codec';
import type { Bus } from '@fulmen/bus';
import type { Logger, Runtime } from '@fulmen/service';
import type { ChannelActor } from './channel-actor.ts';
import type { RequiredTowers } from './ports.ts';

/** Channels asked about at once. */
const BATCH = 1_000;
/** A channel that waits longer is worth an alarm: nothing of it moves. */
const ALARM_MS = 30_000;

interface Waiting {
  readonly actor: ChannelActor;
  readonly updateId: bigint;
  readonly sinceMs: number;
  readonly alarmed: boolean;
}

export class TowerWatch {
  readonly #towers: RequiredTowers;
  readonly #ports: { readonly bus: Bus; readonly runtime: Runtime; readonly logger: Logger };
  readonly #waiting = new Map<string, Waiting>();

  constructor(
    towers: RequiredTowers,
    ports: { readonly bus: Bus; readonly runtime: Runtime; readonly logger: Logger },
  ) {
    this.#towers = towers;
    this.#ports = ports;
  }

  /** Channels that are frozen at the moment. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** How long the oldest of them has waited, in milliseconds. */
  get longestWaitMs(): number {
    let sinceMs = Number.POSITIVE_INFINITY;
    for (const waiting of this.#waiting.values()) sinceMs = Math.min(sinceMs, waiting.sinceMs);
    return Number.isFinite(sinceMs) ? this.#ports.runtime.monotonicMs() - sinceMs : 0;
  }

  /** A commit brought monitor updates: the towers may come for them. */
  updated(): void {
    this.#ports.bus.publish('fulmen.tower.update');
  }

  /** The channel is frozen until enough towers have this update. */
  wait(actor: ChannelActor, updateId: bigint): void {
    const key = toHex(actor.channelId);
    const before = this.#waiting.get(key);
    const sinceMs =
      before?.actor === actor && before.updateId === updateId
        ? before.sinceMs
        : this.#ports.runtime.monotonicMs();
    this.#waiting.set(key, { actor, updateId, sinceMs, alarmed: before?.alarmed ?? false });
  }

  /** Reads what was acknowledged; by hint and by poll. */
  async look(): Promise<void> {
    for (const [key, { actor }] of this.#waiting) if (actor.stopped) this.#waiting.delete(key);
    const channels = [...this.#waiting.values()].map(({ actor }) => actor.channelId);
    for (let start = 0; start < channels.length; start += BATCH) {
      const { acknowledgements, required } = this.#towers;
      for (const { channelId, updateId } of await acknowledgements.durableThrough(
        channels.slice(start, start + BATCH),
        required,
      ))
        this.#completed(toHex(channelId), updateId);
    }
    this.#alarm();
  }

  #completed(key: string, updateId: bigint): void {
    const waiting = this.#waiting.get(key);
    if (waiting === undefined || updateId < waiting.updateId) return;
    // A mailbox that is full takes it at the next look.
    if (waiting.actor.post({ kind: 'monitor_completed', updateId })) this.#waiting.delete(key);
  }

  #alarm(): void {
    const nowMs = this.#ports.runtime.monotonicMs();
    for (const [key, waiting] of this.#waiting) {
      if (waiting.alarmed || nowMs - waiting.sinceMs < ALARM_MS) continue;
      this.#waiting.set(key, { ...waiting, alarmed: true });
      this.#ports.logger.error(
        { channel: waiting.actor.channelId, updateId: waiting.updateId },
        'ALARM: a channel is frozen: too few towers have its monitor updates',
      );
    }
  }
}
