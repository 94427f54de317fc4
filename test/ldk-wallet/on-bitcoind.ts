// The scenario of the wallets on a real bitcoind, from a path or from PATH:
//   node deploy/bootstrap/run.mjs test/ldk-wallet/on-bitcoind.ts [--no-anchors] [bitcoind]
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { guardChild } from '../e2e/support/guard.ts';
import { freePort } from '../e2e/support/state.ts';
import { ChainRpc } from './chain.ts';
import { runScenario, type ScenarioChain } from './scenario.ts';

const { values, positionals } = parseArgs({
  options: { 'no-anchors': { type: 'boolean', default: false } },
  allowPositionals: true,
});

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-ldk-'));
const port = await freePort();
const flags = ['-regtest', `-datadir=${dir}`, '-server', '-listen=0', `-rpcport=${port}`];
flags.push('-rpcuser=fulmen', '-rpcpassword=fulmen', '-fallbackfee=0.0001', '-txindex', '-printtoconsole=0');
const bitcoind = spawn(positionals[0] ?? 'bitcoind', flags, { stdio: ['ignore', 'inherit', 'inherit'] });
guardChild(bitcoind, 'TERM');
const ended = new Promise<string>((resolve) => {
  bitcoind.once('error', (error) => resolve(error.message));
  bitcoind.once('exit', (code, signal) => resolve(`bitcoind ended (${signal ?? code})`));
});

const url = `http://fulmen:fulmen@127.0.0.1:${port}`;
const rpc = new ChainRpc(url);
const START_TIMEOUT_MS = 60_000;

async function answers(): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      await rpc.call('getblockcount');
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      // Nothing tells when bitcoind begins to serve: it is asked.
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function scenario(): Promise<string> {
  await answers();
  await rpc.call('createwallet', 'miner');
  const address = await rpc.call<string>('getnewaddress');
  await rpc.call('generatetoaddress', 110, address);
  const chain: ScenarioChain = {
    url,
    mine: async (count) => void (await rpc.call('generatetoaddress', count, address)),
    fund: async (to, sat) => void (await rpc.call('sendtoaddress', to, sat / 1e8)),
    async reorg(depth) {
      const height = await rpc.call<number>('getblockcount');
      await rpc.call('invalidateblock', await rpc.call('getblockhash', height - depth + 1));
      await rpc.call('generatetoaddress', depth + 1, await rpc.call('getnewaddress'));
    },
  };
  const log = (text: string) => process.stdout.write(`${text}\n`);
  await runScenario(chain, { dir: path.join(dir, 'wallets'), anchors: !values['no-anchors'], log });
  return 'passed';
}

try {
  const result = await Promise.race([scenario(), ended]);
  process.stdout.write(`${result}\n`);
  process.exitCode = result === 'passed' ? 0 : 1;
} finally {
  bitcoind.kill('SIGTERM');
  await ended;
  if (process.exitCode === 0) fs.rmSync(dir, { recursive: true, force: true });
}
