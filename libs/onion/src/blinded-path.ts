/**
 * Blinded paths (BOLT 4, "Route Blinding"): their making by the recipient, the
 * forwarding hop's part, and the structure on the wire (`blinded_path`), which
 * onion messages and BOLT 12 share.
 *
 * As everywhere the node key stays outside: a forwarding hop brings
 * ECDH(path_key, node key), here `blindingSharedSecret`.
 */
import { DecodeError, EncodeError, concatBytes, err, ok } from '@fulmen/codec';
import type { Coder, Result } from '@fulmen/codec';
import { CryptoError, chacha20poly1305Decrypt, chacha20poly1305Encrypt, sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { deriveKey } from './keys.ts';
import { decodeRecipientData } from './recipient-data.ts';
import type { RecipientData } from './recipient-data.ts';

/** One hop of a blinded path as its user sees it. */
export interface BlindedHop {
  readonly blindedNodeId: Uint8Array;
  readonly encryptedRecipientData: Uint8Array;
}

/** A blinded path. */
export interface BlindedPath {
  /** `sciddir_or_pubkey`: a node id (33 bytes), or a direction and a short channel id (9 bytes). */
  readonly firstNodeId: Uint8Array;
  readonly firstPathKey: Uint8Array;
  readonly hops: readonly BlindedHop[];
}

/** A hop that the recipient blinds. */
export interface HopToBlind {
  readonly nodeId: Uint8Array;
  /** Encoded `encrypted_data_tlv`. */
  readonly recipientData: Uint8Array;
}

/** Why recipient data cannot be used. */
export type UnblindError =
  | { readonly kind: 'invalid_path_key' }
  /** The key does not fit, or someone tampered. */
  | { readonly kind: 'not_decryptable' }
  | { readonly kind: 'malformed'; readonly error: DecodeError };

/** A blinded hop's instructions, and the key it sends on. */
export interface UnblindedHop {
  readonly data: RecipientData;
  /** `path_key` for the next hop, overridden or derived. */
  readonly nextPathKey: Uint8Array;
}

/** Hops that a `blinded_path` has room for: `num_hops` is one byte. */
const MAX_HOPS = 255;
const ZERO_NONCE = new Uint8Array(12);

/**
 * Makes a blinded path.
 *
 * @param sessionKey e_0: 32 random bytes.
 * @param hops from the introduction node to the recipient, 1 to 255.
 * @throws CryptoError for an invalid key; EncodeError for the number of hops.
 */
export function blindPath(secp: Secp256k1, sessionKey: Uint8Array, hops: readonly HopToBlind[]): BlindedPath {
  const first = hops[0];
  if (first === undefined || hops.length > MAX_HOPS)
    throw new EncodeError('out_of_range', `${hops.length} hops`);
  const blinded: BlindedHop[] = [];
  let pathSecret = sessionKey;
  for (const hop of hops) {
    const sharedSecret = secp.ecdh(hop.nodeId, pathSecret);
    blinded.push({
      blindedNodeId: secp.publicKeyTweakMul(hop.nodeId, deriveKey('blinded_node_id', sharedSecret)),
      encryptedRecipientData: chacha20poly1305Encrypt(
        deriveKey('rho', sharedSecret),
        ZERO_NONCE,
        hop.recipientData,
      ),
    });
    // BOLT 4: e_(i+1) = SHA256(E_i || ss_i) * e_i
    pathSecret = secp.secretKeyTweakMul(
      pathSecret,
      sha256(concatBytes(secp.publicKeyOf(pathSecret), sharedSecret)),
    );
  }
  return { firstNodeId: first.nodeId, firstPathKey: secp.publicKeyOf(sessionKey), hops: blinded };
}

/**
 * The key that ECDH with the plain node key takes in place of an onion's
 * ephemeral key, when that onion was encrypted to this node's blinded id.
 * BOLT 4: "Tweak public_key by multiplying by HMAC256("blinded_node_id", blinding_ss)".
 *
 * @throws CryptoError for an invalid key.
 */
export function blindedEphemeralKey(
  secp: Secp256k1,
  ephemeralKey: Uint8Array,
  blindingSharedSecret: Uint8Array,
): Uint8Array {
  return secp.publicKeyTweakMul(ephemeralKey, blindedNodeIdTweak(blindingSharedSecret));
}

/** The scalar that turns a node key into its blinded node key, for signers that tweak the key instead. */
export function blindedNodeIdTweak(blindingSharedSecret: Uint8Array): Uint8Array {
  return deriveKey('blinded_node_id', blindingSharedSecret);
}

/** E_(i+1) = SHA256(E_i || ss_i) * E_i. @throws CryptoError for an invalid key. */
export function deriveNextPathKey(
  secp: Secp256k1,
  pathKey: Uint8Array,
  blindingSharedSecret: Uint8Array,
): Uint8Array {
  return secp.publicKeyTweakMul(pathKey, sha256(concatBytes(pathKey, blindingSharedSecret)));
}

/** Decrypts and decodes this hop's instructions, and finds the next hop's `path_key`. */
export function unblindHop(
  secp: Secp256k1,
  hop: { readonly pathKey: Uint8Array; readonly encryptedRecipientData: Uint8Array },
  blindingSharedSecret: Uint8Array,
): Result<UnblindedHop, UnblindError> {
  const plaintext = chacha20poly1305Decrypt(
    deriveKey('rho', blindingSharedSecret),
    ZERO_NONCE,
    hop.encryptedRecipientData,
  );
  if (plaintext === undefined) return err({ kind: 'not_decryptable' });
  const decoded = decodeRecipientData(plaintext);
  if (!decoded.ok) return err({ kind: 'malformed', error: decoded.error });
  const override = decoded.value.tlvs.nextPathKeyOverride;
  if (override !== undefined) {
    if (!secp.isPublicKey(override)) return err({ kind: 'invalid_path_key' });
    return ok({ data: decoded.value, nextPathKey: override });
  }
  try {
    return ok({
      data: decoded.value,
      nextPathKey: deriveNextPathKey(secp, hop.pathKey, blindingSharedSecret),
    });
  } catch (error) {
    if (error instanceof CryptoError) return err({ kind: 'invalid_path_key' });
    throw error;
  }
}

/** Reads and writes a `blinded_path`; keys are checked in form only, the curve where they are used. */
export const blindedPathCoder: Coder<BlindedPath> = {
  shape: {
    kind: 'struct',
    fields: {
      firstNodeId: { kind: 'point' },
      firstPathKey: { kind: 'point' },
      hops: {
        kind: 'array',
        minLength: 1,
        maxLength: MAX_HOPS,
        element: {
          kind: 'struct',
          fields: {
            blindedNodeId: { kind: 'point' },
            encryptedRecipientData: { kind: 'bytes', minLength: 0, maxLength: 0xffff },
          },
        },
      },
    },
  },
  read: (reader) => {
    // BOLT 1, "sciddir_or_pubkey": a first byte of 0 or 1 is a direction before a short channel id.
    const selector = reader.u8();
    if (selector > 3) throw new DecodeError('invalid_value', 'neither a direction nor a key');
    const firstNodeId = concatBytes(Uint8Array.of(selector), reader.view(selector < 2 ? 8 : 32));
    const firstPathKey = pointBytes(reader.bytes(33));
    const count = reader.u8();
    // BOLT 12: a path without hops leads nowhere.
    if (count === 0) throw new DecodeError('invalid_value', 'a path without hops');
    const hops: BlindedHop[] = [];
    for (let i = 0; i < count; i++) {
      const blindedNodeId = pointBytes(reader.bytes(33));
      hops.push({ blindedNodeId, encryptedRecipientData: reader.bytes(reader.u16()) });
    }
    return { firstNodeId, firstPathKey, hops };
  },
  write: (writer, path) => {
    if (path.firstNodeId.length !== 33 && path.firstNodeId.length !== 9) {
      throw new EncodeError('wrong_length', `first node of ${path.firstNodeId.length} bytes`);
    }
    writer.bytes(path.firstNodeId).bytes(path.firstPathKey).u8(path.hops.length);
    for (const hop of path.hops) {
      writer
        .bytes(hop.blindedNodeId)
        .u16(hop.encryptedRecipientData.length)
        .bytes(hop.encryptedRecipientData);
    }
  },
};

function pointBytes(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 2 && bytes[0] !== 3) throw new DecodeError('invalid_point', 'not a compressed point');
  return bytes;
}
