// `npm run chaos -- --rounds N`: the whole fleet under continuous payments while its processes, its database and
// its bus are killed with -9, one or two at a time, every few hundred milliseconds. Afterwards nothing may be lost.
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Prng } from '@fulmen/testing/simulation/prng';
import { FaultWorld } from '../e2e/faults/fault-world.ts';
import { books, Traffic } from '../e2e/faults/traffic.ts';
import { jsonReport, type Report, textReport } from '../e2e/main-job/report.ts';
import { Killer } from './killer.ts';

const HELP = `Kills a fleet's processes under payments, and proves that nothing was lost.

  npm run chaos                   one round of a minute
  npm run chaos -- --rounds N     N rounds on one fleet
  npm run chaos -- --seconds S    of killing in each round
  npm run chaos -- --seed TEXT    the same victims in the same order
  npm run chaos -- --json         one JSON object a line
`;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '60' },
    lanes: { type: 'string', default: '6' },
    seed: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** Longest time between two strikes. */
const CALM_MS = { least: 200, most: 900 };

/** One round; throws StepFailed when something was lost. */
async function round(faults: FaultWorld, report: Report, number: number, seed: string): Promise<void> {
  const { world } = faults;
  await Promise.all([world.usable(world.alice, 'Alice'), world.usable(world.bob, 'Bob')]);
  const before = await books(world);
  const mark = faults.mark();
  const chance = new Prng(`${seed}/${number}`);
  const killer = new Killer(faults.fleet, chance);
  const traffic = new Traffic(world, { lanes: Number(values.lanes) });
  traffic.start();
  await traffic.flows(10);
  const endsAtMs = performance.now() + Number(values.seconds) * 1_000;
  while (performance.now() < endsAtMs) {
    await pause(chance.integer(CALM_MS.least, CALM_MS.most));
    await killer.strike();
  }
  await killer.recovered();
  await traffic.flows(10, 120_000);
  await traffic.stop();
  await Promise.all([world.usable(world.alice, 'Alice'), world.usable(world.bob, 'Bob')]);
  await traffic.nothingLost(before);
  const alarms = faults.errors(mark).filter((line) => line.includes('ALARM'));
  const { settled, failed, refused, longestOutageMs, failures } = traffic.figures();
  report.say(
    `round ${number}: ${settled} payments settled, ${failed} failed and ${refused} refused and made again; ` +
      `${killer.kills} kills; longest outage ${(longestOutageMs / 1000).toFixed(1)} s; nothing lost`,
    {
      round: number,
      settled,
      failed,
      refused,
      longestOutageMs,
      failures,
      kills: killer.kills,
      victims: killer.byVictim(),
    },
  );
  if (alarms.length > 0) throw new ChaosError(`alarms were raised:\n${alarms.join('\n')}`);
}

/** The fleet lives, and says that something is wrong with it. */
class ChaosError extends Error {
  override readonly name = 'ChaosError';
}

async function main(): Promise<number> {
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const startedAt = Date.now();
  const report = values.json ? jsonReport() : textReport(startedAt);
  const seed = values.seed ?? String(startedAt);
  report.step(`The fleet starts; the seed of the kills is ${seed}`);
  const faults = await FaultWorld.start(report);
  let kept: 'keep' | 'remove' = 'keep';
  try {
    const rounds = Number(values.rounds);
    report.step(`${rounds} ${rounds === 1 ? 'round' : 'rounds'} of ${values.seconds} s`);
    for (let number = 1; number <= rounds; number += 1) await round(faults, report, number, seed);
    report.summary({ rounds, seed, lost: 0, seconds: Math.round((Date.now() - startedAt) / 1000) });
    kept = 'remove';
    return 0;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    report.summary({ failed: reason, seed, logs: faults.logsDir });
    return 1;
  } finally {
    await faults.stop(kept);
  }
}

process.exit(await main());
