/**
 * The witnesses of claims. The signer answers a claim with a signature, the
 * key that made it, and the script of the output; together with what the
 * claim says of itself that is the whole witness.
 */
import { SIGHASH, derFromCompact } from '@fulmen/bitcoin';
import { anchorWitness } from '@fulmen/channel/commitment/scripts/anchor';
import {
  htlcPreimageClaimWitness,
  htlcRevocationWitness,
  htlcSuccessWitness,
  htlcTimeoutClaimWitness,
  htlcTimeoutWitness,
} from '@fulmen/channel/commitment/scripts/htlc';
import { toLocalDelayedWitness, toLocalRevocationWitness } from '@fulmen/channel/commitment/scripts/to-local';
import { toRemoteWitness } from '@fulmen/channel/commitment/scripts/to-remote';
import { InternalError, assertNever } from '@fulmen/codec';
import type { Claim, ClaimKind } from './types.ts';

/** What the signer answers to a claim. */
export interface ClaimAnswer {
  /** 64 bytes, compact; over the SIGHASH_ALL hash. */
  readonly signature: Uint8Array;
  readonly publicKey: Uint8Array;
  /** Undefined for P2WPKH (to_remote without anchors). */
  readonly witnessScript: Uint8Array | undefined;
}

/**
 * The witness of the input that spends a claim's output.
 *
 * @throws InternalError when the answer lacks the script of a P2WSH output; BitcoinError for a signature that has not 64 bytes.
 */
export function assembleWitness(claim: Pick<Claim, 'kind'>, answer: ClaimAnswer): Uint8Array[] {
  const { kind } = claim;
  const { signature, publicKey } = answer;
  if (kind.type === 'counterparty_balance') return toRemoteWitness(signature, answer);
  const script = scriptOf(kind, answer);
  switch (kind.type) {
    case 'holder_delayed':
      return toLocalDelayedWitness(signature, script);
    case 'holder_htlc': {
      const { counterpartySignature, sighashType, preimage } = kind;
      const signatures = { counterpartySignature, sighashType, ownSignature: signature };
      return preimage === undefined
        ? htlcTimeoutWitness(signatures, script)
        : htlcSuccessWitness(signatures, preimage, script);
    }
    case 'counterparty_htlc':
      return kind.preimage === undefined
        ? htlcTimeoutClaimWitness(signature, script)
        : htlcPreimageClaimWitness(signature, kind.preimage, script);
    case 'revoked_delayed':
      return toLocalRevocationWitness(signature, script);
    case 'revoked_htlc':
      return htlcRevocationWitness(signature, publicKey, script);
    case 'anchor':
      return anchorWitness(signature, script);
    default:
      return assertNever(kind);
  }
}

function scriptOf(kind: ClaimKind, { witnessScript }: ClaimAnswer): Uint8Array {
  if (witnessScript === undefined) throw new InternalError(`a claim of ${kind.type} without its script`);
  return witnessScript;
}

/** DER of a low-S signature is at most 71 bytes (r may need a zero in front), and one byte of hash type. */
const MAX_SIGNATURE_LENGTH = 72;
const PUBLIC_KEY_LENGTH = 33;
const PREIMAGE_LENGTH = 32;

/** Items are shorter than 253 bytes, stacks too: each length takes one byte. */
function stackWeight(...itemLengths: readonly number[]): number {
  return itemLengths.reduce((sum, length) => sum + 1 + length, 1);
}

/**
 * Weight of a claim's witness with its count, an upper bound: exact but for the length of the holder's signature, which
 * is at most 72 bytes and rarely below 70.
 *
 * @param scriptLength of the output's witness script; undefined for P2WPKH.
 */
export function claimWitnessWeight(kind: ClaimKind, scriptLength: number | undefined): number {
  const script = scriptLength ?? PUBLIC_KEY_LENGTH;
  switch (kind.type) {
    case 'holder_delayed':
      return stackWeight(MAX_SIGNATURE_LENGTH, 0, script);
    case 'holder_htlc': {
      const theirs = derFromCompact(kind.counterpartySignature, kind.sighashType).length;
      const last = kind.preimage === undefined ? 0 : PREIMAGE_LENGTH;
      return stackWeight(0, theirs, MAX_SIGNATURE_LENGTH, last, script);
    }
    case 'counterparty_htlc':
      return stackWeight(MAX_SIGNATURE_LENGTH, kind.preimage === undefined ? 0 : PREIMAGE_LENGTH, script);
    case 'revoked_delayed':
      return stackWeight(MAX_SIGNATURE_LENGTH, 1, script);
    case 'revoked_htlc':
      return stackWeight(MAX_SIGNATURE_LENGTH, PUBLIC_KEY_LENGTH, script);
    case 'counterparty_balance':
    case 'anchor':
      return stackWeight(MAX_SIGNATURE_LENGTH, script);
    default:
      return assertNever(kind);
  }
}

/** Hash type of the holder's own signature, whatever the claim. BOLT 5: "The local signature MUST use `SIGHASH_ALL`". */
export const CLAIM_SIGHASH_TYPE = SIGHASH.ALL;
