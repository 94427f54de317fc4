/**
 * The seed at rest: a BIP 39 mnemonic in an envelope of scrypt and AES-256-GCM,
 * in a file of its own that only its owner may read. It is written once and
 * never overwritten.
 */
import { createCipheriv, createDecipheriv, scryptSync } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { utf8Decode, utf8Encode } from '@fulmen/codec';
import { mnemonicFromEntropy, seedFromMnemonic } from '@fulmen/keys';
import { z } from '@fulmen/service';
import { createDurably } from '../durable-file.ts';

/** The seed cannot be read, decrypted or written. Carries no secret. */
export class SeedError extends Error {
  override readonly name = 'SeedError';
}

/** Cost of one attempt to guess a passphrase: 128 MiB and some hundred milliseconds. */
const SCRYPT = { N: 1 << 17, r: 8, p: 1 } as const;
/** What a file may ask for, so that a planted one cannot exhaust memory. */
const MAX_SCRYPT_MEMORY = 512 * 1024 * 1024;
const hex = z.string().regex(/^([0-9a-f]{2})+$/);
const envelope = z.object({
  version: z.literal(1),
  kdf: z.object({
    name: z.literal('scrypt'),
    N: z
      .number()
      .int()
      .min(2)
      .max(1 << 20),
    r: z.number().int().min(1).max(32),
    p: z.number().int().min(1).max(16),
    salt: hex,
  }),
  cipher: z.object({ name: z.literal('aes-256-gcm'), nonce: hex, ciphertext: hex, tag: hex }),
});
type Envelope = z.infer<typeof envelope>;

/** Bound to the ciphertext, so that no other file of this node's can pass for it. */
const CONTEXT = utf8Encode('fulmen seed 1');

function deriveKey(secret: Uint8Array, { N, r, p, salt }: Envelope['kdf']): Buffer {
  return scryptSync(secret, Buffer.from(salt, 'hex'), 32, { N, r, p, maxmem: MAX_SCRYPT_MEMORY });
}

/** Encrypts a mnemonic. `salt` and `nonce`: 16 and 12 random bytes. `cost`: of scrypt, for tests. */
export function sealMnemonic(
  mnemonic: string,
  secret: Uint8Array,
  random: { readonly salt: Uint8Array; readonly nonce: Uint8Array },
  cost: { readonly N: number } = SCRYPT,
): string {
  const kdf = {
    name: 'scrypt',
    ...SCRYPT,
    N: cost.N,
    salt: Buffer.from(random.salt).toString('hex'),
  } as const;
  const cipher = createCipheriv('aes-256-gcm', deriveKey(secret, kdf), random.nonce).setAAD(CONTEXT);
  const ciphertext = Buffer.concat([cipher.update(utf8Encode(mnemonic)), cipher.final()]);
  const sealed: Envelope = {
    version: 1,
    kdf,
    cipher: {
      name: 'aes-256-gcm',
      nonce: Buffer.from(random.nonce).toString('hex'),
      ciphertext: ciphertext.toString('hex'),
      tag: cipher.getAuthTag().toString('hex'),
    },
  };
  return `${JSON.stringify(sealed, undefined, 2)}\n`;
}

/** Decrypts `sealMnemonic`'s text. @throws SeedError */
export function openMnemonic(text: string, secret: Uint8Array): string {
  const parsed = envelope.safeParse(parseJson(text));
  if (!parsed.success) throw new SeedError('the seed file is not one of this program’s');
  const { kdf, cipher } = parsed.data;
  let plain: Uint8Array;
  try {
    const decipher = createDecipheriv(
      'aes-256-gcm',
      deriveKey(secret, kdf),
      Buffer.from(cipher.nonce, 'hex'),
      { authTagLength: 16 },
    );
    decipher.setAAD(CONTEXT).setAuthTag(Buffer.from(cipher.tag, 'hex'));
    plain = Buffer.concat([decipher.update(Buffer.from(cipher.ciphertext, 'hex')), decipher.final()]);
  } catch {
    throw new SeedError('the seed file does not open with this key');
  }
  const mnemonic = utf8Decode(plain);
  if (!mnemonic.ok) throw new SeedError('the seed file holds no mnemonic');
  return mnemonic.value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** The BIP 39 seed of a mnemonic. @throws SeedError */
export function seedOf(mnemonic: string): Uint8Array {
  const seed = seedFromMnemonic(mnemonic);
  if (!seed.ok) throw new SeedError('not a valid mnemonic');
  return seed.value;
}

/** 24 words of fresh entropy. */
export function newMnemonic(entropy: Uint8Array): string {
  return mnemonicFromEntropy(entropy);
}

export function seedFileExists(path: string): boolean {
  return existsSync(path);
}

/** @throws SeedError when others may read it. */
export function readSeedFile(path: string): string {
  if (process.platform !== 'win32' && (statSync(path).mode & 0o077) !== 0)
    throw new SeedError(`${path} can be read by others: chmod 600`);
  return readFileSync(path, 'utf8');
}

/** Writes a new file, synced with its folder. @throws SeedError when there is one already. */
export function writeSeedFile(path: string, text: string): void {
  try {
    createDurably(path, text);
  } catch (error) {
    throw new SeedError(
      existsSync(path) ? `${path} exists and is never overwritten` : `${path} cannot be written`,
      { cause: error },
    );
  }
}
