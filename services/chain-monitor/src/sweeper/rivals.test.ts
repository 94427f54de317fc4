import { type Tx, displayHash, encodeTx, txVsize, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import type { Claim } from '@fulmen/settlement';
import { outPointKeyOf } from '@fulmen/settlement/sweep/index';
import { KINDS, claim as claimWith } from '@fulmen/settlement/sweep/testing';
import { describe, expect, test } from 'vitest';
import { findContests } from './rivals.ts';

const justice = (n: number): Claim => claimWith(n, KINDS.justiceHtlc).claim;
const SCRIPT = new Uint8Array(22);
/** "<revocation_sig> <revocationpubkey> <script>" */
const BY_REVOCATION = [new Uint8Array(71), new Uint8Array(33).fill(2), new Uint8Array(100)];
/** "0 <remotehtlcsig> <localhtlcsig> <payment_preimage> <script>" */
const BY_TIMEOUT = [
  new Uint8Array(0),
  new Uint8Array(71),
  new Uint8Array(71),
  new Uint8Array(0),
  new Uint8Array(100),
];

function spending(claims: readonly Claim[], witness: readonly Uint8Array[], more: Tx['inputs'] = []): Tx {
  return {
    version: 2,
    locktime: 0,
    inputs: [
      ...claims.map(({ outPoint: { txid, outputIndex } }) => ({
        txid,
        vout: outputIndex,
        scriptSig: new Uint8Array(0),
        sequence: 0,
        witness: [...witness],
      })),
      ...more,
    ],
    outputs: [{ valueSat: 1_000n, script: SCRIPT }],
  };
}

/** A mempool of these; every other output is worth 5,000 sat. */
function mempoolOf(transactions: readonly Tx[], utxos: 'known' | 'unknown' = 'known') {
  let asked = 0;
  const source: Parameters<typeof findContests>[0] & { readonly asked: () => number } = {
    asked: () => asked,
    getMempoolSpends: async (outPoints) =>
      outPoints.flatMap(({ txid, vout }) => {
        const spender = transactions.find((tx) =>
          tx.inputs.some((input) => displayHash(input.txid) === txid && input.vout === vout),
        );
        return spender === undefined ? [] : [{ txid, vout, spendingTxid: displayHash(txidOf(spender)) }];
      }),
    getMempoolTransaction: async (txid) => {
      const found = transactions.find((tx) => displayHash(txidOf(tx)) === txid);
      return found === undefined ? undefined : encodeTx(found);
    },
    getUtxo: async (): ReturnType<ChainSource['getUtxo']> => {
      asked += 1;
      if (utxos === 'unknown') return undefined;
      return { valueSat: 5_000n, script: SCRIPT, confirmations: 1, coinbase: false };
    },
  };
  return source;
}

const STRANGERS_INPUT = {
  txid: new Uint8Array(32).fill(8),
  vout: 3,
  scriptSig: new Uint8Array(0),
  sequence: 0,
  witness: [],
};
const none = (): boolean => false;

describe('what spends a claim in the mempool', () => {
  test('is a rival, with what it pays, for each output that it spends', async () => {
    const claims = [1, 2, 3].map(justice);
    const tx = spending(claims.slice(0, 2), BY_TIMEOUT, [STRANGERS_INPUT]);
    const { rivals, allied } = await findContests(mempoolOf([tx]), claims, none);
    const rival = { txid: txidOf(tx), offer: { feeSat: 204_000n, vsize: txVsize(tx) } };
    expect([...rivals]).toEqual(claims.slice(0, 2).map(({ outPoint }) => [outPointKeyOf(outPoint), rival]));
    expect(allied.size).toBe(0);
  });

  test('is a rival all the same when nobody knows what it pays', async () => {
    const claims = [justice(1)];
    const tx = spending(claims, BY_TIMEOUT, [STRANGERS_INPUT]);
    const wide = spending(
      claims,
      BY_TIMEOUT,
      Array.from({ length: 60 }, (_, vout) => ({ ...STRANGERS_INPUT, vout })),
    );
    for (const source of [mempoolOf([tx], 'unknown'), mempoolOf([wide])])
      expect([...(await findContests(source, claims, none)).rivals.values()]).toMatchObject([
        { offer: undefined },
      ]);
  });

  test('is a rival all the same beyond those whose fee is worked out', async () => {
    const claims = Array.from({ length: 60 }, (_, n) => justice(n));
    const source = mempoolOf(claims.map((one) => spending([one], BY_TIMEOUT, [STRANGERS_INPUT])));
    const { rivals } = await findContests(source, claims, none);
    expect(rivals.size).toBe(60);
    expect(source.asked()).toBe(50);
  });

  test('is none when it is one of the sweeper’s', async () => {
    const claims = [justice(1)];
    const { rivals, allied } = await findContests(
      mempoolOf([spending(claims, BY_TIMEOUT)]),
      claims,
      () => true,
    );
    expect([rivals.size, allied.size]).toEqual([0, 0]);
  });

  test('is no rival when it punishes as the holder does, in the same transaction or not', async () => {
    const claims = [1, 2].map(justice);
    const own = spending(claims.slice(0, 1), BY_REVOCATION);
    const theirs = spending(claims.slice(1), BY_TIMEOUT);
    const tx: Tx = { ...own, inputs: [...own.inputs, ...theirs.inputs] };
    const { rivals, allied } = await findContests(mempoolOf([tx]), claims, none);
    expect([...allied.values()]).toEqual([txidOf(tx)]);
    expect([...rivals.keys()]).toEqual(claims.slice(1).map(({ outPoint }) => outPointKeyOf(outPoint)));
  });
});
