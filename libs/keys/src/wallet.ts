/**
 * Keys of the on-chain wallet below an account of BIP 84 or BIP 86. Services
 * that only watch hold the account's public half.
 */
import { taggedHasher } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { deriveChild, derivePublicChild } from './bip32.ts';
import type { ExtendedPublic, ExtendedSecret } from './bip32.ts';
import { assertLength } from './errors.ts';

/** Receiving addresses are given away; change addresses never leave the wallet (BIP 44's 0 and 1). */
export type WalletChain = 'receive' | 'change';

const CHAIN_INDEX = { receive: 0, change: 1 } as const;
const tapTweakHash = taggedHasher('TapTweak');
const MINUS_ONE = Uint8Array.from(
  Buffer.from('fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140', 'hex'),
);

/** Secret key of an account's address: account/{0,1}/index. */
export function walletSecretKey(
  secp: Secp256k1,
  account: ExtendedSecret,
  chain: WalletChain,
  index: number,
): Uint8Array {
  return deriveChild(secp, deriveChild(secp, account, CHAIN_INDEX[chain]), index).secretKey;
}

/** Public key of an account's address, from the account's public half. */
export function walletPublicKey(
  secp: Secp256k1,
  account: ExtendedPublic,
  chain: WalletChain,
  index: number,
): Uint8Array {
  return derivePublicChild(secp, derivePublicChild(secp, account, CHAIN_INDEX[chain]), index).publicKey;
}

/** lift_x of BIP 340: the point with this x and an even y. */
function evenPoint(publicKey: Uint8Array): Uint8Array {
  assertLength('public key', publicKey, 33);
  const even = Uint8Array.from(publicKey);
  even[0] = 2;
  return even;
}

/** The 32-byte x-only output key of BIP 86 (BIP 341's tweak without scripts), for an internal key of 33 bytes. */
export function taprootOutputKey(secp: Secp256k1, internalKey: Uint8Array): Uint8Array {
  const even = evenPoint(internalKey);
  return secp.publicKeyTweakAdd(even, tapTweakHash(even.subarray(1))).slice(1);
}

/** The secret that signs for `taprootOutputKey` by key path. */
export function taprootOutputSecret(secp: Secp256k1, internalSecret: Uint8Array): Uint8Array {
  const publicKey = secp.publicKeyOf(internalSecret);
  const evenSecret = publicKey[0] === 2 ? internalSecret : secp.secretKeyTweakMul(internalSecret, MINUS_ONE);
  return secp.secretKeyTweakAdd(evenSecret, tapTweakHash(publicKey.subarray(1)));
}
