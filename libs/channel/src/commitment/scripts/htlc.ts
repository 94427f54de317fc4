/** HTLC outputs and the ways to spend them (BOLT 3, "Offered HTLC Outputs" and "Received HTLC Outputs"). */
import { OP, SIGHASH, compileScript, derFromCompact, scriptNumber } from '@fulmen/bitcoin';
import type { ScriptPart } from '@fulmen/bitcoin';
import { hash160, ripemd160 } from '@fulmen/crypto';
import type { CommitmentKeys } from '@fulmen/keys';

/** Whether every direct spend waits for a confirmation (anchors), so that no anchor-less child can pin the commitment. */
export type HtlcSpendDelay = 'none' | 'one_block';

function revocationPrefix(keys: CommitmentKeys): ScriptPart[] {
  return [
    OP.DUP,
    OP.HASH160,
    hash160(keys.revocationPubkey),
    OP.EQUAL,
    OP.IF,
    OP.CHECKSIG,
    OP.ELSE,
    keys.countersignatoryHtlcPubkey,
    OP.SWAP,
    OP.SIZE,
    scriptNumber(32),
    OP.EQUAL,
  ];
}

function suffix(delay: HtlcSpendDelay): ScriptPart[] {
  return delay === 'one_block' ? [OP.N1, OP.CHECKSEQUENCEVERIFY, OP.DROP, OP.ENDIF] : [OP.ENDIF];
}

/** An HTLC that the owner of the commitment offered. */
export function offeredHtlcScript(
  keys: CommitmentKeys,
  paymentHash: Uint8Array,
  delay: HtlcSpendDelay,
): Uint8Array {
  return compileScript([
    ...revocationPrefix(keys),
    OP.NOTIF,
    OP.DROP,
    OP.N2,
    OP.SWAP,
    keys.broadcasterHtlcPubkey,
    OP.N2,
    OP.CHECKMULTISIG,
    OP.ELSE,
    OP.HASH160,
    ripemd160(paymentHash),
    OP.EQUALVERIFY,
    OP.CHECKSIG,
    OP.ENDIF,
    ...suffix(delay),
  ]);
}

/** An HTLC that the owner of the commitment received. */
export function receivedHtlcScript(
  keys: CommitmentKeys,
  htlc: { readonly paymentHash: Uint8Array; readonly cltvExpiryHeight: number },
  delay: HtlcSpendDelay,
): Uint8Array {
  return compileScript([
    ...revocationPrefix(keys),
    OP.IF,
    OP.HASH160,
    ripemd160(htlc.paymentHash),
    OP.EQUALVERIFY,
    OP.N2,
    OP.SWAP,
    keys.broadcasterHtlcPubkey,
    OP.N2,
    OP.CHECKMULTISIG,
    OP.ELSE,
    OP.DROP,
    scriptNumber(htlc.cltvExpiryHeight),
    OP.CHECKLOCKTIMEVERIFY,
    OP.DROP,
    OP.CHECKSIG,
    OP.ENDIF,
    ...suffix(delay),
  ]);
}

/** The two signatures of a second-stage transaction, 64 bytes each. */
export interface HtlcTransactionSignatures {
  readonly counterpartySignature: Uint8Array;
  /** Hash type of the counterparty's signature; the owner's is always SIGHASH_ALL. */
  readonly sighashType: number;
  readonly ownSignature: Uint8Array;
}

function secondStageWitness(
  signatures: HtlcTransactionSignatures,
  last: Uint8Array,
  witnessScript: Uint8Array,
): Uint8Array[] {
  return [
    new Uint8Array(0),
    derFromCompact(signatures.counterpartySignature, signatures.sighashType),
    derFromCompact(signatures.ownSignature, SIGHASH.ALL),
    last,
    witnessScript,
  ];
}

/** `0 <remotehtlcsig> <localhtlcsig> <>` */
export function htlcTimeoutWitness(
  signatures: HtlcTransactionSignatures,
  witnessScript: Uint8Array,
): Uint8Array[] {
  return secondStageWitness(signatures, new Uint8Array(0), witnessScript);
}

/** `0 <remotehtlcsig> <localhtlcsig> <payment_preimage>` */
export function htlcSuccessWitness(
  signatures: HtlcTransactionSignatures,
  preimage: Uint8Array,
  witnessScript: Uint8Array,
): Uint8Array[] {
  return secondStageWitness(signatures, preimage, witnessScript);
}

/** The other party claims an HTLC that the owner offered: `<remotehtlcsig> <payment_preimage>`. Anchors: sequence 1. */
export function htlcPreimageClaimWitness(
  signature: Uint8Array,
  preimage: Uint8Array,
  witnessScript: Uint8Array,
): Uint8Array[] {
  return [derFromCompact(signature, SIGHASH.ALL), preimage, witnessScript];
}

/** The other party takes back an HTLC that the owner received: `<remotehtlcsig> <>`, locktime cltv_expiry. Anchors: sequence 1. */
export function htlcTimeoutClaimWitness(signature: Uint8Array, witnessScript: Uint8Array): Uint8Array[] {
  return [derFromCompact(signature, SIGHASH.ALL), new Uint8Array(0), witnessScript];
}

/** `<revocation_sig> <revocationpubkey>` */
export function htlcRevocationWitness(
  signature: Uint8Array,
  revocationPubkey: Uint8Array,
  witnessScript: Uint8Array,
): Uint8Array[] {
  return [derFromCompact(signature, SIGHASH.ALL), revocationPubkey, witnessScript];
}
