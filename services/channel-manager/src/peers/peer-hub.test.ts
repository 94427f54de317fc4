/** What a peer sends costs this replica no more at a time than the peer's credit allows for. */
import type { EstablishedChannel } from '@fulmen/channel';
import { Pair } from '@fulmen/channel/testing/pair';
import { secp256k1 } from '@fulmen/crypto/default';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { sha256 } from '@fulmen/crypto';
import { utf8Encode } from '@fulmen/codec';
import { silentLogger } from '@fulmen/service';
import { shardOfPeer } from '@fulmen/keys/shard';
import { MemoryManagerDatabase, type MemoryManagerStore, type ManagerStore } from '@fulmen/store';
import { encodeMessage, make } from '@fulmen/wire';
import { describe, expect, test, vi } from 'vitest';
import type { ChannelActor } from '../engine/channel-actor.ts';
import type { EnginePorts } from '../engine/ports.ts';
import { PeerHub, type PeerHubHandler } from './peer-hub.ts';
import { gatewayOf as gatewayTo, type ToGateway } from './testing/gateway.ts';

const peerNodeId = secp256k1.publicKeyOf(sha256(utf8Encode('peer')));
const FENCE = { shard: 0, epoch: 1n, replicaId: 'a' };
const UPDATE = encodeMessage(
  make('channel_update', {
    signature: new Uint8Array(64),
    chainHash: new Uint8Array(32),
    shortChannelId: 7n,
    timestamp: 1_700_000_000,
    messageFlags: 1,
    channelFlags: 0,
    cltvExpiryDelta: 40,
    htlcMinimumMsat: 1n,
    feeBaseMsat: 5,
    feeProportionalMillionths: 6,
    htlcMaximumMsat: 1_000_000n,
    excessData: new Uint8Array(0),
  }),
);

const gatewayOf = (hub: PeerHub, gatewayId?: string, hears?: (body: ToGateway) => void) =>
  gatewayTo(hub, peerNodeId, gatewayId, hears);

type Gateway = ReturnType<typeof gatewayOf>;

/** A hub that owns the peer's shard; `ended[n]` ends the handling of the nth channel_update. */
async function owning(change: (store: MemoryManagerStore) => Partial<ManagerStore> = () => ({})) {
  const ended: (() => void)[] = [];
  const memory = new MemoryManagerDatabase(() => 0).connect('a');
  await memory.heartbeat('a', 1n, 'a:1', 60_000);
  const shard = shardOfPeer(peerNodeId);
  const acquired = await memory.acquireShard(shard, 'a');
  if (acquired.type !== 'acquired') throw new TypeError(acquired.type);
  const fence = { shard, epoch: acquired.epoch, replicaId: 'a' };
  const changed = change(memory);
  const store: Partial<ManagerStore> = {
    acceptConnection: (...args) => memory.acceptConnection(...args),
    dropConnection: (...args) => memory.dropConnection(...args),
    listPeers: () => memory.listPeers(),
    ...changed,
  };
  /** Time stands still. */
  const runtime = {
    sleep: (_ms: number, signal: AbortSignal) =>
      new Promise<void>((_resolve, reject) => signal.addEventListener('abort', reject)),
  };
  const lease = { isValid: () => true };
  const ports = { logger: silentLogger, lease, store, runtime } as unknown as EnginePorts;
  const handler = {
    keptFor: async () => undefined,
    connected: () => undefined,
    unknownChannel: () => undefined,
    channelUpdateReceived: () => new Promise<void>((resolve) => ended.push(resolve)),
  } as unknown as PeerHubHandler;
  const hub = new PeerHub(
    ports,
    'a',
    () => [],
    () => fence,
    handler,
  );
  const presence = async () => (await memory.listPeers()).find(({ connected }) => connected !== undefined);
  return { hub, ended, presence };
}

/** A hub with one gateway and one peer on it. */
async function linked() {
  const { hub, ended } = await owning();
  const gateway = gatewayOf(hub);
  gateway.announce(1n);
  await vi.waitFor(() => expect(gateway.heard('ownScids')).toHaveLength(1));
  return {
    gateway,
    ended,
    hear: (number: bigint, message: Uint8Array) => gateway.inbound(1n, number, message),
    acknowledged: () => gateway.heard('inboundAck').map(({ through }) => through),
  };
}

test('channel_updates are looked at one after the other, and acknowledged when they are over', async () => {
  const { ended, hear, acknowledged } = await linked();
  for (const number of [1n, 2n, 3n]) hear(number, UPDATE);
  // Its answer tells that those before it were read.
  hear(4n, encodeMessage(make('stfu', { channelId: new Uint8Array(32), initiator: 1 })));
  await vi.waitFor(() => expect(acknowledged()).toEqual([0n]));
  expect(ended).toHaveLength(1);
  ended[0]?.();
  await vi.waitFor(() => expect(acknowledged()).toEqual([0n, 1n]));
  expect(ended).toHaveLength(2);
});

test('channel_updates that wait when their connection ends are not looked at any more', async () => {
  const { gateway, ended, hear } = await linked();
  for (const number of [1n, 2n, 3n]) hear(number, UPDATE);
  await vi.waitFor(() => expect(ended).toHaveLength(1));
  gateway.announce(2n);
  await vi.waitFor(() => expect(gateway.heard('peerAccepted')).toHaveLength(2));
  ended[0]?.();
  // On the new connection: its answer comes after those before it were passed over.
  gateway.inbound(2n, 1n, UPDATE);
  await vi.waitFor(() => expect(ended).toHaveLength(2));
  ended[1]?.();
  await vi.waitFor(() =>
    expect(gateway.heard('inboundAck')).toMatchObject([{ generation: 2n, through: 1n }]),
  );
  expect(ended).toHaveLength(2);
});

test('a connection that is announced again on another link is of another generation, however late the end of the one before', async () => {
  const late: (() => Promise<void>)[] = [];
  const { hub, presence } = await owning((memory) => ({
    dropConnection: (...args) =>
      new Promise<void>((resolve) => late.push(() => memory.dropConnection(...args).then(resolve))),
  }));
  const first = gatewayOf(hub);
  first.announce(1n);
  await vi.waitFor(() => expect(first.heard('peerAccepted')).toMatchObject([{ generation: 1n }]));
  const second = gatewayOf(hub);
  second.announce(1n);
  await vi.waitFor(() => expect(second.heard('peerAccepted')).toMatchObject([{ generation: 2n }]));
  expect(late).toHaveLength(1);
  for (const drop of late) await drop();
  expect((await presence())?.connected).toMatchObject({ generation: 2n });
});

test('a connection that is announced twice on one link stands, in its generation', async () => {
  const { hub } = await owning();
  const gateway = gatewayOf(hub);
  gateway.announce(1n);
  gateway.announce(1n);
  await vi.waitFor(() => expect(gateway.heard('peerAccepted')).toHaveLength(2));
  expect(gateway.heard('peerAccepted').map(({ generation }) => generation)).toEqual([1n, 1n]);
  expect(gateway.heard('disconnect')).toEqual([]);
});

describe('the scids by which a gateway tells a peer with a channel from a stranger', () => {
  const told = async (state: EstablishedChannel): Promise<readonly bigint[] | undefined> => {
    const { hub } = await owning();
    const actor = { state, post: () => undefined } as unknown as ChannelActor;
    hub.peerOf(peerNodeId)?.channels.set('channel', actor);
    const gateway = gatewayOf(hub);
    gateway.announce(1n);
    await vi.waitFor(() => expect(gateway.heard('ownScids')).toHaveLength(1));
    return gateway.heard('ownScids')[0]?.shortChannelIds;
  };
  const unconfirmed = () => new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
  /** The peer of `bob` is who funds. */
  const awaiting = (): EstablishedChannel => {
    const { channel } = unconfirmed().bob;
    return { ...channel, phase: { type: 'awaiting_funding_confirmations' } };
  };

  test('a channel whose funding nobody but the peer has spoken of gives none, also as it fails', async () => {
    const channel = awaiting();
    expect(await told(channel)).toEqual([]);
    expect(await told({ ...channel, phase: { type: 'closing_force', reason: 'an error' } })).toEqual([]);
  });

  test('one that is confirmed, trusted without, or funded by this node gives them', async () => {
    const confirmed = new Pair(fakeSecp256k1).bob.channel;
    expect(await told({ ...confirmed, phase: { type: 'closing_force', reason: 'an error' } })).not.toEqual(
      [],
    );
    const pair = unconfirmed();
    const ready = pair.bob.channel;
    expect(ready.phase).toEqual({ type: 'open' });
    expect(await told(ready)).not.toEqual([]);
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    expect(pair.bob.channel.phase).toMatchObject({ type: 'negotiating_closing', channelReady: 'sent' });
    expect(await told(pair.bob.channel)).not.toEqual([]);
    const { channel: ours } = unconfirmed().alice;
    expect(await told({ ...ours, phase: { type: 'awaiting_funding_confirmations' } })).not.toEqual([]);
  });
});

test.each([
  [
    'the peer',
    (gateway: Gateway) =>
      gateway.say({ $case: 'peerDisconnected', value: { peerNodeId, connectionId: 1n, generation: 0n } }),
  ],
  ['the link', (gateway: Gateway) => gateway.end()],
])('a connection that %s ends while it is accepted is none afterwards', async (_who, end) => {
  const { promise: answered, resolve: answer } = Promise.withResolvers<undefined>();
  const { hub, presence } = await owning((memory) => ({
    acceptConnection: async (...args) => {
      const outcome = await memory.acceptConnection(...args);
      await answered;
      return outcome;
    },
  }));
  const gateway = gatewayOf(hub);
  gateway.announce(1n);
  await vi.waitFor(async () => expect((await presence())?.connected).toMatchObject({ generation: 1n }));
  end(gateway);
  await vi.waitFor(() => expect(gateway.unheard()).toBe(0));
  answer(undefined);
  await vi.waitFor(async () => expect(await presence()).toBeUndefined());
  expect(hub.find(peerNodeId)?.connection).toBeUndefined();
});

describe('a peer that two gateways were told to keep connected', () => {
  /** As a gateway does: what it is to keep connected it dials again as soon as its connection ends. */
  function dialling(hub: PeerHub, gatewayId: string) {
    const connections: bigint[] = [];
    let wanted = false;
    const gateway = gatewayOf(hub, gatewayId, (body) => {
      if (body.$case === 'connect') wanted = true;
      if (body.$case === 'forget') wanted = false;
      if ((body.$case === 'connect' || body.$case === 'disconnect') && wanted) setImmediate(dial);
    });
    function dial(): void {
      connections.push(BigInt(connections.length + 1));
      gateway.announce(connections.at(-1) ?? 0n);
    }
    return { ...gateway, connections, dial, want: () => (wanted = true) };
  }
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 200; i += 1) await new Promise((resolve) => setImmediate(resolve));
  };

  test('stays where it was accepted last, and is dialled by no other any more', async () => {
    const { hub, presence } = await owning();
    const [first, second] = [dialling(hub, 'g1'), dialling(hub, 'g2')];
    for (const gateway of [first, second]) {
      gateway.want();
      gateway.dial();
    }
    await turns();
    expect(first.connections.length + second.connections.length).toBe(2);
    expect((await presence())?.connected).toMatchObject({ gatewayId: 'g2' });
    // The one that has it dials it again when it is away.
    expect(second.heard('forget')).toHaveLength(1);
    expect(first.heard('forget').length).toBeGreaterThan(0);
  });

  test('counts as connected, for who asked one of them, when it is so at the other', async () => {
    const { hub } = await owning();
    const asked = gatewayOf(hub, 'g1');
    await vi.waitFor(() => expect(asked.heard('hello')).toHaveLength(1));
    const connected = hub.connect(peerNodeId, 'bob', 9735);
    await vi.waitFor(() => expect(asked.heard('connect')).toHaveLength(1));
    const other = gatewayOf(hub, 'g2');
    other.announce(1n);
    await connected;
    expect(asked.heard('forget')).toHaveLength(1);
  });
});

test('whoever came once, and has nothing here, is not remembered', async () => {
  const hub = new PeerHub(
    { logger: silentLogger, store: { listPeers: async () => [] } } as unknown as EnginePorts,
    'a',
    () => [FENCE],
    () => FENCE,
    {} as unknown as PeerHubHandler,
  );
  for (let i = 0; i < 10; i += 1) hub.peerOf(secp256k1.publicKeyOf(sha256(utf8Encode(`stranger ${i}`))));
  const busy = hub.peerOf(peerNodeId);
  busy?.beginning.add('an opening');
  await hub.reconnectWanted();
  expect(hub.peers()).toEqual([busy]);
});

test('whoever waits with a peer in hand finds it disconnected when its shard has left', async () => {
  const { hub } = await owning();
  const gateway = gatewayOf(hub);
  gateway.announce(1n);
  await vi.waitFor(() => expect(gateway.heard('ownScids')).toHaveLength(1));
  const peer = hub.find(peerNodeId);
  expect(peer?.connection).toBeDefined();
  expect(hub.dropShard(shardOfPeer(peerNodeId))).toEqual([peer]);
  expect(peer?.connection).toBeUndefined();
});
