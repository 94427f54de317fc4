import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { nobleSecp256k1 } from '@fulmen/crypto/noble';
import { toBitcoinjs, fromBitcoinjs } from './bitcoinjs.ts';
import { fromHex, toHex } from './bytes.ts';
import { BitcoinError } from './errors.ts';
import { derFromCompact, compactFromDer } from './signature.ts';
import { SIGHASH, segwitV0Sighash, taprootKeyPathSighash } from './sighash.ts';
import type { Tx } from './transaction.ts';
import {
  decodeTx,
  displayHash,
  encodeTx,
  parseDisplayHash,
  txVsize,
  txWeight,
  txid,
  wtxid,
  MAX_MONEY_SAT,
} from './transaction.ts';
import {
  compileScript,
  decompileScript,
  isValidShutdownScript,
  opReturnScript,
  p2pkhScript,
  scriptNumber,
} from './script.ts';
import { decodeAddress, encodeAddress } from './address.ts';
import { NETWORKS } from './networks.ts';
import { blockHash, decodeBlock, decodeBlockHeader, encodeBlockHeader, meetsProofOfWork } from './block.ts';
import {
  dustThresholdSat,
  feeForWeightSat,
  feerateSatPerKwFromBtcPerKvb,
  feerateSatPerKwFromSatPerVb,
} from './fees.ts';
import {
  addPsbtSignatures,
  createPsbt,
  extractPsbt,
  finalizePsbt,
  psbtInputsToSign,
  psbtUnsignedTx,
  signPsbt,
  decodePsbtBase64,
  encodePsbtBase64,
} from './psbt.ts';
import { p2trScript, p2wpkhScript, p2wshScript } from './script.ts';
import { taprootOutputKey, taprootOutputSecretKey } from './taproot.ts';

const bytes = (max: number, min = 0): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: min, maxLength: max });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const arbitraryTx: fc.Arbitrary<Tx> = fc.record({
  version: u32,
  locktime: u32,
  inputs: fc.array(
    fc.record({
      txid: bytes(32, 32),
      vout: u32,
      scriptSig: bytes(300),
      sequence: u32,
      witness: fc.array(bytes(300), { maxLength: 4 }),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  outputs: fc.array(fc.record({ valueSat: fc.bigInt({ min: 0n, max: MAX_MONEY_SAT }), script: bytes(60) }), {
    minLength: 1,
    maxLength: 4,
  }),
});

describe('transactions', () => {
  test('every transaction survives its encoding, and bitcoinjs agrees on ids and weight', () => {
    fc.assert(
      fc.property(arbitraryTx, (tx) => {
        const encoded = encodeTx(tx);
        const decoded = decodeTx(encoded);
        expect(decoded).toEqual({ ok: true, value: tx });
        const other = toBitcoinjs(tx);
        expect(toHex(other.toBuffer())).toBe(toHex(encoded));
        expect(other.getId()).toBe(displayHash(txid(tx)));
        expect(toHex(Uint8Array.from(other.getHash(true)))).toBe(toHex(wtxid(tx)));
        expect(other.weight()).toBe(txWeight(tx));
        expect(other.virtualSize()).toBe(txVsize(tx));
        expect(fromBitcoinjs(other)).toEqual({ ok: true, value: tx });
      }),
      { numRuns: 60 },
    );
  });

  test('arbitrary bytes fail with a typed error or decode to what re-encodes to them', () => {
    const check = (input: Uint8Array): void => {
      const result = decodeTx(input);
      if (result.ok) expect(toHex(encodeTx(result.value))).toBe(toHex(input));
      else expect(result.error).toBeInstanceOf(BitcoinError);
    };
    fc.assert(fc.property(bytes(200), check), { numRuns: 200 });
    // Damaged transactions reach deeper than noise does.
    fc.assert(
      fc.property(arbitraryTx, fc.nat(), fc.integer({ min: 0, max: 255 }), fc.nat(), (tx, at, value, cut) => {
        const encoded = encodeTx(tx);
        encoded[at % encoded.length] = value;
        check(encoded);
        check(encoded.subarray(0, cut % encoded.length));
      }),
      { numRuns: 200 },
    );
  });

  test('a length that the data cannot hold is refused before anything is allocated', () => {
    const result = decodeTx(fromHex('0200000001' + '00'.repeat(36) + 'feffffffff'));
    expect(result.ok ? undefined : result.error.code).toBe('count-exceeds-data');
  });

  test('display order', () => {
    const hash = '4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b';
    expect(displayHash(parseDisplayHash(hash))).toBe(hash);
    expect(() => parseDisplayHash('00')).toThrow(BitcoinError);
    expect(() => parseDisplayHash('zz'.repeat(32))).toThrow(BitcoinError);
  });
});

describe('signature hashes', () => {
  const types = fc.constantFrom(1, 2, 3, 0x81, 0x82, 0x83);

  test('segwit v0 agrees with bitcoinjs for every type', () => {
    fc.assert(
      fc.property(
        arbitraryTx,
        types,
        bytes(120, 1),
        fc.bigInt({ min: 0n, max: MAX_MONEY_SAT }),
        (tx, type, script, value) => {
          for (const index of tx.inputs.keys()) {
            const expected = toBitcoinjs(tx).hashForWitnessV0(index, script, value, type);
            expect(toHex(segwitV0Sighash(tx, index, script, value, type))).toBe(
              toHex(Uint8Array.from(expected)),
            );
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('taproot key path agrees with bitcoinjs for every type', () => {
    fc.assert(
      fc.property(arbitraryTx, fc.constantFrom(0, 1, 2, 3, 0x81, 0x82, 0x83), (tx, type) => {
        const spent = tx.inputs.map((_, index) => ({
          valueSat: BigInt(index) * 1000n,
          script: p2trScript(new Uint8Array(32).fill(index)),
        }));
        for (const index of tx.inputs.keys()) {
          const ours = (): string => toHex(taprootKeyPathSighash(tx, index, spent, type));
          if ((type & 3) === 3 && index >= tx.outputs.length) {
            expect(ours).toThrow(BitcoinError);
            continue;
          }
          const theirs = toBitcoinjs(tx).hashForWitnessV1(
            index,
            spent.map((s) => s.script),
            spent.map((s) => s.valueSat),
            type,
          );
          expect(ours()).toBe(toHex(Uint8Array.from(theirs)));
        }
      }),
      { numRuns: 60 },
    );
  });

  test('BIP 143, native P2WPKH', () => {
    const unsigned = decodeTx(
      fromHex(
        '0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac11000000',
      ),
    );
    if (!unsigned.ok) throw unsigned.error;
    const scriptCode = p2pkhScript(fromHex('1d0f172a0ecb48aee1be1f2687d2963ae33f71a1'));
    expect(toHex(segwitV0Sighash(unsigned.value, 1, scriptCode, 600_000_000n, SIGHASH.ALL))).toBe(
      'c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670',
    );
  });
});

describe('scripts', () => {
  test('compiling what was taken apart gives the same script', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.integer({ min: 0x61, max: 0xff }), bytes(520))), (parts) => {
        const compiled = compileScript(parts);
        const apart = decompileScript(compiled);
        if (!apart.ok) throw apart.error;
        expect(toHex(compileScript(apart.value))).toBe(toHex(compiled));
      }),
      { numRuns: 60 },
    );
  });

  test('taking arbitrary bytes apart fails typed or ends', () => {
    fc.assert(
      fc.property(bytes(200), (script) => {
        const apart = decompileScript(script);
        if (!apart.ok) expect(apart.error.code).toBe('bad-script');
      }),
    );
  });

  test.each([
    [0, ''],
    [1, '01'],
    [-1, '81'],
    [127, '7f'],
    [128, '8000'],
    [-128, '8080'],
    [255, 'ff00'],
    [500_000, '20a107'],
    [2 ** 32 - 1, 'ffffffff00'],
  ])('number %d', (value, hex) => expect(toHex(scriptNumber(value))).toBe(hex));

  test('shutdown forms', () => {
    const none = { shutdownAnySegwit: false, simpleClose: false };
    const all = { shutdownAnySegwit: true, simpleClose: true };
    const key = nobleSecp256k1.publicKeyOf(new Uint8Array(32).fill(1));
    expect(isValidShutdownScript(p2wpkhScript(key), none)).toBe(true);
    expect(isValidShutdownScript(p2wshScript(key), none)).toBe(true);
    expect(isValidShutdownScript(p2trScript(key.slice(1)), none)).toBe(false);
    expect(isValidShutdownScript(p2trScript(key.slice(1)), all)).toBe(true);
    expect(isValidShutdownScript(fromHex('6002abcd'), all)).toBe(true);
    expect(isValidShutdownScript(fromHex('6001ab'), all)).toBe(false);
    expect(isValidShutdownScript(fromHex(`0016${'00'.repeat(22)}`), all)).toBe(false);
    expect(isValidShutdownScript(p2pkhScript(new Uint8Array(20)), all)).toBe(false);
    for (const [length, valid] of [
      [5, false],
      [6, true],
      [75, true],
      [76, true],
      [80, true],
    ] as const) {
      const script = opReturnScript(new Uint8Array(length).fill(7));
      expect(isValidShutdownScript(script, all)).toBe(valid);
      expect(isValidShutdownScript(script, none)).toBe(false);
    }
    expect(isValidShutdownScript(fromHex(`6a4c4b${'00'.repeat(75)}`), all)).toBe(false);
    expect(isValidShutdownScript(fromHex(`6a4c51${'00'.repeat(81)}`), all)).toBe(false);
    expect(isValidShutdownScript(fromHex('6a06010203040506ff'), all)).toBe(false);
  });

  test('dust and fees', () => {
    const key = nobleSecp256k1.publicKeyOf(new Uint8Array(32).fill(1));
    expect(dustThresholdSat(p2wpkhScript(key))).toBe(294n);
    expect(dustThresholdSat(p2wshScript(key))).toBe(330n);
    expect(dustThresholdSat(p2trScript(key.slice(1)))).toBe(330n);
    expect(dustThresholdSat(p2pkhScript(new Uint8Array(20)))).toBe(546n);
    expect(dustThresholdSat(fromHex('51024e73'))).toBe(240n);
    expect(dustThresholdSat(fromHex('6002abcd'))).toBe(354n);
    expect(dustThresholdSat(opReturnScript(key))).toBe(0n);
    expect(feeForWeightSat(1124, 253)).toBe(284n);
    expect(feerateSatPerKwFromSatPerVb(1)).toBe(253);
    expect(feerateSatPerKwFromSatPerVb(10)).toBe(2500);
    expect(feerateSatPerKwFromBtcPerKvb(0.0001)).toBe(2500);
  });
});

describe('signatures', () => {
  test('compact to DER and back', () => {
    fc.assert(
      fc.property(bytes(32, 32), bytes(32, 32), fc.integer({ min: 0, max: 255 }), (r, s, type) => {
        r[31] = 1;
        s[31] = 1;
        const signature = Uint8Array.from([...r, ...s]);
        expect(compactFromDer(derFromCompact(signature, type))).toEqual({
          ok: true,
          value: { signature, sighashType: type },
        });
      }),
    );
  });

  test('arbitrary bytes fail typed or re-encode to themselves', () => {
    const check = (der: Uint8Array): void => {
      const parsed = compactFromDer(der);
      if (parsed.ok)
        expect(toHex(derFromCompact(parsed.value.signature, parsed.value.sighashType))).toBe(toHex(der));
      else expect(parsed.error.code).toBe('bad-signature');
    };
    fc.assert(fc.property(bytes(80), check));
    const valid = derFromCompact(nobleSecp256k1.sign(new Uint8Array(32), new Uint8Array(32).fill(9)), 1);
    fc.assert(
      fc.property(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 }), (at, value) =>
        check(valid.map((byte, i) => (i === at ? value : byte))),
      ),
    );
  });
});

describe('addresses', () => {
  // BIP 173 and BIP 350, valid segwit addresses.
  test.each([
    ['BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4', '0014751e76e8199196d454941c45d1b3a323f1433bd6', 'mainnet'],
    [
      'tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7',
      '00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262',
      'testnet',
    ],
    [
      'bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y',
      '5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6',
      'mainnet',
    ],
    ['BC1SW50QGDZ25J', '6002751e', 'mainnet'],
    [
      'bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0',
      '512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798',
      'mainnet',
    ],
  ] as const)('%s', (address, script, network) => {
    const decoded = decodeAddress(address, NETWORKS[network]);
    if (!decoded.ok) throw decoded.error;
    expect(toHex(decoded.value)).toBe(script);
    expect(encodeAddress(decoded.value, NETWORKS[network])).toBe(address.toLowerCase());
  });

  // BIP 350, invalid segwit addresses.
  test.each([
    'tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut',
    'bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd',
    'tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf',
    'BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL',
    'bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh',
    'tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47',
    'bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4',
    'BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R',
    'bc1pw5dgrnzv',
    'bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav',
    'BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P',
    'tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq',
    'bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf',
    'tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j',
    'bc1gmk9yu',
  ])('refuses %s', (address) => {
    expect(decodeAddress(address, NETWORKS.mainnet).ok).toBe(false);
    expect(decodeAddress(address, NETWORKS.testnet).ok).toBe(false);
  });

  test('base58 and the wrong network', () => {
    const script = p2pkhScript(fromHex('62e907b15cbf27d5425399ebf6f0fb50ebb88f18'));
    expect(encodeAddress(script, NETWORKS.mainnet)).toBe('1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa');
    expect(decodeAddress('1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa', NETWORKS.mainnet)).toEqual({
      ok: true,
      value: script,
    });
    const wrong = decodeAddress('1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa', NETWORKS.regtest);
    expect(wrong.ok ? undefined : wrong.error.code).toBe('wrong-network');
  });

  test('noise is refused', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 100 }), (text) => !decodeAddress(text, NETWORKS.regtest).ok),
    );
  });
});

describe('blocks', () => {
  // The genesis block.
  const raw = fromHex(
    '0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000',
  );

  test('genesis', () => {
    const block = decodeBlock(raw);
    if (!block.ok) throw block.error;
    expect(block.value.hash).toEqual(NETWORKS.mainnet.chainHash);
    expect(meetsProofOfWork(block.value.header)).toBe(true);
    expect(meetsProofOfWork({ ...block.value.header, nonce: 0 })).toBe(false);
    expect(toHex(encodeBlockHeader(block.value.header))).toBe(toHex(raw.slice(0, 80)));
    const header = decodeBlockHeader(raw.slice(0, 80));
    expect(header.ok && toHex(blockHash(header.value))).toBe(toHex(block.value.hash));
    expect(decodeBlockHeader(raw.slice(0, 79)).ok).toBe(false);
  });

  test('damage is found', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 36, max: raw.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        (at, flip) => {
          const damaged = raw.map((byte, i) => (i === at ? byte ^ flip : byte));
          const block = decodeBlock(damaged);
          if (block.ok) expect(block.value.hash).not.toEqual(NETWORKS.mainnet.chainHash);
          else expect(block.error).toBeInstanceOf(BitcoinError);
        },
      ),
    );
  });
});

describe('PSBT', () => {
  const secret = new Uint8Array(32).fill(7);
  const publicKey = nobleSecp256k1.publicKeyOf(secret);
  const outputKey = taprootOutputKey(nobleSecp256k1, publicKey);
  const psbt = createPsbt({
    version: 2,
    locktime: 100,
    inputs: [
      {
        txid: new Uint8Array(32).fill(1),
        vout: 0,
        sequence: 0xffff_fffd,
        spent: { valueSat: 100_000n, script: p2wpkhScript(publicKey) },
      },
      {
        txid: new Uint8Array(32).fill(2),
        vout: 3,
        sequence: 0xffff_fffd,
        spent: { valueSat: 50_000n, script: p2trScript(outputKey) },
      },
    ],
    outputs: [{ valueSat: 140_000n, script: p2wshScript(publicKey) }],
  });

  test('signed, finalized and extracted', () => {
    const signed = signPsbt(psbt, ({ inputIndex, kind, sighash }) =>
      kind === 'p2wpkh'
        ? { inputIndex, kind, publicKey, signature: nobleSecp256k1.sign(sighash, secret) }
        : {
            inputIndex,
            kind,
            signature: nobleSecp256k1.schnorrSign(
              sighash,
              taprootOutputSecretKey(nobleSecp256k1, secret),
              new Uint8Array(32),
            ),
          },
    );
    if (!signed.ok) throw signed.error;
    const open = finalizePsbt(psbt);
    expect(open.ok ? undefined : open.error.code).toBe('psbt-incomplete');
    const final = finalizePsbt(signed.value);
    if (!final.ok) throw final.error;
    const tx = extractPsbt(final.value);
    if (!tx.ok) throw tx.error;
    const unsigned = psbtUnsignedTx(psbt);
    if (!unsigned.ok) throw unsigned.error;
    expect(txid(tx.value)).toEqual(txid(unsigned.value));
    expect(tx.value.inputs.map((input) => input.witness.length)).toEqual([2, 1]);
    const wanted = psbtInputsToSign(psbt);
    if (!wanted.ok) throw wanted.error;
    const taproot = wanted.value[1]?.sighash ?? new Uint8Array();
    expect(
      nobleSecp256k1.schnorrVerify(taproot, tx.value.inputs[1]?.witness[0] ?? new Uint8Array(), outputKey),
    ).toBe(true);
    expect(psbtInputsToSign(final.value)).toEqual({ ok: true, value: [] });
  });

  test('a foreign key is refused, and noise is no PSBT', () => {
    const foreign = nobleSecp256k1.publicKeyOf(new Uint8Array(32).fill(8));
    expect(
      addPsbtSignatures(psbt, [
        { inputIndex: 0, kind: 'p2wpkh', publicKey: foreign, signature: new Uint8Array(64).fill(1) },
      ]).ok,
    ).toBe(false);
    expect(decodePsbtBase64(encodePsbtBase64(psbt))).toEqual({ ok: true, value: psbt });
    fc.assert(
      fc.property(fc.nat(psbt.length - 1), fc.integer({ min: 0, max: 255 }), (at, value) => {
        const damaged = psbt.map((byte, i) => (i === at ? value : byte));
        for (const result of [psbtInputsToSign(damaged), finalizePsbt(damaged), extractPsbt(damaged)]) {
          if (!result.ok) expect(result.error).toBeInstanceOf(BitcoinError);
        }
      }),
    );
  });
});
