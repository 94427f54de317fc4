import { FeatureBits, toHex } from '@fulmen/codec';
import { decodeMessage, encodeMessage, make } from '@fulmen/wire';
import { TestPeer, testInit } from '@fulmen/testing/peer';
import type { Socket } from '@fulmen/testing/socket';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { Fleet, type FleetOptions, nodeIdOf, secretOf } from './testing/fleet.ts';
import { settle } from './testing/manual-runtime.ts';

const text = (data: Uint8Array): string => new TextDecoder().decode(data);
const channelId = new Uint8Array(32).fill(7);
const shutdown = (length = 22) => make('shutdown', { channelId, scriptpubkey: new Uint8Array(length) });
const ping = (numPongBytes: number) => make('ping', { numPongBytes, ignored: new Uint8Array(0) });

let fleet: Fleet;
const begin = async (options?: FleetOptions): Promise<Fleet> => (fleet = await Fleet.start(options));
afterEach(() => fleet.stop());

/** Sends a channel message from the first manager in the name of an accepted connection. */
function outbound(
  name: string,
  number: bigint,
  overrides: { generation?: bigint; epoch?: bigint } = {},
): void {
  fleet.manager.send({
    $case: 'outbound',
    value: {
      peerNodeId: nodeIdOf(name),
      generation: overrides.generation ?? 1n,
      epoch: overrides.epoch ?? 1n,
      number,
      message: encodeMessage(shutdown(Number(number))),
    },
  });
}

describe('a peer and its manager', () => {
  test('init says what we offer, the chain and the address that we see', async () => {
    await begin();
    const peer = await fleet.connect('alice');
    const init = await peer.next('init');
    const features = FeatureBits.decode(init.features);
    expect(features.bits()).toEqual([0, 5, 7, 8, 12, 14, 17, 19, 23, 27, 45, 47]);
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
    outbound('alice', 1n);
    outbound('alice', 2n);
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
    outbound('alice', 1n, { generation: 2n });
    outbound('alice', 1n, { epoch: 2n });
    outbound('alice', 1n);
    // A repetition, as after a link that broke.
    outbound('alice', 1n);
    outbound('alice', 2n);
    await settle();
    expect(peer.waiting.map((message) => message.type === 'shutdown' && message.scriptpubkey.length)).toEqual(
      [1, 2],
    );
    expect(await fleet.value('dropped_messages_total', { reason: 'stale_outbound' })).toBe(2);
  });

  test("a gap in the manager's numbers resets the connection", async () => {
    await begin();
    const peer = await fleet.peer('alice');
    outbound('alice', 2n);
    await peer.closed;
    await settle();
    expect(fleet.manager.all('peerDisconnected')).toMatchObject([{ connectionId: 1n, generation: 1n }]);
  });

  test('the manager ends a connection after what it said', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    outbound('alice', 1n);
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

describe('what a counterparty may do', () => {
  test('garbage instead of a handshake ends the connection', async () => {
    await begin();
    const socket = await fleet.sockets.port('mallory').connect(fleet.address);
    await socket.write(new Uint8Array(1000).fill(0xff));
    await fleet.runtime.advance(1_000);
    await socket.closed;
    expect(await fleet.value('handshakes_total', { outcome: 'handshake' })).toBe(1);
  });

  test('a handshake that does not come is given up after 10 s, and so is an init', async () => {
    await begin();
    const silent = await fleet.sockets.port('mallory').connect(fleet.address);
    const mute = await fleet.connect('alice', { init: null });
    await fleet.runtime.advance(9_000);
    expect(await fleet.value('handshakes_total')).toBe(0);
    await fleet.runtime.advance(2_000);
    await Promise.all([silent.closed, mute.closed]);
    expect(await fleet.value('handshakes_total', { outcome: 'handshake_deadline' })).toBe(1);
    expect(await fleet.value('handshakes_total', { outcome: 'init_deadline' })).toBe(1);
  });

  test.each([
    ['a ping before init', ping(1), 'the first message must be init'],
    ['another chain', testInit(undefined, new Uint8Array(32).fill(1)), 'no common chain'],
    [
      'an unknown required feature',
      testInit(FeatureBits.fromBits([8, 1000])),
      'required feature bits not supported: 1000',
    ],
    [
      'a required feature that we do not offer',
      testInit(FeatureBits.fromBits([24])),
      'required feature bits not supported: 24',
    ],
    [
      'a feature without what it needs',
      testInit(FeatureBits.fromBits([51])),
      'feature zeroconf needs scid_alias',
    ],
    ['an init cut short', Uint8Array.of(0, 16, 0, 9), 'init cannot be read'],
  ])('%s is answered by a warning and the end', async (_name, init, warning) => {
    await begin();
    const peer = await fleet.connect('alice', { init });
    expect(text((await peer.next('warning')).data)).toBe(warning);
    await fleet.runtime.advance(1_000);
    await peer.closed;
    expect(fleet.manager.all('peerConnected')).toEqual([]);
  });

  test.each([
    ['an unknown even message', Uint8Array.of(0x13, 0x88), 'unknown message 5000'],
    ['a second init', encodeMessage(testInit()), 'a second init'],
    ['a channel message cut short', Uint8Array.of(0, 38, 1), /^message 38: truncated/],
    ['a message without type', Uint8Array.of(1), 'a message without type'],
  ])('%s is answered by a warning and the end', async (_name, message, warning) => {
    await begin();
    const peer = await fleet.peer('alice');
    await peer.send(message);
    expect(text((await peer.next('warning')).data)).toMatch(warning);
    await peer.closed;
    await settle();
    expect(fleet.manager.all('inbound')).toEqual([]);
    expect(fleet.manager.all('peerDisconnected').length).toBe(1);
  });

  test('odd unknown messages and onion messages are ignored, pings answered below the limit', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    await peer.send(Uint8Array.of(0x13, 0x89));
    await peer.send(
      make('onion_message', { pathKey: nodeIdOf('bob'), onionMessagePacket: new Uint8Array(10) }),
    );
    await peer.send(ping(65_532));
    await peer.send(ping(3));
    expect((await peer.next('pong')).ignored.length).toBe(3);
    expect(peer.waiting).toEqual([]);
    expect(await fleet.value('dropped_messages_total', { reason: 'unsupported' })).toBe(1);
  });

  test('pings are answered at a bounded rate', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    for (let i = 0; i < 100; i += 1) await peer.send(ping(1));
    await settle();
    expect(peer.waiting.length).toBe(20);
  });

  test('a frame that does not authenticate ends the connection', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    await peer.socket.write(new Uint8Array(100_000).fill(0xff));
    await peer.closed;
    await settle();
    expect(await fleet.value('disconnects_total', { cause: 'bad_message' })).toBe(1);
  });

  test('the newer of two connections wins', async () => {
    await begin();
    const older = await fleet.peer('alice');
    const newer = await fleet.peer('alice');
    await older.closed;
    await settle();
    expect(fleet.manager.all('peerDisconnected')).toMatchObject([{ connectionId: 1n, generation: 1n }]);
    outbound('alice', 1n, { generation: 2n });
    expect((await newer.next('shutdown')).scriptpubkey.length).toBe(1);
  });

  test('a peer that died without a word is found by ping', async () => {
    await begin();
    const peer = await fleet.peer('alice', { answersPings: false });
    await fleet.runtime.advance(11_000);
    await peer.next('ping');
    await fleet.runtime.advance(20_000);
    expect(fleet.manager.all('peerDisconnected')).toEqual([]);
    await fleet.runtime.advance(12_000);
    await peer.closed;
    expect(await fleet.value('disconnects_total', { cause: 'timeout' })).toBe(1);
  });

  test('a peer that answers pings stays', async () => {
    await begin();
    await fleet.peer('alice');
    await fleet.runtime.advance(300_000);
    expect(await fleet.value('peers')).toBe(1);
  });

  test('a peer that does not read is cut at 1 MiB of channel messages', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    peer.pauseReading();
    for (let number = 1n; number <= 30n; number += 1n) {
      fleet.manager.send({
        $case: 'outbound',
        value: {
          peerNodeId: nodeIdOf('alice'),
          generation: 1n,
          epoch: 1n,
          number,
          message: encodeMessage(shutdown(60_000)),
        },
      });
    }
    await settle();
    expect(await fleet.value('disconnects_total', { cause: 'slow_reader' })).toBe(1);
    peer.resumeReading();
    await peer.closed;
  });

  test('gossip to a peer that does not read is dropped, channel messages are not', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    peer.pauseReading();
    await peer.send(ping(1));
    await settle();
    const announcement = encodeMessage(
      make('query_short_channel_ids', {
        chainHash: new Uint8Array(32),
        encodedShortIds: new Uint8Array(1000),
      }),
    );
    for (let i = 0; i < 1000; i += 1) {
      fleet.router.send({ peerNodeId: nodeIdOf('alice'), message: announcement, misbehaviour: '' });
    }
    outbound('alice', 1n);
    await settle();
    expect(await fleet.value('dropped_messages_total', { reason: 'gossip_slow_reader' })).toBeGreaterThan(
      500,
    );
    expect(await fleet.value('disconnects_total')).toBe(0);
    peer.resumeReading();
    expect((await peer.next('shutdown')).scriptpubkey.length).toBe(1);
  });
});

describe('anything at all', () => {
  test('no message takes the gateway down, and every manager message can be read by a manager', async () => {
    await begin({ limits: { handshakesPerSecondPerAddress: 1_000 } });
    const type = fc.oneof(
      fc.integer({ min: 0, max: 0xffff }),
      fc.constantFrom(1, 16, 17, 18, 19, 32, 38, 128, 132, 136, 256, 265),
    );
    const message = fc
      .tuple(type, fc.uint8Array({ maxLength: 200 }))
      .map(([number, payload]) => Uint8Array.of(number >> 8, number & 0xff, ...payload));
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 5 }), async (messages) => {
        const peer = await fleet.peer('alice');
        for (const bytes of messages) await peer.send(bytes).catch(() => undefined);
        peer.socket.reset();
        await settle();
        expect(fleet.runtime.failures).toEqual([]);
      }),
      { numRuns: 60 },
    );
    for (const { message: bytes } of fleet.manager.all('inbound')) expect(decodeMessage(bytes).ok).toBe(true);
    await fleet.peer('bob');
    expect(fleet.manager.all('peerConnected').at(-1)).toMatchObject({ peerNodeId: nodeIdOf('bob') });
  });

  test('no bytes on the wire take the gateway down', async () => {
    await begin({ limits: { handshakesPerSecondPerAddress: 1_000 } });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 4 }), async (pieces) => {
        const socket = await fleet.sockets.port('mallory').connect(fleet.address);
        for (const piece of pieces) await socket.write(piece).catch(() => undefined);
        await settle();
        socket.reset();
        await settle();
        expect(fleet.runtime.failures).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test('a network that swallows everything is found out', async () => {
    let dead = false;
    await begin({ socketGate: () => (dead ? new Promise<never>(() => undefined) : Promise.resolve()) });
    await fleet.peer('alice');
    dead = true;
    await fleet.runtime.advance(60_000);
    expect(await fleet.value('disconnects_total', { cause: 'timeout' })).toBe(1);
    expect(fleet.manager.all('peerDisconnected').length).toBe(1);
    dead = false;
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
    expect(fleet.router.received.slice(0, 3)).toEqual([
      { $case: 'gatewayId', value: 'gateway-0' },
      { $case: 'peerUp', value: nodeIdOf('alice') },
      { $case: 'message', value: { peerNodeId: nodeIdOf('alice'), message: encodeMessage(filter) } },
    ]);
  });

  test('goes to the router and back; misbehaviour ends the connection', async () => {
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
      { $case: 'peerUp', value: nodeIdOf('alice') },
      { $case: 'message', value: { peerNodeId: nodeIdOf('alice'), message: encodeMessage(filter) } },
    ]);
    fleet.router.send({ peerNodeId: nodeIdOf('alice'), message: encodeMessage(filter), misbehaviour: '' });
    expect((await peer.next('gossip_timestamp_filter')).timestampRange).toBe(1);
    fleet.router.send({
      peerNodeId: nodeIdOf('alice'),
      message: new Uint8Array(0),
      misbehaviour: 'bad signature',
    });
    expect(text((await peer.next('warning')).data)).toBe('bad signature');
    await peer.closed;
    await settle();
    expect(fleet.router.received.at(-1)).toEqual({ $case: 'peerDown', value: nodeIdOf('alice') });
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
    outbound('alice', 1n);
    // An owner that woke up late says hello with its old epochs: nothing changes.
    first?.hello();
    await settle();
    expect(again.waiting).toEqual([]);
    expect(await fleet.value('disconnects_total')).toBe(1);
  });

  test('a link that returns with the same epoch and generation loses nothing', async () => {
    await begin();
    fleet.manager.acknowledges = false;
    const peer = await fleet.peer('alice');
    await peer.send(shutdown(1));
    await settle();
    fleet.manager.cut();
    await peer.send(shutdown(2));
    await fleet.runtime.advance(1_000);
    expect(fleet.manager.all('inbound').map(({ number }) => number)).toEqual([1n, 1n, 2n]);
    outbound('alice', 1n);
    expect((await peer.next('shutdown')).scriptpubkey.length).toBe(1);
    expect(await fleet.value('disconnects_total')).toBe(0);
  });

  test('a link that returns with a new generation, or not at all, resets its peers', async () => {
    await begin();
    const alice = await fleet.peer('alice');
    fleet.manager.accepts = false;
    fleet.manager.cut();
    await fleet.runtime.advance(500);
    const connected = fleet.manager.all('peerConnected').at(-1);
    if (connected !== undefined) fleet.manager.accept(connected, { generation: 77n });
    await alice.closed;
    fleet.manager.accepts = true;
    const bob = await fleet.peer('bob');
    fleet.network.crash('manager-0');
    await fleet.runtime.advance(3_500);
    await bob.closed;
    expect(await fleet.value('disconnects_total', { cause: 'ownership' })).toBe(2);
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

describe('limits', () => {
  test('connections, unwanted peers and handshakes are bounded', async () => {
    await begin({ limits: { maxUnwantedPeers: 1, maxPendingHandshakes: 2 } });
    await fleet.peer('alice');
    const bob = await fleet.connect('bob');
    await bob.closed;
    expect(await fleet.value('refused_connections_total', { limit: 'unwanted_peers' })).toBe(1);
    await fleet.runtime.advance(1_000);
    const silent = await Promise.all(
      ['x', 'y', 'z'].map((name) => fleet.sockets.port(name).connect(fleet.address)),
    );
    await settle();
    expect(await fleet.value('refused_connections_total', { limit: 'pending_handshakes' })).toBe(1);
    for (const socket of silent) socket.reset();
  });

  test('one address gets its share', async () => {
    await begin({ limits: { maxConnectionsPerAddress: 2, handshakesPerSecondPerAddress: 1 } });
    const port = fleet.sockets.port('mallory');
    for (let i = 0; i < 3; i += 1) await port.connect(fleet.address);
    await settle();
    expect(await fleet.value('refused_connections_total', { limit: 'per_address' })).toBe(1);
    fleet.sockets.crash('mallory');
    await settle();
    for (let i = 0; i < 20; i += 1) {
      await port.connect(fleet.address);
      fleet.sockets.crash('mallory');
      await settle();
    }
    expect(await fleet.value('refused_connections_total', { limit: 'handshake_rate' })).toBeGreaterThan(5);
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
