import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StatementError, StoreError, StoreSetupError } from '../error.ts';
import { startAnswerProxy } from '../testing/answer-proxy.ts';
import { createTestDatabase, type TestDatabase } from '../testing/postgres.ts';
import { boolArray, byteaArray, int4Array, int8Array, textArray } from './binary.ts';
import type { Database } from './database.ts';
import { durabilityFault, readDurability, requireDurability } from './durability.ts';
import { migrate } from './migrate.ts';

const folder = new URL('./test-migrations/', import.meta.url);

describe('database', () => {
  let test1: TestDatabase;
  let database: Database;
  beforeAll(async () => {
    test1 = await createTestDatabase('ground', folder);
    database = test1.open({ statementTimeoutMs: 400, lockTimeoutMs: 200 });
  });
  afterAll(async () => {
    await database.close();
    await test1.drop();
  });

  const failure = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => 'none',
      (error: unknown) => error,
    );

  test('int8 is a bigint, bytea is bytes, whole arrays travel as binary', async () => {
    const [row = {}] = await database.read(
      'SELECT $1::int8[] AS a, $2::bytea[] AS b, $3::text[] AS c, $4::int4[] AS d, $5::bool[] AS e, $6::int8 AS f, $7::bytea AS g',
      [
        int8Array([1n, null, -(2n ** 63n)]),
        byteaArray([new Uint8Array([1, 2]), null, new Uint8Array()]),
        textArray(['ü', null]),
        int4Array([7, -1]),
        boolArray([true, false, null]),
        2n ** 63n - 1n,
        new Uint8Array([0, 255]),
      ],
    );
    expect(row).toMatchObject({ c: ['ü', null], d: [7, -1], e: [true, false, null], f: 2n ** 63n - 1n });
    expect((row['a'] as unknown[]).map(String)).toEqual(['1', 'null', '-9223372036854775808']);
    expect([...(row['g'] as Uint8Array)]).toEqual([0, 255]);
    expect((row['b'] as Uint8Array[]).map((bytes) => bytes && [...bytes])).toEqual([[1, 2], null, []]);
    const empty = await database.read('SELECT cardinality($1::int8[]) AS n, cardinality($2::bytea[]) AS m', [
      int8Array([]),
      byteaArray([]),
    ]);
    expect(empty).toEqual([{ n: 0, m: 0 }]);
  });

  test('a definite no of the server is a StatementError with its SQLSTATE and constraint', async () => {
    const error = await failure(database.write('INSERT INTO thing VALUES (1, $1)', [new Uint8Array(20)]));
    expect(error).toBeInstanceOf(StatementError);
    expect(error).toMatchObject({ sqlState: '23514', constraint: 'thing_body_check' });
  });

  test('a database that says it is damaged is not asked again', async () => {
    for (const state of ['data_corrupted', 'index_corrupted'])
      expect(await failure(database.write(`DO $$ BEGIN RAISE ${state}; END $$`))).toMatchObject({
        name: 'UnrecoverableStoreError',
      });
  });

  test('a statement over its time, or a lock over its time, is unavailable: nothing happened', async () => {
    expect(await failure(database.write('SELECT pg_sleep(5)'))).toMatchObject({
      name: 'StoreError',
      code: 'unavailable',
    });
    await database.write('INSERT INTO thing VALUES (2, $1)', [new Uint8Array(1)]);
    await database.transaction(async (session) => {
      await session.query('SELECT 1 FROM thing WHERE id = 2 FOR UPDATE');
      expect(await failure(database.write('DELETE FROM thing WHERE id = 2'))).toMatchObject({
        code: 'unavailable',
      });
    });
  });

  test('a connection lost during a write is unknown, during a read unavailable, inside a transaction before COMMIT unavailable', async () => {
    const kill = 'SELECT pg_terminate_backend(pg_backend_pid())';
    expect(await failure(database.write(kill))).toMatchObject({ name: 'StoreError', code: 'unknown' });
    expect(await failure(database.read(kill))).toMatchObject({ name: 'StoreError', code: 'unavailable' });
    expect(await failure(database.transaction((session) => session.query(kill)))).toMatchObject({
      name: 'StoreError',
      code: 'unavailable',
    });
    expect(await database.read('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  test('a server of another language refuses as clearly, and tells of a standby that did not confirm', async () => {
    const german: Record<string, string> = { ERROR: 'FEHLER', WARNING: 'WARNUNG', FATAL: 'FATAL' };
    const proxy = await startAnswerProxy(test1.connectionString, (fields) => ({
      fields: new Map([...fields, ['S', german[fields.get('S') ?? ''] ?? '']]),
      connection: 'goes_on',
    }));
    const abroad = test1.open({ connectionString: proxy.connectionString, maxConnections: 1 });
    const [before] = await abroad.read('SELECT pg_backend_pid() AS pid');
    const no = `DO $$ BEGIN RAISE 'no' USING ERRCODE = 'FM004'; END $$`;
    expect(await failure(abroad.write(no))).toMatchObject({ name: 'StatementError', sqlState: 'FM004' });
    expect(await failure(abroad.read(no))).toMatchObject({ name: 'StatementError', sqlState: 'FM004' });
    expect(await failure(abroad.transaction((session) => session.query(no)))).toMatchObject({
      name: 'StatementError',
      sqlState: 'FM004',
    });
    // The connection that refused is kept.
    expect(await abroad.read('SELECT pg_backend_pid() AS pid')).toEqual([before]);
    for (const state of ['query_canceled', 'admin_shutdown'])
      expect(
        await failure(abroad.write(`DO $$ BEGIN RAISE WARNING USING ERRCODE = '${state}'; END $$`)),
      ).toMatchObject({ name: 'StoreError', code: 'unknown' });
    await abroad.close();
    await proxy.close();
  });

  test('an answer with which the connection ends refuses nothing, whatever its code', async () => {
    const proxy = await startAnswerProxy(test1.connectionString, (fields) => ({
      fields,
      connection: 'ends',
    }));
    const failing = test1.open({ connectionString: proxy.connectionString });
    // As a server that could not write its log would say before it starts over: the commit may be in that log.
    const full = `DO $$ BEGIN RAISE 'no space' USING ERRCODE = 'disk_full'; END $$`;
    expect(await failure(failing.write(full))).toMatchObject({ name: 'StoreError', code: 'unknown' });
    expect(await failure(failing.read(full))).toMatchObject({ name: 'StoreError', code: 'unavailable' });
    expect(await failure(failing.transaction((session) => session.query(full)))).toMatchObject({
      name: 'StoreError',
      code: 'unavailable',
    });
    await failing.close();
    await proxy.close();
  });

  test('a transaction rolls back when its work throws, and passes the error on', async () => {
    const mine = new StoreSetupError('mine');
    expect(
      await failure(
        database.transaction(async (session) => {
          await session.query('INSERT INTO thing VALUES (3, $1)', [new Uint8Array(1)]);
          throw mine;
        }),
      ),
    ).toBe(mine);
    expect(await database.read('SELECT id FROM thing WHERE id = 3')).toEqual([]);
  });

  test('nobody listens: unavailable', async () => {
    const other = test1.open({
      connectionString: 'postgres://nobody@127.0.0.1:1/none',
      connectTimeoutMs: 1_000,
    });
    const error = await failure(other.write('SELECT 1'));
    expect(error).toBeInstanceOf(StoreError);
    expect(error).toMatchObject({ code: 'unavailable' });
    await other.close();
  });

  test('a replica waits for the one that migrates, longer than for any other lock', async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const other = test1.open({ idleInTransactionTimeoutMs: 30_000 });
    const migrating = other.transaction(async (session) => {
      await session.query('SELECT pg_advisory_xact_lock(7205759404)');
      release();
      // Longer than this database's bounds on a lock and on a statement.
      await session.query('SELECT pg_sleep(0.6)');
    });
    await held;
    expect(await migrate(database, folder)).toBe(0);
    await migrating;
    await other.close();
  });

  test('migrations are applied once, and an altered or unknown one is refused', async () => {
    expect(await migrate(database, folder)).toBe(0);
    await database.write(`UPDATE migration SET sha256 = 'x' WHERE number = 1`);
    expect(await failure(migrate(database, folder))).toMatchObject({
      message: 'migration 0001_thing.sql changed after it was applied',
    });
    await database.write(`INSERT INTO migration (number, name, sha256) VALUES (2, 'later', '')`);
    await database.write('DELETE FROM migration WHERE number = 1');
    expect(await failure(migrate(database, folder))).toMatchObject({
      message: 'the schema has migration 2, which this release does not know',
    });
  });

  test('the start-up check refuses what can forget a commit', async () => {
    const good = { fsync: 'on', synchronousCommit: 'on', synchronousStandbyNames: '', inRecovery: false };
    expect(durabilityFault(good, 'single')).toBeUndefined();
    expect(durabilityFault({ ...good, fsync: 'off' }, 'single')).toContain('fsync');
    expect(durabilityFault({ ...good, synchronousCommit: 'off' }, 'single')).toContain('synchronous_commit');
    expect(durabilityFault({ ...good, inRecovery: true }, 'single')).toContain('standby');
    expect(durabilityFault(good, 'high_availability')).toContain('synchronous_standby_names');
    const standby = { ...good, synchronousStandbyNames: 'ANY 1 (a, b)' };
    expect(durabilityFault(standby, 'high_availability')).toBeUndefined();
    expect(durabilityFault({ ...standby, synchronousCommit: 'remote_write' }, 'high_availability')).toContain(
      'remote_write',
    );
    // The test server really runs without fsync, and is refused for it.
    expect(await readDurability(database)).toMatchObject({ fsync: 'off', synchronousCommit: 'on' });
    await expect(requireDurability(database, 'single')).rejects.toBeInstanceOf(StoreSetupError);
  });
});
