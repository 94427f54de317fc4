/** Signatures over commitments, as commitment_signed carries them: checking the counterparty's and making the holder's. */
import { withWitness } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { htlcSuccessWitness, htlcTimeoutWitness } from './scripts/htlc.ts';
import { fundingSpendWitness } from './scripts/funding.ts';
import type {
  BuiltCommitment,
  CommitmentSignatureError,
  CommitmentSignatures,
  FundingScope,
  HtlcTransaction,
} from './types.ts';

/**
 * Checks the signatures that the party which does *not* own the commitment
 * gave for it. BOLT 2: "if `signature` is not valid for its local commitment
 * transaction OR non-compliant with LOW-S-standard rule", "if `num_htlcs` is
 * not equal to the number of HTLC outputs", "if any `htlc_signature` is not
 * valid".
 */
export function verifyCommitmentSignatures(
  secp: Secp256k1,
  built: BuiltCommitment,
  signatures: CommitmentSignatures,
): Result<void, CommitmentSignatureError> {
  const { signature, htlcSignatures } = signatures;
  const expected = built.htlcTransactions.length;
  if (htlcSignatures.length !== expected)
    return err({ type: 'wrong_htlc_signature_count', expected, actual: htlcSignatures.length });
  if (!secp.verify(built.sighash, signature, built.countersignatoryFundingPubkey))
    return err({ type: 'invalid_commitment_signature' });
  for (const [index, transaction] of built.htlcTransactions.entries()) {
    const htlcSignature = htlcSignatures[index];
    if (
      htlcSignature === undefined ||
      !secp.verify(transaction.counterpartySighash, htlcSignature, built.keys.countersignatoryHtlcPubkey)
    ) {
      return err({ type: 'invalid_htlc_signature', index });
    }
  }
  return ok(undefined);
}

/**
 * Signs a commitment for its owner, as the other party.
 *
 * @param secrets the signing party's funding secret of this funding, and its
 * HTLC secret, already derived with the owner's per-commitment point.
 */
export function signCommitment(
  secp: Secp256k1,
  built: BuiltCommitment,
  secrets: { readonly fundingSecret: Uint8Array; readonly htlcSecret: Uint8Array },
): CommitmentSignatures {
  return {
    signature: secp.sign(built.sighash, secrets.fundingSecret),
    htlcSignatures: built.htlcTransactions.map(({ counterpartySighash }) =>
      secp.sign(counterpartySighash, secrets.htlcSecret),
    ),
  };
}

/** The commitment with both signatures, ready to broadcast. */
export function assembleCommitment(
  built: Pick<BuiltCommitment, 'transaction'>,
  funding: FundingScope,
  signatures: { readonly holderSignature: Uint8Array; readonly counterpartySignature: Uint8Array },
): Tx {
  return withWitness(
    built.transaction,
    0,
    fundingSpendWitness(
      { fundingPubkey: funding.holderFundingPubkey, signature: signatures.holderSignature },
      { fundingPubkey: funding.counterpartyFundingPubkey, signature: signatures.counterpartySignature },
    ),
  );
}

/** Witness of an HTLC transaction as it was built. A success needs the preimage (32 bytes), a timeout none. */
export function htlcTransactionWitness(
  htlcTransaction: HtlcTransaction,
  signatures: { readonly counterpartySignature: Uint8Array; readonly ownSignature: Uint8Array },
  preimage: Uint8Array | undefined,
): Uint8Array[] {
  const both = { ...signatures, sighashType: htlcTransaction.sighashType };
  return preimage === undefined
    ? htlcTimeoutWitness(both, htlcTransaction.witnessScript)
    : htlcSuccessWitness(both, preimage, htlcTransaction.witnessScript);
}
