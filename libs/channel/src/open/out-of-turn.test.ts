// Messages of an opening that come at another time than their own, and by what id the answer names the channel.
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { make } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import type { PeerMessage } from '../effect.ts';
import { receive, take } from '../testing/expect.ts';
import type { TestNode } from '../testing/node.ts';
import { accepted, opened } from '../testing/opening.ts';
import { Pair } from '../testing/pair.ts';
import { channelIdOf } from './establish.ts';

const FUNDING_TXID = new Uint8Array(32).fill(0x33);

/** Alice, who waits for funding_signed, and all messages of the opening until then. */
function untilFundingCreated() {
  const { node: alice, message: open } = opened();
  const { node: bob } = accepted(open);
  const accept = take(bob, 'accept_channel');
  alice.must({ type: 'message', message: accept });
  alice.must({ type: 'funding_transaction_created', fundingTxid: FUNDING_TXID, fundingOutputIndex: 1 });
  const created = take(alice, 'funding_created');
  return { alice, bob, open, accept, created };
}

/** What a node answers, and about which id. */
function answer(node: TestNode, message: PeerMessage) {
  node.outbox.length = 0;
  const error = receive(node, message);
  if (error !== undefined) node.react(error);
  const [said] = node.outbox;
  return { error, said: said?.type, about: said && 'channelId' in said ? said.channelId : undefined };
}

describe('an opening', () => {
  test('is warned about by its temporary id, and from funding_created on by its final one', () => {
    const before = opened();
    const early = make('channel_ready', {
      channelId: before.message.temporaryChannelId,
      secondPerCommitmentPoint: before.message.firstPerCommitmentPoint,
    });
    expect(answer(before.node, early)).toMatchObject({
      said: 'warning',
      about: before.message.temporaryChannelId,
    });
    const { alice, accept } = untilFundingCreated();
    expect(answer(alice, accept)).toMatchObject({
      error: { message: 'accept_channel in phase awaiting_funding_signed' },
      said: 'warning',
      about: channelIdOf(FUNDING_TXID, 1),
    });
  });

  test('takes no funding_signed before its funding_created, and none that names another channel', () => {
    const { alice, bob, created, open } = untilFundingCreated();
    bob.must({ type: 'message', message: created });
    const signed = take(bob, 'funding_signed');
    expect(receive(opened().node, signed)).toMatchObject({ code: 'unexpected_message', reaction: 'warning' });
    expect(receive(alice, { ...signed, channelId: open.temporaryChannelId })).toMatchObject({
      code: 'wrong_channel_id',
      reaction: 'fail_channel',
    });
    expect(receive(alice, signed)).toBeUndefined();
  });

  test('takes no batch of commitment_signed', () => {
    const { node, message } = opened();
    const commitment = make('commitment_signed', {
      channelId: message.temporaryChannelId,
      signature: new Uint8Array(64),
      htlcSignatures: [],
    });
    expect(node.input({ type: 'commitment_signed_batch', messages: [commitment, commitment] })).toMatchObject(
      { code: 'unexpected_message', reaction: 'warning' },
    );
  });
});

test.each(['open_channel', 'accept_channel', 'funding_created', 'funding_signed'] as const)(
  '%s about a channel that exists is warned about',
  (type) => {
    const { open, accept, created } = untilFundingCreated();
    const { alice } = new Pair(fakeSecp256k1);
    const { channelId } = alice.channel;
    const messages = {
      open_channel: { ...open, temporaryChannelId: channelId },
      accept_channel: { ...accept, temporaryChannelId: channelId },
      funding_created: { ...created, temporaryChannelId: channelId },
      funding_signed: make('funding_signed', { channelId, signature: new Uint8Array(64) }),
    };
    expect(answer(alice, messages[type])).toMatchObject({
      error: { code: 'unexpected_message', reaction: 'warning' },
      said: 'warning',
      about: channelId,
    });
  },
);
