/** Taproot keys that have no script path (BIP 86): output key and the secret key that signs for it. */
import type { Secp256k1 } from '@fulmen/crypto';
import { taggedHasher } from '@fulmen/crypto';
import { concatBytes, fromHex } from './bytes.ts';

const tapTweak = taggedHasher('TapTweak');
/** n - 1: multiplying by it negates a secret key. */
const MINUS_ONE = fromHex('fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140');

/** x-only output key (32 bytes) of an internal public key (33 bytes compressed). */
export function taprootOutputKey(curve: Secp256k1, internalPublicKey: Uint8Array): Uint8Array {
  const x = internalPublicKey.subarray(1);
  return curve.publicKeyTweakAdd(concatBytes(Uint8Array.from([2]), x), tapTweak(x)).slice(1);
}

/** Secret key that signs the key path of `taprootOutputKey`. */
export function taprootOutputSecretKey(curve: Secp256k1, internalSecretKey: Uint8Array): Uint8Array {
  const publicKey = curve.publicKeyOf(internalSecretKey);
  // BIP 341 counts on the internal key having an even y.
  const even = publicKey[0] === 2 ? internalSecretKey : curve.secretKeyTweakMul(internalSecretKey, MINUS_ONE);
  return curve.secretKeyTweakAdd(even, tapTweak(publicKey.subarray(1)));
}
