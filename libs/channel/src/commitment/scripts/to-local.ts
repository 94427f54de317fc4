/** to_local, and the output of second-stage HTLC transactions: to its owner after a delay, or to whoever holds the revocation key. */
import { OP, SIGHASH, compileScript, derFromCompact, scriptNumber } from '@fulmen/bitcoin';

/** BOLT 3, "`to_local` Output". `delayBlocks`: what the other party asked of the owner. */
export function toLocalScript(keys: {
  readonly revocationPubkey: Uint8Array;
  readonly delayedPubkey: Uint8Array;
  readonly delayBlocks: number;
}): Uint8Array {
  return compileScript([
    OP.IF,
    keys.revocationPubkey,
    OP.ELSE,
    scriptNumber(keys.delayBlocks),
    OP.CHECKSEQUENCEVERIFY,
    OP.DROP,
    keys.delayedPubkey,
    OP.ENDIF,
    OP.CHECKSIG,
  ]);
}

/** `<local_delayedsig> <>`; the input's sequence must be the delay. */
export function toLocalDelayedWitness(signature: Uint8Array, witnessScript: Uint8Array): Uint8Array[] {
  return [derFromCompact(signature, SIGHASH.ALL), new Uint8Array(0), witnessScript];
}

/** `<revocation_sig> 1`. */
export function toLocalRevocationWitness(signature: Uint8Array, witnessScript: Uint8Array): Uint8Array[] {
  return [derFromCompact(signature, SIGHASH.ALL), Uint8Array.of(1), witnessScript];
}
