import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHAIN_SCHEMA, PostgresChainStore } from '../chain/postgres.ts';
import type { Database } from '../pg/database.ts';
import type { TestDatabase } from '../testing/postgres.ts';
import { type PostgresTowerInbox, openTowerInbox } from './inbox-postgres.ts';
import { bothSchemas, id, payload } from './testing.ts';
import { InboxSetBackError } from './tower-store.ts';

describe('a tower’s inbox', () => {
  let server: TestDatabase;
  let inbox: PostgresTowerInbox;
  let admin: Database;

  beforeAll(async () => {
    server = await bothSchemas();
    admin = server.open();
    inbox = openTowerInbox({
      connectionString: server.connectionString,
      applicationName: 'inbox',
      towerId: 'a',
    });
  });
  afterAll(async () => {
    await inbox.close();
    await admin.close();
    await server.drop();
  });

  const origin = (channel: number) => ({
    channelId: id(channel),
    parameters: payload(channel),
    sealedKey: payload(77),
  });
  const watch = (channel: number) => ({
    channelId: id(channel),
    fundingTxid: id(channel + 100),
    fundingOutputIndex: 1,
    fundingValueSat: 5n,
    scriptPubKey: payload(1),
  });
  const receive = (channel: number, ...updateIds: number[]) =>
    inbox.receive(
      {
        origins: updateIds.includes(1) ? [origin(channel)] : [],
        watches: updateIds.includes(1) ? [watch(channel)] : [],
        updates: updateIds.map((updateId) => ({
          channelId: id(channel),
          updateId: BigInt(updateId),
          payload: payload(updateId),
        })),
        preimages: [],
      },
      0n,
    );
  const logOf = async (channel: number): Promise<bigint[]> =>
    (
      await admin.read<{ update_id: bigint }>(
        'SELECT update_id FROM monitor_update WHERE channel_id = $1 ORDER BY 1',
        [id(channel)],
      )
    ).map(({ update_id }) => update_id);

  test('takes each update once, in order, and says what is missing', async () => {
    expect(await receive(1, 1, 2)).toMatchObject({
      progress: [{ channelId: id(1), updateId: 2n }],
      missing: [],
    });
    expect(await receive(1, 1, 2, 3)).toMatchObject({
      progress: [{ channelId: id(1), updateId: 3n }],
      missing: [],
    });
    expect(await receive(1, 5, 6)).toMatchObject({
      progress: [{ channelId: id(1), updateId: 3n }],
      missing: [id(1)],
    });
    expect(await receive(2, 4)).toMatchObject({ progress: [], missing: [id(2)] });
    expect(await logOf(1)).toEqual([1n, 2n, 3n]);
    expect(await logOf(2)).toEqual([]);
    expect(await inbox.sealedKey(id(1))).toEqual(payload(77));
    expect(await inbox.sealedKey(id(2))).toBeUndefined();
    expect(await admin.read('SELECT channel_id FROM funding_watch')).toEqual([{ channel_id: id(1) }]);
  });

  test('counts what it takes, and takes nothing while it counts less than it is known to have', async () => {
    const before = await inbox.mark();
    const { mark } = await receive(20, 1);
    expect(mark).toBe(before + 1n);
    expect(await inbox.mark()).toBe(mark);
    const batch = { origins: [], watches: [], updates: [], preimages: [] };
    expect(await inbox.receive(batch, mark)).toMatchObject({ mark: mark + 1n });
    const update = { channelId: id(20), updateId: 2n, payload: payload(2) };
    await expect(inbox.receive({ ...batch, updates: [update] }, mark + 2n)).rejects.toBeInstanceOf(
      InboxSetBackError,
    );
    expect(await logOf(20)).toEqual([1n]);
    expect(await inbox.mark()).toBe(mark + 1n);
    await inbox.raiseMark(mark + 7n);
    await inbox.raiseMark(mark);
    expect(await inbox.mark()).toBe(mark + 7n);
  });

  test('keeps preimages until their HTLCs have left', async () => {
    const preimages = [3n, 4n, 5n].map((htlcId) => ({ channelId: id(8), htlcId, preimage: id(1) }));
    await inbox.receive({ origins: [], watches: [], updates: [], preimages }, 0n);
    await inbox.receive({ origins: [], watches: [], updates: [], preimages }, 0n);
    await inbox.forgetPreimages([
      { channelId: id(8), htlcId: 5n },
      { channelId: id(9), htlcId: 9n },
    ]);
    expect(await admin.read('SELECT htlc_id FROM htlc_preimage')).toEqual([{ htlc_id: 5n }]);
  });

  test('a whole monitor replaces what is older, and the log goes on behind it', async () => {
    const store = new PostgresChainStore(server.open({ schema: CHAIN_SCHEMA }));
    const writes = async (holder: string) => {
      const lease = await store.acquireLease({ holder, address: 'here', leaseMs: 60_000, doubt: undefined });
      if (lease.type !== 'acquired') throw new TypeError('no lease');
      return lease.lease;
    };
    const lease = await writes('one');
    await receive(3, 1, 2, 3);
    const chunk = (number: number, updateId: bigint) => ({
      kind: 'state' as const,
      number,
      firstNumber: 256n * BigInt(number),
      lastNumber: 256n * BigInt(number) + 255n,
      bytes: payload(updateId),
    });
    const whole = (updateId: bigint, of = lease) =>
      inbox.receiveMonitor(
        of,
        {
          channelId: id(3),
          updateId,
          snapshot: payload(updateId),
          chunks: updateId < 3n ? [chunk(0, updateId)] : [chunk(0, updateId), chunk(1, updateId)],
        },
        origin(3),
        watch(3),
        0n,
      );
    const chunks = () =>
      admin.read(`SELECT number, bytes FROM ${CHAIN_SCHEMA}.monitor_chunk ORDER BY number`);
    // An older one does not take away what is here: the answer is what the tower has.
    expect(await whole(2n)).toMatchObject({ outcome: 'had', progress: { channelId: id(3), updateId: 3n } });
    expect(await whole(3n)).toMatchObject({ outcome: 'had' });
    expect(await logOf(3)).toEqual([1n, 2n, 3n]);
    expect(await chunks()).toEqual([]);
    // As the tower had sealed it by itself.
    await admin.write(`INSERT INTO ${CHAIN_SCHEMA}.monitor_chunk VALUES ($1, 'state', 0, 0, 255, $2)`, [
      id(3),
      payload(1),
    ]);
    expect(await whole(7n)).toMatchObject({ outcome: 'taken', progress: { channelId: id(3), updateId: 7n } });
    expect(await logOf(3)).toEqual([]);
    // Whoever settles now would not hear of it.
    await store.releaseLease(lease);
    await writes('two');
    await expect(whole(9n)).rejects.toMatchObject({ name: 'ChainFenceLostError' });
    await store.close();
    expect(await receive(3, 8)).toMatchObject({
      progress: [{ channelId: id(3), updateId: 8n }],
      missing: [],
    });
    expect(await admin.read(`SELECT update_id, snapshot FROM ${CHAIN_SCHEMA}.monitor`)).toEqual([
      { update_id: 7n, snapshot: payload(7) },
    ]);
    expect(await chunks()).toEqual([
      { number: 0, bytes: payload(7) },
      { number: 1, bytes: payload(7) },
    ]);
  });
});
