// Chooses victims among what runs, and kills them with -9. What died is started again at once; never more than
// a few are down together, so that there is something left to die.
import type { Prng } from '@fulmen/testing/simulation/prng';
import type { Fleet } from '../e2e/support/fleet.ts';
import { until } from '../e2e/main-job/waiting.ts';

const NATS = 'nats-server';
const POSTGRES = 'postgres';
const MOST_DOWN = 2;
const TWO_AT_ONCE = 0.3;
/** Time for a killed process to serve again, on a busy machine. */
const RECOVERY_MS = 120_000;

export class Killer {
  kills = 0;
  readonly #fleet: Fleet;
  readonly #chance: Prng;
  readonly #down = new Map<string, Promise<void>>();
  readonly #killed = new Map<string, number>();
  #broken: Error | undefined;

  constructor(fleet: Fleet, chance: Prng) {
    this.#fleet = fleet;
    this.#chance = chance;
  }

  /** Kills one or two; waits first while too many are down. */
  async strike(): Promise<void> {
    const count = this.#chance.chance(TWO_AT_ONCE) ? 2 : 1;
    while (this.#down.size > MOST_DOWN - count) await Promise.race(this.#down.values());
    if (this.#broken !== undefined) throw this.#broken;
    for (let index = 0; index < count; index += 1) {
      const [first, ...others] = [...this.#fleet.services, NATS, POSTGRES].filter(
        (name) => !this.#down.has(name),
      );
      if (first !== undefined) this.#kill(this.#chance.pick([first, ...others]));
    }
  }

  /** Resolves when everything serves again. */
  async recovered(): Promise<void> {
    await Promise.all(this.#down.values());
    if (this.#broken !== undefined) throw this.#broken;
    await until(
      'every process serving again',
      () => {
        const { supervisor } = this.#fleet;
        return Promise.resolve(
          supervisor.status().every(({ phase }) => phase === 'ready') ? true : undefined,
        );
      },
      RECOVERY_MS,
    );
  }

  byVictim(): Record<string, number> {
    return Object.fromEntries(this.#killed);
  }

  #kill(name: string): void {
    this.kills += 1;
    this.#killed.set(name, (this.#killed.get(name) ?? 0) + 1);
    const served = this.#killAndStart(name)
      .catch((error: unknown) => {
        this.#broken ??= error instanceof Error ? error : new TypeError(String(error));
      })
      .finally(() => this.#down.delete(name));
    this.#down.set(name, served);
  }

  async #killAndStart(name: string): Promise<void> {
    const fleet = this.#fleet;
    if (name === POSTGRES) {
      await fleet.postgres.kill();
      await fleet.postgres.start();
      return;
    }
    await fleet.kill9AndWait(name);
  }
}
