/** What only a real Postgres can show: locks, late commits, lost connections, HOT updates, plans. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  bytes,
  channelIdOf,
  event,
  htlcSource,
  intent,
  noWrites,
  owner,
  payment,
  step,
  types,
} from '../compliance/fixtures.ts';
import type { Fence, ManagerStore } from '../manager-store.ts';
import { encodeSource } from '../source.ts';
import { openManagerStore, prepareManagerDatabase } from './store.ts';
import { makePostgresManagerDatabase, type PostgresUnderTest } from './testing.ts';

describe('manager store on Postgres', () => {
  let database: PostgresUnderTest;
  let a: ManagerStore;
  let b: ManagerStore;
  /** One connection for steps, and little time for each. */
  let impatient: ManagerStore;
  beforeAll(async () => {
    database = await makePostgresManagerDatabase();
    a = database.connect('a');
    b = database.connect('b');
    impatient = openManagerStore({
      connectionString: database.server.connectionString,
      applicationName: 'impatient',
      stepConnections: 1,
      statementTimeoutMs: 300,
    });
  });
  afterAll(async () => {
    await Promise.all([a.close(), b.close(), impatient.close()]);
    await database.drop();
  });

  /** Runs `work` while another session sits in a transaction in which it has done `statement`. */
  async function whileOpen(
    statement: string,
    values: readonly (string | number | bigint | Uint8Array)[],
    work: () => Promise<void>,
  ): Promise<void> {
    const other = database.server.open({ applicationName: 'hanging', idleInTransactionTimeoutMs: 30_000 });
    try {
      await other.transaction(async (session) => {
        await session.query(statement, values);
        await work();
      });
    } finally {
      await other.close();
    }
  }

  test('a takeover ends the session of a dead owner that hangs inside a transaction', async () => {
    const fence = await owner(a, 'hang', 1);
    await b.heartbeat('next', 1n, 'n', 60_000);
    const hanging = whileOpen('SELECT fence_holds($1, $2, $3)', [1, fence.epoch, 'hang'], async () => {
      // Alive, it is left alone, and nobody waits for it.
      expect(await b.acquireShard(1, 'next')).toEqual({ type: 'held', replicaId: 'hang' });
      await database.expireLease('hang');
      expect(await b.acquireShard(1, 'next')).toEqual({ type: 'acquired', epoch: fence.epoch + 1n });
    });
    // Its COMMIT finds the session gone.
    await expect(hanging).rejects.toMatchObject({ name: 'StoreError' });
  });

  test('a heartbeat never waits for a step, nor a release for another lane', async () => {
    const fence = await owner(a, 'beat', 2);
    await whileOpen('SELECT fence_holds($1, $2, $3)', [2, fence.epoch, 'beat'], async () => {
      expect(await a.heartbeat('beat', 1n, 'x', 60_000)).toBe(true);
      expect(types(await a.commitSteps([step(fence, 20, 0n)]))).toEqual(['committed']);
      await a.releaseShard(fence);
    });
    // Not even when every connection for steps is busy with one that hangs.
    const again = await owner(a, 'beat', 2);
    await whileOpen('SELECT * FROM channel WHERE channel_id = $1 FOR UPDATE', [bytes(32, 20)], async () => {
      const stuck = Promise.allSettled([
        impatient.commitSteps([step(again, 20, 1n)]),
        impatient.commitSteps([step(again, 20, 1n)]),
      ]);
      await expect(
        Promise.race([stuck.then(() => 'ended'), impatient.heartbeat('beat', 1n, 'x', 60_000)]),
      ).resolves.toBe(true);
      await stuck;
    });
  });

  test('a replica starts only on a database that cannot forget', async () => {
    await expect(prepareManagerDatabase(database.server.connectionString, 'single')).rejects.toThrow(
      'fsync is off',
    );
  });

  test('an intent that commits late is found, however many later ones were found before', async () => {
    const fence = await owner(a, 'late', 3);
    await a.commitSteps([step(fence, 30, 0n)]);
    const late = htlcSource(31, 0n);
    const insert = `INSERT INTO intent (source, target_shard, source_shard, target_scid, payment_hash, incoming_amount_msat, incoming_cltv_expiry,
      outgoing_amount_msat, outgoing_cltv_expiry, created_unix_ms, onion, shared_secret) VALUES ($1, 300, 3, 1, $2, 1, 1, 1, 1, 1, '', '')`;
    await whileOpen(insert, [encodeSource(late), bytes(32, 1)], async () => {
      await a.commitSteps([
        step(fence, 30, 1n, { forwarding: { intents: [intent(htlcSource(30, 0n), 300, 3)] } }),
      ]);
      expect((await b.pendingIntents([300], 10)).map(({ source }) => source)).toEqual([htlcSource(30, 0n)]);
    });
    expect((await b.pendingIntents([300], 10)).map(({ source }) => source)).toEqual([
      late,
      htlcSource(30, 0n),
    ]);
  });

  test('an event that commits late gets a later position, and no reader misses it', async () => {
    const fence = await owner(a, 'late-event', 4);
    await a.commitSteps([step(fence, 40, 0n)]);
    await whileOpen(
      `INSERT INTO event_outbox (shard, type, time_unix_ms, body) VALUES (4, 't', 1, 'early number, late commit')`,
      [],
      async () => {
        await a.commitSteps([
          step(fence, 40, 1n, { forwarding: { events: [event('t', 'late number, early commit')] } }),
        ]);
        expect(await a.sequenceEvents('s', 10)).toBe(1);
      },
    );
    expect(await b.sequenceEvents('s', 10)).toBe(1);
    expect((await b.readEvents(0n, 10)).map(({ position, event: { body } }) => [position, body])).toEqual([
      [1n, 'late number, early commit'],
      [2n, 'early number, late commit'],
    ]);
    // While one sequencer is at it, another does nothing and does not wait.
    await a.commitSteps([step(fence, 40, 2n, { forwarding: { events: [event('t', 'third')] } })]);
    await whileOpen('SELECT * FROM event_position FOR UPDATE', [], async () => {
      expect(await a.sequenceEvents('s', 10)).toBe(0);
    });
    expect(await a.sequenceEvents('s', 10)).toBe(1);
  });

  test('a connection lost during a group commit is unknown; before it, unavailable', async () => {
    const fence = await owner(a, 'lost', 5);
    expect(types(await a.commitSteps([step(fence, 50, 0n)]))).toEqual(['committed']);
    await whileOpen('SELECT * FROM channel WHERE channel_id = $1 FOR UPDATE', [bytes(32, 50)], async () => {
      const commit = a.commitSteps([step(fence, 50, 1n)]).then(types, (error: unknown) => error);
      const waiting = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
      while ((await database.admin.write(waiting)).length === 0);
      expect(await commit).toMatchObject({ name: 'StoreError', code: 'unknown' });
    });
    const gone = database.connect('gone');
    await gone.close();
    await expect(gone.commitSteps([step(fence, 50, 1n)])).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('a step that cannot get its lock gives up, and nothing of it happened', async () => {
    const fence = await owner(a, 'lock', 6);
    await a.commitSteps([step(fence, 60, 0n)]);
    await whileOpen('SELECT * FROM channel WHERE channel_id = $1 FOR UPDATE', [bytes(32, 60)], async () => {
      await expect(impatient.commitSteps([step(fence, 60, 1n), step(fence, 61, 0n)])).rejects.toMatchObject({
        code: 'unavailable',
      });
    });
    const loaded = await a.loadShard(fence);
    expect(loaded.type === 'loaded' && loaded.channels.map(({ version }) => version)).toEqual([1n]);
  });

  test('a claim that waits for the upkeep which takes its intent away is refused: no HTLC is added for a part that was taken back', async () => {
    const fence = await owner(a, 'gone', 9);
    await a.commitSteps([step(fence, 90, 0n)]);
    const source = { type: 'payment', attemptId: bytes(16, 9) } as const;
    const sent = intent(source, 9, 9, { sharedSecret: new Uint8Array() });
    const claim = (outcome: 'taken' | 'cancelled') => ({
      forwarding: { ...noWrites, intentClaims: [{ source, outcome }] },
    });
    const intents = { forwarding: { ...noWrites, intents: [sent] } };
    for (const unit of [payment(fence, 900, 0n, intents), payment(fence, 900, 1n, claim('cancelled'))])
      expect(types(await a.commitSteps([unit]))).toEqual(['committed']);
    let late: Promise<unknown> = Promise.resolve();
    await whileOpen('SELECT prune(100, 0, 3600000)', [], async () => {
      late = a.commitSteps([step(fence, 90, 1n, claim('taken'))]);
      const waiting = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
      while ((await database.admin.read(waiting)).length === 0);
    });
    expect(await late).toEqual([{ type: 'intent_lost', source }]);
  });

  test('a replica of the release before finds the channel that a commit of this one confirms', async () => {
    const fence = await owner(a, 'roll', 8);
    const [first, second, third] = [800, 801, 802];
    const commit = async (number: number, version: bigint, shortChannelId?: bigint) =>
      types(
        await a.commitSteps([
          step(fence, number, version, shortChannelId === undefined ? {} : { row: { shortChannelId } }),
        ]),
      );
    /** As that release asks, by names that its commits wrote. */
    const found = (scid: bigint) =>
      database.admin.read<{ channel_id: Uint8Array }>(
        'SELECT c.channel_id FROM scid AS s JOIN channel AS c USING (channel_id) WHERE s.scid = $1',
        [scid],
      );
    for (const number of [first, second]) expect(await commit(number, 0n)).toEqual(['committed']);
    expect(await commit(first, 1n, 80_001n)).toEqual(['committed']);
    expect(await found(80_001n)).toMatchObject([{ channel_id: channelIdOf(first) }]);
    // While both say that they are there, the name stays: that release's next commit of the first would be refused without.
    expect(await commit(second, 1n, 80_001n)).toEqual(['committed']);
    expect(await found(80_001n)).toMatchObject([{ channel_id: channelIdOf(first) }]);
    expect(await commit(first, 2n, 80_002n)).toEqual(['committed']);
    expect(await found(80_002n)).toMatchObject([{ channel_id: channelIdOf(first) }]);
    expect(await commit(third, 0n, 80_001n)).toEqual(['committed']);
    expect(await found(80_001n)).toMatchObject([{ channel_id: channelIdOf(third) }]);
  });

  test('steps update the hot row in place (HOT), inside its page, and by index', async () => {
    const fence: Fence = await owner(a, 'hot', 7);
    const numbers = Array.from({ length: 30 }, (_, index) => 700 + index);
    // A hot state of 50 HTLCs and every optional column.
    const full = {
      fundingTxid: bytes(32, 1),
      fundingOutputIndex: 0,
      closingReason: 'none yet',
      closingTxid: bytes(32, 1),
      channelType: 'option_anchors_zero_fee_htlc_tx',
    };
    const STEPS = 20;
    for (let version = 0; version <= STEPS; version += 1) {
      const units = numbers.map((number) =>
        step(fence, number, BigInt(version), {
          row: { ...full, shortChannelId: BigInt(number), holderBalanceMsat: BigInt(version) },
          delta: { hot: new Uint8Array(850).map((_, i) => (i * 31 + version * 7) & 0xff) },
        }),
      );
      expect(new Set(types(await a.commitSteps(units)))).toEqual(new Set(['committed']));
    }
    const [size] = await database.admin.read<{ row_bytes: number; toast: string | null }>(
      `SELECT max(pg_column_size(c.*)) AS row_bytes, (SELECT pg_relation_size(reltoastrelid)::text FROM pg_class WHERE relname = 'channel') AS toast
       FROM channel AS c WHERE shard = 7`,
    );
    expect(size?.row_bytes).toBeLessThan(1_500);
    expect(size?.toast).toBe('0');
    // Counters arrive when the sessions that made them are idle or gone.
    await a.close();
    a = database.connect('a');
    type Counters = { updates: bigint; hot: bigint; scans: bigint };
    let counters: Counters | undefined;
    while ((counters?.updates ?? 0n) < BigInt(STEPS * numbers.length)) {
      [counters] = await database.admin.read<Counters>(
        `SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot, seq_scan AS scans FROM pg_stat_user_tables WHERE relname = 'channel'`,
      );
    }
    expect(Number(counters?.hot) / Number(counters?.updates)).toBeGreaterThan(0.95);
  });
});
