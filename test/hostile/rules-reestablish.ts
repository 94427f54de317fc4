/** BOLT 2, "Message Retransmission", as the receiver of channel_reestablish and of what comes before it. */
import { make, type MessageOf } from '@fulmen/wire';
import type { Wire } from './play.ts';
import { type Rule, spoiled } from './rule.ts';
import type { Scene } from './scene.ts';

type Reestablish = MessageOf<'channel_reestablish'>;

const RETRANSMISSION = 'Message Retransmission';
const AMOUNT_MSAT = 50_000_000n;

/** The peer comes back with a channel_reestablish of its own making. */
function reestablish(
  name: string,
  sentence: string,
  change: (message: Reestablish) => Partial<Reestablish>,
  reaction: Rule['reaction'] = 'error',
): Rule {
  return {
    name: `channel_reestablish: ${name}`,
    section: RETRANSMISSION,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      // Some numbers and secrets first.
      for (const amountMsat of [40_000_000n, 30_000_000n, 20_000_000n]) {
        scene.pay(amountMsat);
        await scene.until('a payment ends', () =>
          scene.hostile.payments.every(({ state }) => state === 'fulfilled'),
        );
        await scene.pause(300);
      }
      scene.heard.length = 0;
      scene.change('channel_reestablish', (message) => ({ ...message, ...change(message) }));
      await scene.reconnect();
    },
    reaction,
  };
}

/** The peer's first channel_reestablish, before any payment. */
function fresh(
  name: string,
  sentence: string,
  change: (message: Reestablish, scene: Scene) => Wire | readonly Wire[],
  outcome: Pick<Rule, 'reaction' | 'hears' | 'never'>,
): Rule {
  return {
    name: `channel_reestablish: ${name}`,
    section: RETRANSMISSION,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.change('channel_reestablish', (message) => {
        const changed = change(message, scene);
        scene.watchConnection();
        scene.behave();
        return changed;
      });
      await scene.reconnect();
    },
    ...outcome,
  };
}

/** Messages of the fleet's are lost, and the connection with them; all is repaired. */
function lost(
  name: string,
  sentence: string,
  act: (scene: Scene) => Promise<void>,
  outcome: Pick<Rule, 'hears' | 'never'>,
): Rule {
  return {
    name: `channel_reestablish: ${name}`,
    section: RETRANSMISSION,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      await act(scene);
      scene.heard.length = 0;
      scene.behave();
      await scene.reconnect();
      await scene.until('all payments end', () =>
        [scene.hostile, scene.honest].every(({ payments }) =>
          payments.every(({ state }) => state === 'fulfilled'),
        ),
      );
    },
    reaction: 'ignore',
    ...outcome,
  };
}

const heard = (scene: Scene, wanted: string) => (): boolean =>
  scene.heard.some(({ type }) => type === wanted);

/** Sent before the channel_reestablish of the connection. */
function tooEarly(name: string, message: (scene: Scene) => Wire): Rule {
  return {
    ...fresh(
      `after ${name}`,
      "MUST wait to receive the other node's `channel_reestablish` message before sending any other messages for that channel.",
      (reestablished, scene) => [message(scene), reestablished],
      { reaction: 'warning_disconnect', hears: [`warning: ${name} before channel_reestablish`] },
    ),
  };
}

export const REESTABLISH_RULES: readonly Rule[] = [
  reestablish(
    'next_commitment_number of 0',
    'if `next_commitment_number` is zero: MUST immediately fail the channel and broadcast any relevant latest commitment transaction.',
    () => ({ nextCommitmentNumber: 0n }),
  ),
  reestablish(
    'a next_commitment_number from the future',
    'if `next_commitment_number` is not equal to the commitment number of the next `commitment_signed` that the receiving node would send: SHOULD send an `error` and fail the channel.',
    ({ nextCommitmentNumber }) => ({ nextCommitmentNumber: nextCommitmentNumber + 5n }),
  ),
  reestablish(
    'a next_revocation_number from the past',
    'if `next_revocation_number` is not equal to 1 greater than the commitment number of the last `revoke_and_ack` the receiving node has sent: SHOULD send an `error` and fail the channel.',
    ({ nextRevocationNumber }) => ({ nextRevocationNumber: nextRevocationNumber - 2n }),
  ),
  reestablish(
    'a wrong last secret',
    'if `your_last_per_commitment_secret` does not match the expected values: SHOULD send an `error` and fail the channel.',
    () => ({ yourLastPerCommitmentSecret: new Uint8Array(32).fill(9) }),
  ),
  reestablish(
    'a last secret that is no key',
    'if `your_last_per_commitment_secret` does not match the expected values: SHOULD send an `error` and fail the channel.',
    () => ({ yourLastPerCommitmentSecret: new Uint8Array(32) }),
  ),
  reestablish(
    'the future, with a secret that proves nothing',
    'if `your_last_per_commitment_secret` does not match the expected values: SHOULD send an `error` and fail the channel.',
    ({ nextRevocationNumber }) => ({
      nextRevocationNumber: nextRevocationNumber + 3n,
      yourLastPerCommitmentSecret: new Uint8Array(32).fill(9),
    }),
  ),
  {
    name: 'channel_ready: once more',
    section: RETRANSMISSION,
    sentence: 'MUST ignore any redundant `channel_ready` it receives.',
    stage: 'open_funded_by_peer',
    act: (scene) =>
      scene.send(
        make('channel_ready', {
          channelId: scene.channelId,
          secondPerCommitmentPoint: scene.hostile.node.signer.point(1n),
          tlvs: {},
        }),
      ),
    reaction: 'ignore',
  },
  reestablish(
    'the highest next_commitment_number there can be',
    'if `next_commitment_number` is not equal to the commitment number of the next `commitment_signed` that the receiving node would send: SHOULD send an `error` and fail the channel.',
    () => ({ nextCommitmentNumber: 0xffff_ffff_ffff_ffffn }),
  ),
  reestablish(
    'the highest next_revocation_number there can be',
    'if `next_revocation_number` is not equal to 1 greater than the commitment number of the last `revoke_and_ack` the receiving node has sent: SHOULD send an `error` and fail the channel.',
    () => ({ nextRevocationNumber: 0xffff_ffff_ffff_ffffn }),
  ),
  // The signer gives no point of a commitment so near to the end that the points after it do not exist.
  ...[(1n << 48n) - 1n, (1n << 48n) - 3n].map((nextRevocationNumber) =>
    reestablish(
      `a next_revocation_number of ${nextRevocationNumber}`,
      'if `next_revocation_number` is not equal to 1 greater than the commitment number of the last `revoke_and_ack` the receiving node has sent: SHOULD send an `error` and fail the channel.',
      () => ({ nextRevocationNumber }),
    ),
  ),
  {
    ...reestablish(
      'an old state, honestly told',
      'The other node should wait for that `error` to give the fallen-behind node an opportunity to fix its state first (e.g by restarting with a different backup).',
      () => ({
        nextCommitmentNumber: 1n,
        nextRevocationNumber: 0n,
        yourLastPerCommitmentSecret: new Uint8Array(32),
      }),
      'ignore',
    ),
    hears: ['channel_reestablish'],
    never: 'commitment_signed',
  },
  reestablish(
    'my_current_per_commitment_point of nothing',
    'MUST ignore `my_current_per_commitment_point`, but MAY require it to be a valid point.',
    ({ myCurrentPerCommitmentPoint }) => ({
      myCurrentPerCommitmentPoint: Uint8Array.from([
        2,
        ...myCurrentPerCommitmentPoint.subarray(1).fill(0xff),
      ]),
    }),
    'ignore',
  ),
  fresh(
    'a secret before any was revealed',
    'if `your_last_per_commitment_secret` does not match the expected values: SHOULD send an `error` and fail the channel.',
    (message) => ({ ...message, yourLastPerCommitmentSecret: new Uint8Array(32).fill(9) }),
    { reaction: 'error' },
  ),
  fresh(
    'a revocation before any was sent',
    'if it has not sent `revoke_and_ack`, AND `next_revocation_number` is not equal to 0: SHOULD send an `error` and fail the channel.',
    (message) => ({
      ...message,
      nextRevocationNumber: 1n,
      yourLastPerCommitmentSecret: new Uint8Array(32).fill(9),
    }),
    { reaction: 'error' },
  ),
  fresh(
    'a proof that the fleet lost state',
    'if `next_revocation_number` is greater than expected above, AND `your_last_per_commitment_secret` is correct for that `next_revocation_number` minus 1: MUST NOT broadcast its commitment transaction. SHOULD send an `error` to request the peer to fail the channel.',
    (message, scene) => ({
      ...message,
      nextRevocationNumber: 4n,
      yourLastPerCommitmentSecret: scene.fleetSecret(3n),
    }),
    { reaction: 'error_passive' },
  ),
  fresh(
    'before any update',
    'if `next_commitment_number` is 1 in both the `channel_reestablish` it sent and received, and none of those `channel_reestablish` messages contain `my_current_funding_locked` or `next_funding` for a splice transaction: MUST retransmit `channel_ready`.',
    (message) => message,
    { reaction: 'ignore', hears: ['channel_reestablish', 'channel_ready'] },
  ),
  fresh('twice', 'MUST transmit `channel_reestablish` for each channel.', (message) => [message, message], {
    reaction: 'warning_disconnect',
    hears: ['warning: a second channel_reestablish'],
  }),
  fresh(
    'an interactive transaction that nobody negotiated',
    'if the `next_funding` TLV is set: otherwise: MUST send `tx_abort` to let the sending node know that they can forget this funding transaction.',
    (message) => ({
      ...message,
      tlvs: { nextFunding: { nextFundingTxid: new Uint8Array(32).fill(8), retransmitFlags: 1 } },
    }),
    { reaction: 'ignore', hears: ['channel_reestablish', 'channel_ready'] },
  ),
  fresh(
    'a splice that nobody negotiated',
    "if splice transactions are pending and `my_current_funding_locked` matches one of those splice transactions, for which it hasn't received `splice_locked` yet: MUST process `my_current_funding_locked` as if it was receiving `splice_locked` for this `txid`.",
    (message) => ({
      ...message,
      tlvs: {
        myCurrentFundingLocked: {
          myCurrentFundingLockedTxid: new Uint8Array(32).fill(8),
          retransmitFlags: 0,
        },
      },
    }),
    { reaction: 'ignore', hears: ['channel_reestablish', 'channel_ready'] },
  ),
  tooEarly('update_add_htlc', ({ channelId, height }) =>
    make('update_add_htlc', {
      channelId,
      id: 0n,
      amountMsat: 1_000_000n,
      paymentHash: new Uint8Array(32),
      cltvExpiry: height + 500,
      onionRoutingPacket: new Uint8Array(1_366),
    }),
  ),
  tooEarly('update_fulfill_htlc', ({ channelId }) =>
    make('update_fulfill_htlc', { channelId, id: 0n, paymentPreimage: new Uint8Array(32) }),
  ),
  tooEarly('update_fail_htlc', ({ channelId }) =>
    make('update_fail_htlc', { channelId, id: 0n, reason: new Uint8Array(292) }),
  ),
  tooEarly('update_fee', ({ channelId }) => make('update_fee', { channelId, feeratePerKw: 1_100 })),
  tooEarly('shutdown', ({ channelId, channel }) =>
    make('shutdown', { channelId, scriptpubkey: channel.shutdownScript }),
  ),
  tooEarly('commitment_signed', ({ channelId }) =>
    make('commitment_signed', { channelId, signature: new Uint8Array(64).fill(1), htlcSignatures: [] }),
  ),
  tooEarly('revoke_and_ack', ({ channelId, hostile }) =>
    make('revoke_and_ack', {
      channelId,
      perCommitmentSecret: new Uint8Array(32).fill(3),
      nextPerCommitmentPoint: hostile.nodeId,
    }),
  ),
  tooEarly('channel_ready', ({ channelId, hostile }) =>
    make('channel_ready', { channelId, secondPerCommitmentPoint: hostile.nodeId }),
  ),
  {
    name: 'channel_reestablish: none',
    section: RETRANSMISSION,
    sentence:
      "MUST wait to receive the other node's `channel_reestablish` message before sending any other messages for that channel.",
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.hostile.tamper = () => [];
      await scene.reconnect();
      scene.payHostile(AMOUNT_MSAT);
    },
    reaction: 'ignore',
    hears: ['channel_reestablish'],
    never: 'update_add_htlc',
  },
  lost(
    'revoke_and_ack was lost',
    "if `next_revocation_number` is equal to the commitment number of the last `revoke_and_ack` the receiving node sent, AND the receiving node hasn't already received a `closing_signed`: MUST re-send the `revoke_and_ack`.",
    async (scene) => {
      scene.lose('revoke_and_ack', 'commitment_signed');
      scene.pay(AMOUNT_MSAT);
      await scene.until('the fleet signs', heard(scene, 'commitment_signed'));
    },
    { hears: ['channel_reestablish', 'revoke_and_ack', 'commitment_signed'], never: 'channel_ready' },
  ),
  lost(
    'commitment_signed and its update were lost',
    'if `next_commitment_number` is equal to the commitment number of the last `commitment_signed` message the receiving node has sent: MUST reuse the same commitment number for its next `commitment_signed`.',
    async (scene) => {
      scene.lose('update_add_htlc', 'commitment_signed');
      scene.payHostile(AMOUNT_MSAT);
      await scene.until('the fleet signs', heard(scene, 'commitment_signed'));
    },
    { hears: ['channel_reestablish', 'update_add_htlc', 'commitment_signed'] },
  ),
  lost(
    'commitment_signed and then revoke_and_ack were lost',
    'if it has previously sent a `commitment_signed` that needs to be retransmitted: MUST retransmit `revoke_and_ack` and `commitment_signed` in the same relative order as initially transmitted.',
    async (scene) => {
      scene.lose('update_add_htlc', 'commitment_signed', 'revoke_and_ack');
      scene.payHostile(AMOUNT_MSAT);
      await scene.until('the fleet signs', heard(scene, 'commitment_signed'));
      scene.pay(AMOUNT_MSAT);
      await scene.until('the fleet revokes', heard(scene, 'revoke_and_ack'));
    },
    { hears: ['channel_reestablish', 'update_add_htlc', 'commitment_signed', 'revoke_and_ack'] },
  ),
  lost(
    'no message was lost',
    'otherwise: MUST NOT retransmit `channel_ready`, but MAY send `channel_ready` with a different `short_channel_id` `alias` field.',
    (scene) => scene.payThrough(AMOUNT_MSAT),
    { hears: ['channel_reestablish'], never: 'channel_ready' },
  ),
  {
    name: 'channel_reestablish: after an error',
    section: RETRANSMISSION,
    sentence:
      'if a channel is in an error state: SHOULD retransmit the error packet and ignore any other packets for that channel.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.change('commitment_signed', (message) => ({ ...message, signature: spoiled(message.signature) }));
      scene.pay(AMOUNT_MSAT);
      await scene.until('the fleet fails the channel', heard(scene, 'error'));
      scene.behave();
      scene.heard.length = 0;
      await scene.reconnect();
      const { channelId, hostile } = scene;
      const secondPerCommitmentPoint = hostile.node.signer.point(1n);
      scene.send(
        make('update_fee', { channelId, feeratePerKw: 1_100 }),
        make('channel_ready', { channelId, secondPerCommitmentPoint }),
        make('shutdown', { channelId, scriptpubkey: new Uint8Array(1) }),
      );
    },
    reaction: 'error',
    hears: ['error: commitment_signed'],
    never: 'warning',
  },
];
