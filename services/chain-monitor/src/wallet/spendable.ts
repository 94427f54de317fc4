/** Which outputs of the wallet may be spent. */
import type { UtxoRecord } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';
import type { ChainView } from '../state/view.ts';

/** Blocks until a coinbase may be spent. */
const COINBASE_MATURITY = 100;

export function isMature(view: ChainView, { height, origin }: UtxoRecord): boolean {
  if (height === undefined) return false;
  return origin !== 'coinbase' || (view.tip?.height ?? 0) - height + 1 >= COINBASE_MATURITY;
}

/** Confirmed and mature, or unconfirmed change of our own; set apart for nothing. */
export function spendable(view: ChainView): readonly UtxoRecord[] {
  const held = view.reservedOutPoints();
  return [...view.utxos.values()].filter(
    (utxo) =>
      utxo.spentBy === undefined &&
      !held.has(outPointKey(utxo.txid, utxo.outputIndex)) &&
      (isMature(view, utxo) || (utxo.height === undefined && utxo.origin === 'own')),
  );
}
