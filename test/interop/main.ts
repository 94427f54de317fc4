/**
 * The fleet with the nodes of the network, on a real bitcoind:
 *   npm run interop -- [ldk|lnd|all] [--case NAME] [--write]
 * Prints the matrix; exits 1 when a case fails. `--write` also writes docs/interop.md.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { CASES } from './lane/cases/index.ts';
import type { Case, Outcome } from './lane/case.ts';
import { ldkVersion } from './lane/ldk.ts';
import { findLnd, lndVersion } from './lane/lnd.ts';
import { markdown, type Row, table } from './lane/matrix.ts';
import { NotApplicable, type PeerKind } from './lane/peer.ts';
import { World } from './lane/world.ts';
import { findBitcoind } from './start-bitcoind.ts';

const CASE_TIMEOUT_MS = 300_000;

const { values, positionals } = parseArgs({
  options: { case: { type: 'string' }, write: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const asked = positionals[0] ?? 'all';
if (!['ldk', 'lnd', 'all'].includes(asked)) throw new TypeError(`unknown peer ${asked}: ldk, lnd or all`);
const kinds: readonly PeerKind[] = asked === 'all' ? ['ldk', 'lnd'] : [asked as PeerKind];
const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Runs the script that fetches a peer. */
function fetchPeer(script: string): void {
  const file = path.join(import.meta.dirname, 'peers', script);
  const { status } = spawnSync('bash', [file], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) throw new TypeError(`${script} failed; see above`);
}

if (findBitcoind() === undefined) fetchPeer('get-bitcoind.sh');
if (kinds.includes('lnd') && findLnd() === undefined) fetchPeer('get-lnd.sh');
const bitcoind = findBitcoind();
if (bitcoind === undefined) throw new TypeError('no bitcoind');

const chosen = CASES.filter(
  ({ group, name }) => values.case === undefined || `${group}: ${name}`.includes(values.case),
);
if (chosen.length === 0) throw new TypeError(`no case is called ${values.case}`);

const startedMs = performance.now();
const world = await World.start(bitcoind, say);
const rows: Row[] = [];
try {
  for (const one of chosen) {
    const cells = new Map<string, Outcome>();
    const runs =
      one.over === 'peers'
        ? kinds.map((kind) => ({ kind, other: kind, column: kind }))
        : kinds.flatMap((kind) => kinds.map((other) => ({ kind, other, column: `${kind} → ${other}` })));
    for (const { kind, other, column } of runs) {
      const outcome = await play(one, kind, other);
      cells.set(column, outcome);
      const detail = outcome.type === 'ok' ? `${outcome.seconds} s` : outcome.reason;
      say(`${outcome.type.padEnd(6)} ${column.padEnd(10)} ${one.group}: ${one.name} (${detail})`);
    }
    rows.push({ group: one.group, name: one.name, cells });
  }
} finally {
  await world.stop();
}

async function play(one: Case, kind: PeerKind, other: PeerKind): Promise<Outcome> {
  const beganMs = performance.now();
  const seconds = (): number => Math.round((performance.now() - beganMs) / 100) / 10;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TypeError('the case did not end in time')), CASE_TIMEOUT_MS);
  });
  try {
    await Promise.race([one.run(world, kind, other), late]);
    return { type: 'ok', seconds: seconds() };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof NotApplicable) return { type: 'n/a', reason };
    return { type: 'failed', reason, seconds: seconds() };
  } finally {
    clearTimeout(timer);
    await world.forgetPeers();
  }
}

const versions = [
  world.chain.version,
  ...(kinds.includes('ldk') ? [ldkVersion()] : []),
  ...(kinds.includes('lnd') ? [lndVersion(findLnd() ?? '')] : []),
];
const outcomes = rows.flatMap(({ cells }) => [...cells.values()]);
const count = (type: Outcome['type']): number => outcomes.filter((outcome) => outcome.type === type).length;
const seconds = Math.round((performance.now() - startedMs) / 1_000);
say(`\n${table(rows)}\n`);
say(`${versions.join(', ')}`);
say(`${count('ok')} ok, ${count('n/a')} n/a, ${count('failed')} failed in ${seconds} s`);
if (values.write)
  fs.writeFileSync(
    path.join(import.meta.dirname, '../../docs/interop.md'),
    markdown(rows, versions, seconds),
  );
process.exitCode = count('failed') === 0 ? 0 : 1;
