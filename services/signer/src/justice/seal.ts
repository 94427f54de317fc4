/**
 * Seals a channel's revocation basepoint secret to one tower's justice signer:
 * an ephemeral key, ECDH with the tower's, HKDF, ChaCha20-Poly1305. Only the
 * holder of the tower's key opens it; it says which channel it belongs to, so
 * that a secret cannot be passed off as another channel's.
 */
import { Reader, Writer, utf8Encode } from '@fulmen/codec';
import { chacha20poly1305Decrypt, chacha20poly1305Encrypt, hkdfSha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';

const VERSION = 1;
/** Version, ephemeral point, ciphertext with its tag. */
export const SEALED_KEY_LENGTH = 1 + 33 + 32 + 16;
/** Each sealing has a key of its own. */
const NONCE = new Uint8Array(12);

function sealingKey(shared: Uint8Array, ephemeral: Uint8Array, towerKey: Uint8Array): Uint8Array {
  const salt = new Writer().bytes(ephemeral).bytes(towerKey).finish();
  return hkdfSha256(shared, salt, utf8Encode('fulmen justice key v1'), 32);
}

/**
 * @param towerKey a point of the curve
 * @param ephemeralSecret fresh for each sealing, a valid scalar
 */
export function sealJusticeKey(
  secp: Secp256k1,
  key: { readonly channelKeysId: Uint8Array; readonly revocationBasepointSecret: Uint8Array },
  towerKey: Uint8Array,
  ephemeralSecret: Uint8Array,
): Uint8Array {
  const ephemeral = secp.publicKeyOf(ephemeralSecret);
  const sealing = sealingKey(secp.ecdh(towerKey, ephemeralSecret), ephemeral, towerKey);
  return new Writer()
    .u8(VERSION)
    .bytes(ephemeral)
    .bytes(chacha20poly1305Encrypt(sealing, NONCE, key.revocationBasepointSecret, key.channelKeysId))
    .finish();
}

/** The secret; undefined when it is not sealed to this tower, or not of this channel. */
export function openJusticeKey(
  secp: Secp256k1,
  sealed: Uint8Array,
  channelKeysId: Uint8Array,
  towerSecret: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length !== SEALED_KEY_LENGTH) return undefined;
  const reader = new Reader(sealed);
  if (reader.u8() !== VERSION) return undefined;
  const ephemeral = reader.bytes(33);
  if (!secp.isPublicKey(ephemeral)) return undefined;
  const sealing = sealingKey(secp.ecdh(ephemeral, towerSecret), ephemeral, secp.publicKeyOf(towerSecret));
  const secret = chacha20poly1305Decrypt(sealing, NONCE, reader.bytes(48), channelKeysId);
  return secret !== undefined && secp.isSecretKey(secret) ? secret : undefined;
}
