// npm start: the whole fleet on this machine, and its main job before your eyes.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { claimStateDir, defaultStateDir } from '../support/state.ts';
import { jsonReport, textReport } from './report.ts';
import { breachStory } from './breach.ts';
import { forceCloseStory } from './force-close.ts';
import { mainJob, openChannels, type Outcome } from './scenario.ts';
import { World } from './world.ts';

const HELP = `Starts a Fulmen fleet on this machine and shows its main job.

  npm start                 run the main job, then stay up; Ctrl-C stops
  npm start -- --once       run the main job and exit: 0 when every step held, 1 when not
  npm start -- --json       one JSON object a line
  npm start -- --reset      forget the state of earlier runs first

  --scenario payments       the main job (default)
  --scenario force-close    two channels are closed by force with payments in flight; everything comes home
  --scenario breach         a revoked commitment is broadcast and punished while the rest of the fleet is dead
                            (both with --once)
`;

const SCENARIOS: Readonly<Record<string, (world: World) => Promise<Outcome>>> = {
  payments: mainJob,
  'force-close': forceCloseStory,
  breach: breachStory,
};

const { values } = parseArgs({
  options: {
    once: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    reset: { type: 'boolean', default: false },
    scenario: { type: 'string', default: 'payments' },
    help: { type: 'boolean', default: false },
    state: { type: 'string' },
  },
});

const next = (bobsInvoice: string): string => `
The fleet is up, with a channel from Alice and one to Bob. Try, in another terminal:

  npx fulmen info                  the node, its height, its channels
  npx fulmen channels list
  npx fulmen peers list
  npx fulmen invoice create 1000 --description coffee
  npx fulmen wallet address
  npx fulmen pay ${bobsInvoice}

The last one pays Bob 2,500 sat. Ctrl-C stops the fleet; npm start resumes the same node with its channels.
`;

async function main(): Promise<number> {
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const { scenario } = values;
  const story = SCENARIOS[scenario];
  if (story === undefined || (scenario !== 'payments' && !values.once)) {
    process.stderr.write(
      story === undefined
        ? `There is no scenario ${scenario}: ${Object.keys(SCENARIOS).join(', ')}.\n`
        : `The scenario ${scenario} leaves nothing to play with: add --once.\n`,
    );
    return 2;
  }
  const startedAt = Date.now();
  const report = values.json ? jsonReport() : textReport(startedAt);
  const stateDir = values.state ?? path.join(defaultStateDir, values.once ? 'once' : 'fleet');
  let release: () => void = () => undefined;
  const doneFile = path.join(stateDir, 'main-job.json');
  let world: World | undefined;
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> =>
    (stopping ??= (world?.stop() ?? Promise.resolve()).finally(() => release()));
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  try {
    release = claimStateDir(stateDir);
    // A run with --once begins anew each time; a first run that was cut short has half a story behind it.
    if (values.reset || values.once || !fs.existsSync(doneFile)) forget(stateDir);
    const resumes = fs.existsSync(doneFile);
    report.step('The fleet starts');
    world = await World.start(stateDir, report, { cliFile: path.join(defaultStateDir, 'cli.json') });
    if (!resumes) {
      const running = story(world);
      const outcome = await Promise.race([running, interrupted.then(() => undefined)]);
      if (outcome === undefined) return 130;
      const { ledger, unaccountedMsat } = outcome;
      const seconds = Math.round((Date.now() - startedAt) / 100) / 10;
      report.summary({
        scenario,
        settled: ledger.settled,
        failedAsExpected: ledger.failedAsExpected,
        failedUnexpectedly: ledger.failedUnexpectedly,
        retried: ledger.retried,
        unaccountedMsat: unaccountedMsat.toString(),
        kills: ledger.kills,
        seconds,
      });
      if (ledger.failedUnexpectedly > 0 || unaccountedMsat !== 0n) return 1;
      fs.writeFileSync(doneFile, `${JSON.stringify({ seconds })}\n`);
      if (values.once) return 0;
      report.step('Two fresh channels, to play with');
      await openChannels(world);
    } else {
      await Promise.all([world.usable(world.alice, 'Alice'), world.usable(world.bob, 'Bob')]);
      report.say('resumed the node of an earlier run, with its channels; npm start -- --reset begins anew');
    }
    const { bolt11 } = await world.bob.call('createInvoice', {
      amountMsat: 2_500_000n,
      description: 'from you',
      expirySeconds: 86_400,
    });
    if (values.json) report.say('up', { bobsInvoice: bolt11 });
    else process.stdout.write(next(bolt11));
    await interrupted;
    report.say('stopping');
    return 0;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (values.json) report.say('failed', { failed: reason });
    process.stderr.write(
      `\nThe story did not hold: ${reason}\nLogs are in ${path.join(stateDir, 'logs')}.\n`,
    );
    if (process.env['FULMEN_DEBUG'] !== undefined && error instanceof Error)
      process.stderr.write(`${error.stack}\n`);
    return 1;
  } finally {
    await stop();
  }
}

/** Removes a state folder's content but the claim on it. */
function forget(stateDir: string): void {
  for (const entry of fs.readdirSync(stateDir))
    if (entry !== 'owner.pid') fs.rmSync(path.join(stateDir, entry), { recursive: true, force: true });
}

process.exit(await main());
