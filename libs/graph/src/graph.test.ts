/** Gossip's rules, queries and snapshots, on signed messages and on random sequences. */
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { FeatureBits } from '@fulmen/codec';
import { decodeShortIds, make, shortChannelId as scids } from '@fulmen/wire';
import {
  BACKLOG_START,
  CHANNEL_FLAG_DISABLE,
  NetworkGraph,
  STALE_AFTER_SECONDS,
  applyChannelAnnouncement,
  applyChannelUpdate,
  applyNodeAnnouncement,
  backlogBatch,
  channelRange,
  channelRangeReplies,
  checkChannelAnnouncement,
  checkChannelUpdate,
  checkNodeAnnouncement,
  checksumsOf,
  decodeSnapshot,
  encodeSnapshot,
  forgetSpent,
  markSpent,
  markUnspent,
  messagesForScids,
  precheckChannelAnnouncement,
  pruneStale,
  timestampsOf,
  updateSigner,
  utxoLookupOf,
} from './index.ts';
import {
  SYNTHETIC_CHAIN_HASH,
  syntheticAnnouncement,
  syntheticGraph,
  syntheticKey,
  syntheticNode,
  syntheticUpdate,
} from './synthetic.ts';

const secp = fakeSecp256k1;
const ascending = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
const NOW = 1_700_000_000;
const FUNDING = { capacitySat: 1_000_000n };

function idOf(key: number): Uint8Array {
  return secp.publicKeyOf(syntheticKey(key));
}

/** The key index at direction 0, of two. */
function ordered(a: number, b: number): [number, number] {
  return Buffer.compare(idOf(a), idOf(b)) < 0 ? [a, b] : [b, a];
}

function withChannel(shortChannelId = scids.from(700_000, 1, 0), keys: [number, number] = [1, 2]) {
  const graph = new NetworkGraph(SYNTHETIC_CHAIN_HASH);
  const announcement = syntheticAnnouncement(secp, shortChannelId, keys);
  expect(applyChannelAnnouncement(graph, announcement.message, announcement.raw, FUNDING, NOW).ok).toBe(true);
  return { graph, shortChannelId, announcement, keys: ordered(...keys) };
}

function code(result: { readonly ok: boolean; readonly error?: { readonly code: string } }): string {
  return result.error?.code ?? 'ok';
}

describe('signatures', () => {
  test('a channel_announcement is verified by four signatures', () => {
    const { message, raw } = syntheticAnnouncement(secp, 1n, [1, 2]);
    expect(checkChannelAnnouncement(secp, message, raw).ok).toBe(true);
    for (const field of [
      'nodeSignature1',
      'nodeSignature2',
      'bitcoinSignature1',
      'bitcoinSignature2',
    ] as const) {
      const forged = { ...message, [field]: new Uint8Array(64).fill(1) };
      expect(checkChannelAnnouncement(secp, forged, raw)).toEqual({
        ok: false,
        error: { code: 'invalid_signature', action: 'warn_and_disconnect' },
      });
    }
    const swapped = { ...message, nodeId1: message.nodeId2, nodeId2: message.nodeId1 };
    expect(code(checkChannelAnnouncement(secp, swapped, raw))).toBe('node_ids_out_of_order');
  });

  test('the signed part includes unknown trailing bytes', () => {
    const { message, raw } = syntheticUpdate(secp, 1, { shortChannelId: 1n, timestamp: NOW });
    expect(checkChannelUpdate(secp, message, raw, idOf(1)).ok).toBe(true);
    expect(checkChannelUpdate(secp, message, raw, idOf(2)).ok).toBe(false);
    expect(checkChannelUpdate(secp, message, Uint8Array.of(...raw, 1), idOf(1)).ok).toBe(false);
    const node = syntheticNode(secp, 1, NOW);
    expect(checkNodeAnnouncement(secp, node.message, node.raw).ok).toBe(true);
    expect(code(checkNodeAnnouncement(secp, { ...node.message, nodeId: new Uint8Array(33) }, node.raw))).toBe(
      'invalid_node_id',
    );
  });

  test('the funding output to look up is the P2WSH of both keys, whatever their order', () => {
    const { message } = syntheticAnnouncement(secp, scids.from(700_000, 12, 3), [1, 2]);
    const lookup = utxoLookupOf(message);
    expect(lookup.position).toEqual({ blockHeight: 700_000, transactionIndex: 12, outputIndex: 3 });
    expect(lookup.expectedScript.length).toBe(34);
    const flipped = utxoLookupOf({
      ...message,
      bitcoinKey1: message.bitcoinKey2,
      bitcoinKey2: message.bitcoinKey1,
    });
    expect(flipped.expectedScript).toEqual(lookup.expectedScript);
  });
});

describe('channel_announcement', () => {
  test('precheck: chain, depth, duplicate', () => {
    const { graph, announcement } = withChannel();
    const { message } = syntheticAnnouncement(secp, scids.from(700_100, 0, 0), [1, 2]);
    expect(
      code(precheckChannelAnnouncement(graph, { ...message, chainHash: new Uint8Array(32) }, 800_000)),
    ).toBe('unknown_chain');
    expect(code(precheckChannelAnnouncement(graph, message, 700_103))).toBe('not_deep_enough');
    expect(code(precheckChannelAnnouncement(graph, message, 700_104))).toBe('ok');
    expect(code(precheckChannelAnnouncement(graph, announcement.message, 800_000))).toBe('duplicate');
  });

  test('a conflicting announcement blacklists all four nodes and forgets their channels', () => {
    const { graph, shortChannelId } = withChannel();
    const other = syntheticAnnouncement(secp, shortChannelId + 1n, [1, 5]);
    applyChannelAnnouncement(graph, other.message, other.raw, FUNDING, NOW);
    const conflict = syntheticAnnouncement(secp, shortChannelId, [3, 4]);
    expect(code(applyChannelAnnouncement(graph, conflict.message, conflict.raw, FUNDING, NOW))).toBe(
      'conflicting_announcement',
    );
    expect(graph.channelCount).toBe(0);
    expect(graph.nodeCount).toBe(0);
    for (const key of [1, 2, 3, 4]) expect(graph.isBlacklisted(idOf(key))).toBe(true);
    expect(code(applyChannelAnnouncement(graph, other.message, other.raw, FUNDING, NOW))).toBe(
      'blacklisted_node',
    );
  });

  test('unknown even features keep a channel out of routes only', () => {
    const graph = new NetworkGraph(SYNTHETIC_CHAIN_HASH);
    const { message, raw } = syntheticAnnouncement(secp, 7n, [1, 2], FeatureBits.fromBits([1000]).encode());
    expect(applyChannelAnnouncement(graph, message, raw, FUNDING, NOW).ok).toBe(true);
    expect(graph.channelAvoided[graph.channelIndex(7n) ?? -1]).toBe(1);
  });

  test('a full graph takes no more', () => {
    const graph = new NetworkGraph(SYNTHETIC_CHAIN_HASH, {
      maxNodes: 10,
      maxChannels: 1,
      maxRawBytes: 100_000,
      maxBlacklistedNodes: 2,
    });
    const first = syntheticAnnouncement(secp, 1n, [1, 2]);
    const second = syntheticAnnouncement(secp, 2n, [1, 2]);
    expect(code(applyChannelAnnouncement(graph, first.message, first.raw, FUNDING, NOW))).toBe('ok');
    expect(code(applyChannelAnnouncement(graph, second.message, second.raw, FUNDING, NOW))).toBe(
      'graph_full',
    );
  });
});

describe('channel_update', () => {
  test('newer wins, the same is a duplicate, the same time with other terms is refused', () => {
    const { graph, shortChannelId, keys } = withChannel();
    const first = syntheticUpdate(secp, keys[0], { shortChannelId, timestamp: NOW - 10 });
    expect(updateSigner(graph, first.message)).toEqual(idOf(keys[0]));
    expect(code(applyChannelUpdate(graph, first.message, first.raw, NOW))).toBe('ok');
    expect(code(applyChannelUpdate(graph, first.message, first.raw, NOW))).toBe('duplicate');
    const other = syntheticUpdate(secp, keys[0], { shortChannelId, timestamp: NOW - 10, feeBaseMsat: 7 });
    expect(code(applyChannelUpdate(graph, other.message, other.raw, NOW))).toBe(
      'same_timestamp_different_content',
    );
    const older = syntheticUpdate(secp, keys[0], { shortChannelId, timestamp: NOW - 11 });
    expect(code(applyChannelUpdate(graph, older.message, older.raw, NOW))).toBe('stale');
    const newer = syntheticUpdate(secp, keys[0], {
      shortChannelId,
      timestamp: NOW,
      feeBaseMsat: 8,
      channelFlags: CHANNEL_FLAG_DISABLE,
    });
    expect(code(applyChannelUpdate(graph, newer.message, newer.raw, NOW))).toBe('ok');
    expect(graph.policy(2 * (graph.channelIndex(shortChannelId) ?? -1))).toMatchObject({
      feeBaseMsat: 8,
      disabled: true,
    });
    // The other direction is its own.
    const reverse = syntheticUpdate(secp, keys[1], { shortChannelId, timestamp: NOW - 100, channelFlags: 1 });
    expect(updateSigner(graph, reverse.message)).toEqual(idOf(keys[1]));
    expect(code(applyChannelUpdate(graph, reverse.message, reverse.raw, NOW))).toBe('ok');
  });

  test.each([
    ['unknown_channel', { shortChannelId: 5n }],
    ['too_far_in_the_future', { timestamp: NOW + 86_401 }],
    ['too_old', { timestamp: NOW - STALE_AFTER_SECONDS - 1 }],
    ['private_update', { messageFlags: 3 }],
  ])('refused: %s', (expected, terms) => {
    const { graph, shortChannelId, keys } = withChannel();
    const update = syntheticUpdate(secp, keys[0], { shortChannelId, timestamp: NOW, ...terms });
    expect(code(applyChannelUpdate(graph, update.message, update.raw, NOW))).toBe(expected);
  });

  test('an htlc_maximum_msat above the capacity or below the minimum is kept but not routed over', () => {
    const { graph, shortChannelId, keys } = withChannel();
    const edge = 2 * (graph.channelIndex(shortChannelId) ?? -1);
    for (const [offset, terms, flags] of [
      [1, { htlcMaximumMsat: 1_000_000_001n }, 5],
      [2, { htlcMaximumMsat: 1_000_000_000n }, 1],
      [3, { htlcMinimumMsat: 10n, htlcMaximumMsat: 9n }, 5],
      [4, { htlcMaximumMsat: 2n ** 64n - 1n }, 5],
    ] as const) {
      const update = syntheticUpdate(secp, keys[0], { shortChannelId, timestamp: NOW + offset, ...terms });
      expect(code(applyChannelUpdate(graph, update.message, update.raw, NOW))).toBe('ok');
      expect(graph.edgeFlags[edge]).toBe(flags);
    }
  });

  test('a spent channel takes only "disabled", and is forgotten 72 blocks deep', () => {
    const { graph, shortChannelId, keys } = withChannel();
    markSpent(graph, shortChannelId, 710_000);
    const enabled = syntheticUpdate(secp, keys[0], { shortChannelId, timestamp: NOW });
    expect(code(applyChannelUpdate(graph, enabled.message, enabled.raw, NOW))).toBe('channel_spent');
    const disabled = syntheticUpdate(secp, keys[0], {
      shortChannelId,
      timestamp: NOW,
      channelFlags: CHANNEL_FLAG_DISABLE,
    });
    expect(code(applyChannelUpdate(graph, disabled.message, disabled.raw, NOW))).toBe('ok');
    expect(forgetSpent(graph, 710_070)).toEqual([]);
    markUnspent(graph, shortChannelId);
    expect(forgetSpent(graph, 720_000)).toEqual([]);
    markSpent(graph, shortChannelId, 710_000);
    expect(forgetSpent(graph, 710_071)).toEqual([{ shortChannelId, nodeIds: keys.map(idOf) }]);
    expect(graph.nodeCount).toBe(0);
  });
});

describe('pruning', () => {
  test('a channel goes when either direction is older than two weeks', () => {
    const { graph, shortChannelId, keys } = withChannel();
    for (const [key, channelFlags, timestamp] of [
      [keys[0], 0, NOW],
      [keys[1], 1, NOW - 100],
    ] as const) {
      const update = syntheticUpdate(secp, key, { shortChannelId, timestamp, channelFlags });
      applyChannelUpdate(graph, update.message, update.raw, NOW);
    }
    expect(pruneStale(graph, NOW - 100 + STALE_AFTER_SECONDS)).toEqual([]);
    expect(pruneStale(graph, NOW - 99 + STALE_AFTER_SECONDS)).toEqual([
      { shortChannelId, nodeIds: keys.map(idOf) },
    ]);
  });

  test('a direction that never spoke counts from when the channel was learnt', () => {
    const { graph, shortChannelId, keys } = withChannel();
    expect(pruneStale(graph, NOW + STALE_AFTER_SECONDS)).toEqual([]);
    expect(pruneStale(graph, NOW + STALE_AFTER_SECONDS + 1)).toEqual([
      { shortChannelId, nodeIds: keys.map(idOf) },
    ]);
  });
});

describe('node_announcement', () => {
  test('only for nodes with channels, newer wins, two DNS names are not relayed, cut addresses are punished', () => {
    const { graph } = withChannel();
    const stranger = syntheticNode(secp, 9, NOW);
    expect(code(applyNodeAnnouncement(graph, stranger.message, stranger.raw, NOW))).toBe('unknown_node');
    const first = syntheticNode(secp, 1, NOW);
    expect(applyNodeAnnouncement(graph, first.message, first.raw, NOW)).toEqual({
      ok: true,
      value: { relay: true },
    });
    expect(code(applyNodeAnnouncement(graph, first.message, first.raw, NOW))).toBe('duplicate');
    const older = syntheticNode(secp, 1, NOW - 1);
    expect(code(applyNodeAnnouncement(graph, older.message, older.raw, NOW))).toBe('stale');
    const dns = [5, 1, 0x61, 0x26, 0x07];
    const twice = syntheticNode(secp, 1, NOW + 1, Uint8Array.from([...dns, ...dns]));
    expect(applyNodeAnnouncement(graph, twice.message, twice.raw, NOW)).toEqual({
      ok: true,
      value: { relay: false },
    });
    const cut = syntheticNode(secp, 1, NOW + 2, Uint8Array.of(1, 127, 0, 0));
    expect(applyNodeAnnouncement(graph, cut.message, cut.raw, NOW)).toEqual({
      ok: false,
      error: { code: 'malformed_addresses', action: 'warn' },
    });
  });
});

describe('queries', () => {
  const graph = syntheticGraph(300, 9_000, 5, NOW);

  test('a range is ascending and bounded by its blocks', () => {
    const found = channelRange(graph, BigInt(500_010) << 40n, 500_015, 10_000);
    expect(found.length).toBeGreaterThan(30);
    expect(found).toEqual([...found].sort((a, b) => (a < b ? -1 : 1)));
    for (const scid of found)
      expect(scids.parts(scid).blockHeight).toSatisfy(
        (height: number) => height >= 500_010 && height < 500_015,
      );
    expect(channelRange(graph, 0n, 0xffff_ffff, 10_000).length).toBe(graph.channelCount);
    expect(channelRange(graph, 0n, 0xffff_ffff, 7)).toEqual([...graph.sortedScids().subarray(0, 7)]);
    expect(channelRange(graph, 0xffff_ffffn << 40n, 0xffff_ffff, 7)).toEqual([]);
  });

  test('replies cover the range without a gap, hold every channel once and end with sync_complete', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 499_000, max: 502_000 }),
        fc.nat(3_000),
        fc.bigInt(0n, 3n),
        (first, extra, queryOption) => {
          const query = make('query_channel_range', {
            chainHash: SYNTHETIC_CHAIN_HASH,
            firstBlocknum: first,
            numberOfBlocks: 1 + extra,
            tlvs: { queryOption },
          });
          const replies = [...channelRangeReplies(graph, query)];
          const seen: bigint[] = [];
          let previousEnd = first;
          for (const [index, reply] of replies.entries()) {
            const ids = decodeShortIds(reply.encodedShortIds);
            if (!ids.ok) throw ids.error;
            seen.push(...ids.value);
            expect(reply.firstBlocknum).toBeLessThanOrEqual(previousEnd);
            expect(reply.firstBlocknum).toBeGreaterThanOrEqual(
              index === 0 ? first : (replies[index - 1]?.firstBlocknum ?? 0),
            );
            previousEnd = reply.firstBlocknum + reply.numberOfBlocks;
            expect(reply.syncComplete).toBe(index === replies.length - 1 ? 1 : 0);
            if (queryOption & 2n) expect(reply.tlvs.checksums?.length).toBe(ids.value.length);
          }
          expect(previousEnd).toBe(first + 1 + extra);
          expect(seen).toEqual(channelRange(graph, BigInt(first) << 40n, first + 1 + extra, 10_000));
        },
      ),
      { numRuns: 20 },
    );
  });

  test('replies are whole when channels come and go between them', () => {
    const changing = syntheticGraph(50, 20_000, 1, NOW);
    const before = [...changing.sortedScids()];
    const query = make('query_channel_range', {
      chainHash: SYNTHETIC_CHAIN_HASH,
      firstBlocknum: 0,
      numberOfBlocks: 0xffff_ffff,
    });
    const seen: bigint[] = [];
    let end = 0;
    for (const reply of channelRangeReplies(changing, query)) {
      const ids = decodeShortIds(reply.encodedShortIds);
      if (!ids.ok) throw ids.error;
      seen.push(...ids.value);
      expect(reply.firstBlocknum).toBeLessThanOrEqual(end);
      end = reply.firstBlocknum + reply.numberOfBlocks;
      expect(reply.syncComplete).toBe(end === 0xffff_ffff ? 1 : 0);
      // The next reply would begin with these.
      const gone = before.slice(seen.length, seen.length + 3);
      for (const scid of gone) changing.removeChannel(changing.channelIndex(scid) ?? -1);
      before.splice(seen.length, gone.length);
    }
    expect(end).toBe(0xffff_ffff);
    expect(seen).toEqual(before);
  });

  test('another chain gets one empty reply', () => {
    const query = make('query_channel_range', {
      chainHash: new Uint8Array(32),
      firstBlocknum: 0,
      numberOfBlocks: 9,
    });
    const replies = [...channelRangeReplies(graph, query)];
    expect(replies.length).toBe(1);
    expect(replies[0]).toMatchObject({ syncComplete: 1, numberOfBlocks: 9 });
  });

  test('query flags choose messages; a node comes once', () => {
    const { graph: small, shortChannelId, keys, announcement } = withChannel();
    const update = syntheticUpdate(secp, keys[0], { shortChannelId, timestamp: NOW });
    applyChannelUpdate(small, update.message, update.raw, NOW);
    const node = syntheticNode(secp, 1, NOW);
    applyNodeAnnouncement(small, node.message, node.raw, NOW);
    expect([...messagesForScids(small, [shortChannelId, shortChannelId, 5n], undefined)]).toEqual([
      announcement.raw,
      update.raw,
      node.raw,
      announcement.raw,
      update.raw,
    ]);
    expect([...messagesForScids(small, [shortChannelId], [2n])]).toEqual([update.raw]);
    expect(timestampsOf(small, shortChannelId)).toEqual({ timestampNodeId1: NOW, timestampNodeId2: 0 });
    expect(checksumsOf(small, 5n)).toEqual({ checksumNodeId1: 0, checksumNodeId2: 0 });
  });

  test('a backlog gives every message once, announcements first, in batches', () => {
    const filter = { firstTimestamp: NOW - 1, timestampRange: 1 };
    let cursor: Parameters<typeof backlogBatch>[2] | undefined = BACKLOG_START;
    let messages = 0;
    while (cursor !== undefined) {
      const batch: ReturnType<typeof backlogBatch> = backlogBatch(graph, filter, cursor, 1_000);
      expect(batch.messages.length).toBeLessThanOrEqual(1_002);
      messages += batch.messages.length;
      cursor = batch.next;
    }
    expect(messages).toBe(3 * graph.channelCount);
    expect(
      backlogBatch(graph, { firstTimestamp: NOW, timestampRange: 10 }, BACKLOG_START, 10).messages,
    ).toEqual([]);
  });
});

describe('snapshot', () => {
  test('decodes to the same graph, and never throws on damage', () => {
    const graph = syntheticGraph(30, 60, 1, NOW);
    const bytes = encodeSnapshot(graph);
    const decoded = decodeSnapshot(bytes, SYNTHETIC_CHAIN_HASH);
    if (!decoded.ok) return expect.unreachable(decoded.error);
    expect(decoded.value.channelCount).toBe(graph.channelCount);
    expect(encodeSnapshot(decoded.value)).toEqual(bytes);
    expect(decodeSnapshot(bytes, new Uint8Array(32))).toEqual({ ok: false, error: 'wrong_chain' });
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), (at, byte, cut) => {
        const damaged = cut ? bytes.slice(0, at) : Uint8Array.from(bytes);
        if (!cut) damaged[at] = byte;
        const result = decodeSnapshot(damaged, SYNTHETIC_CHAIN_HASH);
        if (cut) expect(result.ok).toBe(false);
      }),
      { numRuns: 200 },
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        (noise) => !decodeSnapshot(noise, SYNTHETIC_CHAIN_HASH).ok,
      ),
    );
  });
});

test('any sequence of additions and removals keeps the lists whole', () => {
  const operation = fc.record({ scid: fc.bigInt(0n, 30n), a: fc.nat(9), b: fc.nat(9), remove: fc.boolean() });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
      const graph = new NetworkGraph(SYNTHETIC_CHAIN_HASH);
      const model = new Map<bigint, readonly [number, number]>();
      const id = (n: number): Uint8Array => new Uint8Array(33).fill(n + 1);
      for (const { scid, a, b, remove } of operations) {
        const channel = graph.channelIndex(scid);
        if (remove && channel !== undefined) {
          graph.removeChannel(channel);
          model.delete(scid);
        } else if (!remove && channel === undefined && a !== b) {
          graph.addChannel(scid, id(a), id(b));
          model.set(scid, [a, b]);
        }
      }
      expect([...graph.sortedScids()]).toEqual([...model.keys()].sort((x, y) => (x < y ? -1 : 1)));
      for (let n = 0; n < 10; n++) {
        const expected = [...model].filter(([, ends]) => ends.includes(n)).map(([scid]) => scid);
        const node = graph.nodeIndex(id(n));
        const edges = node === undefined ? [] : [...graph.edgesFrom(node)];
        expect(edges.map((edge) => graph.channelScid[edge >> 1] ?? 0n).toSorted(ascending)).toEqual(
          expected.toSorted(ascending),
        );
      }
    }),
    { numRuns: 60 },
  );
});
