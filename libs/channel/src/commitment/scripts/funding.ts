/** The funding output: 2-of-2, keys in lexicographic order (BOLT 3, "Funding Transaction Output"). */
import { OP, compileScript, derFromCompact, p2wshScript, SIGHASH } from '@fulmen/bitcoin';
import { compareBytes } from '@fulmen/codec';

/** `2 <pubkey1> <pubkey2> 2 OP_CHECKMULTISIG`, pubkey1 being the lesser. */
export function fundingWitnessScript(fundingPubkeyA: Uint8Array, fundingPubkeyB: Uint8Array): Uint8Array {
  const [lesser, greater] =
    compareBytes(fundingPubkeyA, fundingPubkeyB) <= 0
      ? [fundingPubkeyA, fundingPubkeyB]
      : [fundingPubkeyB, fundingPubkeyA];
  return compileScript([OP.N2, lesser, greater, OP.N2, OP.CHECKMULTISIG]);
}

/** Script of the funding output. */
export function fundingScriptPubKey(fundingPubkeyA: Uint8Array, fundingPubkeyB: Uint8Array): Uint8Array {
  return p2wshScript(fundingWitnessScript(fundingPubkeyA, fundingPubkeyB));
}

/** A compact signature and the key that made it. */
export interface FundingSignature {
  readonly fundingPubkey: Uint8Array;
  /** 64 bytes, over the SIGHASH_ALL hash. */
  readonly signature: Uint8Array;
}

/** `0 <signature_for_pubkey1> <signature_for_pubkey2>`, in either order of arguments. */
export function fundingSpendWitness(a: FundingSignature, b: FundingSignature): Uint8Array[] {
  const [lesser, greater] = compareBytes(a.fundingPubkey, b.fundingPubkey) <= 0 ? [a, b] : [b, a];
  return [
    new Uint8Array(0),
    derFromCompact(lesser.signature, SIGHASH.ALL),
    derFromCompact(greater.signature, SIGHASH.ALL),
    fundingWitnessScript(a.fundingPubkey, b.fundingPubkey),
  ];
}
