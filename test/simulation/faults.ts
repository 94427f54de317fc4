/** The faults of a run, drawn from its seed, and how each of them strikes and passes. */
import type { Prng, Scheduler } from '@fulmen/testing/simulation/index';
import { type Fleet, GATEWAYS, LEASE_MS, MANAGERS } from './fleet.ts';
import type { SimPeer } from './peer.ts';

type What =
  /** Kill -9 while its nth commit from now is under way; it comes back after a while. */
  | {
      readonly kind: 'crash_in_step';
      readonly manager: string;
      readonly commit: number;
      readonly afterMs: number;
      readonly downMs: number;
    }
  /** Kill -9 at any moment. */
  | { readonly kind: 'crash'; readonly name: string; readonly downMs: number }
  /** SIGSTOP beyond the lease, then SIGCONT: a stale owner. */
  | { readonly kind: 'freeze'; readonly manager: string; readonly forMs: number }
  /** Every call and stream of a process breaks, the signer's too. */
  | { readonly kind: 'break_calls'; readonly name: string }
  /** chain-monitor does not know the chain as it is. */
  | { readonly kind: 'doubt_chain'; readonly forMs: number }
  | { readonly kind: 'cut_peer'; readonly peer: 'alice' | 'bob' }
  | { readonly kind: 'dial_again'; readonly peer: 'alice' | 'bob' }
  /** What a process sends and gets takes very long. */
  | { readonly kind: 'slow'; readonly name: string; readonly latencyMs: number; readonly forMs: number }
  /** The store answers some calls with errors: not done, or nobody knows. */
  | {
      readonly kind: 'store_errors';
      readonly unavailable: number;
      readonly unknown: number;
      readonly forMs: number;
    };

export interface Fault {
  readonly atMs: number;
  readonly what: What;
  readonly text: string;
}

export interface Battlefield {
  readonly fleet: Fleet;
  readonly scheduler: Scheduler;
  readonly alice: SimPeer;
  readonly bob: SimPeer;
}

/** One to four faults; the owner of one of the channels is among the victims more often than not. */
export function drawFaults(random: Prng, owners: readonly string[], windowMs: number): Fault[] {
  const count = random.integer(1, 4);
  const owner = (): string => owners[random.integer(0, owners.length - 1)] ?? MANAGERS[0];
  const draw = (): What => {
    const kinds = [
      'crash_in_step',
      'crash_in_step',
      'crash',
      'freeze',
      'break_calls',
      'cut_peer',
      'dial_again',
      'store_errors',
      'slow',
      'doubt_chain',
    ] as const;
    const kind = random.pick(kinds);
    switch (kind) {
      case 'crash_in_step':
        return {
          kind,
          manager: owner(),
          commit: random.integer(1, 12),
          afterMs: random.fraction() * 30,
          downMs: random.integer(100, 3 * LEASE_MS),
        };
      case 'crash':
        return {
          kind,
          name: random.pick([...MANAGERS, ...GATEWAYS, 'signer']),
          downMs: random.integer(100, 2 * LEASE_MS),
        };
      case 'freeze':
        return { kind, manager: owner(), forMs: random.integer(LEASE_MS / 2, 3 * LEASE_MS) };
      case 'break_calls':
        return { kind, name: random.pick([...MANAGERS, ...GATEWAYS]) };
      case 'slow':
        return {
          kind,
          name: random.pick([...MANAGERS, ...GATEWAYS, 'signer']),
          latencyMs: random.integer(100, 1_500),
          forMs: random.integer(200, 3_000),
        };
      case 'doubt_chain':
        return { kind, forMs: random.integer(500, 30_000) };
      case 'cut_peer':
      case 'dial_again':
        return { kind, peer: random.pick(['alice', 'bob']) };
      case 'store_errors':
        return {
          kind,
          unavailable: random.pick([0, 0.05, 0.3]),
          unknown: random.pick([0, 0.02, 0.1]),
          forMs: random.integer(200, 2_000),
        };
    }
  };
  return Array.from({ length: count }, () => {
    const atMs = random.fraction() * windowMs;
    const what = draw();
    return { atMs, what, text: `${Math.round(atMs)} ms: ${JSON.stringify(what)}` };
  });
}

/** Lets a fault happen at its time; resolves when it is over. */
export async function strike({ atMs, what }: Fault, field: Battlefield): Promise<void> {
  const { fleet, scheduler } = field;
  await scheduler.delay(atMs, `fault ${what.kind}`);
  const pass = (ms: number): Promise<void> => scheduler.delay(ms, `fault ${what.kind} goes on`);
  switch (what.kind) {
    case 'crash_in_step': {
      await commitOf(field, what.manager, what.commit);
      await pass(what.afterMs);
      await down(field, what.manager, what.downMs);
      return;
    }
    case 'crash':
      await down(field, what.name, what.downMs);
      return;
    case 'freeze':
      fleet.freeze(what.manager);
      await pass(what.forMs);
      fleet.resume(what.manager);
      return;
    case 'break_calls':
      fleet.breakCalls(what.name);
      return;
    case 'slow':
      fleet.slow = { name: what.name, latencyMs: what.latencyMs };
      await pass(what.forMs);
      fleet.slow = undefined;
      return;
    case 'doubt_chain':
      fleet.chain.doubt('the source is not believed');
      await pass(what.forMs);
      fleet.chain.doubt('');
      return;
    case 'cut_peer':
      field[what.peer].cut();
      return;
    case 'dial_again':
      field[what.peer].dialAgain();
      return;
    case 'store_errors':
      fleet.storeFaults = { unavailable: what.unavailable, unknown: what.unknown };
      await pass(what.forMs);
      fleet.storeFaults = { unavailable: 0, unknown: 0 };
      return;
  }
}

/** Resolves while the nth commit of a manager is on its way to the store; without so many, after a while. */
async function commitOf({ fleet, scheduler }: Battlefield, manager: string, count: number): Promise<void> {
  let left = count;
  await new Promise<void>((resolve) => {
    const patience = scheduler.schedule(3_000, 'no such commit', resolve);
    const before = fleet.onCommit;
    fleet.onCommit = (name) => {
      before(name);
      if (name !== manager) return;
      left -= 1;
      if (left === 0) {
        patience.cancel();
        resolve();
      }
    };
  });
}

async function down({ fleet, scheduler }: Battlefield, name: string, ms: number): Promise<void> {
  if (!fleet.isRunning(name)) return;
  fleet.crash(name);
  await scheduler.delay(ms, `${name} is down`);
  fleet.startAgain(name);
}
