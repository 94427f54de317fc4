import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CHAIN_SCHEMA, PostgresChainStore } from '../chain/postgres.ts';
import { openManagerStore } from '../manager/postgres/store.ts';
import type { Database } from '../pg/database.ts';
import type { TestDatabase } from '../testing/postgres.ts';
import { type PostgresTowerFeedStore, openTowerFeedStore } from './feed-postgres.ts';
import { bothSchemas, id, payload } from './testing.ts';
import type { TowerReport } from './tower-store.ts';

const key = (n: number): Uint8Array => Uint8Array.from([2, ...new Uint8Array(32).fill(n)]);
const NOTHING: TowerReport = { progress: [], preimages: [], missing: [], faults: [], mark: 0n };

describe('a node’s queues for towers', () => {
  let server: TestDatabase;
  let admin: Database;
  let feed: PostgresTowerFeedStore;

  beforeAll(async () => {
    server = await bothSchemas();
    admin = server.open();
    feed = openTowerFeedStore({ connectionString: server.connectionString, applicationName: 'feed' });
  });
  afterAll(async () => {
    await feed.close();
    await admin.close();
    await server.drop();
  });
  beforeEach(async () => {
    await admin.write(
      `TRUNCATE tower, tower_ack, tower_update, tower_preimage, tower_monitor_due, tower_fault, tower_key, channel,
         funding_watch, monitor_update, monitor_birth, htlc_preimage, resolution, resolution_hold, intent_claim, ${CHAIN_SCHEMA}.monitor`,
    );
  });

  /** What a step of a channel writes. */
  const step = async (channel: number, ...updateIds: number[]): Promise<void> =>
    admin.transaction(async (session) => {
      await session.query(
        `INSERT INTO channel (channel_id, counterparty_node_id, channel_keys_id, shard, capacity_sat, announce, holder_is_funder,
           channel_type, phase, version, monitor_update_id, holder_balance_msat, counterparty_balance_msat,
           outbound_capacity_msat, inbound_capacity_msat, htlcs_in_flight, hot)
         VALUES ($1, $2, $1, 1, 1, false, true, 'anchors', 'open', 1, $3, 0, 0, 0, 0, 0, '')
         ON CONFLICT (channel_id) DO UPDATE SET monitor_update_id = excluded.monitor_update_id`,
        [id(channel), key(channel), updateIds.at(-1) ?? 0],
      );
      if (updateIds[0] === 1)
        await session.query('INSERT INTO monitor_birth (channel_id, parameters) VALUES ($1, $2)', [
          id(channel),
          payload(channel),
        ]);
      for (const updateId of updateIds)
        await session.query(
          'INSERT INTO monitor_update (channel_id, update_id, payload) VALUES ($1, $2, $3)',
          [id(channel), updateId, payload(updateId)],
        );
    });
  const drained = async (channel: number, updateId: number): Promise<void> => {
    await admin.write(
      `INSERT INTO ${CHAIN_SCHEMA}.monitor (channel_id, update_id, close_state, snapshot) VALUES ($1, $2, 'open', $3)
       ON CONFLICT (channel_id) DO UPDATE SET update_id = excluded.update_id, snapshot = excluded.snapshot`,
      [id(channel), updateId, payload(updateId)],
    );
    await admin.write('DELETE FROM monitor_update WHERE channel_id = $1 AND update_id <= $2', [
      id(channel),
      updateId,
    ]);
  };
  const ids = async (tower: string, limit = 100): Promise<string[]> =>
    (await feed.pull(tower, limit)).updates.map(({ channelId, updateId }) => `${channelId[0]}:${updateId}`);

  test('each tower has a queue of its own, which only its own acknowledgements shorten', async () => {
    await feed.addTower({ towerId: 'a', publicKey: key(1) });
    await feed.addTower({ towerId: 'b', publicKey: key(2) });
    expect(await feed.addTower({ towerId: 'a', publicKey: key(1) })).toBe('added');
    expect(await feed.addTower({ towerId: 'a', publicKey: key(9) })).toBe('exists');
    await step(5, 1);
    await step(4, 1);
    await step(5, 2, 3);
    // The node's own monitor moves on without them.
    await drained(5, 3);
    expect(await ids('a')).toEqual(['4:1', '5:1', '5:2', '5:3']);
    await feed.acknowledge('a', { ...NOTHING, progress: [{ channelId: id(5), updateId: 2n }] });
    expect(await ids('a')).toEqual(['4:1', '5:3']);
    expect(await ids('b')).toEqual(['4:1', '5:1', '5:2', '5:3']);
    // An acknowledgement that comes late, or twice, takes nothing back.
    await feed.acknowledge('a', { ...NOTHING, progress: [{ channelId: id(5), updateId: 1n }] });
    expect(await feed.durableThrough([id(5), id(4)], 1)).toEqual([{ channelId: id(5), updateId: 2n }]);
    expect(await feed.durableThrough([id(5)], 2)).toEqual([]);
    await feed.acknowledge('b', {
      ...NOTHING,
      progress: [
        { channelId: id(5), updateId: 3n },
        { channelId: id(4), updateId: 1n },
      ],
    });
    expect(await feed.durableThrough([id(5)], 2)).toEqual([{ channelId: id(5), updateId: 2n }]);
    expect(await feed.durableThrough([id(5)], 1)).toEqual([{ channelId: id(5), updateId: 3n }]);
    expect(await feed.listTowers()).toMatchObject([
      { towerId: 'a', channelsBehind: 2, updatesWaiting: 2, faults: [] },
      { towerId: 'b', channelsBehind: 0, updatesWaiting: 0 },
    ]);
    expect(await feed.removeTower('b')).toBe('removed');
    expect(await feed.removeTower('b')).toBe('unknown');
    expect(await feed.durableThrough([id(5)], 1)).toEqual([{ channelId: id(5), updateId: 2n }]);
    expect(
      await feed.acknowledge('b', { ...NOTHING, progress: [{ channelId: id(4), updateId: 1n }] }),
    ).toEqual([]);
    expect(await feed.durableThrough([id(4)], 1)).toEqual([]);
  });

  test('whoever joins late or falls too far behind gets the monitor, and then what follows it', async () => {
    await step(6, 1);
    await step(6, 2);
    await drained(6, 2);
    await feed.addTower({ towerId: 'late', publicKey: key(3) });
    expect(await feed.tidy(3)).toEqual({ cut: 0, due: 1 });
    await step(6, 3);
    const page = await feed.pull('late', 10);
    expect(page).toMatchObject({ updates: [], monitorsDue: [id(6)] });
    expect(await feed.monitor(id(6))).toMatchObject({ updateId: 2n, snapshot: payload(2) });
    for (const [kind, number] of [
      ['htlc', 0],
      ['state', 0],
      ['state', 1],
      ['state', 2],
    ] as const)
      await admin.write(`INSERT INTO ${CHAIN_SCHEMA}.monitor_chunk VALUES ($1, $2, $3, 0, 255, $4)`, [
        id(6),
        kind,
        number,
        payload(number + 10),
      ]);
    expect(await feed.measureChunks(id(6), 'state', 2)).toEqual({ found: 2, bytes: 2n });
    expect(await feed.measureChunks(id(6), 'state', 9)).toEqual({ found: 3, bytes: 3n });
    expect(await feed.measureChunks(id(7), 'state', 9)).toEqual({ found: 0, bytes: 0n });
    expect(await feed.readChunks(id(6), 'state', { from: 1, until: 3 })).toEqual([payload(11), payload(12)]);
    expect(await feed.readChunks(id(6), 'htlc', { from: 0, until: 9 })).toEqual([payload(10)]);
    await feed.acknowledge('late', { ...NOTHING, progress: [{ channelId: id(6), updateId: 2n }] });
    expect(await ids('late')).toEqual(['6:3']);
    expect(await feed.tidy(3)).toEqual({ cut: 0, due: 0 });
    for (let update = 4; update <= 8; update++) await step(6, update);
    // What the node's own monitor has not applied is never cut: nobody else has it.
    expect(await feed.tidy(3)).toEqual({ cut: 0, due: 0 });
    await drained(6, 7);
    expect(await feed.tidy(3)).toEqual({ cut: 3, due: 1 });
    expect(await feed.pull('late', 10)).toMatchObject({ updates: [], monitorsDue: [id(6)] });
    await feed.acknowledge('late', { ...NOTHING, progress: [{ channelId: id(6), updateId: 7n }] });
    expect(await ids('late')).toEqual(['6:8']);
    // A tower that misses something says so itself.
    await feed.acknowledge('late', { ...NOTHING, missing: [id(6), id(99)] });
    expect(await feed.pull('late', 10)).toMatchObject({ updates: [], monitorsDue: [id(6)] });
    // What it puts off takes nobody's place in a page, and its updates wait all the same.
    await step(7, 1);
    await feed.acknowledge('late', { ...NOTHING, missing: [id(7)] });
    expect(await feed.pull('late', 1, [id(6)])).toMatchObject({ updates: [], monitorsDue: [id(7)] });
    expect(await feed.pull('late', 1, [id(6), id(7)])).toMatchObject({ updates: [], monitorsDue: [] });
  });

  test('preimages come before or with the updates of their step', async () => {
    await feed.addTower({ towerId: 'a', publicKey: key(1) });
    await step(7, 1);
    await admin.write(
      'INSERT INTO htlc_preimage (channel_id, htlc_id, preimage) SELECT $1, n, $2 FROM generate_series(1, 3) AS n',
      [id(8), id(1)],
    );
    const first = await feed.pull('a', 3);
    expect(first.updates).toEqual([]);
    expect(first.preimages.map(({ htlcId }) => htlcId)).toEqual([1n, 2n, 3n]);
    await feed.acknowledge('a', { ...NOTHING, preimages: [{ channelId: id(8), htlcId: 2n }] });
    const second = await feed.pull('a', 3);
    expect(second.updates).toHaveLength(1);
    expect(second.preimages.map(({ htlcId }) => htlcId)).toEqual([1n, 3n]);
  });

  test('a tower that knows more than the node shows that the node’s database was set back', async () => {
    await feed.addTower({ towerId: 'a', publicKey: key(1) });
    await step(9, 1);
    await step(10, 1);
    const fresh = await feed.acknowledge('a', {
      ...NOTHING,
      progress: [
        { channelId: id(9), updateId: 5n },
        { channelId: id(10), updateId: 1n },
      ],
    });
    expect(fresh).toMatchObject([{ channelId: id(9) }]);
    expect(fresh[0]?.reason).toContain('set back');
    expect(await feed.durableThrough([id(9), id(10)], 1)).toEqual([{ channelId: id(10), updateId: 1n }]);
    await step(9, 2);
    await step(10, 2);
    expect(await ids('a')).toEqual(['10:2']);
    // What a tower finds wrong by itself takes back what it acknowledged before.
    expect(
      await feed.acknowledge('a', { ...NOTHING, faults: [{ channelId: id(10), reason: 'a gap' }] }),
    ).toHaveLength(1);
    expect(await feed.durableThrough([id(10)], 1)).toEqual([]);
    expect((await feed.listTowers())[0]?.faults).toHaveLength(2);
  });

  test('a tower whose database was set back has nothing that it acknowledged, and is sent everything', async () => {
    await feed.addTower({ towerId: 'a', publicKey: key(1) });
    await feed.addTower({ towerId: 'b', publicKey: key(2) });
    for (const channel of [12, 13, 14, 15]) await step(channel, 1, 2);
    await step(12, 3);
    await admin.write("UPDATE channel SET phase = 'closed' WHERE channel_id = ANY (ARRAY[$1, $2]::bytea[])", [
      id(14),
      id(15),
    ]);
    // One of the closed ones is settled for good.
    await admin.write(
      `INSERT INTO funding_watch (channel_id, funding_txid, funding_output_index, funding_value_sat, script_pubkey, minimum_depth, settlement)
       VALUES ($1, $1, 0, 1, $1, 1, NULL), ($2, $2, 0, 1, $2, 1, 'resolved')`,
      [id(14), id(15)],
    );
    await admin.write('INSERT INTO htlc_preimage (channel_id, htlc_id, preimage) VALUES ($1, 1, $1)', [
      id(12),
    ]);
    const progress = [12, 13, 14, 15].map((channel) => ({ channelId: id(channel), updateId: 2n }));
    const preimages = [{ channelId: id(12), htlcId: 1n }];
    // What the tower says by asking, and by acknowledging; late words change nothing.
    expect(await feed.seen('a', 4n)).toBe(4n);
    await feed.acknowledge('a', { ...NOTHING, progress, preimages, mark: 6n });
    await feed.acknowledge('b', { ...NOTHING, progress, mark: 3n });
    expect(await feed.seen('a', 5n)).toBe(6n);
    expect(await feed.seen('a', 0n)).toBe(6n);
    expect(await feed.setBack('a', 5n)).toBeUndefined();
    expect(await feed.durableThrough([id(13)], 2)).toEqual([{ channelId: id(13), updateId: 2n }]);

    expect(await feed.setBack('a', 6n)).toEqual({ mark: 7n, channels: 4 });
    expect(await feed.setBack('a', 6n)).toBeUndefined();
    expect(await feed.setBack('nobody', 6n)).toBeUndefined();
    expect(await feed.durableThrough([id(13)], 2)).toEqual([]);
    expect(await feed.durableThrough([id(13)], 1)).toEqual([{ channelId: id(13), updateId: 2n }]);
    const page = await feed.pull('a', 10);
    expect(page).toMatchObject({ updates: [], monitorsDue: [id(12), id(13), id(14)] });
    expect(page.preimages).toHaveLength(1);
    expect((await feed.pull('b', 10)).monitorsDue).toEqual([]);
    expect(await feed.listTowers()).toMatchObject([{ channelsBehind: 2 }, { channelsBehind: 1 }]);
    // An acknowledgement of what was lost comes late.
    await feed.acknowledge('a', { ...NOTHING, progress, preimages, mark: 6n });
    expect(await feed.durableThrough([id(13)], 2)).toEqual([]);
    expect((await feed.pull('a', 10)).preimages).toHaveLength(1);
    await feed.acknowledge('a', { ...NOTHING, progress, preimages, mark: 8n });
    expect(await feed.durableThrough([id(13)], 2)).toEqual([{ channelId: id(13), updateId: 2n }]);
    expect(await ids('a')).toEqual(['12:3']);
    expect(await feed.seen('a', 8n)).toBe(8n);
  });

  test('a failure passed on by a frozen channel waits for the towers, a preimage does not', async () => {
    await feed.addTower({ towerId: 'a', publicKey: key(1) });
    const store = openManagerStore({
      connectionString: server.connectionString,
      applicationName: 'manager',
      towersRequired: 1,
    });
    const indifferent = openManagerStore({
      connectionString: server.connectionString,
      applicationName: 'indifferent',
    });
    const source = (htlc: number): Uint8Array => Uint8Array.from([0, ...id(20), ...new Uint8Array(7), htlc]);
    const resolve = async (htlc: number, kind: number): Promise<void> => {
      await admin.transaction(async (session) => {
        await session.query("INSERT INTO intent_claim (source, outcome, claimer) VALUES ($1, 'taken', $2)", [
          source(htlc),
          id(11),
        ]);
        await session.query(
          'INSERT INTO resolution (source, source_shard, kind, body) VALUES ($1, 3, $2, $3) ON CONFLICT (source) DO UPDATE SET kind = excluded.kind',
          [source(htlc), kind, id(2)],
        );
      });
    };
    const pending = async (from: typeof store): Promise<(string | bigint)[]> =>
      (await from.pendingResolutions([3], 10)).map(({ source: of }) =>
        of.type === 'htlc' ? of.htlcId : of.type,
      );
    await step(11, 1);
    await resolve(1, 2);
    await resolve(2, 1);
    expect(await pending(store)).toEqual([2n]);
    expect(await pending(indifferent)).toEqual([1n, 2n]);
    await feed.acknowledge('a', { ...NOTHING, progress: [{ channelId: id(11), updateId: 1n }] });
    await step(11, 2);
    // The failure belongs to the first update, which is safe; the channel is frozen again, which does not matter to it.
    expect(await pending(store)).toEqual([1n, 2n]);
    await admin.write('DELETE FROM resolution');
    expect(await admin.read('SELECT * FROM resolution_hold')).toEqual([]);
    await store.close();
    await indifferent.close();
  });
});

test('a funding is broadcast once enough towers have the channel; a close never waits for them', async () => {
  const server = await bothSchemas();
  const admin = server.open();
  const feed = openTowerFeedStore({ connectionString: server.connectionString, applicationName: 'feed' });
  const store = new PostgresChainStore(server.open({ schema: CHAIN_SCHEMA }), 1);
  const outcome = await store.acquireLease({
    holder: 'one',
    address: 'here',
    leaseMs: 60_000,
    doubt: undefined,
  });
  if (outcome.type !== 'acquired') throw new TypeError('no lease');
  const taken = async (): Promise<string[]> =>
    (await store.takeBroadcasts(outcome.lease, 10, ([first]) => first ?? new Uint8Array(0))).map(
      ({ kind }) => kind,
    );
  for (const [kind, tx] of [
    ['funding', 1],
    ['force_close', 2],
  ] as const)
    await admin.write(
      'INSERT INTO broadcast (channel_id, kind, transactions) VALUES ($1, $2, ARRAY[$3::bytea])',
      [id(1), kind, payload(tx)],
    );
  expect(await taken()).toEqual(['force_close']);
  await admin.write('INSERT INTO tower_ack (channel_id, tower_id, update_id) VALUES ($1, $2, 1)', [
    id(1),
    'a',
  ]);
  expect(await taken()).toEqual(['funding']);
  await store.close();
  await feed.close();
  await admin.close();
  await server.drop();
});
