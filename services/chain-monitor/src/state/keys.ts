/** Map keys of what the chain names by bytes. */
import { toHex } from '@fulmen/codec';

/** Of an outpoint, `txid` in internal order. */
export function outPointKey(txid: Uint8Array, outputIndex: number): string {
  return `${toHex(txid)}:${outputIndex}`;
}
