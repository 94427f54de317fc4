/** Names of outpoints and of sweeps. */
import { concatBytes, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { OutPoint } from '../types.ts';
import type { SweepableClaim } from './types.ts';

export function outPointKeyOf({ txid, outputIndex }: OutPoint): string {
  return `${toHex(txid)}:${outputIndex}`;
}

/** The same claims have the same name, so that a plan made again after a crash is the same plan. */
export function sweepIdOf(members: readonly SweepableClaim[]): Uint8Array {
  const keys = members.map(({ claim }) => outPointKeyOf(claim.outPoint)).sort();
  return sha256(concatBytes(...keys.map((key) => utf8Encode(`${key}\n`))));
}
