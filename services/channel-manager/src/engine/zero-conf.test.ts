/** Whose channels need no confirmations is the operator's word. */
import { decodeChannelType, openChannel, type PeerMessage } from '@fulmen/channel';
import { FEATURES, TestNode } from '@fulmen/channel/testing/node';
import { testScript } from '@fulmen/channel/testing/pair';
import { take } from '@fulmen/channel/testing/expect';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import type { MessageOf } from '@fulmen/wire';
import { expect, test, vi } from 'vitest';
import type { Peer } from '../peers/peer.ts';
import type { ChannelActor } from './channel-actor.ts';
import { OneOpening } from './testing/one-opening.ts';

/** What a peer asks for that wants to use its channel at once. */
function zeroConfOpening() {
  const node = new TestNode('bob', fakeSecp256k1);
  const opened = openChannel(node.ctx, {
    temporaryChannelId: new Uint8Array(32).fill(9),
    counterpartyNodeId: fakeSecp256k1.publicKeyOf(new Uint8Array(32).fill(1)),
    keys: node.signer.keys(),
    features: FEATURES,
    fundingSat: 1_000_000n,
    pushMsat: 0n,
    feerateSatPerKw: 1_000,
    announce: false,
    channelType: { commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'zero_conf' },
    shutdownScript: testScript(1),
    aliasScid: 3n,
  });
  if (!opened.ok) throw new TypeError(opened.error.message);
  node.take(opened.value, 'durable');
  return take(node, 'open_channel');
}

/** A peer that is connected, and what it hears. */
function peerOf(): { readonly peer: Peer; readonly answers: readonly unknown[] } {
  const answers: unknown[] = [];
  const peer = {
    nodeId: fakeSecp256k1.publicKeyOf(new Uint8Array(32).fill(9)),
    fence: { shard: 1, epoch: 1n, replicaId: 'a' },
    connection: { generation: 1n, features: FEATURES },
    openings: new Map<string, ChannelActor>(),
    channels: new Map(),
    beginning: new Set<string>(),
    hasChannel: () => false,
    complain: (_id: Uint8Array, text: string) => void answers.push(text),
    send: (message: PeerMessage) => answers.push(message) > 0,
  } as unknown as Peer;
  return { peer, answers };
}

test.each([
  { trust: 'refused', said: ['open_channel: zero-conf is not accepted'] },
  { trust: 'trusted', said: [{ type: 'accept_channel', minimumDepth: 0 }] },
] as const)(
  'what a peer hears that asks for a channel without confirmations and is $trust',
  async ({ trust, said }) => {
    const one = new OneOpening();
    one.zeroConfTrust = trust;
    const { peer, answers } = peerOf();
    await one.openings.received(peer, zeroConfOpening(), 1n);
    expect(answers).toMatchObject(said);
    for (const actor of peer.openings.values()) actor.stop();
  },
);

test.each(['zero_conf', 'confirmed'] as const)(
  'what the operator asks for is what the peer hears: %s',
  async (confirmations) => {
    const one = new OneOpening();
    const { peer, answers } = peerOf();
    const command = {
      nodeId: peer.nodeId,
      fundingSat: 1_000_000n,
      pushMsat: 0n,
      announce: false,
      fundingFeerateSatPerKw: undefined,
      shutdownScript: undefined,
      commitmentFormat: undefined,
      scidAlias: 'real_scid',
      confirmations,
    } as const;
    one.openings.open(peer, command, 1_000).catch(() => undefined);
    await vi.waitFor(() => expect(answers).toHaveLength(1));
    const [message] = answers as readonly MessageOf<'open_channel'>[];
    expect(decodeChannelType(message?.tlvs.channelType ?? new Uint8Array(0))).toMatchObject({
      confirmations,
    });
    for (const actor of peer.openings.values()) actor.stop();
  },
);
