import { MemoryBusHub } from '@fulmen/bus';
import { concatBytes } from '@fulmen/codec';
import { type ArchiveChunk, encodeMonitor, encodeMonitorParameters, splitMonitor } from '@fulmen/monitor';
import { TowerAdminServiceService, TowerFeedServiceService } from '@fulmen/proto/tower/v1/tower';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { MemoryNetwork, RpcError } from '@fulmen/rpc';
import { Metrics, nodeRuntime, silentLogger } from '@fulmen/service';
import type { TowerFeedStore, TowerPage, TowerReport } from '@fulmen/store/tower/tower-store';
import { longChannel } from '@fulmen/settlement/testing/scale';
import { afterEach, expect, test } from 'vitest';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';
import { serveTowers } from './serve.ts';

const CHANNEL = TEST_PARAMETERS.channelId;
const OTHER = new Uint8Array(32).fill(0xd1);
const TOWER_KEY = secp.publicKeyOf(new Uint8Array(32).fill(0x44));
const SEALED = new Uint8Array(82).fill(5);
const EMPTY: TowerPage = { updates: [], preimages: [], monitorsDue: [] };

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** A node with one registered tower, `home`, whose queue is `page`. */
async function startFeed() {
  const state = {
    page: EMPTY,
    sealedKey: undefined as Uint8Array | undefined,
    snapshot: new Uint8Array(0),
    chunks: [] as readonly ArchiveChunk[],
    signer: 'trusts' as 'trusts' | 'refuses' | 'is away',
    reports: [] as TowerReport[],
    pulls: 0,
    mark: 0n,
    deferred: [] as readonly Uint8Array[],
  };
  const store: TowerFeedStore = {
    addTower: async ({ towerId }) => (towerId === 'taken' ? 'exists' : 'added'),
    removeTower: async (towerId) => (towerId === 'home' ? 'removed' : 'unknown'),
    tower: async (towerId) => (towerId === 'home' ? { towerId, publicKey: TOWER_KEY } : undefined),
    listTowers: async () => [],
    pull: async (_tower, _limit, deferred = []) => {
      state.pulls += 1;
      state.deferred = deferred;
      return state.page;
    },
    seen: async (_tower, mark) => {
      if (mark > state.mark) state.mark = mark;
      return state.mark;
    },
    setBack: async (_tower, lostMark) => {
      if (lostMark < state.mark) return undefined;
      state.mark = lostMark + 1n;
      return { mark: state.mark, channels: 1 };
    },
    origins: async (_tower, channelIds) =>
      channelIds.map((channelId) => ({
        channelId,
        parameters: encodeMonitorParameters(TEST_PARAMETERS),
        sealedKey: state.sealedKey,
      })),
    putSealedKey: async (_tower, _channel, key) => void (state.sealedKey = key),
    monitor: async () =>
      state.snapshot.length === 0 ? undefined : { updateId: 9n, snapshot: state.snapshot },
    measureChunks: async (_channel, kind, count) => {
      const chunks = state.chunks.filter((chunk) => chunk.kind === kind && chunk.number < count);
      return { found: chunks.length, bytes: BigInt(concatBytes(...chunks.map(({ bytes }) => bytes)).length) };
    },
    readChunks: async (_channel, kind, { from, until }) =>
      state.chunks
        .filter((chunk) => chunk.kind === kind && chunk.number >= from && chunk.number < until)
        .map(({ bytes }) => bytes),
    acknowledge: async (_tower, report) => {
      state.reports.push(report);
      return report.faults;
    },
    durableThrough: async () => [],
    tidy: async () => ({ cut: 0, due: 0 }),
    close: async () => undefined,
  };
  const network = new MemoryNetwork();
  const hub = new MemoryBusHub();
  const hints: string[] = [];
  const bus = hub.connect('manager');
  bus.subscribe('fulmen.tower.ack', (subject) => void hints.push(subject));
  const server = network.server('node');
  const stop = await serveTowers(
    {
      store,
      feedServer: network.server('feed'),
      required: 1,
      maximumUpdates: 100,
      signer: {
        sealJusticeKey: ({ channelKeysId, towerPublicKey }) => {
          if (state.signer === 'refuses')
            return Promise.reject(new RpcError('permission_denied', 'not on the list'));
          if (state.signer === 'is away') return Promise.reject(new RpcError('unavailable', 'away'));
          expect(Buffer.from(channelKeysId).equals(TEST_PARAMETERS.channelKeysId)).toBe(true);
          expect(Buffer.from(towerPublicKey).equals(TOWER_KEY)).toBe(true);
          return Promise.resolve({ sealedKey: SEALED });
        },
      },
    },
    {
      server,
      bus: hub.connect('node'),
      runtime: nodeRuntime({ onFailure: () => undefined }),
      logger: silentLogger,
      metrics: new Metrics('chain-monitor'),
      secp,
    },
  );
  await server.listen();
  stops.push(stop);
  const clientWith = (...capabilities: string[]) =>
    network.connector('tower', capabilities).client(TowerFeedServiceService, 'feed');
  return {
    state,
    hints,
    bus,
    clientWith,
    feed: clientWith('tower'),
    admin: (...capabilities: string[]) =>
      network.connector('console', capabilities).client(TowerAdminServiceService, 'node'),
  };
}

const update = (channelId: Uint8Array, updateId: bigint, bytes = 3) => ({
  channelId,
  updateId,
  payload: new Uint8Array(bytes).fill(Number(updateId)),
});

test('only registered towers with a tower’s certificate are served', async () => {
  const { feed, clientWith } = await startFeed();
  for (const client of [clientWith('claim', 'wallet', 'console'), clientWith()])
    await expect(
      client.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [], mark: 0n }),
    ).rejects.toMatchObject({
      code: 'permission_denied',
    });
  await expect(
    feed.pull({ towerId: 'stranger', waitMs: 0, deferredMonitors: [], mark: 0n }),
  ).rejects.toMatchObject({
    code: 'permission_denied',
  });
  await expect(
    feed.pull({ towerId: 'x'.repeat(65), waitMs: 0, deferredMonitors: [], mark: 0n }),
  ).rejects.toMatchObject({
    code: 'invalid_argument',
  });
  expect(await feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [], mark: 0n })).toEqual({
    updates: [],
    preimages: [],
    monitors: [],
    mark: 0n,
  });
});

test('a channel is not sent before the signer has sealed the key that punishes', async () => {
  const { state, feed } = await startFeed();
  state.page = { ...EMPTY, updates: [update(CHANNEL, 1n), update(CHANNEL, 2n), update(OTHER, 7n)] };
  for (const signer of ['is away', 'refuses'] as const) {
    state.signer = signer;
    const { updates } = await feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [], mark: 0n });
    expect(updates.map(({ updateId }) => updateId)).toEqual([7n]);
  }
  state.signer = 'trusts';
  const { updates } = await feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [], mark: 0n });
  expect(updates.map(({ updateId }) => updateId)).toEqual([1n, 2n, 7n]);
  expect(updates.map(({ origin }) => origin?.sealedKey.length)).toEqual([
    SEALED.length,
    undefined,
    undefined,
  ]);
  // It is made once.
  state.signer = 'refuses';
  expect(
    (await feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [], mark: 0n })).updates,
  ).toHaveLength(3);
});

test('an answer has a bound of bytes, and a monitor comes in pieces', async () => {
  const { state, feed } = await startFeed();
  state.page = { ...EMPTY, updates: [2n, 3n, 4n].map((id) => update(OTHER, id, 600_000)) };
  expect(
    (await feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [], mark: 0n })).updates,
  ).toHaveLength(1);
  await expect(
    (async () => {
      for await (const _piece of feed.getMonitor({ towerId: 'home', channelId: CHANNEL })) break;
    })(),
  ).rejects.toMatchObject({ code: 'not_found' });
  state.snapshot = new Uint8Array(2_500_000).fill(7);
  const lengths: number[] = [];
  let origins = 0;
  for await (const piece of feed.getMonitor({ towerId: 'home', channelId: CHANNEL })) {
    expect(piece).toMatchObject({ updateId: 9n, totalBytes: 2_500_000n });
    lengths.push(piece.snapshot.length);
    if (piece.origin !== undefined) origins += 1;
  }
  expect(lengths).toEqual([1_048_576, 1_048_576, 402_848]);
  expect(origins).toBe(1);
});

test('a monitor that is stored in chunks comes whole, as towers of every release take it', async () => {
  const { state, feed } = await startFeed();
  const { monitor } = longChannel(2_000);
  const { snapshot, chunks } = splitMonitor(monitor);
  // What was sealed after this snapshot is not part of it.
  const later = chunks.map((chunk) => ({ ...chunk, number: chunk.number + chunks.length }));
  Object.assign(state, { snapshot, chunks: [...chunks, ...later] });
  const pieces: Uint8Array[] = [];
  const read = async (): Promise<void> => {
    for await (const piece of feed.getMonitor({ towerId: 'home', channelId: CHANNEL })) {
      expect(piece.totalBytes).toBe(BigInt(encodeMonitor(monitor).length));
      pieces.push(Uint8Array.from(piece.snapshot));
    }
  };
  await read();
  expect(concatBytes(...pieces)).toEqual(encodeMonitor(monitor));
  state.chunks = chunks.slice(1);
  await expect(read()).rejects.toMatchObject({ code: 'internal' });
});

test('a question waits for news, and a hint ends the wait', async () => {
  const { state, feed, bus } = await startFeed();
  const waiting = feed.pull({ towerId: 'home', waitMs: 30_000, deferredMonitors: [], mark: 0n });
  await expect.poll(() => state.pulls).toBeGreaterThan(0);
  state.page = { ...EMPTY, monitorsDue: [CHANNEL] };
  bus.publish('fulmen.tower.update');
  expect((await waiting).monitors).toHaveLength(1);
});

test('what a tower puts off is left out, within its bounds', async () => {
  const { state, feed } = await startFeed();
  await feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [CHANNEL, OTHER], mark: 0n });
  expect(state.deferred).toEqual([CHANNEL, OTHER]);
  for (const deferredMonitors of [[new Uint8Array(31)], Array.from({ length: 10_001 }, () => CHANNEL)])
    await expect(feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors, mark: 0n })).rejects.toMatchObject(
      {
        code: 'invalid_argument',
      },
    );
});

test('a report is taken within its bounds, and managers are hinted', async () => {
  const { state, feed, hints } = await startFeed();
  const empty = { towerId: 'home', progress: [], preimages: [], missing: [], faults: [], mark: 0n };
  await feed.acknowledge({
    ...empty,
    progress: [{ channelId: CHANNEL, updateId: 3n }],
    faults: [{ channelId: OTHER, reason: `a gap\u0007\n${'x'.repeat(2_000)}` }],
  });
  const [report] = state.reports;
  expect(report?.progress).toEqual([{ channelId: CHANNEL, updateId: 3n }]);
  expect(report?.faults[0]?.reason).toMatch(/^the tower says: a gap\?\?x{200}/);
  expect(report?.faults[0]?.reason.length).toBeLessThan(600);
  expect(hints).toEqual(['fulmen.tower.ack']);
  for (const broken of [
    { missing: [new Uint8Array(31)] },
    { missing: Array.from({ length: 10_001 }, () => CHANNEL) },
    { mark: 1n << 62n },
  ])
    await expect(feed.acknowledge({ ...empty, ...broken })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
});

test('a tower that counts less than it did hears so at once, and everything it acknowledged is taken back', async () => {
  const { state, feed } = await startFeed();
  const ask = (mark: bigint) => feed.pull({ towerId: 'home', waitMs: 0, deferredMonitors: [], mark });
  state.page = { ...EMPTY, updates: [update(OTHER, 7n)] };
  expect(await ask(5n)).toMatchObject({ mark: 5n, updates: [{ updateId: 7n }] });
  expect(await ask(4n)).toEqual({ updates: [], preimages: [], monitors: [], mark: 5n });
  // A tower of the release before says nothing of it.
  expect((await ask(0n)).updates).toHaveLength(1);
  expect(await feed.reportSetBack({ towerId: 'home', lostMark: 4n })).toEqual({ mark: 0n });
  expect(await feed.reportSetBack({ towerId: 'home', lostMark: 5n })).toEqual({ mark: 6n });
  expect((await ask(6n)).updates).toHaveLength(1);
  await expect(ask(1n << 62n)).rejects.toMatchObject({ code: 'invalid_argument' });
  await expect(feed.reportSetBack({ towerId: 'home', lostMark: 1n << 62n })).rejects.toMatchObject({
    code: 'invalid_argument',
  });
});

test('the list of towers is the console’s', async () => {
  const { admin } = await startFeed();
  const console = admin('console');
  await expect(admin('tower').listTowers({})).rejects.toMatchObject({ code: 'permission_denied' });
  expect(await console.listTowers({})).toEqual({ towers: [], required: 1 });
  await console.addTower({ towerId: 'home-2', publicKey: TOWER_KEY });
  await expect(console.addTower({ towerId: 'taken', publicKey: TOWER_KEY })).rejects.toMatchObject({
    code: 'already_exists',
  });
  for (const broken of [
    { towerId: 'Home', publicKey: TOWER_KEY },
    { towerId: '', publicKey: TOWER_KEY },
    { towerId: 'home', publicKey: TOWER_KEY.with(0, 9) },
  ])
    await expect(console.addTower(broken)).rejects.toMatchObject({ code: 'invalid_argument' });
  await console.removeTower({ towerId: 'home' });
  await expect(console.removeTower({ towerId: 'nowhere' })).rejects.toMatchObject({ code: 'not_found' });
});
