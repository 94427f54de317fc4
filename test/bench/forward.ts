// Payments per second through the fleet: LDK sender → fleet → LDK receiver, closed loop of 1, 10 and 100
// workers, dust and not. Fresh fleet, wallets and channels for each setting, since LDK's monitors grow with
// payments and slow it down. Each worker asks the receiver for an invoice, pays it, and waits for the end.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { toHex } from '@fulmen/codec';
import pg from 'pg';
import type { LdkWallet } from '../ldk-wallet/client.ts';
import { textReport } from '../e2e/main-job/report.ts';
import { until } from '../e2e/main-job/waiting.ts';
import { World } from '../e2e/main-job/world.ts';
import { cpuSeconds, machine, percentile, processTree } from './machine.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    workers: { type: 'string', default: '1,10,100' },
    amounts: { type: 'string', default: '10000000,200000' },
    channels: { type: 'string', default: '4' },
    keep: { type: 'boolean', default: false },
  },
});

const CHANNEL_SAT = 10_000_000;
/** Enough for Node to have compiled the hot path in every process. */
const WARM_UP = 50;
/** The wallets are the load, not the subject: their files lie in memory, and they look for blocks once a second. */
const MEMORY_DIR = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
const WALLET_POLL_MS = 1_000;

type Row = Readonly<Record<string, string>>;

async function openChannels(world: World, count: number): Promise<void> {
  const { alice, bob, node, fleet } = world;
  const { address } = await node.onchain.newAddress({ addressType: 'p2wpkh' }, node.auth());
  const [alices, bobs] = await Promise.all([alice.call('newAddress'), bob.call('newAddress')]);
  for (let i = 0; i < count; i += 1) for (const to of [alices.address, address]) await world.mine(1, to);
  await world.mine(1, bobs.address);
  await world.mine(100);
  const [port] = fleet.lightningPorts.values();
  await alice.call('connect', { nodeId: toHex(world.nodeId), host: '127.0.0.1', port: port ?? 0 });
  await alice.event('peer_connected');
  await node.peers.connectPeer(
    { nodeId: Buffer.from(bob.nodeId, 'hex'), host: '127.0.0.1', port: bob.port },
    node.auth(),
  );
  for (let i = 0; i < count; i += 1) {
    const before = alice.events.filter((event) => event.event === 'channel_pending').length;
    await alice.call('openChannel', { nodeId: toHex(world.nodeId), sat: CHANNEL_SAT });
    await until('a pending channel', async () =>
      alice.events.filter((event) => event.event === 'channel_pending').length > before ? true : undefined,
    );
    await node.channels.openChannel(
      {
        nodeId: Buffer.from(bob.nodeId, 'hex'),
        fundingSat: BigInt(CHANNEL_SAT),
        pushMsat: 0n,
        announce: false,
        idempotencyKey: '',
      },
      node.auth(),
    );
    await until('both funding transactions in the mempool', async () =>
      ((await fleet.chain.call('getrawmempool')) as unknown[]).length >= 2 ? true : undefined,
    );
    await world.mine(6);
  }
  for (const wallet of [alice, bob]) {
    await until('usable channels', async () => {
      const channels = await wallet.call('listChannels');
      return channels.filter((channel) => channel.usable && (wallet === alice || channel.forwarding !== null))
        .length === count
        ? true
        : undefined;
    });
  }
}

async function pay(alice: LdkWallet, bob: LdkWallet, amountMsat: bigint): Promise<boolean> {
  const { bolt11 } = await bob.call('createInvoice', { amountMsat });
  const { paymentId } = await alice.call('pay', { bolt11, attempts: 3 });
  return (await alice.outcome(paymentId, 60_000)).event === 'payment_sent';
}

type Counters = {
  readonly commits: number;
  readonly walBytes: number;
  readonly signerCalls: number;
  readonly managerCommits: number;
  readonly units: number;
};

async function counters(world: World, database: pg.Client): Promise<Counters> {
  const { rows } = await database.query<{ commits: string; wal: string }>(
    "SELECT (SELECT sum(xact_commit) FROM pg_stat_database WHERE datname LIKE 'fulmen_%') AS commits, pg_current_wal_lsn() - '0/0'::pg_lsn AS wal",
  );
  let signerCalls = 0;
  let managerCommits = 0;
  let units = 0;
  for (const name of world.fleet.services.filter((service) => service.startsWith('channel-manager'))) {
    const text = await (
      await fetch(
        `http://127.0.0.1:${String(world.fleet.supervisor.status().find((status) => status.name === name)?.ready?.['metricsPort'])}/metrics`,
      )
    ).text();
    const read = (metric: string): number =>
      Number(new RegExp(`^fulmen_${metric}\\{[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
    signerCalls += read('manager_signer_calls_total');
    managerCommits += read('manager_store_commits_total');
    units += read('manager_committed_units_total');
  }
  return {
    commits: Number(rows[0]?.commits ?? 0),
    walBytes: Number(rows[0]?.wal ?? 0),
    signerCalls,
    managerCommits,
    units,
  };
}

function cpuByProcess(world: World): Map<string, number> {
  const result = new Map<string, number>();
  const add = (name: string, pid: number | undefined): void => {
    if (pid === undefined) return;
    result.set(
      name,
      processTree(pid).reduce((sum, id) => sum + cpuSeconds(id), 0),
    );
  };
  for (const status of world.fleet.supervisor.status()) add(status.name, status.pid);
  add('postgres', world.fleet.postgres.pid());
  add('nats', world.fleet.nats.pid());
  add('alice', world.alice.pid());
  add('bob', world.bob.pid());
  return result;
}

async function measure(
  amountMsat: bigint,
  workers: number,
  seconds: number,
): Promise<{ row: Row; cpu: Map<string, number> }> {
  const stateDir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-bench-'));
  fs.chmodSync(stateDir, 0o755);
  const walletsDir = fs.mkdtempSync(path.join(MEMORY_DIR, 'fulmen-bench-wallets-'));
  const world = await World.start(
    stateDir,
    { ...textReport(Date.now()), say: () => undefined },
    { walletsDir, walletPollMs: WALLET_POLL_MS },
  );
  try {
    await openChannels(world, Number(values.channels));
    const { alice, bob } = world;
    for (let i = 0; i < WARM_UP; i += 1) await pay(alice, bob, amountMsat);
    const database = new pg.Client({ connectionString: world.fleet.postgres.url() });
    await database.connect();
    const latencies: number[] = [];
    let failed = 0;
    const before = await counters(world, database);
    const cpuBefore = cpuByProcess(world);
    const startedAt = performance.now();
    const endsAt = startedAt + seconds * 1000;
    await Promise.all(
      Array.from({ length: workers }, async () => {
        while (performance.now() < endsAt) {
          const from = performance.now();
          if (await pay(alice, bob, amountMsat).catch(() => false)) latencies.push(performance.now() - from);
          else failed += 1;
        }
      }),
    );
    const elapsed = (performance.now() - startedAt) / 1000;
    const cpuAfter = cpuByProcess(world);
    // The statistics of a session reach the shared counters a moment after its commit.
    await database.query('SELECT pg_stat_clear_snapshot()');
    const after = await counters(world, database);
    await database.end();
    const paid = Math.max(latencies.length, 1);
    const cpu = new Map([...cpuAfter].map(([name, value]) => [name, value - (cpuBefore.get(name) ?? 0)]));
    const totalCpu = [...cpu.values()].reduce((sum, value) => sum + value, 0);
    const ours = [...cpu]
      .filter(([name]) => name !== 'alice' && name !== 'bob' && name !== 'devchain')
      .reduce((sum, [, value]) => sum + value, 0);
    const per = (value: number, digits = 1): string => (value / paid).toFixed(digits);
    return {
      cpu,
      row: {
        'amount msat': amountMsat.toLocaleString('en-US'),
        workers: String(workers),
        'payments/s': (latencies.length / elapsed).toFixed(1),
        failed: String(failed),
        'p50 ms': percentile(latencies, 0.5).toFixed(0),
        'p95 ms': percentile(latencies, 0.95).toFixed(0),
        'p99 ms': percentile(latencies, 0.99).toFixed(0),
        'commits/payment': per(after.commits - before.commits),
        'group commits/payment': per(after.managerCommits - before.managerCommits),
        'steps/payment': per(after.units - before.units),
        'signer calls/payment': per(after.signerCalls - before.signerCalls),
        'WAL kB/payment': per((after.walBytes - before.walBytes) / 1000),
        'CPU ms/payment': per(totalCpu * 1000),
        'of it ours': per(ours * 1000),
      },
    };
  } finally {
    await world.stop();
    if (!values.keep)
      for (const dir of [stateDir, walletsDir]) fs.rmSync(dir, { recursive: true, force: true });
  }
}

console.log(machine());
console.log(
  `closed loop, ${values.seconds} s a setting, ${values.channels} channels of ${CHANNEL_SAT.toLocaleString('en-US')} sat on each side, LDK wallets\n`,
);
let header = false;
for (const amount of values.amounts.split(',')) {
  for (const workers of values.workers.split(',')) {
    const { row, cpu } = await measure(BigInt(amount), Number(workers), Number(values.seconds));
    const keys = Object.keys(row);
    if (!header) console.log(`| ${keys.join(' | ')} |\n|${keys.map(() => '---').join('|')}|`);
    header = true;
    console.log(`| ${keys.map((key) => row[key]).join(' | ')} |`);
    console.error(
      `CPU seconds: ${[...cpu]
        .filter(([, value]) => value > 0.05)
        .toSorted((a, b) => b[1] - a[1])
        .map(([name, value]) => `${name} ${value.toFixed(1)}`)
        .join(', ')}`,
    );
  }
}
