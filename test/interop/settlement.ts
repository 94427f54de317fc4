/**
 * A slice of the matrix of closes before a real bitcoind: it gets the very
 * blocks of each case, and between them whatever chain-monitor broadcast.
 * Its consensus must take every block, its mempool every transaction.
 */
import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { BitcoindChainSource } from '@fulmen/chain';
import type { ComplianceCase } from '@fulmen/chain/compliance';
import { toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { SLICE, nameOf } from '../settlement/cases.ts';
import { FleetSigner } from '../settlement/fleet-signer.ts';
import { fleetKeys } from '../settlement/policy-signer.ts';
import { type Outcome, runCase } from '../settlement/run-case.ts';
import type { WorldEvent } from '../settlement/world.ts';
import { type RunningBitcoind, startBitcoind } from './start-bitcoind.ts';

/** The chain of a case begins in 2023, and the node must not wait for the rest of it. */
const ARGS = ['-maxtipage=1000000000', '-incrementalrelayfee=0.00001', '-persistmempool=0'];

/** What the cases ask of a transaction's feerate, as the node is told. */
function relayArgs(feerate: 'calm' | 'spiking', format: string): string[] {
  return [`-minrelaytxfee=${feerate === 'spiking' && format === 'anchors' ? '0.00002' : '0.00001'}`];
}

export function settlementCases(bitcoind: string): readonly ComplianceCase[] {
  // A real mempool cannot be told to forget the commitment that a reorganisation took away.
  return SLICE.filter(({ fault }) => fault !== 'switch').map((one) => ({
    name: `matrix of closes: ${nameOf(one)}`,
    run: async () => {
      const signer = await FleetSigner.start(secp256k1, fleetKeys(secp256k1));
      let outcome: Outcome;
      try {
        outcome = await runCase(one, signer);
      } finally {
        await signer.stop();
      }
      deepStrictEqual(outcome.faults, []);
      const node = await startBitcoind(bitcoind, [...ARGS, ...relayArgs(one.feerate, one.format)]);
      try {
        await replay(node, outcome.events);
      } finally {
        await node.stop();
      }
    },
  }));
}

async function replay({ rpc, config }: RunningBitcoind, events: readonly WorldEvent[]): Promise<void> {
  const source = new BitcoindChainSource(config);
  try {
    for (const event of events) {
      switch (event.type) {
        case 'block': {
          const verdict = await rpc.call('submitblock', toHex(event.raw));
          // Null is Bitcoin Core's word for accepted.
          strictEqual(verdict, null, `a block was refused: ${String(verdict)}`);
          break;
        }
        case 'invalidate':
          await rpc.call('invalidateblock', event.hash);
          break;
        case 'broadcast': {
          const { transactions } = event;
          const outcome = await source.broadcastPackage(transactions);
          if (event.outcome.kind === 'accepted')
            strictEqual(
              outcome.kind,
              'accepted',
              `${transactions.map(toHex).join(', ')}: ${outcome.kind === 'rejected' ? `${outcome.reason} ${JSON.stringify(outcome.rejections)}` : ''}`,
            );
          break;
        }
      }
    }
  } finally {
    source.close();
  }
}
