/** Anchors: small outputs by which each side can raise the fee of a confirmed-to-be commitment (BOLT 3, option_anchors). */
import { OP, SIGHASH, compileScript, derFromCompact } from '@fulmen/bitcoin';

/** "The amount of the output is fixed at 330 sats, the default dust limit for P2WSH." */
export const ANCHOR_OUTPUT_SAT = 330n;
/** "After 16 blocks, anyone can sweep the anchor" */
export const ANCHOR_ANYONE_DELAY_BLOCKS = 16;

/** `<funding_pubkey> OP_CHECKSIG OP_IFDUP OP_NOTIF OP_16 OP_CHECKSEQUENCEVERIFY OP_ENDIF` */
export function anchorScript(fundingPubkey: Uint8Array): Uint8Array {
  return compileScript([
    fundingPubkey,
    OP.CHECKSIG,
    OP.IFDUP,
    OP.NOTIF,
    OP.N16,
    OP.CHECKSEQUENCEVERIFY,
    OP.ENDIF,
  ]);
}

/** Spent at once by its party's funding key. */
export function anchorWitness(signature: Uint8Array, witnessScript: Uint8Array): Uint8Array[] {
  return [derFromCompact(signature, SIGHASH.ALL), witnessScript];
}

/** Spent by anyone; the input's sequence must be 16. */
export function anchorAnyoneWitness(witnessScript: Uint8Array): Uint8Array[] {
  return [new Uint8Array(0), witnessScript];
}
