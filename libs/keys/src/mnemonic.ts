/** BIP 39: the words on paper from which a node is restored. English word list. */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { entropyToMnemonic, mnemonicToSeedSync, validateMnemonic } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { KeysError } from './errors.ts';

/** Why words were refused. */
export type MnemonicError = { readonly kind: 'invalid_mnemonic' };

/** The words for 16, 20, 24, 28 or 32 bytes of the caller's entropy (32 give 24 words). */
export function mnemonicFromEntropy(entropy: Uint8Array): string {
  if (entropy.length < 16 || entropy.length > 32 || entropy.length % 4 !== 0) {
    throw new KeysError('bad_argument', 'entropy has 16 to 32 bytes, a multiple of 4');
  }
  return entropyToMnemonic(entropy, wordlist);
}

/**
 * The 64-byte seed of a mnemonic: PBKDF2 with 2048 rounds, some tens of
 * milliseconds, so once at start. Case and spacing between words are forgiven.
 */
export function seedFromMnemonic(mnemonic: string, passphrase = ''): Result<Uint8Array, MnemonicError> {
  const words = mnemonic.normalize('NFKD').trim().toLowerCase().split(/\s+/u).join(' ');
  if (!validateMnemonic(words, wordlist)) return err({ kind: 'invalid_mnemonic' });
  return ok(mnemonicToSeedSync(words, passphrase));
}
