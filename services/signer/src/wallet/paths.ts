/** Which of a PSBT's inputs and outputs are the wallet's: proven by deriving their keys, never believed. */
import { p2trScript, p2wpkhScript } from '@fulmen/bitcoin';
import { equalBytes } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  HARDENED_OFFSET,
  hardened,
  taprootOutputKey,
  taprootOutputSecret,
  walletSecretKey,
} from '@fulmen/keys';
import type { KeyTree } from '@fulmen/keys';

/** BIP 174's derivation of one key: the master's fingerprint and the whole path. */
export interface KeyOrigin {
  readonly fingerprint: number;
  readonly path: readonly number[];
}

/** A key of the wallet. */
export interface WalletKey {
  readonly kind: 'p2wpkh' | 'p2tr';
  readonly script: Uint8Array;
  /** 33 bytes; of p2tr the internal key. */
  readonly publicKey: Uint8Array;
  /** Signs for `script`; of p2tr tweaked already. */
  readonly secretKey: Uint8Array;
}

/** m/84'/c'/0'/{0,1}/i or m/86'/c'/0'/{0,1}/i; undefined for any other path or seed. */
export function walletKey(secp: Secp256k1, keys: KeyTree, origin: KeyOrigin): WalletKey | undefined {
  const [purpose, coinType, account, chain, index, ...rest] = origin.path;
  if (
    origin.fingerprint !== keys.masterFingerprint ||
    rest.length > 0 ||
    index === undefined ||
    index >= HARDENED_OFFSET
  )
    return undefined;
  if (coinType !== hardened(keys.coinType) || account !== hardened(0) || (chain !== 0 && chain !== 1))
    return undefined;
  const branch = chain === 0 ? 'receive' : 'change';
  if (purpose === hardened(84)) {
    const secretKey = walletSecretKey(secp, keys.segwitAccount, branch, index);
    const publicKey = secp.publicKeyOf(secretKey);
    return { kind: 'p2wpkh', script: p2wpkhScript(publicKey), publicKey, secretKey };
  }
  if (purpose !== hardened(86)) return undefined;
  const internalSecret = walletSecretKey(secp, keys.taprootAccount, branch, index);
  const publicKey = secp.publicKeyOf(internalSecret);
  return {
    kind: 'p2tr',
    script: p2trScript(taprootOutputKey(secp, publicKey)),
    publicKey,
    secretKey: taprootOutputSecret(secp, internalSecret),
  };
}

/** The wallet's key for a script, if one of the origins leads to it. */
export function walletKeyOf(
  secp: Secp256k1,
  keys: KeyTree,
  script: Uint8Array,
  origins: readonly KeyOrigin[],
): WalletKey | undefined {
  for (const origin of origins) {
    const key = walletKey(secp, keys, origin);
    if (key !== undefined && equalBytes(key.script, script)) return key;
  }
  return undefined;
}
