/**
 * What a source that does not give whole blocks must look for: transactions,
 * outputs whose spend matters, and scripts of the wallet. The follower
 * registers anew what its records need at each block, so a filter is never
 * stored and never stale.
 */
import { displayHash } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/bitcoin/bytes';
import type { ChainOutPoint } from './source.ts';

/** What is registered. */
export interface ChainFilter {
  /** In display order. */
  readonly txids: ReadonlySet<string>;
  /** By `txid:vout`, in display order. */
  readonly outPoints: ReadonlyMap<string, ChainOutPoint>;
  /** By their hex: outputs that pay them and inputs that spend those. */
  readonly scripts: ReadonlyMap<string, Uint8Array>;
}

/** A filter in the making. Ids are in internal order, as in transactions. */
export class Registrations implements ChainFilter {
  readonly txids = new Set<string>();
  readonly outPoints = new Map<string, ChainOutPoint>();
  readonly scripts = new Map<string, Uint8Array>();

  /** The confirmation of this transaction matters. */
  registerTx(txid: Uint8Array): void {
    this.txids.add(displayHash(txid));
  }

  /** The spend of this output matters. */
  registerOutput(txid: Uint8Array, vout: number): void {
    const shown = displayHash(txid);
    this.outPoints.set(`${shown}:${vout}`, { txid: shown, vout });
  }

  /** Whatever pays this script, or spends what it was paid, matters. */
  registerScript(script: Uint8Array): void {
    this.scripts.set(toHex(script), script);
  }
}

/** True when everything of `inner` is registered in `outer`. */
export function isWithin(inner: ChainFilter, outer: ChainFilter): boolean {
  for (const txid of inner.txids) if (!outer.txids.has(txid)) return false;
  for (const key of inner.outPoints.keys()) if (!outer.outPoints.has(key)) return false;
  for (const key of inner.scripts.keys()) if (!outer.scripts.has(key)) return false;
  return true;
}

/** Both filters in one. */
export function union(a: ChainFilter, b: ChainFilter): ChainFilter {
  return {
    txids: new Set([...a.txids, ...b.txids]),
    outPoints: new Map([...a.outPoints, ...b.outPoints]),
    scripts: new Map([...a.scripts, ...b.scripts]),
  };
}
