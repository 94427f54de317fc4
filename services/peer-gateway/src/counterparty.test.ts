import { concatBytes, FeatureBits, toHex } from '@fulmen/codec';
import { decodeMessage, encodeMessage, make } from '@fulmen/wire';
import { testInit } from '@fulmen/testing/peer';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { Fleet, type FleetOptions, nodeIdOf, shutdown } from './testing/fleet.ts';
import { settle } from './testing/manual-runtime.ts';

const text = (data: Uint8Array): string => new TextDecoder().decode(data);
const ping = (numPongBytes: number) => make('ping', { numPongBytes, ignored: new Uint8Array(0) });

let fleet: Fleet;
const begin = async (options?: FleetOptions): Promise<Fleet> => (fleet = await Fleet.start(options));
afterEach(() => fleet.stop());

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

  test('the longest pongs are made only when they are sent: who reads nothing has one of them, and is read on', async () => {
    await begin();
    const [mallory, alice] = [await fleet.peer('mallory'), await fleet.peer('alice')];
    mallory.pauseReading();
    // All of what is answered at once, in one piece.
    const lengths = Array.from({ length: 20 }, (_, index) => 65_531 - index);
    await mallory.socket.write(concatBytes(...lengths.map((length) => mallory.frame(ping(length)))));
    await settle();
    expect(await fleet.value('read_pauses_total', { reason: 'outbound' })).toBe(0);
    expect(await fleet.value('disconnects_total')).toBe(0);
    await mallory.send(shutdown(7));
    await settle();
    expect(fleet.manager.all('inbound').length).toBe(1);
    await alice.send(ping(3));
    expect((await alice.next('pong')).ignored.length).toBe(3);
    // At last it reads: each is answered, as it asked, and so is what it asks then.
    mallory.resumeReading();
    for (const length of lengths) expect((await mallory.next('pong')).ignored.length).toBe(length);
    await fleet.runtime.advance(1_000);
    await mallory.send(ping(5));
    expect((await mallory.next('pong')).ignored.length).toBe(5);
  });

  test('a peer that takes its time to read gets every pong; of one that never does, pings are dropped', async () => {
    await begin();
    const [slow, mallory] = [await fleet.peer('slow'), await fleet.peer('mallory')];
    mallory.pauseReading();
    for (let second = 0; second < 50; second += 1) {
      slow.pauseReading();
      for (const peer of [slow, mallory]) await peer.send(ping(60_000));
      await fleet.runtime.advance(1_000);
      slow.resumeReading();
      expect((await slow.next('pong')).ignored.length).toBe(60_000);
    }
    // Beside those that wait a few are on their way.
    expect(await fleet.value('dropped_messages_total', { reason: 'ping_rate' })).toBeGreaterThan(25);
    await fleet.runtime.advance(15_000);
    await mallory.closed;
    expect(await fleet.value('disconnects_total', { cause: 'slow_reader' })).toBe(1);
    expect(await fleet.value('peers')).toBe(1);
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
    fleet.outbound('alice', 1n, { generation: 2n });
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
      fleet.router.send({
        peerNodeId: nodeIdOf('alice'),
        connectionId: 0n,
        body: { $case: 'message', value: announcement },
      });
    }
    fleet.outbound('alice', 1n);
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

describe('limits', () => {
  test('strangers make room for whoever comes; who has a channel stays, and is no stranger', async () => {
    await begin({ limits: { maxUnwantedPeers: 2 } });
    fleet.manager.scids.set(toHex(nodeIdOf('carol')), [7n]);
    for (const name of ['alice', 'bob']) await fleet.peer(name);
    const carol = await fleet.peer('carol');
    expect(await fleet.value('disconnects_total', { cause: 'limit' })).toBe(1);
    // Of the first two one is left.
    await fleet.peer('dave');
    expect(await fleet.value('disconnects_total')).toBe(1);
    for (let i = 0; i < 20; i += 1) await fleet.peer(`stranger ${i}`);
    expect(await fleet.value('disconnects_total', { cause: 'limit' })).toBe(21);
    expect(await fleet.value('refused_connections_total')).toBe(0);
    await fleet.runtime.advance(1_000);
    expect(await fleet.value('accepted_peers')).toBe(3);
    await carol.send(shutdown(1));
    await settle();
    expect(fleet.manager.all('inbound')).toMatchObject([{ peerNodeId: nodeIdOf('carol') }]);
  });

  test('peers of which nothing is known yet stay, within the limit', async () => {
    await begin({ limits: { maxUnwantedPeers: 2 } });
    fleet.manager.accepts = false;
    for (const name of ['alice', 'bob']) await fleet.peer(name);
    const carol = await fleet.connect('carol');
    await carol.closed;
    expect(await fleet.value('refused_connections_total', { limit: 'unwanted_peers' })).toBe(1);
    expect(await fleet.value('disconnects_total')).toBe(0);
  });

  test('where all connections are taken a stranger makes room; where none is a stranger the newcomer goes', async () => {
    await begin({ limits: { maxConnections: 2, maxUnwantedPeers: 2 } });
    for (const name of ['carol', 'dave']) fleet.manager.scids.set(toHex(nodeIdOf(name)), [7n]);
    const alice = await fleet.peer('alice');
    await fleet.peer('carol');
    // Only its manager knows whether there is a channel with it.
    await fleet.peer('dave');
    await alice.closed;
    expect(await fleet.value('disconnects_total', { cause: 'limit' })).toBe(1);
    const erin = await fleet.connect('erin');
    await erin.closed;
    expect(await fleet.value('refused_connections_total', { limit: 'connections' })).toBe(1);
    await fleet.runtime.advance(1_000);
    expect(await fleet.value('accepted_peers')).toBe(2);
    expect(await fleet.value('disconnects_total')).toBe(1);
  });

  test('handshakes are bounded', async () => {
    await begin({ limits: { maxPendingHandshakes: 2 } });
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
