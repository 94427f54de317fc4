// What the fleet survives, with real processes and two LDK wallets that pay each other all the while. One fleet
// for the whole file: the tests run in their order, and the last two cost it its channels.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fromHex, toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { nodeSockets } from '@fulmen/peer-gateway';
import type { Channel } from '@fulmen/proto/manager/v1/manager';
import { TestPeer } from '@fulmen/testing/peer';
import { make } from '@fulmen/wire';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LdkWallet } from '../../ldk-wallet/client.ts';
import { ensure, until } from '../main-job/waiting.ts';
import type { World } from '../main-job/world.ts';
import { EventFollower } from './event-reader.ts';
import { FaultWorld, type LogMark, MANAGERS, NODE_DATABASE, SIGNER_DATABASE } from './fault-world.ts';
import { backUp, replace } from './set-back.ts';
import { books, Traffic } from './traffic.ts';

const START_MS = 120_000;
const sockets = nodeSockets();

let faults: FaultWorld;
let world: World;
let follower: EventFollower;
let failures = 0;
/** Payments that the fleet forwarded, over all tests. */
let forwards = 0;

beforeAll(async () => {
  faults = await FaultWorld.start();
  world = faults.world;
  follower = new EventFollower(world.node);
  follower.start();
}, START_MS);

afterAll(async () => {
  await follower.stop();
  await faults.stop(failures === 0 ? 'remove' : 'keep');
}, START_MS);

/** A test whose failure keeps the fleet's logs. */
function fault(name: string, run: () => Promise<void>, timeoutMs = 90_000): void {
  test(
    name,
    async () => {
      failures += 1;
      await run();
      failures -= 1;
    },
    timeoutMs,
  );
}

/** Payments before, during and after `damage`; nothing may be lost by it. */
async function underPayments(damage: (traffic: Traffic) => Promise<void>): Promise<void> {
  const before = await books(world);
  const traffic = new Traffic(world);
  traffic.start();
  await traffic.flows(6);
  await damage(traffic);
  await traffic.flows(6);
  await traffic.stop();
  await traffic.nothingLost(before);
  forwards += traffic.settled;
}

/** Alarms: a channel or shard that this fleet would have to explain. */
function alarms(since: LogMark): string[] {
  return faults
    .errors(since)
    .filter((line) => /ALARM|out of service|passive|cannot be read|missing/.test(line));
}

const gatewayPort = (index: number): number => [...faults.fleet.lightningPorts.values()][index] ?? 0;

async function dial(gateway: number, staticSecret: Uint8Array): Promise<TestPeer> {
  const identity = { secp: secp256k1, staticSecret, ephemeralSecret: randomBytes(32) };
  const peer = await TestPeer.connect(
    sockets,
    { host: '127.0.0.1', port: gatewayPort(gateway) },
    world.nodeId,
    identity,
  );
  await peer.next('init');
  return peer;
}

/** The connection works in both directions. */
async function pong(peer: TestPeer): Promise<void> {
  await peer.send(make('ping', { numPongBytes: 1, ignored: new Uint8Array(0) }));
  await peer.next('pong');
}

async function within<T>(what: string, promise: Promise<T>, timeoutMs = 20_000): Promise<T> {
  let done: { readonly value: T } | undefined;
  promise.then(
    (value) => (done = { value }),
    () => undefined,
  );
  return (await until(what, () => Promise.resolve(done), timeoutMs)).value;
}

/** `payer` pays an invoice of the fleet's own. */
async function payFleet(payer: LdkWallet, amountMsat: bigint): Promise<void> {
  const invoice = await until('an invoice of the fleet', () =>
    world.node.invoices.createInvoice(
      { amountMsat, description: 'a fault', idempotencyKey: '' },
      world.node.auth(),
    ),
  );
  const outcome = await payer.payAndWait({ bolt11: invoice.bolt11 });
  expect(outcome.event).toBe('payment_sent');
}

fault('a peer that sends anything at all loses its own connection, and nobody else’s', async () => {
  const mark = faults.mark();
  const restarts = faults.restarts();
  const bystander = await dial(0, randomBytes(32));
  const channel = (await world.fleetChannel(world.alice))?.channelId ?? new Uint8Array(32);
  const offences: readonly { readonly name: string; readonly commit: (peer: TestPeer) => Promise<void> }[] = [
    { name: 'bytes that are no frame', commit: (peer) => peer.socket.write(randomBytes(4_096)) },
    { name: 'an unknown even message', commit: (peer) => peer.send(Uint8Array.of(0xff, 0xfe, 1, 2, 3)) },
    { name: 'a message without a type', commit: (peer) => peer.send(Uint8Array.of(1)) },
    // A TLV that claims 2^63 bytes.
    {
      name: 'a length beyond all bounds',
      commit: (peer) => peer.send(fromHex('001000000000' + '01' + 'ff7fffffffffffffff')),
    },
    {
      name: 'half a channel message',
      commit: (peer) => peer.send(concat(fromHex('0080'), channel, randomBytes(7))),
    },
  ];
  for (const { name, commit } of offences) {
    const peer = await dial(0, randomBytes(32));
    await commit(peer);
    await within(`the end of a connection after ${name}`, peer.closed);
  }
  const raw = await sockets.connect({ host: '127.0.0.1', port: gatewayPort(0) });
  await raw.write(randomBytes(50));
  await within('the end of a connection after a garbled handshake', raw.closed);
  // BOLT 1: "upon receiving a message of unknown, odd type: MUST ignore the received message".
  await bystander.send(concat(Uint8Array.of(0xff, 0xff), randomBytes(65_000)));
  // Somebody else's channel is unknown to this peer.
  await bystander.send(
    make('shutdown', { channelId: channel, scriptpubkey: fromHex('0014' + '00'.repeat(20)) }),
  );
  await pong(bystander);
  bystander.close();
  await payFleet(world.alice, 1_000_000n);
  expect(faults.restarts()).toEqual(restarts);
  expect(alarms(mark)).toEqual([]);
});

fault('of two connections of one peer the newer wins everywhere, and the older is closed', async () => {
  const secret = randomBytes(32);
  const first = await dial(0, secret);
  const second = await dial(1, secret);
  await within('the end of the older connection', first.closed);
  await pong(second);
  const third = await dial(0, secret);
  await within('the end of the older connection', second.closed);
  await pong(third);
  // At the same moment: one of them remains, and one only.
  const both = await Promise.all([dial(0, secret), dial(1, secret)]);
  await within('the end of the oldest connection', third.closed);
  await within(
    'the end of one of two connections made at once',
    Promise.race(both.map((peer) => peer.closed)),
  );
  const ended = await Promise.all(
    both.map((peer) =>
      pong(peer).then(
        () => 'open',
        () => 'closed',
      ),
    ),
  );
  expect(ended.sort()).toEqual(['closed', 'open']);
  for (const peer of both) peer.close();
});

fault('Postgres is away for five seconds: payments wait, nothing is lost, no process ends', async () => {
  const mark = faults.mark();
  const restarts = faults.restarts();
  const { postgres } = faults.fleet;
  await underPayments(async (traffic) => {
    await postgres.kill();
    const downAtMs = performance.now();
    await until('the fifth second', () =>
      Promise.resolve(performance.now() - downAtMs > 5_000 ? true : undefined),
    );
    await postgres.start();
    await traffic.flows(10);
  });
  expect(alarms(mark)).toEqual([]);
  expect(faults.restarts()).toEqual(restarts);
});

fault(
  'a channel-manager that sleeps past its lease loses its shards at once, and wakes as a stranger to them',
  async () => {
    await faults.balanced();
    const mark = faults.mark();
    const victim = (await world.fleetChannel(world.alice))?.ownerReplicaId ?? '';
    const other = MANAGERS.find((name) => name !== victim) ?? '';
    const atFirst = await faults.owners();
    await underPayments(async (traffic) => {
      let takenOver: Awaited<ReturnType<FaultWorld['owners']>> = new Map();
      let connection = await aliceConnection();
      const awake = await asleep(victim, async () => {
        // Offered to the sleeper before anybody knows that it sleeps: it must not answer when it wakes.
        const nodeId = toHex(world.nodeId);
        await world.alice.call('disconnect', { nodeId });
        await until('a connection of Alice', async () => {
          await world.alice.call('connect', { nodeId, host: '127.0.0.1', port: gatewayPort(0) });
          return true;
        });
        await faults.ownsAll(other, 20_000);
        takenOver = await faults.owners();
        connection = await aliceConnection();
        await traffic.flows(10);
      });
      await faults.logged(victim, awake, 'a shard left this replica');
      await faults.balanced();
      for (const [shard, { owner, epoch }] of atFirst) {
        if (owner === victim) expect(takenOver.get(shard)?.epoch).toBeGreaterThan(epoch);
      }
      const now = await aliceConnection();
      expect(now.epoch).toBeGreaterThanOrEqual(connection.epoch);
      expect(now.generation).toBeGreaterThanOrEqual(connection.generation);
      const reasons = faults
        .log(victim, awake)
        .flatMap((line) => /"reason":"([^"]*)","msg":"a shard left/.exec(line.text)?.[1] ?? []);
      expect(reasons.filter((reason) => reason === 'released')).toEqual([]);
    });
    expect(alarms(mark)).toEqual([]);
    expect(faults.log('signer', mark).filter((line) => line.level >= 50)).toEqual([]);
  },
);

/** Freezes a process while `run` runs; gives the place in the logs where it woke. */
async function asleep(name: string, run: () => Promise<void>): Promise<LogMark> {
  faults.fleet.supervisor.pause(name);
  try {
    await run();
    return faults.mark();
  } finally {
    faults.fleet.supervisor.resume(name);
  }
}

async function aliceConnection(): Promise<{ readonly epoch: bigint; readonly generation: bigint }> {
  const [row] = await faults.rows<{ epoch: string; generation: string }>(
    NODE_DATABASE,
    'SELECT epoch, generation FROM manager.peer_connection WHERE peer_node_id = $1',
    [Buffer.from(world.alice.nodeId, 'hex')],
  );
  ensure(row !== undefined, 'Alice never connected');
  return { epoch: BigInt(row.epoch), generation: BigInt(row.generation) };
}

fault('a signer whose database was set back signs nothing until the right one is back', async () => {
  const { supervisor, stateDir } = faults.fleet;
  const marker = path.join(stateDir, 'signer', 'seed.json.generation');
  const generation = (): bigint => BigInt(fs.readFileSync(marker, 'utf8').trim());
  await backUp(faults, SIGNER_DATABASE, 'signer_before');
  const backedUpAt = generation();
  await underPayments(async (traffic) => {
    await until('a later marker', () => Promise.resolve(generation() > backedUpAt + 10n ? true : undefined));
    await supervisor.stop('signer');
    await replace(faults, SIGNER_DATABASE, 'signer_before', 'signer_now');
    const mark = faults.mark();
    await supervisor.restart('signer');
    await faults.logged('signer', mark, 'the database was set back');
    expect(await faults.metric('signer', 'signer_unreconciled')).toBe(1);
    const settled = traffic.settled;
    const refusals = (): Promise<number> =>
      faults.metric('signer', 'signer_refusals_total', 'policy-unreconciled');
    await until('refusals', async () => ((await refusals()) > 20 ? true : undefined));
    expect(traffic.settled).toBe(settled);
    await supervisor.stop('signer');
    await replace(faults, SIGNER_DATABASE, 'signer_now', 'signer_stale');
    await supervisor.restart('signer');
    expect(await faults.metric('signer', 'signer_unreconciled')).toBe(0);
  });
});

fault('NATS is gone for good: everything still arrives, by polling', async () => {
  await faults.fleet.nats.stop();
  await underPayments((traffic) => traffic.flows(10));
  // The fleet's invoices live with some replica: one of the two payers' channels is with the other.
  await payFleet(world.alice, 1_000_000n);
  await payFleet(world.bob, 1_000_000n);
});

fault('a subscriber saw every event once, in order, without a gap, whatever died', async () => {
  const count = (type: string): number => follower.events.filter((event) => event.type === type).length;
  await until(`${forwards} forwards in the event log`, () =>
    Promise.resolve(count('payment_forwarded') >= forwards ? true : undefined),
  );
  const positions = follower.events.map(({ position }) => position);
  expect(positions).toEqual(positions.map((_position, index) => BigInt(index + 1)));
  expect(count('payment_forwarded')).toBe(forwards);
  const htlcs = follower.events
    .filter(({ type }) => type === 'payment_forwarded')
    .map(({ body }) => {
      const { inboundChannelId, inboundHtlcId } = JSON.parse(body) as Record<string, unknown>;
      return `${String(inboundChannelId)}/${String(inboundHtlcId)}`;
    });
  expect(new Set(htlcs).size).toBe(htlcs.length);
  await follower.stop();
});

fault(
  'a node database set back: the channels it forgot are passive, and their peers close them',
  async () => {
    const { supervisor } = faults.fleet;
    await backUp(faults, NODE_DATABASE, 'node_before');
    for (let payment = 0; payment < 3; payment += 1) await payFleet(world.bob, 2_000_000n);
    await world.balancesAgree(world.bob, 'Bob');
    const bobs = await world.fleetChannel(world.bob);
    ensure(bobs !== undefined, 'the channel with Bob is gone');
    const users = ['console', ...MANAGERS, 'router', 'chain-monitor'];
    await Promise.all(users.map((name) => supervisor.stop(name)));
    await replace(faults, NODE_DATABASE, 'node_before', 'node_now');
    const mark = faults.mark();
    await Promise.all(users.map((name) => supervisor.restart(name)));
    await peerCloses(world.bob, bobs, mark);
    expect((await world.fleetChannel(world.bob))?.phase).toBe('passive');
    // The other channel did not move since: it goes on.
    await world.usable(world.alice, 'Alice');
    await payFleet(world.alice, 1_000_000n);
  },
);

fault('a signer set back with its marker: the manager sees it, and the peer closes', async () => {
  const { supervisor, stateDir } = faults.fleet;
  const marker = path.join(stateDir, 'signer', 'seed.json.generation');
  const marked = fs.readFileSync(marker);
  await backUp(faults, SIGNER_DATABASE, 'signer_again');
  for (let payment = 0; payment < 3; payment += 1) await payFleet(world.alice, 2_000_000n);
  await world.balancesAgree(world.alice, 'Alice');
  const alices = await world.fleetChannel(world.alice);
  ensure(alices !== undefined, 'the channel with Alice is gone');
  const users = [...MANAGERS, 'signer'];
  await Promise.all(users.map((name) => supervisor.stop(name)));
  await replace(faults, SIGNER_DATABASE, 'signer_again', 'signer_lost');
  fs.writeFileSync(marker, marked);
  const mark = faults.mark();
  await Promise.all(users.map((name) => supervisor.restart(name)));
  await peerCloses(world.alice, alices, mark);
});

/** An alarm, no broadcast of ours, and the peer's last commitment in the mempool, which pays the fleet what is its. */
async function peerCloses(wallet: LdkWallet, channel: Channel, since: LogMark): Promise<void> {
  await until('an alarm', () => {
    const lines = MANAGERS.flatMap((name) => faults.log(name, since));
    return Promise.resolve(
      lines.find((line) => line.level >= 50 && line.msg.startsWith('ALARM: this channel is passive')),
    );
  });
  await wallet.event('channel_closed', () => true, 60_000);
  const outputs = await until('the peer’s commitment transaction', async () => {
    const mempool = (await faults.fleet.chain.call('getrawmempool')) as readonly string[];
    for (const txid of mempool) {
      const transaction = (await faults.fleet.chain.call('getrawtransaction', txid, true)) as RawTransaction;
      const isCommitment = transaction.vin.some(
        ({ txid: spent }) => spent === displayTxid(channel.fundingTxid),
      );
      if (isCommitment) return transaction.vout.map(({ value }) => BigInt(Math.round(value * 1e8)));
    }
    return undefined;
  });
  const balanceSat = channel.holderBalanceMsat / 1000n;
  // The funder's output pays the commitment's fee and its anchors.
  expect(outputs.some((value) => value <= balanceSat && value > balanceSat - 5_000n)).toBe(true);
  const ours = await faults.rows(
    NODE_DATABASE,
    "SELECT kind FROM manager.broadcast WHERE channel_id = $1 AND kind <> 'funding'",
    [Buffer.from(channel.channelId)],
  );
  expect(ours).toEqual([]);
  await world.mine(1);
}

type RawTransaction = {
  readonly vin: readonly { readonly txid?: string }[];
  readonly vout: readonly { readonly value: number }[];
};

const displayTxid = (txid: Uint8Array): string => toHex(Uint8Array.from(txid).reverse());

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
