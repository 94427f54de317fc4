/** Leases, shards, connections: who may write. */
import { toHex } from '@fulmen/codec';
import { describe, expect, test } from 'vitest';
import type { ConnectionOutcome, Fence, ManagerStore, PeerConnection } from '../manager-store.ts';
import {
  bytes,
  channelIdOf,
  type ManagerDatabaseUnderTest,
  owner,
  payment,
  step,
  types,
} from './fixtures.ts';

function connection(gatewayId: string, connectionId: bigint): PeerConnection {
  return { gatewayId, connectionId, features: bytes(3, 1) };
}

async function generationOf(accepting: Promise<ConnectionOutcome>): Promise<bigint> {
  const outcome = await accepting;
  if (outcome.type !== 'accepted') throw new TypeError(`the connection is not accepted: ${outcome.type}`);
  return outcome.generation;
}

export function ownershipCompliance(
  database: () => ManagerDatabaseUnderTest,
  a: () => ManagerStore,
  b: () => ManagerStore,
): void {
  describe('ownership', () => {
    test('a shard is held while its owner lives, and taken with a new epoch when the database says its lease ended', async () => {
      expect(await a().heartbeat('own-a', 1n, 'a:1', 60_000)).toBe(true);
      expect(await b().heartbeat('own-b', 1n, 'b:1', 60_000)).toBe(true);
      expect(await a().acquireShard(10, 'own-a')).toEqual({ type: 'acquired', epoch: 1n });
      expect(await b().acquireShard(10, 'own-b')).toEqual({ type: 'held', replicaId: 'own-a' });
      expect((await b().listShards()).find(({ shard }) => shard === 10)).toEqual({
        shard: 10,
        epoch: 1n,
        replicaId: 'own-a',
        address: 'a:1',
      });
      await database().expireLease('own-a');
      expect((await b().listReplicas()).map(({ replicaId }) => replicaId)).not.toContain('own-a');
      expect(await b().acquireShard(10, 'own-b')).toEqual({ type: 'acquired', epoch: 2n });
      // The old owner's lease comes back, its epoch does not.
      expect(await a().heartbeat('own-a', 1n, 'a:1', 60_000)).toBe(true);
      expect(await a().acquireShard(10, 'own-a')).toEqual({ type: 'held', replicaId: 'own-b' });
      expect(
        types(await a().commitSteps([step({ shard: 10, epoch: 1n, replicaId: 'own-a' }, 100, 0n)])),
      ).toEqual(['fence_lost']);
    });

    test('a later incarnation takes the id, and its shards with a new epoch; an earlier one is told', async () => {
      expect(await a().heartbeat('own-c', 5n, 'c:1', 60_000)).toBe(true);
      expect(await a().acquireShard(11, 'own-c')).toEqual({ type: 'acquired', epoch: 1n });
      expect(await b().heartbeat('own-c', 6n, 'c:2', 60_000)).toBe(true);
      expect(await a().heartbeat('own-c', 5n, 'c:1', 60_000)).toBe(false);
      expect(await b().acquireShard(11, 'own-c')).toEqual({ type: 'acquired', epoch: 2n });
      expect((await b().listReplicas()).find(({ replicaId }) => replicaId === 'own-c')?.address).toBe('c:2');
    });

    test('an incarnation that a wrong clock made is no hindrance once its lease is over', async () => {
      expect(await a().heartbeat('own-h', 900n, 'h:1', 60_000)).toBe(true);
      expect(await a().acquireShard(15, 'own-h')).toEqual({ type: 'acquired', epoch: 1n });
      expect(await b().heartbeat('own-h', 5n, 'h:2', 60_000)).toBe(false);
      await database().expireLease('own-h');
      expect(await b().heartbeat('own-h', 5n, 'h:2', 60_000)).toBe(true);
      expect(await b().acquireShard(15, 'own-h')).toEqual({ type: 'acquired', epoch: 2n });
      expect((await b().listReplicas()).find(({ replicaId }) => replicaId === 'own-h')?.address).toBe('h:2');
    });

    test('a replica that ends its lease is gone at once, with whatever it still owned; another incarnation is not', async () => {
      const listed = async (): Promise<boolean> =>
        (await b().listReplicas()).some(({ replicaId }) => replicaId === 'own-i');
      expect(await a().heartbeat('own-i', 5n, 'i:1', 60_000)).toBe(true);
      expect(await a().acquireShard(16, 'own-i')).toEqual({ type: 'acquired', epoch: 1n });
      await a().endLease('own-i', 4n);
      await a().endLease('own-i', 6n);
      expect(await listed()).toBe(true);
      await a().endLease('own-i', 5n);
      expect(await listed()).toBe(false);
      await b().heartbeat('own-j', 1n, 'j:1', 60_000);
      expect(await b().acquireShard(16, 'own-j')).toEqual({ type: 'acquired', epoch: 2n });
      // What is over stays over, and the id is free.
      await a().endLease('own-i', 5n);
      expect(await a().heartbeat('own-i', 1n, 'i:2', 60_000)).toBe(true);
      expect(await listed()).toBe(true);
    });

    test('a released shard is free at once, and its old fence is lost for everything', async () => {
      const fence = await owner(a(), 'own-d', 12);
      await a().releaseShard({ ...fence, epoch: 99n });
      expect((await a().loadShard(fence)).type).toBe('loaded');
      await a().releaseShard(fence);
      expect((await a().loadShard(fence)).type).toBe('fence_lost');
      const taken = await owner(b(), 'own-e', 12);
      expect(taken.epoch).toBe(fence.epoch + 1n);
      expect(types(await a().commitSteps([step(fence, 120, 0n), payment(fence, 121, 0n)]))).toEqual([
        'fence_lost',
        'fence_lost',
      ]);
      expect(await a().acceptConnection(fence, bytes(33, 1), connection('gateway', 1n))).toEqual({
        type: 'fence_lost',
      });
      const policy = {
        feeBaseMsat: 1,
        feeProportionalMillionths: 2,
        cltvExpiryDelta: 40,
        htlcMinimumMsat: 1n,
        htlcMaximumMsat: 2n,
        updatedUnixMs: 3,
      };
      expect(await a().setPolicy(fence, channelIdOf(120), policy)).toBe('fence_lost');
      expect(await a().getPolicy(channelIdOf(120))).toBeUndefined();
      expect(await b().setPolicy(taken, channelIdOf(120), policy)).toBe('ok');
      const changed = {
        ...policy,
        feeBaseMsat: 9,
        previous: { feeBaseMsat: 1, feeProportionalMillionths: 2, cltvExpiryDelta: 40 },
      };
      expect(await b().setPolicy(taken, channelIdOf(120), changed)).toBe('ok');
      expect(await b().getPolicy(channelIdOf(120))).toEqual(changed);
    });

    test('hints are of unannounced channels that can receive as much, with the newest terms', async () => {
      const fence = await owner(a(), 'own-f', 13);
      const over = { phase: 'open', announce: false, inboundCapacityMsat: 900_000_000n } as const;
      const units = [
        step(fence, 130, 0n, { row: over }),
        step(fence, 131, 0n, { row: { ...over, inboundCapacityMsat: 950_000_000n } }),
        step(fence, 132, 0n, { row: { ...over, announce: true } }),
        step(fence, 133, 0n, { row: over }),
        step(fence, 134, 0n, { row: { ...over, phase: 'shutting_down' } }),
      ];
      expect(types(await a().commitSteps(units))).toEqual(units.map(() => 'committed'));
      const terms = { feeBaseMsat: 1, feeProportionalMillionths: 2, cltvExpiryDelta: 40 };
      const policy = {
        ...terms,
        shortChannelId: 2n ** 63n + 5n,
        state: 'enabled',
        timestampUnixSeconds: 100,
      } as const;
      const hint = (number: number, over_: Partial<typeof policy> | { feeBaseMsat: number } = {}) => ({
        ...terms,
        shortChannelId: policy.shortChannelId,
        ...over_,
        counterpartyNodeId: bytes(33, number),
      });
      for (const number of [130, 131, 132, 134])
        await a().setCounterpartyPolicy(fence, channelIdOf(number), policy);
      const least = 800_000_000n;
      expect(await b().listRouteHints(least, 'needed', 10)).toEqual([]);
      expect(await b().listRouteHints(least, 'always', 10)).toEqual([hint(131), hint(130)]);
      expect(await b().listRouteHints(920_000_000n, 'needed', 10)).toEqual([hint(131)]);
      expect(await b().listRouteHints(least, 'always', 1)).toEqual([hint(131)]);
      await a().setCounterpartyPolicy(fence, channelIdOf(131), {
        ...policy,
        feeBaseMsat: 7,
        timestampUnixSeconds: 99,
      });
      await a().setCounterpartyPolicy({ ...fence, epoch: 99n }, channelIdOf(131), {
        ...policy,
        feeBaseMsat: 8,
      });
      expect(await b().listRouteHints(920_000_000n, 'always', 10)).toEqual([hint(131)]);
      await a().setCounterpartyPolicy(fence, channelIdOf(131), {
        ...policy,
        feeBaseMsat: 9,
        timestampUnixSeconds: 101,
      });
      expect(await b().listRouteHints(920_000_000n, 'always', 10)).toEqual([hint(131, { feeBaseMsat: 9 })]);
      await a().setCounterpartyPolicy(fence, channelIdOf(131), {
        ...policy,
        state: 'disabled',
        timestampUnixSeconds: 102,
      });
      expect(await b().listRouteHints(920_000_000n, 'always', 10)).toEqual([]);
    });

    test('of many who race for a shard one gets each epoch', async () => {
      for (let round = 0; round < 5; round += 1) {
        const shard = 20 + round;
        const names = ['r1', 'r2', 'r3', 'r4'];
        await Promise.all(names.map((name) => a().heartbeat(name, 1n, name, 60_000)));
        const outcomes = await Promise.all(
          names.map((name, index) => (index % 2 === 0 ? a() : b()).acquireShard(shard, name)),
        );
        expect(outcomes.filter(({ type }) => type === 'acquired')).toEqual([{ type: 'acquired', epoch: 1n }]);
      }
    });

    test('a takeover races with commits: whatever the old owner committed, the new one loads; nothing after', async () => {
      for (let round = 0; round < 5; round += 1) {
        const shard = 30 + round;
        const number = 300 + round;
        const fence = await owner(a(), `old-${round}`, shard);
        await b().heartbeat('new', 1n, 'new:1', 60_000);
        expect(types(await a().commitSteps([step(fence, number, 0n)]))).toEqual(['committed']);
        const commits = (async () => {
          let version = 1n;
          while (types(await a().commitSteps([step(fence, number, version)]))[0] === 'committed')
            version += 1n;
          return version;
        })();
        await database().expireLease(`old-${round}`);
        const outcome = await b().acquireShard(shard, 'new');
        expect(outcome.type).toBe('acquired');
        const epoch = outcome.type === 'acquired' ? outcome.epoch : 0n;
        const loaded = await b().loadShard({ shard, epoch, replicaId: 'new' });
        const version = await commits;
        expect(loaded.type === 'loaded' && loaded.channels.map((channel) => channel.version)).toEqual([
          version,
        ]);
      }
    });

    test('the newest connection of a peer wins everywhere', async () => {
      const fence = await owner(a(), 'own-f', 13);
      const peer = bytes(33, 77);
      const replaced = await generationOf(a().acceptConnection(fence, peer, connection('g1', 1n)));
      const first = replaced + 1n;
      // Whoever accepts it again counts its frames anew: by a generation of its own, which the late end of the one
      // before does not touch.
      expect(await a().acceptConnection(fence, peer, connection('g1', 1n))).toEqual({
        type: 'accepted',
        generation: first,
        previousGatewayId: 'g1',
      });
      await a().dropConnection(fence, peer, replaced);
      expect(await a().acceptConnection(fence, peer, connection('g2', 1n))).toEqual({
        type: 'accepted',
        generation: first + 1n,
        previousGatewayId: 'g1',
      });
      await a().dropConnection(fence, peer, first);
      await a().upsertPeerAddress(peer, 'host', 9_735, 'wanted');
      const presence = async () =>
        (await b().listPeers()).find(
          ({ peerNodeId }) => peerNodeId[32] === peer[32] && peerNodeId[0] === peer[0],
        );
      expect(await presence()).toEqual({
        peerNodeId: peer,
        host: 'host',
        port: 9_735,
        wanted: true,
        connected: { gatewayId: 'g2', generation: first + 1n, features: bytes(3, 1) },
        channels: 0,
        zeroConf: 'refused',
      });
      await a().dropConnection(fence, peer, first + 1n);
      expect(await presence()).toEqual({
        peerNodeId: peer,
        host: 'host',
        port: 9_735,
        wanted: true,
        channels: 0,
        zeroConf: 'refused',
      });
      expect(await a().acceptConnection(fence, peer, connection('g1', 2n))).toEqual({
        type: 'accepted',
        generation: first + 2n,
        previousGatewayId: undefined,
      });
      const raced = await Promise.all(
        [1n, 2n, 3n, 4n].map((id) =>
          (id % 2n === 0n ? a() : b()).acceptConnection(fence, peer, connection('g3', id + 10n)),
        ),
      );
      const generations = raced
        .map((outcome) => (outcome.type === 'accepted' ? outcome.generation : 0n))
        .toSorted((x, y) => Number(x - y));
      expect(generations).toEqual([3n, 4n, 5n, 6n].map((later) => first + later));
      const other: Fence = await owner(b(), 'own-g', 14);
      expect(await b().acceptConnection({ ...other, shard: 13 }, peer, connection('g9', 1n))).toEqual({
        type: 'fence_lost',
      });
    });

    test('a peer that has nothing here leaves nothing behind, and comes back in a newer generation', async () => {
      const fence = await owner(a(), 'own-h', 15);
      const pruned = async () => {
        let total = 0;
        for (let removed = -1; removed !== 0; total += removed) removed = await b().prune(1, 0, 3_600_000);
        return total;
      };
      const stranger = bytes(33, 0xa1);
      const next = bytes(33, 0xa2);
      const known = bytes(33, 0xa3);
      const partner = bytes(33, 0xa4);
      const visit = async (peer: Uint8Array, id: bigint) => {
        const generation = await generationOf(a().acceptConnection(fence, peer, connection('g1', id)));
        await a().dropConnection(fence, peer, generation);
        return generation;
      };
      await a().upsertPeerAddress(known, 'host', 9_735, 'not_wanted');
      const row = { counterpartyNodeId: partner };
      expect(types(await a().commitSteps([step(fence, 150, 0n, { row })]))).toEqual(['committed']);
      await pruned();
      const first = await visit(stranger, 1n);
      await visit(known, 2n);
      await visit(partner, 3n);
      const present = await generationOf(a().acceptConnection(fence, next, connection('g1', 4n)));
      expect(await pruned()).toBe(1);
      expect(await visit(stranger, 5n)).toBeGreaterThan(present);
      expect(present).toBeGreaterThan(first);
      await a().dropConnection(fence, next, present);
      // One at a time, as asked for: the two strangers.
      expect(await b().prune(1, 0, 3_600_000)).toBe(1);
      expect(await pruned()).toBe(1);
      // The partner's last channel is closed.
      const closed = { ...row, phase: 'closed' as const };
      expect(types(await a().commitSteps([step(fence, 150, 1n, { row: closed })]))).toEqual(['committed']);
      expect(await pruned()).toBe(1);
    });

    test('a stranger whose connection ended with the shard’s owner leaves nothing behind', async () => {
      const before = await owner(a(), 'own-k', 17);
      const strangers = [bytes(33, 0xb1), bytes(33, 0xb2)];
      const [gone, back] = strangers;
      if (gone === undefined || back === undefined) throw new TypeError('no strangers');
      for (const peer of strangers) await a().acceptConnection(before, peer, connection('g1', 1n));
      const pruned = async (): Promise<number> => {
        let total = 0;
        for (let removed = -1; removed !== 0; total += removed) removed = await b().prune(10, 0, 3_600_000);
        return total;
      };
      await pruned();
      const connected = async () =>
        (await b().listPeers())
          .filter(({ connected: now }) => now !== undefined)
          .map(({ peerNodeId }) => toHex(peerNodeId))
          .filter((key) => strangers.some((peer) => toHex(peer) === key));
      expect(await connected()).toEqual(strangers.map(toHex));
      await a().releaseShard(before);
      // Nobody says that they are away: whoever knew of them is gone.
      const after = await owner(b(), 'own-l', 17);
      await b().acceptConnection(after, back, connection('g1', 1n));
      expect(await pruned()).toBe(1);
      expect(await connected()).toEqual([toHex(back)]);
    });

    test('a peer is trusted without confirmations once the operator says so, and until it says otherwise', async () => {
      const peer = bytes(33, 0x5a);
      const listed = async () =>
        (await b().listPeers()).find(({ peerNodeId }) => Buffer.compare(peerNodeId, peer) === 0);
      expect(await b().zeroConfTrust(peer)).toBe('refused');
      expect(await listed()).toBeUndefined();
      await a().setZeroConfTrust(peer, 'trusted');
      await b().setZeroConfTrust(peer, 'trusted');
      expect(await b().zeroConfTrust(peer)).toBe('trusted');
      expect(await listed()).toEqual({ peerNodeId: peer, wanted: false, channels: 0, zeroConf: 'trusted' });
      await b().setZeroConfTrust(peer, 'refused');
      expect(await a().zeroConfTrust(peer)).toBe('refused');
      expect(await listed()).toBeUndefined();
    });

    test('the first value of a key is kept, whoever races', async () => {
      const values = await Promise.all(
        [1, 2, 3, 4].map((n) => (n % 2 === 0 ? a() : b()).idempotent('key', bytes(4, n))),
      );
      expect(new Set(values.map((value) => value.join()))).toHaveProperty('size', 1);
      expect(await a().idempotent('key', bytes(4, 99))).toEqual(values[0]);
      expect(await a().idempotent('other', bytes(4, 99))).toEqual(bytes(4, 99));
    });
  });
}
