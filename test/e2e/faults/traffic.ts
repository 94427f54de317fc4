// Payments between the two wallets, both ways, without pause: what runs while something is broken, and the
// proof afterwards that nothing was lost.
import type { LdkWallet } from '../../ldk-wallet/client.ts';
import { ensure, until } from '../main-job/waiting.ts';
import type { World } from '../main-job/world.ts';

/** Longest time for one payment to end, whatever is broken under it. */
const OUTCOME_MS = 120_000;
/** Longest time for a channel to come back. */
const USABLE_MS = 120_000;
/** Around the dust limits, and small enough for the channels to last. */
const AMOUNTS_MSAT = [1_000n, 353_000n, 354_000n, 1_000_000n, 2_345_678n, 20_000n, 700_001n];

type Name = 'alice' | 'bob';
type Sent = { readonly payer: Name; readonly amountMsat: bigint; readonly feeMsat: bigint };

/** Figures of what was paid. */
export type TrafficFigures = {
  readonly settled: number;
  /** Ended with a failure at the payer, and were made again. */
  readonly failed: number;
  /** Could not begin, since the payer's channel was not usable at that moment. */
  readonly refused: number;
  /** Longest time between two settlements. */
  readonly longestOutageMs: number;
  /** Why attempts failed: BOLT 4's names as LDK read them, and how often. */
  readonly failures: Readonly<Record<string, number>>;
};

export type TrafficOptions = {
  /** Payments at once; odd lanes pay from Bob to Alice. */
  readonly lanes?: number;
};

/** What each side of both channels holds. */
export type Books = { readonly alice: bigint; readonly bob: bigint; readonly fleet: bigint };

/** The balances, once both sides of both channels agree on them with nothing in flight. */
export async function books(world: World): Promise<Books> {
  await Promise.all([world.balancesAgree(world.alice, 'Alice'), world.balancesAgree(world.bob, 'Bob')]);
  const [alices, bobs] = await Promise.all([world.fleetChannel(world.alice), world.fleetChannel(world.bob)]);
  ensure(alices !== undefined && bobs !== undefined, 'a channel is gone');
  return {
    alice: alices.counterpartyBalanceMsat,
    bob: bobs.counterpartyBalanceMsat,
    fleet: alices.holderBalanceMsat + bobs.holderBalanceMsat,
  };
}

export class Traffic {
  readonly #world: World;
  readonly #lanes: Promise<void>[] = [];
  readonly #invoices = new Set<string>();
  readonly #sent = new Map<string, Sent>();
  readonly #laneCount: number;
  #stopping = false;
  #failed = 0;
  #refused = 0;
  #made = 0;
  #lastSettledAtMs = performance.now();
  #longestOutageMs = 0;
  #broken: Error | undefined;

  constructor(world: World, options: TrafficOptions = {}) {
    this.#world = world;
    this.#laneCount = options.lanes ?? 4;
  }

  /** Begins to pay. */
  start(): void {
    this.#stopping = false;
    this.#lastSettledAtMs = performance.now();
    for (let lane = 0; lane < this.#laneCount; lane += 1) {
      this.#lanes.push(
        this.#lane(lane % 2 === 0 ? 'alice' : 'bob').catch((error: unknown) => {
          this.#broken ??= error instanceof Error ? error : new TypeError(String(error));
        }),
      );
    }
  }

  get settled(): number {
    return this.#sent.size;
  }

  figures(): TrafficFigures {
    return {
      settled: this.#sent.size,
      failed: this.#failed,
      refused: this.#refused,
      longestOutageMs: Math.round(this.#longestOutageMs),
      failures: this.#failures(),
    };
  }

  /** Waits until `count` more payments settled than have by now. */
  async flows(count: number, timeoutMs = 60_000): Promise<void> {
    const goal = this.settled + count;
    await until(
      `the settlement of ${count} more payments`,
      () => {
        if (this.#broken !== undefined) throw this.#broken;
        return Promise.resolve(this.settled >= goal ? true : undefined);
      },
      timeoutMs,
    );
  }

  /** Makes no more payments; resolves when every one under way has ended. Throws when one did not. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#lanes.splice(0));
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** Every payment that a payer paid arrived once, none arrived that its payer holds for failed, and the balances say the same. */
  async nothingLost(before: Books): Promise<void> {
    const now = await books(this.#world);
    const moved = { alice: 0n, bob: 0n, fleet: 0n };
    for (const { payer, amountMsat, feeMsat } of this.#sent.values()) {
      const payee = payer === 'alice' ? 'bob' : 'alice';
      moved[payer] -= amountMsat + feeMsat;
      moved[payee] += amountMsat;
      moved.fleet += feeMsat;
    }
    for (const payee of ['alice', 'bob'] as const) {
      const received = this.#wallet(payee).events.flatMap((event) =>
        event.event === 'payment_received' && this.#invoices.has(event.paymentHash)
          ? [event.paymentHash]
          : [],
      );
      const owed = [...this.#sent].filter(([, { payer }]) => payer !== payee).map(([hash]) => hash);
      const missing = owed.filter((hash) => !received.includes(hash));
      const unpaid = received.filter((hash) => !this.#sent.has(hash));
      ensure(missing.length === 0, `${payee} did not receive what was paid: ${missing.join(' ')}`);
      ensure(unpaid.length === 0, `${payee} received what its payer holds for failed: ${unpaid.join(' ')}`);
      ensure(new Set(received).size === received.length, `${payee} received a payment twice`);
    }
    for (const party of ['alice', 'bob', 'fleet'] as const) {
      const expected = before[party] + moved[party];
      ensure(
        now[party] === expected,
        `${party} has ${now[party]} msat, and should have ${expected} (${now[party] - expected} msat)`,
      );
    }
    for (const name of ['alice', 'bob'] as const) {
      const closed = this.#wallet(name).events.find((event) => event.event === 'channel_closed');
      ensure(closed === undefined, `the channel of ${name} was closed`);
    }
  }

  #failures(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const event of [...this.#world.alice.events, ...this.#world.bob.events]) {
      if (event.event !== 'payment_path_failed' || !this.#invoices.has(event.paymentHash)) continue;
      const name = event.failure ?? 'unknown';
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  }

  #wallet(name: Name): LdkWallet {
    return this.#world[name];
  }

  async #lane(payer: Name): Promise<void> {
    const from = this.#wallet(payer);
    const to = this.#wallet(payer === 'alice' ? 'bob' : 'alice');
    while (!this.#stopping) {
      const amountMsat = AMOUNTS_MSAT[this.#made % AMOUNTS_MSAT.length] ?? 1_000n;
      this.#made += 1;
      const { bolt11, paymentHash } = await to.call('createInvoice', { amountMsat, description: 'traffic' });
      this.#invoices.add(paymentHash);
      let paymentId: string;
      try {
        ({ paymentId } = await from.call('pay', { bolt11, maxFeeMsat: 10_000n }));
      } catch {
        // LDK refuses at once while its channel, or the payee's hint, is not usable.
        this.#refused += 1;
        await this.#usable();
        continue;
      }
      const outcome = await from.outcome(paymentId, OUTCOME_MS);
      if (outcome.event === 'payment_sent') {
        this.#settledOne(paymentHash, { payer, amountMsat, feeMsat: outcome.feePaidMsat ?? 0n });
      } else {
        this.#failed += 1;
        await this.#usable();
      }
    }
  }

  #settledOne(paymentHash: string, sent: Sent): void {
    this.#sent.set(paymentHash, sent);
    const now = performance.now();
    this.#longestOutageMs = Math.max(this.#longestOutageMs, now - this.#lastSettledAtMs);
    this.#lastSettledAtMs = now;
  }

  /** The wallets' own view: the console may be what is broken. */
  async #usable(): Promise<void> {
    await until(
      'usable channels of both wallets',
      async () => {
        const both = await Promise.all(
          [this.#world.alice, this.#world.bob].map((wallet) => wallet.call('listChannels')),
        );
        return this.#stopping || both.every((channels) => channels.some((channel) => channel.usable))
          ? true
          : undefined;
      },
      USABLE_MS,
    );
  }
}
