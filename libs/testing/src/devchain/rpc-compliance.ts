/**
 * What the development chain and Bitcoin Core must answer alike, over RPC:
 * results, refusals and error numbers, with the kinds of scripts that
 * Lightning uses. Any runner can run the cases.
 */
import type { BitcoindRpc } from '@fulmen/chain';
import type { ComplianceCase } from '@fulmen/chain/compliance';
import { Bench } from './rpc-bench.ts';
import { CHAIN_CASES } from './rpc-cases-chain.ts';
import { MEMPOOL_CASES } from './rpc-cases-mempool.ts';
import { SCRIPT_CASES } from './rpc-cases-scripts.ts';

const CASES = { ...CHAIN_CASES, ...SCRIPT_CASES, ...MEMPOOL_CASES };

/** The cases; they share one node, its chain and the coins that they split. */
export function rpcCompliance(name: string, makeRpc: () => Promise<BitcoindRpc>): readonly ComplianceCase[] {
  let bench: Promise<Bench> | undefined;
  return Object.entries(CASES).map(([title, run]) => ({
    name: `${name}: ${title}`,
    async run() {
      // Cases share the chain and its coins; the runner closes the client it made.
      bench ??= makeRpc().then((rpc) => new Bench(rpc));
      await run(await bench);
    },
  }));
}
