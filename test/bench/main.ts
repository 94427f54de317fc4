// npm run bench -- NAME: benchmarks print their figures with the machine; they assert nothing.
import { spawnSync } from 'node:child_process';

const BENCHES: Readonly<Record<string, { readonly file: string; readonly what: string }>> = {
  forward: {
    file: 'test/bench/forward.ts',
    what: 'payments through the fleet: sender → fleet → receiver, closed loop',
  },
  chain: {
    file: 'test/bench/chain.ts',
    what: 'monitors: a busy block, a start, a million revoked states, a breach',
  },
  pathfinding: { file: 'test/bench/pathfinding.ts', what: 'routes on a network of mainnet’s size' },
  store: { file: 'test/bench/store.ts', what: 'group commits on Postgres' },
};

const [name = '', ...args] = process.argv.slice(2);
const bench = BENCHES[name];
if (bench === undefined) {
  const list = Object.entries(BENCHES).map(
    ([key, { what }]) => `  npm run bench -- ${key.padEnd(12)} ${what}`,
  );
  process.stderr.write(`Name a benchmark:\n\n${list.join('\n')}\n`);
  process.exit(3);
}
process.exit(spawnSync(process.execPath, [bench.file, ...args], { stdio: 'inherit' }).status ?? 1);
