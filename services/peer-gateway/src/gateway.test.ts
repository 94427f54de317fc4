import { FeatureBits, toHex } from '@fulmen/codec';
import { encodeMessage, make } from '@fulmen/wire';
import { TestPeer } from '@fulmen/testing/peer';
import type { Socket } from '@fulmen/testing/socket';
import { afterEach, describe, expect, test } from 'vitest';
import { Fleet, type FleetOptions, nodeIdOf, secretOf, shutdown } from './testing/fleet.ts';
import { settle } from './testing/manual-runtime.ts';

const text = (data: Uint8Array): string => new TextDecoder().decode(data);

let fleet: Fleet;
const begin = async (options?: FleetOptions): Promise<Fleet> => (fleet = await Fleet.start(options));
afterEach(() => fleet.stop());

describe('a peer and its manager', () => {
  test('init says what we offer, the chain and the address that we see', async () => {
    await begin();
    const peer = await fleet.connect('alice');
    const init = await peer.next('init');
    const features = FeatureBits.decode(init.features);
    expect(features.bits()).toEqual([0, 5, 7, 8, 12, 14, 17, 19, 23, 27, 43, 45, 47, 51]);
    expect(toHex(init.tlvs.networks?.[0] ?? new Uint8Array(0))).toMatch(/^06226e46/);
  });

  test('the manager hears of the peer, and frames flow both ways, numbered', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    expect(fleet.manager.all('hello')).toMatchObject([{ gatewayId: 'gateway-0' }]);
    expect(fleet.manager.all('peerConnected')).toMatchObject([
      { peerNodeId: nodeIdOf('alice'), connectionId: 1n, inbound: true },
    ]);
    await peer.send(shutdown(1));
    await peer.send(shutdown(2));
    await settle();
    expect(fleet.manager.all('inbound')).toMatchObject([
      { generation: 1n, number: 1n, message: encodeMessage(shutdown(1)) },
      { generation: 1n, number: 2n, message: encodeMessage(shutdown(2)) },
    ]);
    fleet.outbound('alice', 1n);
    fleet.outbound('alice', 2n);
    expect((await peer.next('shutdown')).scriptpubkey.length).toBe(1);
    expect((await peer.next('shutdown')).scriptpubkey.length).toBe(2);
    await settle();
    expect(fleet.manager.all('outboundAck').at(-1)).toMatchObject({ generation: 1n, through: 2n });
  });

  test('frames before acceptance wait, within the credit', async () => {
    await begin();
    fleet.manager.accepts = false;
    const peer = await fleet.peer('alice');
    const flood = (async () => {
      for (let i = 0; i < 40; i += 1) await peer.send(shutdown(60_000));
    })();
    await settle();
    expect(fleet.manager.all('inbound')).toEqual([]);
    expect(await fleet.value('inbound_messages_total', { route: 'manager' })).toBeLessThan(8);
    expect(await fleet.value('read_pauses_total', { reason: 'credit' })).toBe(1);
    const [connected] = fleet.manager.all('peerConnected');
    if (connected !== undefined) fleet.manager.accept(connected);
    await flood;
    await settle();
    expect(fleet.manager.all('inbound').map(({ number }) => number)).toEqual(
      Array.from({ length: 40 }, (_, i) => BigInt(i + 1)),
    );
  });

  test('a manager that does not acknowledge stops the reading; nothing of its silence is held against the peer', async () => {
    await begin();
    fleet.manager.acknowledges = false;
    const peer = await fleet.peer('alice', { answersPings: false });
    const flood = (async () => {
      for (let i = 0; i < 40; i += 1) await peer.send(shutdown(60_000));
    })();
    await fleet.runtime.advance(120_000);
    expect(fleet.manager.all('inbound').length).toBeLessThan(8);
    expect(fleet.manager.all('peerDisconnected')).toEqual([]);
    fleet.manager.acknowledges = true;
    const last = fleet.manager.all('inbound').at(-1);
    fleet.manager.send({
      $case: 'inboundAck',
      value: {
        peerNodeId: nodeIdOf('alice'),
        generation: 1n,
        through: last?.number ?? 0n,
        creditBytes: 262_144,
      },
    });
    await flood;
    await settle();
    expect(fleet.manager.all('inbound').length).toBe(40);
  });

  test('frames of another generation or epoch are not sent', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    fleet.outbound('alice', 1n, { generation: 2n });
    fleet.outbound('alice', 1n, { epoch: 2n });
    fleet.outbound('alice', 1n);
    fleet.outbound('alice', 2n);
    await settle();
    expect(peer.waiting.map((message) => message.type === 'shutdown' && message.scriptpubkey.length)).toEqual(
      [1, 2],
    );
    expect(await fleet.value('dropped_messages_total', { reason: 'stale_outbound' })).toBe(2);
  });

  test('channel_updates about the channels with a peer go to the manager, others to the router alone', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    const update = (shortChannelId: bigint) =>
      make('channel_update', {
        signature: new Uint8Array(64),
        chainHash: new Uint8Array(32),
        shortChannelId,
        timestamp: 1,
        messageFlags: 1,
        channelFlags: 0,
        cltvExpiryDelta: 40,
        htlcMinimumMsat: 1n,
        feeBaseMsat: 1,
        feeProportionalMillionths: 1,
        htlcMaximumMsat: 1n,
        excessData: new Uint8Array(0),
      });
    await peer.send(update(8n));
    await settle();
    const own = (generation: bigint, shortChannelIds: bigint[]): void =>
      fleet.manager.send({
        $case: 'ownScids',
        value: { peerNodeId: nodeIdOf('alice'), generation, shortChannelIds },
      });
    own(2n, [9n]);
    own(1n, [7n, 8n]);
    await settle();
    for (const scid of [9n, 8n]) await peer.send(update(scid));
    await settle();
    expect(fleet.manager.all('inbound')).toMatchObject([{ message: encodeMessage(update(8n)) }]);
  });

  test.each([
    ['a gap', [2n]],
    ['a repetition', [1n, 1n]],
  ])("%s in the manager's numbers resets the connection", async (_name, numbers) => {
    await begin();
    const peer = await fleet.peer('alice');
    for (const number of numbers) fleet.outbound('alice', number);
    await peer.closed;
    await settle();
    expect(fleet.manager.all('peerDisconnected')).toMatchObject([{ connectionId: 1n, generation: 1n }]);
  });

  test('the manager ends a connection after what it said', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    fleet.outbound('alice', 1n);
    fleet.manager.send({
      $case: 'disconnect',
      value: { peerNodeId: nodeIdOf('alice'), generation: 9n, reason: 'stale' },
    });
    fleet.manager.send({
      $case: 'disconnect',
      value: { peerNodeId: nodeIdOf('alice'), generation: 1n, reason: 'enough' },
    });
    expect((await peer.next('shutdown')).scriptpubkey.length).toBe(1);
    await peer.closed;
  });
});

describe('gossip', () => {
  test('a router that starts anew hears of the peers and of their filters', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    const filter = make('gossip_timestamp_filter', {
      chainHash: new Uint8Array(32),
      firstTimestamp: 5,
      timestampRange: 1,
    });
    await peer.send(filter);
    await settle();
    fleet.network.crash('router');
    await settle();
    fleet.router.received.length = 0;
    await fleet.router.listen(fleet.network);
    await fleet.runtime.advance(2_000);
    expect(fleet.router.received.slice(0, 5)).toEqual([
      { $case: 'gatewayId', value: 'gateway-0' },
      { $case: 'sendsGrants', value: true },
      { $case: 'peerUp', value: nodeIdOf('alice') },
      { $case: 'grant', value: { peerNodeId: nodeIdOf('alice'), connectionId: 1n, throughBytes: 65_536n } },
      { $case: 'message', value: { peerNodeId: nodeIdOf('alice'), message: encodeMessage(filter) } },
    ]);
  });

  test('goes to the router and back; what no honest peer does ends the connection', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    const filter = make('gossip_timestamp_filter', {
      chainHash: new Uint8Array(32),
      firstTimestamp: 0,
      timestampRange: 1,
    });
    await peer.send(filter);
    await settle();
    expect(fleet.router.received).toEqual([
      { $case: 'gatewayId', value: 'gateway-0' },
      { $case: 'sendsGrants', value: true },
      { $case: 'peerUp', value: nodeIdOf('alice') },
      { $case: 'grant', value: { peerNodeId: nodeIdOf('alice'), connectionId: 1n, throughBytes: 65_536n } },
      { $case: 'message', value: { peerNodeId: nodeIdOf('alice'), message: encodeMessage(filter) } },
    ]);
    fleet.router.send({
      peerNodeId: nodeIdOf('alice'),
      connectionId: 0n,
      body: { $case: 'message', value: encodeMessage(filter) },
    });
    expect((await peer.next('gossip_timestamp_filter')).timestampRange).toBe(1);
    fleet.router.send({
      peerNodeId: nodeIdOf('alice'),
      connectionId: 0n,
      body: { $case: 'disconnect', value: 'bad signature' },
    });
    expect(text((await peer.next('warning')).data)).toBe('bad signature');
    await peer.closed;
    await settle();
    expect(fleet.router.received.at(-1)).toEqual({ $case: 'peerDown', value: nodeIdOf('alice') });
  });

  test('warnings of the router reach the peer, a few of many, and the connection stays', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    for (let i = 0; i < 100; i += 1) {
      fleet.router.send({
        peerNodeId: nodeIdOf('alice'),
        connectionId: 0n,
        body: { $case: 'warning', value: String(i) },
      });
    }
    expect(text((await peer.next('warning')).data)).toBe('0');
    await fleet.runtime.advance(60_000);
    const warnings = peer.waiting.filter(({ type }) => type === 'warning').length;
    expect(warnings).toBeLessThan(10);
    expect(await fleet.value('dropped_messages_total', { reason: 'gossip_warning' })).toBe(99 - warnings);
    expect(await fleet.value('disconnects_total')).toBe(0);
    await peer.send(shutdown(1));
    await settle();
    expect(fleet.manager.all('inbound')).toMatchObject([{ number: 1n }]);
  });
});

describe('ownership', () => {
  test('a peer waits for an owner, and is given up after a while', async () => {
    await begin();
    fleet.manager.shards = [];
    fleet.manager.hello();
    const patient = await fleet.peer('alice');
    await fleet.runtime.advance(3_000);
    fleet.manager.ownAll(2n).hello();
    await settle();
    expect(fleet.manager.all('peerConnected').length).toBe(1);
    fleet.manager.shards = [];
    fleet.manager.hello();
    const hopeless = await fleet.peer('bob');
    await fleet.runtime.advance(6_000);
    await Promise.all([patient.closed, hopeless.closed]);
    expect(await fleet.value('disconnects_total', { cause: 'no_owner' })).toBe(2);
  });

  test('a new owner resets the connection; the old one is not heard any more', async () => {
    await begin({ managers: 2 });
    const [first, second] = fleet.managers;
    const peer = await fleet.peer('alice');
    second?.ownAll(2n).hello();
    await peer.closed;
    const again = await fleet.peer('alice');
    expect(second?.all('peerConnected').length).toBe(1);
    expect(first?.all('peerConnected').length).toBe(1);
    fleet.outbound('alice', 1n);
    // An owner that woke up late says hello with its old epochs: nothing changes.
    first?.hello();
    await settle();
    expect(again.waiting).toEqual([]);
    expect(await fleet.value('disconnects_total')).toBe(1);
  });

  test('a connection ends with the link that it was accepted on, once its shard has an owner again', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    fleet.manager.cut();
    await settle();
    expect(await fleet.value('disconnects_total')).toBe(0);
    await fleet.runtime.advance(1_000);
    // The manager numbers from the beginning whatever it accepts on the new link.
    expect(fleet.manager.all('peerConnected').map(({ connectionId }) => connectionId)).toEqual([1n]);
    await peer.closed;
    const again = await fleet.peer('alice');
    fleet.outbound('alice', 1n, { generation: 2n });
    expect((await again.next('shutdown')).scriptpubkey.length).toBe(1);
    expect(await fleet.value('disconnects_total', { cause: 'ownership' })).toBe(1);
  });

  test('a link that does not return leaves its peers to another owner, and nobody for long', async () => {
    await begin({ managers: 2 });
    const alice = await fleet.peer('alice');
    fleet.network.crash('manager-0');
    await fleet.runtime.advance(3_000);
    expect(await fleet.value('disconnects_total')).toBe(0);
    fleet.managers[1]?.ownAll(2n).hello();
    await alice.closed;
    await fleet.peer('bob');
    fleet.network.crash('manager-1');
    await fleet.runtime.advance(6_000);
    expect(await fleet.value('disconnects_total', { cause: 'ownership' })).toBe(1);
    expect(await fleet.value('disconnects_total', { cause: 'no_owner' })).toBe(1);
  });

  test('a peer that comes while the link is away is announced once', async () => {
    await begin();
    fleet.network.crash('manager-0');
    await fleet.runtime.advance(3_000);
    await fleet.peer('alice');
    await fleet.manager.listen();
    await fleet.runtime.advance(1_500);
    expect(fleet.manager.all('peerConnected').map(({ connectionId }) => connectionId)).toEqual([1n]);
    expect(await fleet.value('accepted_peers')).toBe(1);
  });

  test('a peer that was not accepted before the link broke is announced again', async () => {
    await begin();
    fleet.manager.accepts = false;
    const peer = await fleet.peer('alice');
    await peer.send(shutdown(1));
    fleet.manager.accepts = true;
    fleet.manager.cut();
    await fleet.runtime.advance(1_000);
    expect(fleet.manager.all('peerConnected').map(({ connectionId }) => connectionId)).toEqual([1n, 1n]);
    expect(fleet.manager.all('inbound')).toMatchObject([{ number: 1n }]);
    expect(await fleet.value('disconnects_total')).toBe(0);
  });

  test('a released shard waits for its next owner', async () => {
    await begin({ managers: 2 });
    const peer = await fleet.peer('alice');
    const shard = fleet.manager.all('peerConnected').length;
    expect(shard).toBe(1);
    for (const owned of fleet.manager.shards) fleet.manager.send({ $case: 'shardReleased', value: owned });
    await fleet.runtime.advance(1_000);
    expect(await fleet.value('disconnects_total')).toBe(0);
    fleet.managers[1]?.ownAll(2n).hello();
    await peer.closed;
    expect(await fleet.value('disconnects_total', { cause: 'ownership' })).toBe(1);
  });
});

describe('dialling', () => {
  const connect = (requestId: bigint): void =>
    fleet.manager.send({
      $case: 'connect',
      value: { peerNodeId: nodeIdOf('bob'), host: 'bob', port: 9735, requestId },
    });

  /** Bob listens; each connection to him is in the list. */
  const listen = async (): Promise<{ peers: TestPeer[]; close: () => Promise<void> }> => {
    const peers: TestPeer[] = [];
    const accept = (socket: Socket): void => {
      void TestPeer.accept(socket, fleet.identity('bob')).then((peer) => peers.push(peer));
    };
    const listener = await fleet.sockets.port('bob').listen({ host: 'bob', port: 9735 }, accept);
    return { peers, close: () => listener.close() };
  };

  test('a wanted peer is dialled, kept, and forgotten', async () => {
    await begin();
    const bob = await listen();
    connect(5n);
    await settle();
    expect(fleet.manager.all('connectResult')).toMatchObject([
      { requestId: 5n, peerNodeId: nodeIdOf('bob'), error: '' },
    ]);
    expect(fleet.manager.all('peerConnected')).toMatchObject([{ inbound: false, remoteAddress: 'bob:9735' }]);
    connect(6n);
    await settle();
    expect(fleet.manager.all('connectResult').at(-1)).toMatchObject({ requestId: 6n, error: '' });
    expect(bob.peers.length).toBe(1);
    await fleet.runtime.advance(60_000);
    bob.peers[0]?.close();
    await fleet.runtime.advance(1_000);
    expect(bob.peers.length).toBe(2);
    fleet.manager.send({ $case: 'forget', value: { peerNodeId: nodeIdOf('bob') } });
    await settle();
    bob.peers[1]?.close();
    await fleet.runtime.advance(120_000);
    expect(bob.peers.length).toBe(2);
  });

  test('a failed dial is answered and tried again with back-off', async () => {
    await begin();
    connect(5n);
    await settle();
    expect(fleet.manager.all('connectResult')).toMatchObject([
      { requestId: 5n, error: 'nobody listens at bob:9735' },
    ]);
    await fleet.runtime.advance(10_000);
    const attempts = await fleet.value('dials_total', { outcome: 'failed' });
    expect(attempts).toBeGreaterThan(3);
    expect(attempts).toBeLessThan(10);
    const bob = await listen();
    await fleet.runtime.advance(60_000);
    expect(bob.peers.length).toBe(1);
  });

  test('a wanted peer whose shard moves is connected again at once', async () => {
    await begin({ managers: 2 });
    const bob = await listen();
    connect(5n);
    await settle();
    fleet.managers[1]?.ownAll(2n).hello();
    await settle();
    expect(bob.peers.length).toBe(2);
    expect(fleet.managers[1]?.all('peerConnected').length).toBe(1);
  });

  test('another key than the wanted one is refused', async () => {
    await begin();
    await fleet.sockets.port('bob').listen({ host: 'bob', port: 9735 }, (socket) => {
      const identity = { ...fleet.identity('mallory'), staticSecret: secretOf('mallory') };
      TestPeer.accept(socket, identity).catch(() => socket.reset());
    });
    connect(5n);
    await settle();
    expect(fleet.manager.all('connectResult')[0]?.error).not.toBe('');
    expect(fleet.manager.all('peerConnected')).toEqual([]);
  });
});

test('stopping closes every connection and leaves nothing running', async () => {
  await begin();
  const peers = await Promise.all(['alice', 'bob'].map((name) => fleet.peer(name)));
  const silent = await fleet.sockets.port('mallory').connect(fleet.address);
  await fleet.stop();
  await Promise.all([...peers, silent].map((peer) => peer.closed));
  await expect(fleet.connect('carol')).rejects.toThrow('nobody listens');
});
