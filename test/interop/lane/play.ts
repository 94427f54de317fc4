/** Plays the runs of the matrix in several worlds at once. */
import type { Case, Outcome } from './case.ts';
import { NotApplicable, type PeerKind } from './peer.ts';
import { World } from './world.ts';

const CASE_TIMEOUT_MS = 300_000;

/** A case with the peers that it is played with. */
export interface Run {
  readonly one: Case;
  readonly kind: PeerKind;
  readonly other: PeerKind;
  /** In the matrix: a peer, or a pair of them. */
  readonly column: string;
}

export interface PlayedRun extends Run {
  readonly outcome: Outcome;
}

/** Two releases of one implementation make no pair of their own: each is paired with itself or with others. */
const FAMILIES: Readonly<Record<PeerKind, string>> = { ldk: 'ldk', 'ldk-node': 'ldk', lnd: 'lnd' };

function isPair(kinds: readonly PeerKind[], kind: PeerKind, other: PeerKind): boolean {
  if (FAMILIES[kind] !== FAMILIES[other]) return true;
  // The first of a family stands for it.
  return kind === other && kind === kinds.find((one) => FAMILIES[one] === FAMILIES[kind]);
}

/** Every case with every peer, or with every ordered pair of implementations. */
export function runsOf(cases: readonly Case[], kinds: readonly PeerKind[]): readonly Run[] {
  const pairs = kinds.flatMap((kind) =>
    kinds
      .filter((other) => isPair(kinds, kind, other))
      .map((other) => ({ kind, other, column: `${kind} → ${other}` })),
  );
  return cases.flatMap((one) =>
    one.over === 'peers'
      ? kinds.map((kind) => ({ one, kind, other: kind, column: kind }))
      : pairs.map((pair) => ({ one, ...pair })),
  );
}

/**
 * Plays every run once. Each world takes the next run when it is free; after a failure it is replaced, so that nothing
 * which a failed case left behind reaches another.
 */
export async function playAll(
  runs: readonly Run[],
  options: {
    readonly bitcoind: string;
    readonly worlds: number;
    readonly say: (text: string) => void;
  },
): Promise<{ readonly outcomes: readonly PlayedRun[]; readonly chainVersion: string }> {
  const { bitcoind, say } = options;
  const outcomes = new Map<Run, Outcome>();
  let next = 0;
  let chainVersion = '';
  const playSome = async (): Promise<void> => {
    let world: World | undefined;
    try {
      for (let run = runs[next++]; run !== undefined; run = runs[next++]) {
        world ??= await World.start(bitcoind, say);
        chainVersion = world.chain.version;
        const { outcome, logs } = await play(run, world);
        outcomes.set(run, outcome);
        const { group, name } = run.one;
        const detail = outcome.type === 'ok' ? `${outcome.seconds} s` : outcome.reason;
        say(
          `${outcome.type.padEnd(6)} ${run.column.padEnd(10)} ${group}: ${name} (${detail}) ${outcomes.size}/${runs.length}`,
        );
        if (outcome.type !== 'failed') continue;
        say(`what its processes logged: ${logs}`);
        await world.stop();
        world = undefined;
      }
    } finally {
      await world?.stop();
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.worlds, runs.length) }, playSome));
  return {
    outcomes: runs.flatMap((run) => {
      const outcome = outcomes.get(run);
      return outcome === undefined ? [] : [{ ...run, outcome }];
    }),
    chainVersion,
  };
}

/** @returns with the folder of what was logged, of a case that failed */
async function play(
  { one, kind, other }: Run,
  world: World,
): Promise<{ readonly outcome: Outcome; readonly logs?: string }> {
  const beganMs = performance.now();
  const seconds = (): number => Math.round((performance.now() - beganMs) / 100) / 10;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TypeError('the case did not end in time')), CASE_TIMEOUT_MS);
  });
  world.recording.beginCase(`${one.group}: ${one.name} (${kind === other ? kind : `${kind} → ${other}`})`);
  try {
    await Promise.race([world.ready().then(() => one.run(world, kind, other)), late]);
    return { outcome: { type: 'ok', seconds: seconds() } };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof NotApplicable) return { outcome: { type: 'n/a', reason } };
    return { outcome: { type: 'failed', reason, seconds: seconds() }, logs: world.keepLogs() };
  } finally {
    clearTimeout(timer);
    await world.forgetPeers();
  }
}
