/** Which outputs of the wallet may be spent. */
import { equalBytes } from '@fulmen/codec';
import type { UtxoRecord } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';
import type { ChainView } from '../state/view.ts';

/** Blocks until a coinbase may be spent. */
const COINBASE_MATURITY = 100;

/** Confirmed for long enough, and as far as is known not spent. */
export function isMature(view: ChainView, utxo: UtxoRecord): boolean {
  const { height, origin } = utxo;
  if (height === undefined || isHalfKnown(view, utxo, height)) return false;
  return origin !== 'coinbase' || (view.tip?.height ?? 0) - height + 1 >= COINBASE_MATURITY;
}

/**
 * A scan of old blocks that is not done has passed this output: it may have found it, and the block that spent it is
 * still to come. What a sweep under way spends was known before.
 */
function isHalfKnown(view: ChainView, { txid, outputIndex, spentBy }: UtxoRecord, height: number): boolean {
  if (view.rescanFrom === undefined || height >= view.rescanFrom || spentBy !== undefined) return false;
  for (const { walletInputs } of view.sweeps.values())
    if (walletInputs.some((at) => at.outputIndex === outputIndex && equalBytes(at.txid, txid))) return false;
  return true;
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
