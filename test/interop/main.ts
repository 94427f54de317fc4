/**
 * The fleet with the nodes of the network, on a real bitcoind:
 *   npm run interop -- [ldk|ldk-node|lnd|all] [--case NAME]… [--worlds N] [--write]
 *   npm run interop -- keep [FOLDER…]
 * Prints the matrix; exits 1 when a case fails. `--worlds` is how many fleets, each on a chain of its own, share the
 * cases (2 unless told). `--write` also writes docs/interop.md. `keep` chooses the recordings that `npm test` replays
 * (keep.ts).
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { defaultStateDir } from '../e2e/support/state.ts';
import { CASES } from './lane/cases/index.ts';
import { keep } from './keep.ts';
import { findLdkNode, ldkNodeVersion } from './lane/ldk-node.ts';
import { ldkVersion } from './lane/ldk.ts';
import { findLnd, lndVersion } from './lane/lnd.ts';
import { count, markdown, reasonsOf, rowsOf, table } from './lane/matrix.ts';
import type { PeerKind } from './lane/peer.ts';
import { playAll, runsOf } from './lane/play.ts';
import { recordingDir } from './lane/recording.ts';
import { findBitcoind } from './start-bitcoind.ts';

const MAX_WORLDS = 8;
const RAM_DISK = '/dev/shm';
/** For every database of a whole run. */
const ROOM_BYTES = 4 * 2 ** 30;

const { values, positionals } = parseArgs({
  options: {
    case: { type: 'string', multiple: true },
    worlds: { type: 'string', default: '2' },
    write: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const asked = positionals[0] ?? 'all';
if (asked === 'keep') {
  await keep(positionals.slice(1), say);
  process.exit();
}
if (!['ldk', 'ldk-node', 'lnd', 'all'].includes(asked))
  throw new TypeError(`unknown peer ${asked}: ldk, ldk-node, lnd or all`);
const kinds: readonly PeerKind[] = asked === 'all' ? allKinds() : [asked as PeerKind];
const worlds = Number(values.worlds);
if (!Number.isInteger(worlds) || worlds < 1 || worlds > MAX_WORLDS)
  throw new TypeError(`--worlds wants a number from 1 to ${MAX_WORLDS}`);

/** LDK's newest release is built with cargo: where that is missing, it is left out. */
function allKinds(): readonly PeerKind[] {
  if (findLdkNode() !== undefined || spawnSync('cargo', ['--version']).status === 0)
    return ['ldk', 'ldk-node', 'lnd'];
  say('there is no cargo: without the newest release of LDK');
  return ['ldk', 'lnd'];
}

/** Runs the script that fetches a peer. */
function fetchPeer(script: string): void {
  const file = path.join(import.meta.dirname, 'peers', script);
  const { status } = spawnSync('bash', [file], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) throw new TypeError(`${script} failed; see above`);
}

// What the nodes store is thrown away, and the durability of disks is not what is played here.
if (process.env['TMPDIR'] === undefined && hasRoom(RAM_DISK)) process.env['TMPDIR'] = RAM_DISK;

function hasRoom(dir: string): boolean {
  if (!fs.existsSync(dir)) return false;
  const { bavail, bsize } = fs.statfsSync(dir);
  return bavail * bsize >= ROOM_BYTES;
}

// Hundreds of processes of few programs are started.
process.env['NODE_COMPILE_CACHE'] ??= path.join(defaultStateDir, 'compile-cache');

if (findBitcoind() === undefined) fetchPeer('get-bitcoind.sh');
if (kinds.includes('lnd') && findLnd() === undefined) fetchPeer('get-lnd.sh');
if (kinds.includes('ldk-node') && process.env['FULMEN_LDK_NODE'] === undefined) fetchPeer('get-ldk-node.sh');
const bitcoind = findBitcoind();
if (bitcoind === undefined) throw new TypeError('no bitcoind');

const chosen = CASES.filter(
  ({ group, name }) =>
    values.case === undefined || values.case.some((part) => `${group}: ${name}`.includes(part)),
);
if (chosen.length === 0) throw new TypeError(`no case is called ${values.case?.join(' or ')}`);

const startedMs = performance.now();
const runs = runsOf(chosen, kinds);
const { outcomes, chainVersion } = await playAll(runs, { bitcoind, worlds, say });
const rows = rowsOf(outcomes);
const versions = [
  chainVersion,
  ...(kinds.includes('ldk') ? [ldkVersion()] : []),
  ...(kinds.includes('ldk-node') ? [ldkNodeVersion()] : []),
  ...(kinds.includes('lnd') ? [lndVersion(findLnd() ?? '')] : []),
];
const seconds = Math.round((performance.now() - startedMs) / 1_000);
say(`\n${table(rows)}\n`);
for (const reason of reasonsOf(rows)) say(reason);
say(`${versions.join(', ')}`);
say(`what was said: ${recordingDir()}`);
say(
  `${count(rows, 'ok')} ok, ${count(rows, 'n/a')} n/a, ${count(rows, 'failed')} failed in ${seconds} s, ${worlds} fleets at once`,
);
if (values.write)
  fs.writeFileSync(
    path.join(import.meta.dirname, '../../docs/interop.md'),
    markdown(
      rows,
      versions,
      seconds,
      fs.readFileSync(path.join(import.meta.dirname, 'differences.md'), 'utf8'),
    ),
  );
process.exitCode = count(rows, 'failed') === 0 ? 0 : 1;
