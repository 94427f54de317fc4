/**
 * Holds the development chain's compliance cases against a real bitcoind:
 * what both answer alike is what the fleet may rely on. Then every transaction
 * of a slice of the matrix of closes goes through its mempool.
 */
import { NETWORKS, encodeAddress } from '@fulmen/bitcoin';
import { BitcoindChainSource, EsploraChainSource } from '@fulmen/chain';
import { chainSourceCompliance } from '@fulmen/chain/compliance';
import { type RunningEsploraFront, startEsploraFront } from '@fulmen/testing/devchain';
import { rpcCompliance } from '@fulmen/testing/devchain/rpc-compliance';
import { chainMonitorCases } from './chain-monitor.ts';
import { settlementCases } from './settlement.ts';
import { findBitcoind, startBitcoind } from './start-bitcoind.ts';

const bitcoind = findBitcoind();
if (bitcoind === undefined) {
  process.stderr.write('no bitcoind: run test/interop/peers/get-bitcoind.sh, or set FULMEN_BITCOIND\n');
  process.exit(1);
}
const { config, rpc, stop } = await startBitcoind(bitcoind);

async function mine(count: number, script: Uint8Array): Promise<readonly string[]> {
  const address = encodeAddress(script, NETWORKS.regtest);
  // Only addresses can be mined to; a script without one is a descriptor's business.
  if (address !== undefined) return (await rpc.call('generatetoaddress', count, address)) as string[];
  const descriptor = `raw(${Buffer.from(script).toString('hex')})`;
  return (await rpc.call('generatetodescriptor', count, descriptor)) as string[];
}

async function invalidate(hash: string): Promise<void> {
  await rpc.call('invalidateblock', hash);
}

let failures = 0;
let front: RunningEsploraFront | undefined;
try {
  const cases = [
    ...rpcCompliance('bitcoind RPC', async () => rpc),
    ...chainSourceCompliance('bitcoind port', async () => {
      const source = new BitcoindChainSource(config);
      return { source, mine, invalidate, close: async () => source.close() };
    }),
    ...chainSourceCompliance('bitcoind behind Esplora', async () => {
      front ??= await startEsploraFront({ rpc });
      const source = new EsploraChainSource({ url: front.url });
      return { source, mine, invalidate, close: async () => source.close() };
    }),
    ...chainMonitorCases(bitcoind),
    ...settlementCases(bitcoind),
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
  await front?.stop();
  await stop();
}
process.exitCode = failures === 0 ? 0 : 1;
