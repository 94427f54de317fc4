import { HDKey } from '@scure/bip32';
import { secp256k1 } from '@fulmen/crypto/default';
import { NETWORKS } from '@fulmen/bitcoin';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hardened, neuter } from './bip32.ts';
import { keyTree } from './key-tree.ts';
import { decodeExtendedPublic, encodeExtendedPublic } from './xpub.ts';

const seed = new Uint8Array(64).fill(7);

test('account keys of both wallets, on mainnet and elsewhere, are those of another implementation', () => {
  for (const [network, versions] of [
    [NETWORKS.mainnet, { private: 0x0488ade4, public: 0x0488b21e }],
    [NETWORKS.regtest, { private: 0x04358394, public: 0x043587cf }],
  ] as const) {
    const tree = keyTree(secp256k1, seed, network);
    const master = HDKey.fromMasterSeed(seed, versions);
    expect(tree.masterFingerprint).toBe(master.fingerprint);
    const accounts = [
      [84, tree.segwitAccount, tree.segwitParentFingerprint],
      [86, tree.taprootAccount, tree.taprootParentFingerprint],
    ] as const;
    for (const [purpose, account, parentFingerprint] of accounts) {
      const text = encodeExtendedPublic(
        neuter(secp256k1, account),
        { depth: 3, parentFingerprint, childIndex: hardened(0) },
        tree.coinType,
      );
      expect(text).toBe(master.derive(`m/${purpose}'/${network.coinType}'/0'`).publicExtendedKey);
      const decoded = decodeExtendedPublic(text);
      expect(decoded.ok && decoded.value.publicKey).toEqual(secp256k1.publicKeyOf(account.secretKey));
      expect(decoded.ok && decoded.value.network).toBe(network.name === 'mainnet' ? 'main' : 'test');
    }
  }
});

test('text that is no extended public key is refused, and one changed digit always is', () => {
  const text = encodeExtendedPublic(
    { publicKey: new Uint8Array(33).fill(2), chainCode: new Uint8Array(32) },
    { depth: 0, parentFingerprint: 0, childIndex: 0 },
    0,
  );
  fc.assert(
    fc.property(
      fc.nat(text.length - 1),
      fc.constantFrom('2', '3', '9', 'A', 'x', 'y', 'z', '0', 'O', 'I', 'l'),
      (at, digit) => {
        const changed = text.slice(0, at) + digit + text.slice(at + 1);
        expect(decodeExtendedPublic(changed).ok).toBe(changed === text);
      },
    ),
  );
  fc.assert(fc.property(fc.string({ maxLength: 200 }), (noise) => !decodeExtendedPublic(noise).ok));
});
