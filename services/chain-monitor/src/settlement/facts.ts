/**
 * Facts of closed channels: which transactions of the best chain spend an
 * output that a settlement watches. Found while a block is scanned; what a hit
 * makes worth watching is watched at once, for its spend may follow in the same
 * block.
 */
import { type Tx, decodeTx, encodeTx } from '@fulmen/bitcoin';
import { fromHex, toHex } from '@fulmen/codec';
import type { ConfirmedSpend } from '@fulmen/settlement';
import type { SpendRecord } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';

/** A transaction of a block, at its place. */
export interface PlacedTx {
  readonly tx: Tx;
  readonly txid: Uint8Array;
  readonly txIndex: number;
}

export interface FactScan {
  /** Channels that wait for the spend of an outpoint. */
  readonly channelsOf: (key: string) => Iterable<string>;
  readonly put: (record: SpendRecord) => void;
  /** Watches what the facts of these channels make worth watching. */
  readonly rewatch: (channelIds: ReadonlySet<string>) => Promise<void>;
}

/** Notes every spend of a watched output. The outputs of what was found are watched before the next that may spend them. */
export async function scanFacts(
  transactions: Iterable<PlacedTx>,
  height: number,
  scan: FactScan,
): Promise<void> {
  /** Found in this block, and not yet asked what of them to watch. */
  const fresh = new Set<string>();
  const stale = new Set<string>();
  const refresh = async (): Promise<void> => {
    await scan.rewatch(new Set(stale));
    stale.clear();
    fresh.clear();
  };
  for (const { tx, txid, txIndex } of transactions) {
    if (fresh.size > 0 && tx.inputs.some((input) => fresh.has(toHex(input.txid)))) await refresh();
    const hit = new Set<string>();
    for (const input of tx.inputs)
      for (const id of scan.channelsOf(outPointKey(input.txid, input.vout))) hit.add(id);
    if (hit.size === 0) continue;
    for (const id of hit) {
      scan.put({ channelId: fromHex(id), txid, height, txIndex, transaction: encodeTx(tx) });
      stale.add(id);
    }
    fresh.add(toHex(txid));
  }
  if (stale.size > 0) await refresh();
}

/** Stored facts as the settlement reads them; what does not decode was never written by this service. */
export class DecodedFacts {
  readonly #decoded = new Map<string, ReadonlyMap<string, Tx>>();

  /** @param records of one channel, in the order of the chain */
  of(channelId: string, records: readonly SpendRecord[]): readonly ConfirmedSpend[] {
    const known = this.#decoded.get(channelId);
    const decoded = new Map<string, Tx>();
    const facts: ConfirmedSpend[] = [];
    for (const { txid, height, transaction } of records) {
      const key = toHex(txid);
      const cached = known?.get(key);
      const tx = cached ?? decodedTx(transaction);
      if (tx === undefined) continue;
      decoded.set(key, tx);
      facts.push({ tx, txid, height });
    }
    if (facts.length === 0) this.#decoded.delete(channelId);
    else this.#decoded.set(channelId, decoded);
    return facts;
  }

  clear(): void {
    this.#decoded.clear();
  }
}

function decodedTx(raw: Uint8Array): Tx | undefined {
  const tx = decodeTx(raw);
  return tx.ok ? tx.value : undefined;
}
