/**
 * The manager's store on a real Postgres with fsync on: group commits of 1, 10
 * and 50 channels, alone and on concurrent lanes. Prints channels per second,
 * calls per second, latency, WAL per call and the hot row's size.
 *
 * Run: node deploy/bootstrap/run.mjs test/bench/store.ts (sets FULMEN_TEST_FSYNC=on for its own server)
 */
import {
  bytes,
  event,
  htlc,
  htlcSource,
  intent,
  owner,
  step,
} from '@fulmen/store/manager/compliance/fixtures';
import type { CommitUnit, Fence, ManagerStore } from '@fulmen/store/manager/manager-store';
import { makePostgresManagerDatabase, type PostgresUnderTest } from '@fulmen/store/manager/postgres/testing';

process.env['FULMEN_TEST_FSYNC'] ??= 'on';
const SECONDS = Number(process.env['BENCH_SECONDS'] ?? 2);
const HOT_BYTES = 450;

interface Lane {
  readonly fence: Fence;
  readonly numbers: readonly number[];
  version: bigint;
  htlcId: bigint;
}

/** A step that brings no HTLC: the hot row, and the monitor's log. */
function lightUnit(lane: Lane, number: number): CommitUnit {
  const { fence, version } = lane;
  if (version === 0n) return unit(lane, number);
  return step(fence, number, version, {
    row: { fundingTxid: bytes(32, 1), fundingOutputIndex: 0, holderBalanceMsat: version },
    delta: { hot: bytes(HOT_BYTES, Number(version)) },
    monitorUpdates: [{ updateId: version, payload: bytes(150, 1) }],
  });
}

const KINDS = { light: lightUnit, htlc: unit } as const;
type Kind = keyof typeof KINDS;

/** What one commitment step of a forwarding channel writes: an HTLC in, one out of the way, monitor log, intent, secret. */
function unit(lane: Lane, number: number): CommitUnit {
  const { fence, version, htlcId } = lane;
  if (version === 0n) return step(fence, number, 0n, { monitorBirth: bytes(400, 1) });
  const done = [{ direction: 'inbound' as const, id: htlcId - 1n }];
  return step(fence, number, version, {
    row: { fundingTxid: bytes(32, 1), fundingOutputIndex: 0, holderBalanceMsat: version, htlcsInFlight: 1 },
    delta: {
      hot: bytes(HOT_BYTES, Number(version)),
      newHtlcs: [htlc('inbound', htlcId)],
      settledHtlcs: htlcId === 0n ? [] : done,
      secretBuckets: [{ bucket: Number(version % 3n), index: version, secret: bytes(32, 1) }],
      holderSignatures: bytes(130, Number(version)),
    },
    monitorUpdates: [{ updateId: version, payload: bytes(250, 1) }],
    forwarding: {
      intents: [intent(htlcSource(number, htlcId), 999, fence.shard)],
      ...(version % 10n === 0n && { events: [event('bench', '{}')] }),
    },
  });
}

async function turn(store: ManagerStore, lane: Lane, kind: Kind): Promise<void> {
  const verdicts = await store.commitSteps(lane.numbers.map((number) => KINDS[kind](lane, number)));
  const bad = verdicts.find(({ type }) => type !== 'committed');
  if (bad !== undefined) throw new TypeError(JSON.stringify(bad));
  if (lane.version > 0n) lane.htlcId += 1n;
  lane.version += 1n;
}

async function walPosition(database: PostgresUnderTest): Promise<number> {
  const [row] = await database.admin.read<{ at: bigint }>(
    `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8 AS at`,
  );
  return Number(row?.at);
}

async function run(
  database: PostgresUnderTest,
  store: ManagerStore,
  shard: number,
  kind: Kind,
  lanes: number,
  channels: number,
): Promise<void> {
  const fences = await Promise.all(
    Array.from({ length: lanes }, (_, lane) => owner(store, 'bench', shard + lane)),
  );
  const all = fences.map((fence, lane): Lane => ({
    fence,
    numbers: Array.from({ length: channels }, (_, index) => (shard + lane) * 1_000 + index),
    version: 0n,
    htlcId: 0n,
  }));
  for (const lane of all) for (let warm = 0; warm < 8; warm += 1) await turn(store, lane, kind);
  const latencies: number[] = [];
  const wal = await walPosition(database);
  const cpu = process.cpuUsage();
  const start = performance.now();
  const end = start + SECONDS * 1_000;
  await Promise.all(
    all.map(async (lane) => {
      while (performance.now() < end) {
        const from = performance.now();
        await turn(store, lane, kind);
        latencies.push(performance.now() - from);
      }
    }),
  );
  const seconds = (performance.now() - start) / 1_000;
  const used = process.cpuUsage(cpu);
  const perCall = ((await walPosition(database)) - wal) / latencies.length;
  latencies.sort((x, y) => x - y);
  const at = (share: number): string => (latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(2);
  console.log(
    `${kind}, ${lanes} lane(s) × ${String(channels).padStart(2)} channel(s): ${Math.round((latencies.length * channels) / seconds)} channels/s, ` +
      `${Math.round(latencies.length / seconds)} commits/s, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, WAL ${Math.round(perCall)} B/call ` +
      `(${Math.round(perCall / channels)} B/channel), client CPU ${((used.user + used.system) / 1_000 / latencies.length / channels).toFixed(3)} ms/channel`,
  );
}

const database = await makePostgresManagerDatabase();
const store = database.connect('bench');
let shard = 1_000;
for (const kind of ['light', 'htlc'] as const) {
  for (const [lanes, channels] of [
    [1, 1],
    [1, 10],
    [1, 50],
    [2, 10],
    [2, 50],
  ] as const) {
    await run(database, store, shard, kind, lanes, channels);
    shard += lanes;
  }
}
const [size] = await database.admin.read<{ hot: number; rows: bigint }>(
  'SELECT max(pg_column_size(c.*)) AS hot, count(*) AS rows FROM channel AS c',
);
const tables = await database.admin.read<{ relname: string; updates: bigint; hot: bigint }>(
  `SELECT relname, n_tup_upd AS updates, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE n_tup_upd > 0 ORDER BY relname`,
);
console.log(`channel row: ${size?.hot} B`);
for (const { relname, updates, hot } of tables)
  console.log(`${relname}: ${updates} updates, ${((100 * Number(hot)) / Number(updates)).toFixed(1)} % HOT`);
await store.close();
await database.drop();
