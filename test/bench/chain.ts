/**
 * npm run bench -- chain: what monitors cost. A block with 5,000 transactions
 * against 10,000 of them; a start with few and many open channels, and many
 * that ended; bytes for each revoked state, and the answer to a breach.
 *
 *   --states N     states of the large channel (default 1,000,000)
 */
import { displayHash } from '@fulmen/bitcoin';
import { InternalError } from '@fulmen/codec';
import { MemoryChainStore } from '@fulmen/store/chain/memory';
import { type Running, chainWith, cpuMsOf, rows, run } from './chain-fixture.ts';
import { measureRevoked } from './chain-revoked.ts';
import { measurePostgresStart } from './chain-start.ts';
import { machine } from './machine.ts';

const BLOCK_TRANSACTIONS = 5_000;
/** Channels whose funding the busy block spends. */
const CLOSES = 20;

async function measureBlock(open: number): Promise<number> {
  const { chain, coins, mineBusyBlock } = chainWith(BLOCK_TRANSACTIONS);
  const state = rows({ open, resolved: 0, spent: coins.slice(0, CLOSES) });
  const running = await run(chain, new MemoryChainStore(state));
  await running.turn();
  mineBusyBlock();
  const cpuMs = await cpuMsOf(running.turn);
  const tip = state.blocks.at(-1);
  if (tip === undefined || displayHash(tip.hash) !== chain.chain.tip.hash)
    throw new InternalError('the block was not processed');
  const seen = [...state.fundings.values()].filter(({ spent }) => spent !== undefined).length;
  if (seen !== CLOSES) throw new InternalError(`${seen} closes were seen`);
  await running.stop();
  return cpuMs;
}

async function measureStart(open: number, resolved: number): Promise<number> {
  const { chain } = chainWith(1);
  const state = rows({ open, resolved });
  let running: Running | undefined;
  const cpuMs = await cpuMsOf(async () => {
    running = await run(chain, new MemoryChainStore(state));
    await running.turn();
  });
  if (state.blocks.length === 0) throw new InternalError('nothing was followed');
  await running?.stop();
  return cpuMs;
}

const args = process.argv.slice(2);
const states = args.includes('--states') ? Number(args[args.indexOf('--states') + 1]) : 1_000_000;
const print = (line: string): void => void process.stdout.write(`${line}\n`);
const grouped = (value: number): string => Math.round(value).toLocaleString('en');

print(`chain · ${machine()}`);
// Once without measuring, so that no figure pays for the compiler.
await measureBlock(100);
for (const open of [1_000, 10_000])
  print(
    `block of ${grouped(BLOCK_TRANSACTIONS)} transactions, ${grouped(open)} monitors: ${grouped(await measureBlock(open))} ms CPU (${CLOSES} of them close)`,
  );
await measureStart(100, 100);
for (const [open, resolved] of [
  [1_000, 0],
  [1_000, 50_000],
  [10_000, 0],
  [10_000, 50_000],
] as const) {
  const postgres = await measurePostgresStart(open, resolved);
  print(
    `start with ${grouped(open)} open channels and ${grouped(resolved)} that ended: ${grouped(await measureStart(open, resolved))} ms CPU on rows in memory; ${grouped(postgres.cpuMs)} ms CPU and ${grouped(postgres.wallMs)} ms on Postgres`,
  );
}
const revoked = measureRevoked(states);
print(
  `channel with ${grouped(states)} revoked states: ${grouped(revoked.bytes)} bytes, ${revoked.bytesPerState.toFixed(1)} a state; read back in ${grouped(revoked.decodeMs)} ms; a breach is settled in ${revoked.breachMs.median.toFixed(1)} ms (median of any state; slowest ${revoked.breachMs.slowest.toFixed(1)} ms)`,
);
