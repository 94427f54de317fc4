/**
 * Holds the development chain's compliance cases against a real bitcoind:
 * what both answer alike is what the fleet may rely on. Then every transaction
 * of a slice of the matrix of closes goes through its mempool.
 */
import { NETWORKS, encodeAddress } from '@fulmen/bitcoin';
import { BitcoindChainSource } from '@fulmen/chain';
import { chainSourceCompliance } from '@fulmen/chain/compliance';
import { rpcCompliance } from '@fulmen/testing/devchain/rpc-compliance';
import { settlementCases } from './settlement.ts';
import { findBitcoind, startBitcoind } from './start-bitcoind.ts';

const bitcoind = findBitcoind();
if (bitcoind === undefined) {
  process.stderr.write('no bitcoind: run test/interop/peers/get-bitcoind.sh, or set FULMEN_BITCOIND\n');
  process.exit(1);
}
const { config, rpc, stop } = await startBitcoind(bitcoind);
let failures = 0;
try {
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
  await stop();
}
process.exitCode = failures === 0 ? 0 : 1;
