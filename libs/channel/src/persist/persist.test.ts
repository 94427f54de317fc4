import { fromHex, toHex } from '@fulmen/codec';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { HtlcBody } from '../htlc.ts';
import type { PersistedChannel } from '../persist.ts';
import { canonical } from '../testing/node.ts';
import type { TestNode } from '../testing/node.ts';
import { Pair, addCommand, preimageOf } from '../testing/pair.ts';
import { persistDelta } from './delta.ts';
import { restore } from './restore.ts';

/** A channel with something in every place: HTLCs in many states, a feerate on its way, secrets, an owed secret. */
function busyPair(): Pair {
  const pair = new Pair(fakeSecp256k1, { announce: true });
  for (let seed = 0; seed < 4; seed += 1) pair.alice.must(addCommand(seed, 2_000_000n));
  pair.bob.must(addCommand(10, 3_000_000n));
  pair.settle();
  pair.bob.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(0) });
  pair.bob.must({ type: 'fail_htlc', id: 1n, reason: new Uint8Array(20).fill(3) });
  pair.bob.must({ type: 'commit' });
  pair.alice.must({ type: 'update_fee', feerateSatPerKw: 1200 });
  pair.alice.must(addCommand(20, 1_000_000n));
  pair.alice.must({ type: 'commit' });
  pair.deliver('bob');
  pair.bob.must({
    type: 'fail_malformed_htlc',
    id: 2n,
    sha256OfOnion: new Uint8Array(32),
    failureCode: 0xc004,
  });
  pair.alice.must({
    type: 'fail_htlc',
    id: 0n,
    reason: new Uint8Array(1),
    attributionData: new Uint8Array(920),
  });
  return pair;
}

function rowsOf(node: TestNode): PersistedChannel {
  if (node.rows === undefined) throw new RangeError('nothing persisted');
  return node.rows;
}

describe('the persisted form', () => {
  test('restores to the same state in every phase', () => {
    const pair = busyPair();
    for (const node of [pair.alice, pair.bob]) node.checkRestore();
    pair.bob.must({ type: 'shutdown' });
    pair.settle();
    for (const node of [pair.alice, pair.bob]) node.checkRestore();
    pair.alice.must({ type: 'force_close', reason: 'over' });
    pair.alice.checkRestore();
    pair.alice.must({ type: 'closed', reason: 'spent' });
    pair.alice.checkRestore();
  });

  test('has a hot blob below 1500 bytes with 30 HTLCs in flight each way', () => {
    const pair = new Pair(fakeSecp256k1);
    for (let seed = 0; seed < 30; seed += 1) {
      pair.alice.must(addCommand(seed, 1_000_000n));
      pair.bob.must(addCommand(100 + seed, 1_000_000n));
    }
    pair.settle();
    for (const node of [pair.alice, pair.bob]) expect(rowsOf(node).hot.length).toBeLessThan(500);
  });

  test('writes what changed and no more', () => {
    const pair = new Pair(fakeSecp256k1);
    const before = pair.alice.channel;
    expect(persistDelta(before, before)).toMatchObject({
      newHtlcs: [],
      newRemovals: [],
      settledHtlcs: [],
      secretBuckets: [],
    });
    pair.alice.must(addCommand(1, 1_000_000n));
    const added = persistDelta(before, pair.alice.channel);
    expect(added.newHtlcs.map(({ id }) => id)).toEqual([0n]);
    expect(added).not.toHaveProperty('cold');
    expect(added).not.toHaveProperty('holderSignatures');
    pair.settle();
    const committed = persistDelta(before, pair.alice.channel);
    expect(committed.secretBuckets).toMatchObject([{ bucket: 0, index: (1n << 48n) - 1n }]);
    expect(committed).toHaveProperty('holderSignatures');
    const full = pair.alice.channel;
    pair.bob.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(1) });
    pair.settle();
    expect(persistDelta(full, pair.alice.channel).settledHtlcs).toEqual([{ direction: 'outbound', id: 0n }]);
  });

  test('replaces the body of an id that came back with another HTLC', () => {
    const pair = new Pair(fakeSecp256k1);
    pair.alice.must(addCommand(1, 1_000_000n));
    const first = pair.alice.channel;
    pair.disconnect();
    pair.connect();
    pair.deliverAll();
    pair.alice.must(addCommand(2, 2_000_000n));
    const delta = persistDelta(first, pair.alice.channel);
    expect(delta.settledHtlcs).toEqual([{ direction: 'outbound', id: 0n }]);
    expect(delta.newHtlcs.map(({ amountMsat }) => amountMsat)).toEqual([2_000_000n]);
  });

  test('that lacks a row, or is cut, is refused with a type', () => {
    const rows = rowsOf(busyPair().bob);
    expect(restore({ ...rows, htlcs: [] })).toMatchObject({ ok: false, error: { type: 'missing_htlc' } });
    expect(restore({ ...rows, removals: [] })).toMatchObject({
      ok: false,
      error: { type: 'missing_removal' },
    });
    expect(restore({ ...rows, secretBuckets: [] })).toMatchObject({
      ok: false,
      error: { type: 'missing_secret' },
    });
    expect(restore({ ...rows, holderSignatures: undefined })).toMatchObject({
      ok: false,
      error: { type: 'missing_signatures' },
    });
    for (let length = 0; length < rows.hot.length; length += 1)
      expect(restore({ ...rows, hot: rows.hot.subarray(0, length) })).toMatchObject({
        ok: false,
        error: { type: 'unreadable_blob' },
      });
  });

  test('of any bytes is refused with a type or restores to what encodes the same', () => {
    const rows = rowsOf(busyPair().bob);
    fc.assert(
      fc.property(
        fc.nat(rows.hot.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.constantFrom('hot' as const, 'cold' as const),
        (at, flip, blob) => {
          const bytes = Uint8Array.from(rows[blob]);
          bytes[at] = (bytes[at] ?? 0) ^ flip;
          const restored = restore({ ...rows, [blob]: bytes });
          if (!restored.ok) {
            expect(restored.error.type).toBeTypeOf('string');
            return;
          }
          const again = persistDelta(undefined, restored.value)[blob] ?? new Uint8Array(0);
          // Another version that is still read is written as the newest.
          if (bytes[0] === rows[blob][0]) expect(toHex(again)).toBe(toHex(bytes));
          else expect(restore({ ...rows, [blob]: again })).toEqual(restored);
        },
      ),
      // The version byte, which chance seldom finds.
      { numRuns: 300, examples: [[0, 3, 'cold']] },
    );
  });
});

/** Blobs of released versions, with the state that they stand for; they must restore for ever. */
interface Recording {
  readonly hot: string;
  readonly cold: string;
  readonly holderSignatures: string;
  readonly secretBuckets: readonly {
    readonly bucket: number;
    readonly index: string;
    readonly secret: string;
  }[];
  readonly htlcs: readonly {
    readonly direction: HtlcBody['direction'];
    readonly id: string;
    readonly amountMsat: string;
    readonly paymentHash: string;
    readonly cltvExpiryHeight: number;
  }[];
  readonly state: string;
}

describe('a released version', () => {
  test.each([1, 2])('%i restores from its recording', (version) => {
    const recorded = JSON.parse(
      readFileSync(new URL(`./recorded/version-${version}.json`, import.meta.url), 'utf8'),
    ) as Recording;
    expect(fromHex(recorded.cold)[0]).toBe(version);
    const restored = restore({
      hot: fromHex(recorded.hot),
      cold: fromHex(recorded.cold),
      holderSignatures: fromHex(recorded.holderSignatures),
      secretBuckets: recorded.secretBuckets.map(({ bucket, index, secret }) => ({
        bucket,
        index: BigInt(index),
        secret: fromHex(secret),
      })),
      htlcs: recorded.htlcs.map(({ direction, id, amountMsat, paymentHash, cltvExpiryHeight }) => ({
        direction,
        id: BigInt(id),
        amountMsat: BigInt(amountMsat),
        paymentHash: fromHex(paymentHash),
        cltvExpiryHeight,
        onionRoutingPacket: new Uint8Array(1),
      })),
      removals: [],
    });
    expect(restored.ok && canonical(restored.value)).toBe(recorded.state);
  });
});
