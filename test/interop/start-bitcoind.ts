/**
 * A real bitcoind on regtest, for as long as a test needs it. The binary is
 * FULMEN_BITCOIND, else the one that `test/interop/peers/get-bitcoind.sh` put
 * under `.fulmen/peers`, else the one on the PATH. The node runs on loopback
 * with a temporary folder.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { BitcoindRpcConfig } from '@fulmen/chain';
import { BitcoindRpc, ChainSourceError } from '@fulmen/chain';

const START_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

/** Path of a bitcoind, or its name on the PATH. */
export function findBitcoind(): string | undefined {
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

/** A node that runs. */
export interface RunningBitcoind {
  readonly config: BitcoindRpcConfig;
  readonly rpc: BitcoindRpc;
  stop(): Promise<void>;
}

/** Starts a node; `FULMEN_BITCOIND_ARGS` are added to the arguments. */
export async function startBitcoind(
  bitcoind: string,
  extra: readonly string[] = [],
): Promise<RunningBitcoind> {
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
    ...extra,
    ...(process.env['FULMEN_BITCOIND_ARGS'] ?? '').split(' ').filter((arg) => arg !== ''),
  ];
  const child = spawn(bitcoind, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  const rpc = new BitcoindRpc(config);
  const stop = async (): Promise<void> => {
    rpc.close();
    child.kill('SIGTERM');
    await exited;
    rmSync(dataDir, { recursive: true, force: true });
  };
  try {
    await Promise.race([
      waitUntilReady(rpc),
      exited.then(() => Promise.reject(new ChainSourceError('unreachable', 'bitcoind ended'))),
    ]);
  } catch (error) {
    await stop();
    throw error;
  }
  return { config, rpc, stop };
}
