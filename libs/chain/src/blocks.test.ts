import { describe, expect, test } from 'vitest';
import {
  NETWORKS,
  type NetworkName,
  decodeBlockHeader,
  decodeTx,
  encodeBlockHeader,
  merkleRoot,
  merkleRootOfBranch,
} from '@fulmen/bitcoin';
import { fromHex } from '@fulmen/bitcoin/bytes';
import { sha256 } from '@fulmen/crypto';
import fc from 'fast-check';
import { type BlockReading, readBlock } from './blocks.ts';
import { Registrations, isWithin, union } from './filter.ts';
import type { FilteredBlock, FilteredBlockSource } from './source.ts';

/** The first two blocks of the main chain: real proof of work. */
const GENESIS =
  '0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c';
const FIRST =
  '010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299';
const FIRST_HASH = '00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048';
const FIRST_TX =
  '01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d0104ffffffff0100f2052a0100000043410496b538e853519c726a2c91e61ec11600ae1390813a627c66fb8be7947be63c52da7589379515d4e0a604f8141781e62294721166bf621e73a82cbf2342c858eeac00000000';

const TRUE_BLOCK: FilteredBlock = {
  header: fromHex(FIRST),
  previousHeader: fromHex(GENESIS),
  transactions: [{ tx: fromHex(FIRST_TX), index: 0, merkleBranch: [] }],
  earlier: [],
};

async function read(
  block: FilteredBlock | undefined,
  options: { readonly network?: NetworkName; readonly hash?: string; readonly height?: number } = {},
): Promise<BlockReading> {
  const source = { getFilteredBlock: async () => block } as unknown as FilteredBlockSource;
  const at = { hash: options.hash ?? FIRST_HASH, height: options.height ?? 1 };
  return readBlock(source, NETWORKS[options.network ?? 'mainnet'], at, () => new Registrations());
}

const changed = (bytes: Uint8Array, at: number): Uint8Array =>
  bytes.map((byte, index) => (index === at ? byte ^ 1 : byte));

describe('a filtered block', () => {
  test('that proves itself is read', async () => {
    const reading = await read(TRUE_BLOCK);
    expect(reading).toMatchObject({ kind: 'block', block: { coverage: 'registered', txIndexes: [0] } });
    expect((await read({ ...TRUE_BLOCK, transactions: [] })).kind).toBe('block');
    expect(await read(undefined)).toEqual({ kind: 'absent' });
  });

  test.each<[string, FilteredBlock, RegExp]>([
    ['another header', { ...TRUE_BLOCK, header: fromHex(GENESIS) }, /another block/],
    ['a header that was cut off', { ...TRUE_BLOCK, header: fromHex(FIRST).subarray(0, 79) }, /./],
    ['no header before it', { header: TRUE_BLOCK.header, transactions: [], earlier: [] }, /missing/],
    [
      'another header before it',
      { ...TRUE_BLOCK, previousHeader: changed(fromHex(GENESIS), 70) },
      /before it is of another block/,
    ],
    [
      'a changed transaction',
      { ...TRUE_BLOCK, transactions: [{ tx: changed(fromHex(FIRST_TX), 120), index: 0, merkleBranch: [] }] },
      /transaction 0 is not in it/,
    ],
    [
      'another position',
      { ...TRUE_BLOCK, transactions: [{ tx: fromHex(FIRST_TX), index: 1, merkleBranch: [] }] },
      /transaction 1 is not in it/,
    ],
    [
      'a branch that leads elsewhere',
      { ...TRUE_BLOCK, transactions: [{ tx: fromHex(FIRST_TX), index: 0, merkleBranch: ['ab'.repeat(32)] }] },
      /is not in it/,
    ],
    [
      'a branch of no hashes',
      { ...TRUE_BLOCK, transactions: [{ tx: fromHex(FIRST_TX), index: 0, merkleBranch: ['zz'] }] },
      /is not in it/,
    ],
    [
      'the same twice',
      { ...TRUE_BLOCK, transactions: [...TRUE_BLOCK.transactions, ...TRUE_BLOCK.transactions] },
      /out of order/,
    ],
    [
      'something earlier that is not',
      { ...TRUE_BLOCK, earlier: [{ hash: 'ab'.repeat(32), height: 1 }] },
      /what is earlier is not/,
    ],
  ])('with %s is not believed', async (_, block, says) => {
    const reading = await read(block);
    expect(reading.kind).toBe('fault');
    if (reading.kind === 'fault') expect(reading.reason).toMatch(says);
  });

  test('an easy block is none of the main chain, whatever target it states', async () => {
    const header = decodeBlockHeader(fromHex(FIRST));
    if (!header.ok) throw header.error;
    // Any nonce does for regtest's target in a try or two.
    for (let nonce = 0; nonce < 20; nonce++) {
      const easy = { ...header.value, bits: 0x207f_ffff, nonce };
      const bytes = encodeBlockHeader(easy);
      const hash = Buffer.from(sha256(sha256(bytes)))
        .reverse()
        .toString('hex');
      const onMain = await read({ ...TRUE_BLOCK, header: bytes }, { hash });
      expect(onMain).toMatchObject({ kind: 'fault', reason: 'it has no proof of work' });
      // On regtest its work would do, but not a target other than that of the block before.
      const onRegtest = await read({ ...TRUE_BLOCK, header: bytes }, { hash, network: 'regtest' });
      expect(onRegtest.kind).toBe('fault');
    }
  });
});

describe('merkle branches', () => {
  test('every leaf of every tree leads to its root, at its position alone', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 33 }), fc.nat(), (count, pick) => {
        const leaves = Array.from({ length: count }, (_, at) => sha256(Uint8Array.of(at)));
        const root = merkleRoot(leaves);
        const index = pick % count;
        const branch: Uint8Array[] = [];
        let level = leaves;
        let position = index;
        while (level.length > 1) {
          branch.push((level[position ^ 1] ?? level[position]) as Uint8Array);
          const next: Uint8Array[] = [];
          for (let at = 0; at < level.length; at += 2)
            next.push(merkleRoot([level[at] as Uint8Array, (level[at + 1] ?? level[at]) as Uint8Array]));
          level = next;
          position >>= 1;
        }
        const leaf = leaves[index] as Uint8Array;
        expect(merkleRootOfBranch(leaf, index, branch)).toEqual(root);
        for (let other = 0; other < 2 ** branch.length; other++)
          if (other !== index) expect(merkleRootOfBranch(leaf, other, branch)).not.toEqual(root);
        expect(merkleRootOfBranch(leaf, 2 ** branch.length, branch)).toBeUndefined();
      }),
      { numRuns: 100 },
    );
  });

  test('a transaction of 64 bytes, which looks like an inner node, proves nothing', async () => {
    // Version, one input without script, one output of 4 bytes, locktime: 64 bytes.
    const raw = fromHex(
      `0200000001${'11'.repeat(32)}0000000000ffffffff01${'00'.repeat(8)}04${'51515151'}00000000`,
    );
    expect(raw.length).toBe(64);
    expect(decodeTx(raw).ok).toBe(true);
    const reading = await read({ ...TRUE_BLOCK, transactions: [{ tx: raw, index: 0, merkleBranch: [] }] });
    expect(reading.kind).toBe('fault');
  });
});

describe('filters', () => {
  test('one within the other, and both in one', () => {
    const [small, large] = [new Registrations(), new Registrations()];
    for (const filter of [small, large]) filter.registerTx(new Uint8Array(32).fill(1));
    large.registerOutput(new Uint8Array(32).fill(2), 3);
    expect([isWithin(small, large), isWithin(large, small)]).toEqual([true, false]);
    small.registerScript(Uint8Array.of(0x51));
    expect(isWithin(small, large)).toBe(false);
    const both = union(small, large);
    expect([isWithin(small, both), isWithin(large, both)]).toEqual([true, true]);
  });
});
