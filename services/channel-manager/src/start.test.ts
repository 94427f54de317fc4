/** A replica from its ports: what it does while others have no answer for it. */
import { NETWORKS } from '@fulmen/bitcoin';
import { type EstablishedChannel, openChannel } from '@fulmen/channel';
import { FEATURES, TestNode } from '@fulmen/channel/testing/node';
import { Pair, testScript } from '@fulmen/channel/testing/pair';
import { compareBytes, toHex, utf8Encode } from '@fulmen/codec';
import { sha256, sha256d } from '@fulmen/crypto';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { SHARD_COUNT } from '@fulmen/keys/shard';
import { FeeTarget } from '@fulmen/proto/chain/v1/chain';
import {
  type GatewayToManager,
  type ManagerToGateway,
  PeerLinkServiceService,
} from '@fulmen/proto/link/v1/link';
import type { DuplexStream, MemoryNetwork } from '@fulmen/rpc';
import { nodeRuntime } from '@fulmen/service';
import {
  type ManagerStore,
  type MemoryManagerDatabase,
  StoreError,
  UnrecoverableStoreError,
} from '@fulmen/store';
import {
  decodeMessage,
  encodeMessage,
  gossipSignedBytes,
  HOLDER_FEATURES,
  make,
  type Message,
} from '@fulmen/wire';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Engine } from './engine/engine.ts';
import { OWN_NODE_ID, startReplica } from './testing/replica.ts';

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
  const { network, database, replica } = await startReplica(alice);
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

test('what a peer asks for over an unannounced channel is learnt from its channel_update, for invoices to tell', async () => {
  const { alice } = new Pair(fakeSecp256k1);
  const { channel } = alice;
  const { counterpartyNodeId } = channel.parameters;
  const { network, database, replica } = await startReplica(alice);
  const gateway = new Gateway(network, channel);
  await gateway.connect();
  await gateway.received();
  const terms = { cltvExpiryDelta: 40, feeBaseMsat: 5, feeProportionalMillionths: 6 };
  const unsigned = make('channel_update', {
    signature: new Uint8Array(64),
    chainHash: NETWORKS.regtest.chainHash,
    shortChannelId: channel.aliasScid ?? 0n,
    timestamp: 1_700_000_000,
    messageFlags: 1,
    channelFlags: compareBytes(counterpartyNodeId, OWN_NODE_ID) < 0 ? 0 : 1,
    htlcMinimumMsat: 1n,
    htlcMaximumMsat: 1_000_000n,
    excessData: new Uint8Array(0),
    ...terms,
  });
  const signature = fakeSecp256k1.sign(
    sha256d(gossipSignedBytes(encodeMessage(unsigned))),
    sha256(utf8Encode('node bob')),
  );
  await gateway.send({ ...unsigned, signature });
  const learnt = () => [...database.state.counterpartyPolicies.values()];
  const shortChannelId = channel.counterpartyAliasScid;
  await vi.waitFor(() => expect(learnt()).toMatchObject([{ shortChannelId, state: 'enabled', ...terms }]));
  gateway.close();
  await replica.stop();
});

test('a replica ends by the word of its database that it is damaged, and waits for one that is away', async () => {
  const { alice } = new Pair(fakeSecp256k1);
  const damage = new UnrecoverableStoreError('invalid page in block 7');
  const answers: Error[] = [new StoreError('unavailable', 'away'), damage];
  const connect = (database: MemoryManagerDatabase): ManagerStore => {
    const sequenceEvents = (): Promise<never> => Promise.reject(answers.shift() ?? damage);
    return Object.assign(database.connect('a'), { sequenceEvents });
  };
  const { replica } = await startReplica(alice, { connect });
  expect(await replica.failed).toBe(damage);
  expect(answers).toEqual([]);
  await replica.stop();
});

test('each look at the fee estimates is followed by the channels: what each format of commitments needs', async () => {
  const { alice } = new Pair(fakeSecp256k1);
  const followed = Promise.withResolvers<Parameters<Engine['followFeerates']>[0]>();
  const follow = vi.spyOn(Engine.prototype, 'followFeerates').mockImplementation(followed.resolve);
  onTestFinished(() => follow.mockRestore());
  const clock = nodeRuntime({ onFailure: () => undefined });
  const { replica } = await startReplica(alice, {
    estimateFee: ({ target }) => Promise.resolve({ feerateSatPerKw: 1_000 + target }),
    runtime: {
      wallClockMs: () => clock.wallClockMs(),
      monotonicMs: () => clock.monotonicMs(),
      randomBytes: (length) => clock.randomBytes(length),
      spawn: (name, work) => clock.spawn(name, work),
      // The time of a look comes at once.
      sleep: (ms, signal) => clock.sleep(ms === 30_000 ? 0 : ms, signal),
    },
  });
  expect(await followed.promise).toEqual({
    anchors: 1_000 + FeeTarget.FEE_TARGET_ANCHOR_CHANNEL_FEE,
    static_remotekey: 1_000 + FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE,
  });
  await replica.stop();
});
