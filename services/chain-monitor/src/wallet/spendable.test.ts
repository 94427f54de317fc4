/** Which coins are trusted while old blocks are scanned. */
import type { UtxoRecord } from '@fulmen/store/chain/chain-store';
import { expect, test } from 'vitest';
import { ChainView } from '../state/view.ts';
import { isMature, spendable } from './spendable.ts';

const bytes = (n: number): Uint8Array => new Uint8Array(32).fill(n);

function coin(n: number, changes: Partial<UtxoRecord>): UtxoRecord {
  return {
    txid: bytes(n),
    outputIndex: 0,
    valueSat: 1_000n,
    script: bytes(n),
    origin: 'foreign',
    ...changes,
  };
}

/** The tip is 900. */
function viewOf(utxos: readonly UtxoRecord[], rescanFrom: number | undefined): ChainView {
  return new ChainView({
    blocks: [{ height: 900, hash: bytes(1), prevHash: bytes(2), timeUnixSeconds: 0 }],
    fundings: [],
    broadcasts: [],
    addresses: [],
    utxos,
    reservations: [],
    spends: [],
    settlements: [],
    claims: [],
    sweeps: [
      {
        sweepId: bytes(50),
        txid: bytes(51),
        transaction: new Uint8Array(0),
        parents: [],
        claims: [],
        walletInputs: [{ txid: bytes(6), outputIndex: 0 }],
        feeSat: 1n,
        feerateSatPerKw: 253,
        createdHeight: 890,
      },
    ],
    rescanFrom,
    scannedFrom: 1,
  });
}

test('what a scan of old blocks has passed may be spent in a block that it has not read yet', () => {
  const passed = coin(3, { height: 499 });
  const ahead = coin(4, { height: 500 });
  const change = coin(5, { origin: 'own' });
  // A sweep that waits was made with it when it was known: without its coin it would be given up.
  const held = coin(6, { height: 200 });
  const spent = coin(7, { height: 200, spentBy: { txid: bytes(51) } });
  const all = [passed, ahead, change, held, spent];
  const during = viewOf(all, 500);
  expect(spendable(during)).toEqual([ahead, change]);
  expect([held, spent].map((one) => isMature(during, one))).toEqual([true, true]);
  expect(spendable(viewOf(all, undefined))).toEqual([passed, ahead, change]);
});
