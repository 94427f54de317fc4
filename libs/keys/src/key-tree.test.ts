/** The key tree against published vectors and an independent BIP 32, and its paths pinned for good. */
import { sha256 } from '@fulmen/crypto';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { HDKey } from '@scure/bip32';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  HARDENED_OFFSET,
  KeysError,
  channelSecrets,
  deriveChild,
  deriveNamedChild,
  derivePath,
  derivePublicChild,
  fundingSecret,
  hardened,
  holderBasepoints,
  keyTree,
  masterKey,
  mnemonicFromEntropy,
  neuter,
  seedFromMnemonic,
  taprootOutputKey,
  taprootOutputSecret,
  walletPublicKey,
  walletSecretKey,
} from './index.ts';

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const ABANDON =
  'abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about';

function seedOf(mnemonic: string, passphrase?: string): Uint8Array {
  const seed = seedFromMnemonic(mnemonic, passphrase);
  if (!seed.ok) throw new Error(seed.error.kind);
  return seed.value;
}

const seed = seedOf(ABANDON);
const mainnet = { coinType: 0 };

describe('mnemonic', () => {
  test('BIP 39 vectors', () => {
    expect(mnemonicFromEntropy(new Uint8Array(16))).toBe(ABANDON);
    expect(toHex(seedOf(ABANDON, 'TREZOR'))).toBe(
      'c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04',
    );
    expect(mnemonicFromEntropy(new Uint8Array(32).fill(0xff)).split(' ')).toHaveLength(24);
  });

  test('spacing and case are forgiven, wrong words are not', () => {
    expect(seedOf(`  ${ABANDON.toUpperCase().replaceAll(' ', '\n ')}\n`)).toEqual(seed);
    for (const wrong of [
      '',
      'abandon',
      `${ABANDON} about`,
      ABANDON.replace('about', 'abandon'),
      ABANDON.replace('about', 'abuot'),
    ]) {
      expect(seedFromMnemonic(wrong)).toEqual({ ok: false, error: { kind: 'invalid_mnemonic' } });
    }
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        expect(seedFromMnemonic(text).ok).toBe(false);
      }),
      { numRuns: 50 },
    );
    expect(() => mnemonicFromEntropy(new Uint8Array(15))).toThrow(KeysError);
  });
});

describe('BIP 32', () => {
  test('equals an independent implementation on any path, and publicly where unhardened', () => {
    const index = fc.oneof(
      fc.integer({ min: 0, max: 2 ** 31 - 1 }),
      fc.integer({ min: 2 ** 31, max: 2 ** 32 - 1 }),
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 64 }),
        fc.array(index, { maxLength: 4 }),
        fc.integer({ min: 0, max: 2 ** 31 - 1 }),
        (bytes, path, last) => {
          const theirs = path.reduce((key, i) => key.deriveChild(i), HDKey.fromMasterSeed(bytes));
          const ours = derivePath(secp, masterKey(secp, bytes), path);
          expect(ours.secretKey).toEqual(theirs.privateKey);
          expect(ours.chainCode).toEqual(theirs.chainCode);
          expect(derivePublicChild(secp, neuter(secp, ours), last)).toEqual(
            neuter(secp, deriveChild(secp, ours, last)),
          );
        },
      ),
      { numRuns: 15 },
    );
  });

  test('indexes and seeds out of range are refused', () => {
    const root = masterKey(secp, seed);
    for (const bad of [-1, 0.5, HARDENED_OFFSET * 2, Number.NaN])
      expect(() => deriveChild(secp, root, bad)).toThrow(KeysError);
    expect(() => hardened(HARDENED_OFFSET)).toThrow(KeysError);
    expect(() => derivePublicChild(secp, neuter(secp, root), HARDENED_OFFSET)).toThrow(KeysError);
    expect(() => masterKey(secp, new Uint8Array(15))).toThrow(KeysError);
    expect(() => deriveNamedChild(secp, root, new Uint8Array(31))).toThrow(KeysError);
  });
});

describe('wallet', () => {
  const tree = keyTree(secp, seed, mainnet);

  test('BIP 84 vectors', () => {
    const account = neuter(secp, tree.segwitAccount);
    expect(toHex(walletPublicKey(secp, account, 'receive', 0))).toBe(
      '0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c',
    );
    expect(toHex(walletPublicKey(secp, account, 'receive', 1))).toBe(
      '03e775fd51f0dfb8cd865d9ff1cca2a158cf651fe997fdc9fee9c1d3b5e995ea77',
    );
    expect(toHex(walletPublicKey(secp, account, 'change', 0))).toBe(
      '03025324888e429ab8e3dbaf1f7802648b9cd01e9b418485c5fa4c1b9b5700e1a6',
    );
  });

  test('BIP 86 vectors', () => {
    const account = neuter(secp, tree.taprootAccount);
    const internal = walletPublicKey(secp, account, 'receive', 0);
    expect(toHex(internal.subarray(1))).toBe(
      'cc8a4bc64d897bddc5fbc2f670f7a8ba0b386779106cf1223c6fc5d7cd6fc115',
    );
    expect(toHex(taprootOutputKey(secp, internal))).toBe(
      'a60869f0dbcf1dc659c9cecbaf8050135ea9e8cdc487053f1dc6880949dc684c',
    );
    const change = walletPublicKey(secp, account, 'change', 0);
    expect(toHex(taprootOutputKey(secp, change))).toBe(
      '882d74e5d0572d5a816cef0041a96b6c1de832f6f9676d9605c44d5e9a97d3dc',
    );
  });

  test.each([secp, fakeSecp256k1])('the taproot secret signs for the output key ($name)', (curve) => {
    const own = keyTree(curve, seed, mainnet);
    for (let index = 0; index < 6; index++) {
      const secret = walletSecretKey(curve, own.taprootAccount, 'receive', index);
      const publicKey = walletPublicKey(curve, neuter(curve, own.taprootAccount), 'receive', index);
      expect(curve.publicKeyOf(secret)).toEqual(publicKey);
      const output = taprootOutputKey(curve, publicKey);
      const outputSecret = taprootOutputSecret(curve, secret);
      expect(curve.publicKeyOf(outputSecret).slice(1)).toEqual(output);
      const message = new Uint8Array(32).fill(index);
      expect(
        curve.schnorrVerify(message, curve.schnorrSign(message, outputSecret, new Uint8Array(32)), output),
      ).toBe(true);
    }
  });
});

describe('native-v1', () => {
  const tree = keyTree(secp, seed, mainnet);
  const keysId = sha256(new TextEncoder().encode('channel'));

  test('the published paths', () => {
    const at = (path: string): Uint8Array | null => HDKey.fromMasterSeed(seed).derive(path).privateKey;
    expect(tree.nodeSecret).toEqual(at("m/9735'/0'/0'"));
    expect(tree.channelsRoot.secretKey).toEqual(at("m/9735'/0'/1'"));
    expect(tree.inboundPaymentKey).toEqual(at("m/9735'/0'/2'"));
    expect(tree.peerStorageKey).toEqual(at("m/9735'/0'/3'"));
    expect(tree.offersKey).toEqual(at("m/9735'/0'/4'"));
    expect(tree.segwitAccount.secretKey).toEqual(at("m/84'/0'/0'"));
    expect(tree.taprootAccount.secretKey).toEqual(at("m/86'/0'/0'"));
    expect(keyTree(secp, seed, { coinType: 1 }).nodeSecret).toEqual(at("m/9735'/1'/0'"));
    expect(tree.nodeId).toEqual(secp.publicKeyOf(tree.nodeSecret));
  });

  test("a channel's children of its named root", () => {
    const root = deriveNamedChild(secp, tree.channelsRoot, keysId);
    const at = (...path: readonly number[]): Uint8Array =>
      derivePath(secp, root, path.map(hardened)).secretKey;
    expect(channelSecrets(secp, tree, keysId)).toEqual({
      fundingSecret: at(0, 0),
      revocationBasepointSecret: at(1),
      paymentBasepointSecret: at(2),
      delayedPaymentBasepointSecret: at(3),
      htlcBasepointSecret: at(4),
      perCommitmentSeed: at(5),
    });
    expect(fundingSecret(secp, tree, keysId, 0)).toEqual(at(0, 0));
    expect(fundingSecret(secp, tree, keysId, 3)).toEqual(at(0, 3));
  });

  test('values once released stay: a change would lose funds', () => {
    const points = holderBasepoints(secp, channelSecrets(secp, tree, keysId));
    expect({
      nodeId: toHex(tree.nodeId),
      ...Object.fromEntries(Object.entries(points).map(([name, key]) => [name, toHex(key)])),
    }).toMatchInlineSnapshot(`
      {
        "delayedPaymentBasepoint": "02034906611a3ca2c4577e306d0dea48330431ddbca00b5d6fda2dc4a09b758644",
        "fundingPubkey": "02fbc9b8b1c12b153905e8d9e4b95bed97728fa6b00c8223c53ac7230eee6cfd66",
        "htlcBasepoint": "023680b63a0435988e79edf0fbaac209254b19a4105f79471f252709253c443e9d",
        "nodeId": "03a15d96cf8975672c41406e4385949593ada11abdda6a66989ac539ee44978e9d",
        "paymentBasepoint": "033c92e6e1cfe4eff18c1c0a0732889508be5aeeabad7f32e201d3ead97770beff",
        "revocationBasepoint": "03fd9c963a151ff0a68ae97bb3a08d40bb092251926e75107b49c3a4cded8087c4",
      }
    `);
    expect(toHex(channelSecrets(secp, tree, keysId).perCommitmentSeed)).toMatchInlineSnapshot(
      `"e9fc587a90cc3af40c45e1f9c34ede4a761974bf1389a80de64440a01fd209d8"`,
    );
  });

  test('all secrets of all channels differ', () => {
    const other = channelSecrets(secp, tree, sha256(keysId));
    const all = [
      ...Object.values(channelSecrets(secp, tree, keysId)),
      ...Object.values(other),
      tree.nodeSecret,
      tree.inboundPaymentKey,
      tree.peerStorageKey,
      tree.offersKey,
    ];
    expect(new Set(all.map(toHex)).size).toBe(all.length);
  });

  test('the secrets are the same on the fake curve, for no public key enters them', () => {
    const fake = keyTree(fakeSecp256k1, seed, mainnet);
    expect(channelSecrets(fakeSecp256k1, fake, keysId)).toEqual(channelSecrets(secp, tree, keysId));
  });
});
