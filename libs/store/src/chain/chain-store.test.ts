import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FundingStatus } from '../manager/manager-store.ts';
import { type ResolutionColumns, resolution } from '../manager/postgres/rows.ts';
import { encodeSource, hexKey, sourceKey } from '../manager/source.ts';
import { MANAGER_MIGRATIONS, MANAGER_SCHEMA } from '../manager/postgres/store.ts';
import { byteaArray } from '../pg/binary.ts';
import { migrate } from '../pg/migrate.ts';
import { type TestDatabase, createTestDatabase } from '../testing/postgres.ts';
import { request } from './compliance-fixtures.ts';
import { CHAIN_STORE_CASES, type ChainStoreHarness } from './compliance.ts';
import { MemoryChainState, MemoryChainStore, emptyManagerTables } from './memory.ts';
import { CHAIN_MIGRATIONS, CHAIN_SCHEMA, PostgresChainStore } from './postgres.ts';

function memoryHarness(): ChainStoreHarness {
  const tables = emptyManagerTables();
  const state = new MemoryChainState(tables, () => 0);
  return {
    store: new MemoryChainStore(state),
    other: new MemoryChainStore(state),
    manager: {
      watch: async (watch) =>
        void tables.watches.set(hexKey(watch.channelId), { watch, status: { type: 'unconfirmed' } }),
      status: async (channelId) => tables.watches.get(hexKey(channelId))?.status,
      order: async (order) => void tables.broadcasts.push(order),
      birth: async (channelId, parameters) => void tables.monitorBirths.set(hexKey(channelId), parameters),
      log: async (channelId, updateId, payload) => {
        tables.monitorLog.set(hexKey(channelId), [
          ...(tables.monitorLog.get(hexKey(channelId)) ?? []),
          { updateId, payload },
        ]);
      },
      channel: async (channelId, channelKeysId, phase = 'open') =>
        void tables.channels.set(hexKey(channelId), {
          row: { channelKeysId, phase, shard: 0, holderIsFunder: true },
          monitorUpdateId: 0n,
          outgoing: new Map(),
        }),
      closingDecision: async (channelId) => tables.channels.get(hexKey(channelId))?.closingDecision,
      decideClose: async (channelId, reason) => {
        const channel = tables.channels.get(hexKey(channelId));
        if (channel !== undefined) channel.closingDecision = reason;
      },
      outgoing: async (channelId, htlcId, source, sourceShard) => {
        const channel = tables.channels.get(hexKey(channelId));
        if (channel !== undefined)
          tables.channels.set(hexKey(channelId), {
            ...channel,
            outgoing: new Map(channel.outgoing).set(htlcId, { source, sourceShard }),
          });
      },
      resolution: async (source) => tables.resolutions.get(sourceKey(source))?.resolution,
      take: async (source) => {
        const entry = tables.resolutions.get(sourceKey(source));
        if (entry !== undefined) tables.resolutions.set(sourceKey(source), { ...entry, taken: true });
      },
      fulfilledLate: async (channelId, amountMsat, updateId) => {
        const channel = tables.channels.get(hexKey(channelId));
        if (channel !== undefined)
          tables.channels.set(hexKey(channelId), { ...channel, fulfilledLate: { amountMsat, updateId } });
      },
      events: async () => tables.outbox,
    },
    close: async () => undefined,
  };
}

async function postgresHarness(database: TestDatabase): Promise<ChainStoreHarness> {
  const manager = database.open({ schema: MANAGER_SCHEMA });
  const store = new PostgresChainStore(database.open({ schema: CHAIN_SCHEMA }));
  const other = new PostgresChainStore(database.open({ schema: CHAIN_SCHEMA }));
  return {
    store,
    other,
    manager: {
      watch: async (watch) => {
        await manager.write(
          `INSERT INTO funding_watch (channel_id, funding_txid, funding_output_index, funding_value_sat, script_pubkey, minimum_depth) VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (channel_id) DO UPDATE SET funding_txid = excluded.funding_txid, status = 'unconfirmed', height = NULL, tx_index = NULL, depth = NULL, reason = NULL, spending_txid = NULL`,
          [
            watch.channelId,
            watch.fundingTxid,
            watch.fundingOutputIndex,
            watch.fundingValueSat,
            watch.scriptPubKey,
            watch.minimumDepth,
          ],
        );
      },
      status: async (channelId): Promise<FundingStatus | undefined> => {
        const [row] = await manager.read<Record<string, never>>(
          'SELECT * FROM funding_watch WHERE channel_id = $1',
          [channelId],
        );
        if (row === undefined) return undefined;
        const [height, depth] = [Number(row['height']), Number(row['depth'])];
        const status: string = row['status'] ?? '';
        if (status === 'confirmed')
          return { type: 'confirmed', height, txIndex: Number(row['tx_index']), depth };
        const txid: Uint8Array = row['spending_txid'] ?? new Uint8Array();
        if (status === 'spend_seen') return { type: 'spend_seen', txid };
        if (status === 'spent')
          return {
            type: 'spent',
            txid,
            height,
            depth,
            ...(row['settlement'] !== null && { settlement: 'resolved' }),
          };
        return status === 'mismatch'
          ? { type: 'mismatch', reason: row['reason'] ?? '' }
          : { type: 'unconfirmed' };
      },
      order: async (order) => {
        await manager.write('INSERT INTO broadcast (channel_id, kind, transactions) VALUES ($1, $2, $3)', [
          order.channelId,
          order.kind,
          byteaArray(order.transactions),
        ]);
      },
      birth: async (channelId, parameters) =>
        void (await manager.write('INSERT INTO monitor_birth VALUES ($1, $2)', [channelId, parameters])),
      log: async (channelId, updateId, payload) =>
        void (await manager.write('INSERT INTO monitor_update VALUES ($1, $2, $3)', [
          channelId,
          updateId,
          payload,
        ])),
      channel: async (channelId, channelKeysId, phase = 'open') => {
        await manager.write(
          `INSERT INTO channel (channel_id, counterparty_node_id, channel_keys_id, shard, capacity_sat, announce, holder_is_funder, channel_type, phase, version,
             holder_balance_msat, counterparty_balance_msat, outbound_capacity_msat, inbound_capacity_msat, htlcs_in_flight, hot)
           VALUES ($1, $2, $3, 0, 0, false, true, 'anchors', $4, 1, 0, 0, 0, 0, 0, $1)`,
          [channelId, new Uint8Array(33), channelKeysId, phase],
        );
      },
      closingDecision: async (channelId) => {
        const [row] = await manager.read<{ closing_decision: string | null }>(
          'SELECT closing_decision FROM channel WHERE channel_id = $1',
          [channelId],
        );
        return row?.closing_decision ?? undefined;
      },
      decideClose: async (channelId, reason) =>
        void (await manager.write('UPDATE channel SET closing_decision = $2 WHERE channel_id = $1', [
          channelId,
          reason,
        ])),
      outgoing: async (channelId, htlcId, source, sourceShard) =>
        void (await manager.write(
          'INSERT INTO outgoing (channel_id, htlc_id, source, source_shard, incoming_amount_msat) VALUES ($1, $2, $3, $4, 0)',
          [channelId, htlcId, encodeSource(source), sourceShard],
        )),
      resolution: async (source) => {
        const [row] = await manager.read<ResolutionColumns>('SELECT * FROM resolution WHERE source = $1', [
          encodeSource(source),
        ]);
        return row === undefined ? undefined : resolution(row);
      },
      take: async (source) =>
        void (await manager.write('UPDATE resolution SET taken = true WHERE source = $1', [
          encodeSource(source),
        ])),
      fulfilledLate: async (channelId, amountMsat, updateId) =>
        void (await manager.write('INSERT INTO late_fulfilment VALUES ($1, $2, $3)', [
          channelId,
          amountMsat,
          updateId,
        ])),
      events: async () =>
        (
          await manager.read<{ type: string; time_unix_ms: bigint; body: string }>(
            'SELECT type, time_unix_ms, body FROM event_outbox ORDER BY event_id',
          )
        ).map(({ type, time_unix_ms, body }) => ({ type, timeUnixMs: Number(time_unix_ms), body })),
    },
    close: async () => {
      await Promise.all([manager.close(), store.close(), other.close()]);
    },
  };
}

describe('in memory', () => {
  test.each(CHAIN_STORE_CASES)('$name', async ({ run }) => {
    await run(memoryHarness());
  });
});

describe('on Postgres', () => {
  const databases: TestDatabase[] = [];
  beforeAll(async () => {
    await (await createTestDatabase(CHAIN_SCHEMA, CHAIN_MIGRATIONS)).drop();
  });
  afterAll(async () => {
    for (const database of databases) await database.drop();
  });

  test.each(CHAIN_STORE_CASES)('$name', async ({ run }) => {
    const database = await createTestDatabase(CHAIN_SCHEMA, CHAIN_MIGRATIONS);
    databases.push(database);
    const manager = database.open({ schema: MANAGER_SCHEMA });
    await migrate(manager, MANAGER_MIGRATIONS);
    await manager.close();
    const harness = await postgresHarness(database);
    await run(harness).finally(() => harness.close());
  });

  test('a writer of a release that does not say whether it knows the chain is not vouched for', async () => {
    const database = await createTestDatabase(CHAIN_SCHEMA, CHAIN_MIGRATIONS);
    databases.push(database);
    const admin = database.open({ schema: CHAIN_SCHEMA });
    const store = new PostgresChainStore(admin);
    const outcome = await store.acquireLease(request('a'));
    if (outcome.type !== 'acquired') throw new TypeError('the lease is held');
    await store.releaseLease(outcome.lease);
    // Such a writer leaves what it does not know of as the one before wrote it.
    await admin.write(
      "UPDATE lease SET holder = 'b', address = 'b:1', epoch = epoch + 1, lease_until = clock_timestamp() + interval '1 minute'",
    );
    expect(await store.acquireLease(request('c'))).toEqual({
      type: 'held',
      holder: 'b',
      address: 'b:1',
      doubt: expect.stringMatching(/does not say/) as string,
    });
    await store.close();
  });

  test('without the manager’s tables there is nothing to read', async () => {
    const database = await createTestDatabase(CHAIN_SCHEMA, CHAIN_MIGRATIONS);
    databases.push(database);
    const store = new PostgresChainStore(database.open({ schema: CHAIN_SCHEMA }));
    const outcome = await store.acquireLease(request('a'));
    expect(outcome.type).toBe('acquired');
    expect(await store.newWatches(5)).toEqual([]);
    expect(await store.readMonitorLog(undefined, 5)).toEqual([]);
    expect(await store.fulfilledLate([new Uint8Array(32)])).toEqual([]);
    if (outcome.type === 'acquired')
      expect(await store.takeBroadcasts(outcome.lease, 5, () => new Uint8Array(32))).toEqual([]);
    await store.close();
  });
});
