/** Transactions against the wallet: outputs that pay it, inputs that spend it, in a block or in the mempool. */
import { equalBytes, toHex } from '@fulmen/codec';
import type { Tx } from '@fulmen/bitcoin';
import type { SweepRecord, UtxoRecord } from '@fulmen/store/chain/chain-store';
import type { Draft } from '../state/draft.ts';
import { outPointKey } from '../state/keys.ts';

/** Blocks after which a spent output is forgotten. */
const SPENT_DEPTH = 288;

/** Where a transaction was seen. */
export type Sighting =
  | { readonly type: 'mempool' }
  | { readonly type: 'block'; readonly height: number; readonly isCoinbase: boolean };

/** Notes what a transaction does to the wallet. */
export function observeTransaction(draft: Draft, tx: Tx, txid: Uint8Array, sighting: Sighting): void {
  const height = sighting.type === 'block' ? sighting.height : undefined;
  const spends = tx.inputs.map((input) => draft.utxo(outPointKey(input.txid, input.vout)));
  // A block has decided otherwise.
  if (
    height === undefined &&
    spends.some((utxo) => utxo?.spentBy?.height !== undefined && !equalBytes(utxo.spentBy.txid, txid))
  )
    return;
  let amountSat = 0n;
  let touched = false;
  for (const utxo of spends) {
    if (utxo === undefined) continue;
    touched = true;
    amountSat -= utxo.valueSat;
    if (utxo.spentBy !== undefined && !equalBytes(utxo.spentBy.txid, txid))
      forgetTransaction(draft, utxo.spentBy.txid);
    const isConfirmedAlready = height === undefined && utxo.spentBy?.height !== undefined;
    if (!isConfirmedAlready)
      draft.putUtxo({ ...utxo, spentBy: { txid, ...(height !== undefined && { height }) } });
  }
  const isOwn = spends.length > 0 && spends.every((utxo) => utxo !== undefined);
  for (const [outputIndex, { script, valueSat }] of tx.outputs.entries()) {
    const address = draft.address(toHex(script));
    if (address === undefined) continue;
    touched = true;
    amountSat += valueSat;
    if (address.state !== 'used') draft.putAddress({ ...address, state: 'used' });
    const known = draft.utxo(outPointKey(txid, outputIndex));
    const origin =
      sighting.type === 'block' && sighting.isCoinbase
        ? 'coinbase'
        : isOwn
          ? 'own'
          : (known?.origin ?? 'foreign');
    const confirmed = height ?? known?.height;
    draft.putUtxo({
      txid,
      outputIndex,
      valueSat,
      script,
      origin,
      ...(confirmed !== undefined && { height: confirmed }),
      ...(known?.spentBy !== undefined && { spentBy: known.spentBy }),
    });
  }
  if (!touched) return;
  const outSat = tx.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
  const feeSat = isOwn ? spends.reduce((sum, utxo) => sum + (utxo?.valueSat ?? 0n), 0n) - outSat : 0n;
  draft.putTransaction({
    txid,
    amountSat,
    feeSat,
    label: labelOf(draft, tx, txid),
    ...(height !== undefined && { height }),
  });
}

function labelOf(draft: Draft, tx: Tx, txid: Uint8Array): string {
  for (const { txid: reserved, purpose } of draft.view.reservations.values())
    if (equalBytes(reserved, txid)) return purpose;
  for (const sweep of draft.settlement.sweeps())
    if (equalBytes(sweep.txid, txid)) return sweepLabel(draft, sweep);
  const closes = tx.inputs.some((input) =>
    draft.view.fundingsByOutPoint.has(outPointKey(input.txid, input.vout)),
  );
  return closes ? 'channel close' : '';
}

/** What a transaction of the sweeper's is for; several kinds of claims share one only without hurry. */
function sweepLabel(draft: Draft, { claims, walletInputs }: SweepRecord): string {
  const [first] = claims;
  const kind =
    first === undefined
      ? undefined
      : draft.settlement.claim(outPointKey(first.txid, first.outputIndex))?.kind;
  switch (kind) {
    case 'anchor':
      return walletInputs.length > 0 ? 'commitment fee' : 'sweep';
    case 'holder_htlc':
      return 'HTLC second stage';
    case 'revoked_delayed':
    case 'revoked_htlc':
      return 'justice';
    default:
      return 'sweep';
  }
}

/** Undoes an unconfirmed transaction that another one replaced, or that left the mempool; its children go with it. */
export function forgetTransaction(draft: Draft, txid: Uint8Array): void {
  const children: Uint8Array[] = [];
  for (const utxo of [...draft.utxos()]) {
    if (equalBytes(utxo.txid, txid) && utxo.height === undefined) {
      draft.dropUtxo(utxo);
      if (utxo.spentBy !== undefined) children.push(utxo.spentBy.txid);
    } else if (
      utxo.spentBy !== undefined &&
      utxo.spentBy.height === undefined &&
      equalBytes(utxo.spentBy.txid, txid)
    ) {
      draft.putUtxo(withoutSpend(utxo));
    }
  }
  draft.dropTransaction(txid);
  for (const child of children) forgetTransaction(draft, child);
}

function withoutSpend({ spentBy: _, ...rest }: UtxoRecord): UtxoRecord {
  return rest;
}

/** Takes back what a disconnected block did; what it confirmed is unconfirmed again, its coinbase never was. */
export function unscanWallet(draft: Draft, blockHeight: number): void {
  for (const utxo of draft.view.utxos.values()) {
    if (utxo.height === blockHeight && utxo.origin === 'coinbase') {
      draft.dropUtxo(utxo);
      if (utxo.spentBy !== undefined) forgetTransaction(draft, utxo.spentBy.txid);
      draft.dropTransaction(utxo.txid);
      continue;
    }
    const { height, spentBy, ...rest } = utxo;
    if (height !== blockHeight && spentBy?.height !== blockHeight) continue;
    draft.putUtxo({
      ...rest,
      ...(height !== undefined && height !== blockHeight && { height }),
      ...(spentBy !== undefined && {
        spentBy: spentBy.height === blockHeight ? { txid: spentBy.txid } : spentBy,
      }),
    });
  }
}

/** Forgets outputs that were spent so long ago that no reorg brings them back. */
export function pruneSpent(draft: Draft, bestHeight: number): void {
  for (const utxo of draft.view.utxos.values()) {
    if (utxo.spentBy?.height !== undefined && bestHeight - utxo.spentBy.height >= SPENT_DEPTH)
      draft.dropUtxo(utxo);
  }
}
