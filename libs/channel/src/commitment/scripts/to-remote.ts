/** to_remote: what the party that does not own the commitment gets at once. */
import { OP, SIGHASH, compileScript, derFromCompact, p2wpkhScript, p2wshScript } from '@fulmen/bitcoin';

/** An output's script, and the witness script behind it when it is P2WSH. */
export interface ToRemoteScripts {
  readonly scriptPubKey: Uint8Array;
  readonly witnessScript: Uint8Array | undefined;
}

/** static_remotekey: "a simple P2WPKH to `remotepubkey`" (BOLT 3). */
export function toRemoteKeyHash(publicKey: Uint8Array): ToRemoteScripts {
  return { scriptPubKey: p2wpkhScript(publicKey), witnessScript: undefined };
}

/** anchors: `<remotepubkey> OP_CHECKSIGVERIFY 1 OP_CHECKSEQUENCEVERIFY` (BOLT 3, option_anchors). */
export function toRemoteDelayed(publicKey: Uint8Array): ToRemoteScripts {
  const witnessScript = compileScript([publicKey, OP.CHECKSIGVERIFY, OP.N1, OP.CHECKSEQUENCEVERIFY]);
  return { scriptPubKey: p2wshScript(witnessScript), witnessScript };
}

/** Spends to_remote of either form; with a witness script the input's sequence must be 1. */
export function toRemoteWitness(
  signature: Uint8Array,
  output: { readonly publicKey: Uint8Array; readonly witnessScript: Uint8Array | undefined },
): Uint8Array[] {
  return [derFromCompact(signature, SIGHASH.ALL), output.witnessScript ?? output.publicKey];
}
