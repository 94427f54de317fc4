/** What a peer sends costs this replica no more at a time than the peer's credit allows for. */
import { secp256k1 } from '@fulmen/crypto/default';
import { sha256 } from '@fulmen/crypto';
import { utf8Encode } from '@fulmen/codec';
import type { GatewayToManager, ManagerToGateway } from '@fulmen/proto/link/v1/link';
import type { DuplexStream } from '@fulmen/rpc';
import { silentLogger } from '@fulmen/service';
import { encodeMessage, make } from '@fulmen/wire';
import { expect, test, vi } from 'vitest';
import type { EnginePorts } from '../engine/ports.ts';
import { PeerHub, type PeerHubHandler } from './peer-hub.ts';

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
  }),
);

/** A hub with one gateway and one peer on it; `ended[n]` ends the handling of the nth channel_update. */
async function linked() {
  const sent: NonNullable<ManagerToGateway['body']>[] = [];
  const ended: (() => void)[] = [];
  const inbox: GatewayToManager[] = [];
  let wake = (): void => undefined;
  const stream = {
    send: async ({ body }: ManagerToGateway) => void (body !== undefined && sent.push(body)),
    cancel: () => undefined,
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const next = inbox.shift();
        if (next === undefined) await new Promise<void>((resolve) => (wake = resolve));
        else yield next;
      }
    },
  } as unknown as DuplexStream<GatewayToManager, ManagerToGateway>;
  const ports = {
    logger: silentLogger,
    lease: { isValid: () => true },
    store: {
      acceptConnection: async () => ({ type: 'accepted', generation: 1n }),
      dropConnection: async () => undefined,
      listPeers: async () => [],
    },
  } as unknown as EnginePorts;
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
    () => FENCE,
    handler,
  );
  void hub.serve(stream);
  const say = (body: NonNullable<GatewayToManager['body']>): void => {
    inbox.push({ body });
    wake();
  };
  say({ $case: 'hello', value: { gatewayId: 'g', incarnation: 1n } });
  say({
    $case: 'peerConnected',
    value: {
      peerNodeId,
      connectionId: 1n,
      theirFeatures: new Uint8Array(0),
      remoteAddress: '',
      inbound: true,
    },
  });
  await vi.waitFor(() => expect(sent.map(({ $case }) => $case)).toContain('ownScids'));
  return {
    ended,
    hear: (number: bigint, message: Uint8Array) =>
      say({ $case: 'inbound', value: { peerNodeId, generation: 1n, number, message } }),
    acknowledged: () => sent.flatMap((body) => (body.$case === 'inboundAck' ? [body.value.through] : [])),
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
