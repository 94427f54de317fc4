/** One suite for every store: what the port promises. */
import { describe, expect, test } from 'vitest';
import type { GraphChanges, RouterStore } from './router-store.ts';
import { REMOVALS_KEPT } from './router-store.ts';

const NOTHING: GraphChanges = {
  channels: [],
  updates: [],
  nodes: [],
  removedChannels: [],
  removedNodes: [],
  bannedNodes: [],
};
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const channel = (shortChannelId: bigint, spentHeight = 0) => ({
  shortChannelId,
  capacitySat: 1_000n,
  receivedAtSeconds: 7,
  spentHeight,
  announcement: bytes(1, Number(shortChannelId & 0xffn)),
});

/** Runs the suite; `open` gives two handles on one fresh store. */
export function routerStoreCompliance(
  name: string,
  open: () => Promise<readonly [RouterStore, RouterStore]>,
): void {
  describe(name, () => {
    test('one writer: a lease is renewed by its owner, refused to others, and fences the one before', async () => {
      const [a, b] = await open();
      const first = await a.acquireLease('a', 'host:1', 60_000);
      if (first.kind !== 'held') throw new TypeError('not held');
      expect(await a.acquireLease('a', 'host:1', 60_000)).toEqual(first);
      expect(await b.acquireLease('b', 'host:2', 60_000)).toEqual({
        kind: 'taken',
        owner: 'a',
        address: 'host:1',
      });
      expect(await a.write(first.epoch, NOTHING)).toMatchObject({ kind: 'written' });
      await a.releaseLease('a');
      expect(await a.write(first.epoch, NOTHING)).toEqual({ kind: 'fenced' });
      const second = await b.acquireLease('b', 'host:2', 60_000);
      if (second.kind !== 'held') throw new TypeError('not held');
      expect(second.epoch).toBeGreaterThan(first.epoch);
      expect(await a.write(first.epoch, { ...NOTHING, channels: [channel(1n)] })).toEqual({ kind: 'fenced' });
      expect(await a.saveScores(first.epoch, bytes(1))).toBe('fenced');
      expect((await b.loadChannels(0n, 10)).channels).toEqual([]);
    });

    test('an expired lease is free', async () => {
      const [a, b] = await open();
      const first = await a.acquireLease('a', 'host:1', 0);
      const second = await b.acquireLease('b', 'host:2', 60_000);
      if (first.kind !== 'held' || second.kind !== 'held') throw new TypeError('not held');
      expect(second.epoch).toBeGreaterThan(first.epoch);
    });

    test('what is written is loaded, in pages, as it is now', async () => {
      const [a, b] = await open();
      const lease = await a.acquireLease('a', '', 60_000);
      if (lease.kind !== 'held') throw new TypeError('not held');
      await a.write(lease.epoch, {
        channels: [channel(3n), channel(1n), channel(2n)],
        updates: [
          { shortChannelId: 1n, direction: 0, raw: bytes(10) },
          { shortChannelId: 1n, direction: 1, raw: bytes(11) },
          { shortChannelId: 9n, direction: 1, raw: bytes(99) },
        ],
        nodes: [3, 1, 2].map((id) => ({ nodeId: bytes(id), raw: bytes(10 * id) })),
        removedChannels: [],
        removedNodes: [],
        bannedNodes: [bytes(6)],
        ownNodeId: bytes(7),
      });
      await a.write(lease.epoch, {
        ...NOTHING,
        channels: [channel(2n, 800)],
        updates: [{ shortChannelId: 1n, direction: 0, raw: bytes(12) }],
        removedChannels: [3n],
        nodes: [{ nodeId: bytes(3), raw: bytes(31) }],
        removedNodes: [bytes(2), bytes(9)],
      });
      const start = await b.startLoad();
      expect(start).toEqual({ revision: 2n, ownNodeId: bytes(7), bannedNodes: [bytes(6)] });
      const page = await b.loadChannels(0n, 1);
      expect(page).toEqual({
        channels: [
          {
            capacitySat: 1_000n,
            receivedAtSeconds: 7,
            spentHeight: 0,
            announcement: bytes(1, 1),
            updates: [bytes(12), bytes(11)],
          },
        ],
        next: 2n,
      });
      const rest = await b.loadChannels(2n, 10);
      expect(rest.next).toBeUndefined();
      expect(rest.channels).toMatchObject([{ spentHeight: 800, updates: [undefined, undefined] }]);
      expect(await b.loadNodes(bytes(), 1)).toEqual({ nodes: [bytes(10)], next: bytes(3) });
      expect(await b.loadNodes(bytes(3), 1)).toEqual({ nodes: [bytes(31)], next: undefined });
    });

    test('a reader follows by revision, and learns when it cannot', async () => {
      const [a, b] = await open();
      const lease = await a.acquireLease('a', '', 60_000);
      if (lease.kind !== 'held') throw new TypeError('not held');
      await a.write(lease.epoch, { ...NOTHING, channels: [channel(1n), channel(2n)] });
      const { revision } = await b.startLoad();
      expect(await b.changesSince(revision)).toMatchObject({
        kind: 'changes',
        channels: [],
        removedChannels: [],
      });
      await a.write(lease.epoch, {
        ...NOTHING,
        updates: [{ shortChannelId: 1n, direction: 1, raw: bytes(4) }],
        nodes: [{ nodeId: bytes(5), raw: bytes(50) }],
        removedChannels: [2n],
        bannedNodes: [bytes(6)],
      });
      expect(await b.changesSince(revision)).toMatchObject({
        kind: 'changes',
        revision: 2n,
        channels: [{ announcement: bytes(1, 1), updates: [undefined, bytes(4)] }],
        nodes: [bytes(50)],
        removedChannels: [2n],
        bannedNodes: [bytes(6)],
      });
      const removedChannels = Array.from({ length: REMOVALS_KEPT + 1 }, (_, index) => BigInt(1_000 + index));
      await a.write(lease.epoch, { ...NOTHING, removedChannels: removedChannels.slice(0, 10) });
      await a.write(lease.epoch, { ...NOTHING, removedChannels: removedChannels.slice(10) });
      expect(await b.changesSince(revision)).toEqual({ kind: 'too_old' });
    });

    test('scores are replaced', async () => {
      const [a, b] = await open();
      const lease = await a.acquireLease('a', '', 60_000);
      if (lease.kind !== 'held') throw new TypeError('not held');
      expect(await b.loadScores()).toBeUndefined();
      await a.saveScores(lease.epoch, bytes(1, 2));
      await a.saveScores(lease.epoch, bytes(3));
      expect(await b.loadScores()).toEqual(bytes(3));
    });
  });
}
