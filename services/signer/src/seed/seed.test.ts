import { mkdtempSync, chmodSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { signerConfig } from '../config.ts';
import { fileMarker } from '../marker.ts';
import { loadKeys } from '../open-ports.ts';
import { inspectable } from '../process-guard.ts';
import { SeedError, newMnemonic, openMnemonic, sealMnemonic, writeSeedFile } from './seed-file.ts';
import { readSeedKey } from './seed-key.ts';

const folder = mkdtempSync(join(tmpdir(), 'fulmen-seed-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CHEAP = { N: 16 };
const random = { salt: new Uint8Array(16).fill(1), nonce: new Uint8Array(12).fill(2) };
const secret = Buffer.from('correct horse');
const mnemonic = newMnemonic(new Uint8Array(32).fill(9));
const bytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

describe('the sealed seed', () => {
  test('opens with its key only, and not after any change', () => {
    const sealed = sealMnemonic(mnemonic, secret, random, CHEAP);
    expect(openMnemonic(sealed, secret)).toBe(mnemonic);
    expect(sealed).not.toContain(mnemonic.split(' ')[0]);
    expect(() => openMnemonic(sealed, Buffer.from('wrong horse'))).toThrow(SeedError);
    const { cipher } = JSON.parse(sealed) as { cipher: { ciphertext: string } };
    const changed = sealed.replace(
      cipher.ciphertext,
      cipher.ciphertext.replace(/^../, cipher.ciphertext.startsWith('00') ? '01' : '00'),
    );
    expect(() => openMnemonic(changed, secret)).toThrow(SeedError);
  });

  test('anything else is a typed error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(() => openMnemonic(text, secret)).toThrow(SeedError);
      }),
      { numRuns: 50 },
    );
    const greedy = sealMnemonic(mnemonic, secret, random, CHEAP).replace('"N": 16', '"N": 1073741824');
    expect(() => openMnemonic(greedy, secret)).toThrow(SeedError);
  });

  test('a file is written once, for its owner only', () => {
    const path = join(folder, 'once');
    writeSeedFile(path, 'x');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(() => writeSeedFile(path, 'y')).toThrow('never overwritten');
    expect(readFileSync(path, 'utf8')).toBe('x');
  });
});

describe('loading keys', () => {
  const options = { network: 'regtest' } as const;
  const seedOptions = (name: string, more: { mnemonicFile?: string } = {}) => ({
    options,
    seed: {
      file: join(folder, name),
      key: { type: 'value', value: 'correct horse' } as const,
      mnemonicFile: more.mnemonicFile,
    },
  });

  test('the first start makes a seed, the next finds it; a missing file of a known seed is refused; words restore it', () => {
    const first = loadKeys(seedOptions('seed'), undefined, bytes);
    const again = loadKeys(seedOptions('seed'), undefined, bytes);
    expect(again.nodeId).toEqual(first.nodeId);
    const known = { nodeId: first.nodeId, keyScheme: first.keyScheme, network: 'regtest' };
    expect(() => loadKeys(seedOptions('elsewhere'), known, bytes)).toThrow(SeedError);
    const words = join(folder, 'words');
    writeFileSync(words, openMnemonic(readFileSync(join(folder, 'seed'), 'utf8'), secret));
    expect(loadKeys(seedOptions('restored', { mnemonicFile: words }), known, bytes).nodeId).toEqual(
      first.nodeId,
    );
    writeFileSync(words, mnemonic);
    expect(() => loadKeys(seedOptions('wrong', { mnemonicFile: words }), known, bytes)).toThrow(
      'not the seed of this database',
    );
    chmodSync(join(folder, 'seed'), 0o644);
    expect(() => loadKeys(seedOptions('seed'), known, bytes)).toThrow('read by others');
  });

  test('the key comes from a file, a value or a command; short and failing ones are refused', () => {
    const path = join(folder, 'key');
    writeFileSync(path, 'correct horse\n');
    const expected = new Uint8Array(secret);
    expect(readSeedKey({ type: 'file', path })).toEqual(expected);
    expect(
      readSeedKey({
        type: 'command',
        command: [process.execPath, '-e', 'process.stdout.write("correct horse")'],
      }),
    ).toEqual(expected);
    expect(() => readSeedKey({ type: 'value', value: 'short' })).toThrow(SeedError);
    expect(() => readSeedKey({ type: 'file', path: join(folder, 'none') })).toThrow('ENOENT');
    expect(() =>
      readSeedKey({ type: 'command', command: [process.execPath, '-e', 'process.exit(1)'] }),
    ).toThrow(SeedError);
  });
});

test('the marker is a number that survives, and anything else is an error', async () => {
  const path = join(folder, 'seed.generation');
  const marker = fileMarker(path);
  expect(await marker.read()).toBeUndefined();
  await marker.write(41n);
  await marker.write(42n);
  expect(await fileMarker(path).read()).toBe(42n);
  writeFileSync(path, 'forty-two');
  await expect(marker.read()).rejects.toThrow('generation');
});

test('debuggers and heap dumps are recognised', () => {
  expect(inspectable([], '')).toBeUndefined();
  expect(inspectable(['--permission', '--max-old-space-size=200'], '')).toBeUndefined();
  for (const option of [
    '--inspect',
    '--inspect-brk=0.0.0.0:9229',
    '--inspect-port=1',
    '--heapsnapshot-signal=SIGUSR2',
    '--report-on-signal',
  ]) {
    expect(inspectable([option], '')).toBeDefined();
    expect(inspectable([], `--no-warnings ${option}`)).toBeDefined();
  }
});

test('configuration names what is missing, and takes exactly one source of the key', () => {
  const good = {
    FULMEN_NETWORK: 'regtest',
    FULMEN_DATABASE_URL: 'postgres://localhost/signer',
    FULMEN_TLS_CA_FILE: 'ca.pem',
    FULMEN_TLS_CERTIFICATE_FILE: 'signer.pem',
    FULMEN_TLS_KEY_FILE: 'signer.key',
    FULMEN_SIGNER_SEED_FILE: 'seed',
    FULMEN_SIGNER_SEED_KEY_FILE: 'key',
    FULMEN_SIGNER_VELOCITY_SAT: '5000',
  };
  const config = signerConfig(good);
  expect(config.options.onchain).toEqual({ velocitySat: 5_000n });
  expect(config.seed.key).toEqual({ type: 'file', path: 'key' });
  expect(() => signerConfig({ ...good, FULMEN_SIGNER_SEED_KEY: 'also this' })).toThrow('exactly one');
  expect(() => signerConfig({ ...good, FULMEN_NETWORK: undefined })).toThrow('FULMEN_NETWORK');
  expect(() => signerConfig({ ...good, FULMEN_SIGNER_ALLOWED_SCRIPTS: 'zz' })).toThrow(
    'FULMEN_SIGNER_ALLOWED_SCRIPTS',
  );
});
