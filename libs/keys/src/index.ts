/** BOLT 3's keys and secrets, and the node's key tree. */
export { KeysError } from './errors.ts';
export type { KeysErrorCode } from './errors.ts';
export {
  commitmentKeys,
  derivePrivateKey,
  derivePublicKey,
  deriveRevocationPrivateKey,
  deriveRevocationPublicKey,
} from './derivation.ts';
export type { CommitmentKeys } from './derivation.ts';
export {
  MAX_COMMITMENT_NUMBER,
  MAX_USABLE_COMMITMENT_NUMBER,
  commitmentNumberObscuringFactor,
  obscureCommitmentNumber,
  secretIndexOf,
} from './commitment-number.ts';
export {
  EMPTY_SECRET_STORE,
  SECRET_STORE_SLOTS,
  commitmentPoint,
  commitmentSecret,
  decodeSecretStore,
  encodeSecretStore,
  generateFromSeed,
  insertSecret,
  lookupSecret,
} from './per-commitment-secret.ts';
export type { SecretStore, SecretStoreError } from './per-commitment-secret.ts';
export { channelSecrets, fundingSecret, holderBasepoints, keyTree } from './key-tree.ts';
export type { HolderBasepointSecrets, HolderBasepoints, KeyScheme, KeyTree } from './key-tree.ts';
export {
  HARDENED_OFFSET,
  deriveChild,
  deriveNamedChild,
  derivePath,
  derivePublicChild,
  hardened,
  masterKey,
  neuter,
} from './bip32.ts';
export type { ExtendedPublic, ExtendedSecret } from './bip32.ts';
export { mnemonicFromEntropy, seedFromMnemonic } from './mnemonic.ts';
export type { MnemonicError } from './mnemonic.ts';
export { taprootOutputKey, taprootOutputSecret, walletPublicKey, walletSecretKey } from './wallet.ts';
export type { WalletChain } from './wallet.ts';
export { decodeExtendedPublic, encodeExtendedPublic, keyFingerprint } from './xpub.ts';
export type { ExtendedKeyPosition, XpubError } from './xpub.ts';
