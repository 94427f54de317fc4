/**
 * npm run matrix: every way a channel can end on-chain, each to its end.
 *
 *   npm run matrix                   all cases
 *   npm run matrix -- --case NAME    those whose name contains NAME, with what went wrong
 *   npm run matrix -- --slice        what `npm test` runs
 *   --log, --events                  what chain-monitor complained of; blocks with transactions, and broadcasts
 */
import { secp256k1 } from '@fulmen/crypto/default';
import { CASES, SLICE, nameOf } from './cases.ts';
import { FleetSigner } from './fleet-signer.ts';
import { storyOf } from './story.ts';
import { fleetKeys } from './policy-signer.ts';
import { type Outcome, runCase } from './run-case.ts';

/** A line of progress after so many cases. */
const PROGRESS_CASES = 50;

const args = process.argv.slice(2);
const wanted = args[args.indexOf('--case') + 1];
const filter = args.includes('--case') ? wanted : undefined;
const cases = (args.includes('--slice') ? SLICE : CASES).filter(
  (one) => filter === undefined || nameOf(one).includes(filter),
);
const signer = await FleetSigner.start(secp256k1, fleetKeys(secp256k1));
const startedMs = performance.now();
const outcomes: Omit<Outcome, 'events' | 'complaints'>[] = [];
for (const one of cases) {
  const caseMs = performance.now();
  const outcome = await runCase(one, signer);
  const { events, complaints, ...kept } = outcome;
  outcomes.push(kept);
  const isGood = outcome.faults.length === 0;
  if (isGood && filter === undefined) {
    if (outcomes.length % PROGRESS_CASES === 0)
      process.stdout.write(`… ${outcomes.length} of ${cases.length}\n`);
    continue;
  }
  process.stdout.write(
    `${isGood ? 'ok  ' : 'FAIL'} ${outcome.name} (${Math.round(performance.now() - caseMs)} ms, ${outcome.blocks} blocks, ${outcome.processes} processes, ${outcome.reorgs} reorgs, fees ${outcome.ledger?.feesSat ?? '?'} sat)\n`,
  );
  for (const fault of outcome.faults) process.stdout.write(`     ${fault}\n`);
  if (args.includes('--events')) for (const line of storyOf(events)) process.stdout.write(`     · ${line}\n`);
  if (args.includes('--log')) for (const line of complaints) process.stdout.write(`     | ${line}\n`);
}
await signer.stop();
const failed = outcomes.filter(({ faults }) => faults.length > 0);
const sum = (of: (outcome: (typeof outcomes)[number]) => number): number =>
  outcomes.reduce((all, one) => all + of(one), 0);
process.stdout.write(
  `${outcomes.length - failed.length} of ${outcomes.length} cases end as BOLT 5 says; ` +
    `${sum(({ blocks }) => blocks)} blocks, ${sum(({ processes }) => processes)} processes, ` +
    `${sum(({ reorgs }) => reorgs)} reorganisations, ${sum(({ broadcasts }) => broadcasts)} broadcasts, ` +
    `${((performance.now() - startedMs) / 1000).toFixed(1)} s\n`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
