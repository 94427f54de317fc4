/**
 * BOLT 3's per-commitment keys. Each commitment has a point of its own; keys
 * derived from basepoints and it cannot be linked to each other, and a
 * revocation key needs secrets of both sides.
 *
 * Functions throw `CryptoError` for bytes that are no scalar or point: both
 * come here validated, from our own derivation or from the wire's decoder.
 */
import { sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';

function hashOfTwo(a: Uint8Array, b: Uint8Array): Uint8Array {
  const input = new Uint8Array(a.length + b.length);
  input.set(a, 0);
  input.set(b, a.length);
  return sha256(input);
}

/**
 * `pubkey = basepoint + SHA256(per_commitment_point || basepoint) * G`
 * (BOLT 3, "`localpubkey`, ... Derivation"). For HTLC and delayed keys.
 */
export function derivePublicKey(
  secp: Secp256k1,
  basepoint: Uint8Array,
  perCommitmentPoint: Uint8Array,
): Uint8Array {
  return secp.publicKeyTweakAdd(basepoint, hashOfTwo(perCommitmentPoint, basepoint));
}

/** `privkey = basepoint_secret + SHA256(per_commitment_point || basepoint)` (BOLT 3). */
export function derivePrivateKey(
  secp: Secp256k1,
  basepointSecret: Uint8Array,
  perCommitmentPoint: Uint8Array,
): Uint8Array {
  const basepoint = secp.publicKeyOf(basepointSecret);
  return secp.secretKeyTweakAdd(basepointSecret, hashOfTwo(perCommitmentPoint, basepoint));
}

/**
 * The revocation public key of a commitment (BOLT 3, "`revocationpubkey` Derivation").
 *
 * @param revocationBasepoint of the side that may punish.
 * @param perCommitmentPoint of the side whose commitment it is.
 */
export function deriveRevocationPublicKey(
  secp: Secp256k1,
  revocationBasepoint: Uint8Array,
  perCommitmentPoint: Uint8Array,
): Uint8Array {
  // revocation_basepoint * SHA256(revocation_basepoint || per_commitment_point)
  //   + per_commitment_point * SHA256(per_commitment_point || revocation_basepoint)
  return secp.publicKeyCombine([
    secp.publicKeyTweakMul(revocationBasepoint, hashOfTwo(revocationBasepoint, perCommitmentPoint)),
    secp.publicKeyTweakMul(perCommitmentPoint, hashOfTwo(perCommitmentPoint, revocationBasepoint)),
  ]);
}

/** The revocation secret key, once the commitment's secret is revealed (BOLT 3). */
export function deriveRevocationPrivateKey(
  secp: Secp256k1,
  revocationBasepointSecret: Uint8Array,
  perCommitmentSecret: Uint8Array,
): Uint8Array {
  const revocationBasepoint = secp.publicKeyOf(revocationBasepointSecret);
  const perCommitmentPoint = secp.publicKeyOf(perCommitmentSecret);
  return secp.secretKeyTweakAdd(
    secp.secretKeyTweakMul(revocationBasepointSecret, hashOfTwo(revocationBasepoint, perCommitmentPoint)),
    secp.secretKeyTweakMul(perCommitmentSecret, hashOfTwo(perCommitmentPoint, revocationBasepoint)),
  );
}

/** The public keys in the scripts of one commitment. */
export interface CommitmentKeys {
  /** Lets the countersignatory take all, once the commitment is revoked. */
  readonly revocationPubkey: Uint8Array;
  /** The broadcaster's to_local, after its delay; second-stage HTLC outputs too. */
  readonly broadcasterDelayedPubkey: Uint8Array;
  readonly broadcasterHtlcPubkey: Uint8Array;
  readonly countersignatoryHtlcPubkey: Uint8Array;
}

/**
 * The keys of one commitment, by role: the broadcaster is the side whose
 * commitment it is (the holder of a holder commitment), the countersignatory
 * the other. to_remote is no part of them: "The `remotepubkey` is simply the
 * remote node's `payment_basepoint`" (BOLT 3).
 *
 * @param perCommitmentPoint the broadcaster's, of this commitment.
 */
export function commitmentKeys(
  secp: Secp256k1,
  parties: {
    readonly broadcaster: {
      readonly delayedPaymentBasepoint: Uint8Array;
      readonly htlcBasepoint: Uint8Array;
    };
    readonly countersignatory: {
      readonly revocationBasepoint: Uint8Array;
      readonly htlcBasepoint: Uint8Array;
    };
    readonly perCommitmentPoint: Uint8Array;
  },
): CommitmentKeys {
  const { broadcaster, countersignatory, perCommitmentPoint } = parties;
  return {
    revocationPubkey: deriveRevocationPublicKey(
      secp,
      countersignatory.revocationBasepoint,
      perCommitmentPoint,
    ),
    broadcasterDelayedPubkey: derivePublicKey(secp, broadcaster.delayedPaymentBasepoint, perCommitmentPoint),
    broadcasterHtlcPubkey: derivePublicKey(secp, broadcaster.htlcBasepoint, perCommitmentPoint),
    countersignatoryHtlcPubkey: derivePublicKey(secp, countersignatory.htlcBasepoint, perCommitmentPoint),
  };
}
