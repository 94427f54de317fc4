/** A replica from its ports: what it does while others have no answer for it. */
import { type EstablishedChannel, openChannel } from '@fulmen/channel';
import { FEATURES, TestNode } from '@fulmen/channel/testing/node';
import { Pair, testScript } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { SHARD_COUNT } from '@fulmen/keys/shard';
import {
  type GatewayToManager,
  type ManagerToGateway,
  PeerLinkServiceService,
} from '@fulmen/proto/link/v1/link';
import type { DuplexStream, MemoryNetwork } from '@fulmen/rpc';
import { StoreError, UnrecoverableStoreError } from '@fulmen/store';
import { decodeMessage, encodeMessage, HOLDER_FEATURES, type Message } from '@fulmen/wire';
import { expect, test } from 'vitest';
import { OWN_NODE_ID, withoutEstimates } from './testing/replica.ts';

/** A gateway with one peer, connected to the replica. */
class Gateway {
  readonly #link: DuplexStream<ManagerToGateway, GatewayToManager>;
  readonly #incoming: AsyncIterator<ManagerToGateway>;
  readonly #peerNodeId: Uint8Array;
  #generation = 0n;
  #frames = 0n;

  constructor(network: MemoryNetwork, { parameters }: EstablishedChannel) {
    this.#peerNodeId = parameters.counterpartyNodeId;
    this.#link = network.connector('gateway', ['ecdh']).client(PeerLinkServiceService, 'a').link();
    this.#incoming = this.#link[Symbol.asyncIterator]();
  }

  async connect(): Promise<void> {
    await this.#say({ $case: 'hello', value: { gatewayId: 'gateway', incarnation: 1n } });
    await this.#say({
      $case: 'peerConnected',
      value: {
        peerNodeId: Buffer.from(this.#peerNodeId),
        connectionId: 1n,
        theirFeatures: Buffer.from(HOLDER_FEATURES.encode()),
        remoteAddress: '192.0.2.1:9735',
        inbound: true,
      },
    });
  }

  async send(message: Message): Promise<void> {
    this.#frames += 1n;
    await this.#say({
      $case: 'inbound',
      value: {
        peerNodeId: Buffer.from(this.#peerNodeId),
        generation: this.#generation,
        number: this.#frames,
        message: Buffer.from(encodeMessage(message)),
      },
    });
  }

  /** The next message for the peer. */
  async received(): Promise<Message> {
    for (;;) {
      const { done, value } = await this.#incoming.next();
      if (done === true) throw new TypeError('the link ended');
      const { body } = value;
      if (body?.$case === 'peerAccepted') this.#generation = body.value.generation;
      if (body?.$case === 'disconnect') throw new TypeError(`disconnected: ${body.value.reason}`);
      if (body?.$case !== 'outbound') continue;
      const decoded = decodeMessage(body.value.message);
      if (!decoded.ok) throw new TypeError(decoded.error.message);
      return decoded.value as Message;
    }
  }

  close(): void {
    this.#link.cancel('done');
  }

  #say(body: NonNullable<GatewayToManager['body']>): Promise<void> {
    return this.#link.send({ body });
  }
}

/** What a peer says that wants a channel. */
function openChannelOf(temporaryChannelId: Uint8Array): Message {
  const peer = new TestNode('peer', fakeSecp256k1);
  const opened = openChannel(peer.ctx, {
    temporaryChannelId,
    counterpartyNodeId: OWN_NODE_ID,
    keys: peer.signer.keys(),
    features: FEATURES,
    fundingSat: 1_000_000n,
    pushMsat: 0n,
    feerateSatPerKw: 1_000,
    announce: false,
    channelType: { commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'confirmed' },
    shutdownScript: testScript(3),
    aliasScid: 0x0300_0003n,
  });
  if (!opened.ok) throw new TypeError(opened.error.message);
  const [message] = opened.value.effects.flatMap((effect) =>
    effect.type === 'send' && effect.message.kind === 'ready' ? [effect.message.message] : [],
  );
  if (message === undefined) throw new TypeError('no open_channel');
  return message;
}

test('a replica beside a node without fee estimates takes its shards, reestablishes, and opens no channel', async () => {
  const { alice } = new Pair(fakeSecp256k1);
  const { network, database, replica } = await withoutEstimates(alice);
  const owners = await database.connect('looking').listShards();
  expect(owners.filter(({ replicaId }) => replicaId === 'a')).toHaveLength(SHARD_COUNT);
  const gateway = new Gateway(network, alice.channel);
  await gateway.connect();
  expect(await gateway.received()).toMatchObject({
    type: 'channel_reestablish',
    channelId: alice.channel.channelId,
  });
  const temporaryChannelId = new Uint8Array(32).fill(3);
  await gateway.send(openChannelOf(temporaryChannelId));
  const refusal = await gateway.received();
  if (refusal.type !== 'error') throw new TypeError(refusal.type);
  expect(toHex(refusal.channelId)).toBe(toHex(temporaryChannelId));
  expect(new TextDecoder().decode(refusal.data)).toContain('fee estimate');
  gateway.close();
  await replica.stop();
});

test('a replica ends by the word of its database that it is damaged, and waits for one that is away', async () => {
  const { alice } = new Pair(fakeSecp256k1);
  const damage = new UnrecoverableStoreError('invalid page in block 7');
  const answers: Error[] = [new StoreError('unavailable', 'away'), damage];
  const { replica } = await withoutEstimates(alice, {
    connect: (database) => {
      const sequenceEvents = (): Promise<never> => Promise.reject(answers.shift() ?? damage);
      return Object.assign(database.connect('a'), { sequenceEvents });
    },
  });
  expect(await replica.failed).toBe(damage);
  expect(answers).toEqual([]);
  await replica.stop();
});
