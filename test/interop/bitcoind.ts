/**
 * Holds the development chain's compliance cases against a real bitcoind:
 * what both answer alike is what the fleet may rely on.
 *
 * The binary is FULMEN_BITCOIND, else the one that
 * `test/interop/peers/get-bitcoind.sh` put under `.fulmen/peers`, else the
 * one on the PATH. The node runs on loopback with a temporary folder.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NETWORKS, encodeAddress } from '@fulmen/bitcoin';
import type { BitcoindRpcConfig } from '@fulmen/chain';
import { BitcoindChainSource, BitcoindRpc, ChainSourceError } from '@fulmen/chain';
import { chainSourceCompliance } from '@fulmen/chain/compliance';
import { rpcCompliance } from '@fulmen/testing/devchain/rpc-compliance';

const START_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

function findBitcoind(): string | undefined {
  const ours = join(import.meta.dirname, '../../.fulmen/peers/bitcoind/bin/bitcoind');
  for (const candidate of [process.env['FULMEN_BITCOIND'], ours]) {
    if (candidate !== undefined && candidate !== '' && existsSync(candidate)) return candidate;
  }
  return spawnSync('bitcoind', ['-version']).status === 0 ? 'bitcoind' : undefined;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function waitUntilReady(rpc: BitcoindRpc): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      await rpc.call('getblockcount');
      return;
    } catch (error) {
      if (!(error instanceof ChainSourceError) || !error.isTransient || performance.now() > deadline)
        throw error;
      await delay(POLL_MS);
    }
  }
}

const bitcoind = findBitcoind();
if (bitcoind === undefined) {
  process.stderr.write('no bitcoind: run test/interop/peers/get-bitcoind.sh, or set FULMEN_BITCOIND\n');
  process.exit(1);
}
const dataDir = mkdtempSync(join(tmpdir(), 'fulmen-bitcoind-'));
const port = await freePort();
const config: BitcoindRpcConfig = {
  host: '127.0.0.1',
  port,
  auth: { kind: 'cookie', path: join(dataDir, 'regtest', '.cookie') },
};
const args = [
  '-regtest',
  `-datadir=${dataDir}`,
  `-rpcport=${port}`,
  '-listen=0',
  '-server=1',
  '-txindex=1',
  '-fallbackfee=0.0001',
  '-dustrelayfee=0',
  '-mempooltruc=enforce',
  '-printtoconsole=0',
  ...(process.env['FULMEN_BITCOIND_ARGS'] ?? '').split(' ').filter((arg) => arg !== ''),
];
const child = spawn(bitcoind, args, { stdio: ['ignore', 'ignore', 'inherit'] });
const exited = once(child, 'exit');
const rpc = new BitcoindRpc(config);
let failures = 0;
try {
  await Promise.race([
    waitUntilReady(rpc),
    exited.then(() => Promise.reject(new ChainSourceError('unreachable', 'bitcoind ended'))),
  ]);
  const cases = [
    ...rpcCompliance('bitcoind RPC', async () => rpc),
    ...chainSourceCompliance('bitcoind port', async () => {
      const source = new BitcoindChainSource(config);
      return {
        source,
        mine: async (count, script) => {
          const address = encodeAddress(script, NETWORKS.regtest);
          // Only addresses can be mined to; a script without one is a descriptor's business.
          if (address !== undefined) return (await rpc.call('generatetoaddress', count, address)) as string[];
          return (await rpc.call(
            'generatetodescriptor',
            count,
            `raw(${Buffer.from(script).toString('hex')})`,
          )) as string[];
        },
        invalidate: async (hash) => void (await rpc.call('invalidateblock', hash)),
        close: async () => source.close(),
      };
    }),
  ];
  for (const { name, run } of cases) {
    try {
      await run();
      process.stdout.write(`ok   ${name}\n`);
    } catch (error) {
      failures += 1;
      process.stdout.write(
        `FAIL ${name}\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
      );
    }
  }
  process.stdout.write(`${cases.length - failures} of ${cases.length} cases agree\n`);
} finally {
  rpc.close();
  child.kill('SIGTERM');
  await exited;
  rmSync(dataDir, { recursive: true, force: true });
}
process.exitCode = failures === 0 ? 0 : 1;
