/** BOLT 2, openings as a whole, and from "funding_created" to "channel_ready", as the receiver of each message. */
import { primaryFunding } from '@fulmen/channel';
import { equalBytes } from '@fulmen/codec';
import { make, type MessageOf } from '@fulmen/wire';
import { type Rule, highS, spoiled } from './rule.ts';
import type { Scene } from './scene.ts';
import { SecondChannel } from './second-channel.ts';

const OPEN = 'The `open_channel` Message';
const CREATED = 'The `funding_created` Message';
const SIGNED = 'The `funding_signed` Message';
const READY = 'The `channel_ready` Message';
const AMOUNT_MSAT = 20_000_000n;
/** Of a warning that means nothing. */
const FILLING = { channelId: new Uint8Array(32).fill(0x99), data: new Uint8Array(60_000) };

const SIGNATURE =
  'if `signature` is incorrect OR non-compliant with LOW-S-standard rule: MUST send a `warning` and close the connection, or send an `error` and fail the channel.';
const DERIVED =
  "This message introduces the `channel_id` to identify the channel. It's derived from the funding transaction by combining the `funding_txid` and the `funding_output_index`, using big-endian exclusive-OR.";
const UNIQUE = 'MUST ensure `temporary_channel_id` is unique from any other channel ID with the same peer.';

function rule(
  name: string,
  section: string,
  sentence: string,
  stage: Rule['stage'],
  act: Rule['act'],
  outcome: Pick<Rule, 'reaction' | 'hears' | 'never' | 'check' | 'prepare'>,
): Rule {
  return { name, section, sentence, stage, act, ...outcome };
}

const messagesOf = (scene: Scene, type: string) =>
  scene.heard.map(({ message }) => message).filter((message) => message.type === type);

/** What it says is about the channel's final id, the only one that the fundee knows by then. */
function errorByFinalId(scene: Scene): void {
  const signedFor = scene.channelId;
  const isNamed = messagesOf(scene, 'error').some(
    (message) => message.type === 'error' && equalBytes(message.channelId, signedFor),
  );
  if (!isNamed) throw new RangeError('the error is about another id');
  if (scene.hasOrdered('funding')) throw new RangeError('the funding was broadcast');
}

export const FUNDING_RULES: readonly Rule[] = [
  rule(
    'open_channel: 2^24 sat',
    OPEN,
    'The receiving node MUST fail the channel if: `funding_satoshis` is greater than or equal to 2^24 and the receiver does not support `option_support_large_channel`.',
    'opening_by_peer',
    (scene) => {
      scene.fundingSat = 1n << 24n;
    },
    { reaction: 'ignore', hears: ['accept_channel', 'funding_signed'] },
  ),
  rule(
    'open_channel: anew after a reconnection',
    OPEN,
    'if the connection has been re-established after receiving a previous `open_channel`, BUT before receiving a `funding_created` message: accept a new `open_channel` message. discard the previous `open_channel` message.',
    'opening_by_peer',
    (scene) =>
      scene.change('funding_created', () => {
        scene.behave();
        scene.watchConnection();
        scene.hostile.cut();
        return [];
      }),
    { reaction: 'disconnect', hears: ['accept_channel', 'accept_channel', 'funding_signed'] },
  ),
  rule(
    'open_channel: twice at once',
    OPEN,
    UNIQUE,
    'opening_by_peer',
    (scene) => scene.change('open_channel', (message) => [message, message]),
    {
      reaction: 'disconnect',
      never: 'error',
      check: (scene) => {
        if (messagesOf(scene, 'accept_channel').length > 0) throw new RangeError('one was accepted');
      },
    },
  ),
  rule(
    'open_channel: the temporary_channel_id of an opening',
    OPEN,
    UNIQUE,
    'opening_by_peer',
    (scene) => {
      let first: MessageOf<'open_channel'> | undefined;
      scene.hostile.tamper = (message) => {
        if (message.type === 'open_channel') first = message;
        return message.type === 'funding_created' && first !== undefined ? [first] : [message];
      };
    },
    { reaction: 'error', hears: ['accept_channel', 'error: this temporary_channel_id is in use'] },
  ),
  rule(
    'open_channel: the id of a channel',
    OPEN,
    UNIQUE,
    'open_funded_by_peer',
    (scene) => new SecondChannel(scene, 'second').open(() => ({ temporaryChannelId: scene.channelId })),
    { reaction: 'warning', never: 'error' },
  ),
  rule(
    'open_channel: the id that means all channels',
    OPEN,
    UNIQUE,
    'open_funded_by_peer',
    (scene) => new SecondChannel(scene, 'second').open(() => ({ temporaryChannelId: new Uint8Array(32) })),
    {
      reaction: 'warning',
      hears: ['warning: open_channel: this temporary_channel_id names something else'],
      never: 'accept_channel',
    },
  ),
  rule(
    'open_channel: six at once',
    OPEN,
    'If this fails at any stage, or if one node decides the channel terms offered by the other node are not suitable, the channel establishment fails.',
    'open_funded_by_peer',
    (scene) => {
      for (let i = 0; i < 6; i += 1) new SecondChannel(scene, `channel ${i}`).open();
    },
    {
      reaction: 'refusal',
      hears: ['error: too many channels of yours are not confirmed yet'],
      check: (scene) => {
        const accepted = messagesOf(scene, 'accept_channel').length;
        if (accepted !== 4) throw new RangeError(`${accepted} were accepted`);
      },
    },
  ),
  rule(
    'open_channel: pushed funds before the funding is deep enough',
    OPEN,
    'The receiving node MUST NOT: consider funds received, using `push_msat`, to be received until the funding transaction has reached sufficient depth.',
    'unconfirmed_by_peer',
    async (scene) => {
      await scene.until('the honest channel is open', () => scene.honest.isOpen);
      const payment = scene.payHostile(AMOUNT_MSAT);
      await scene.until('it ends', () => payment.state === 'failed' || payment.state === 'fulfilled');
    },
    { reaction: 'ignore' },
  ),
  ...(['spoiled', 'high-S'] as const).flatMap((kind): Rule[] => {
    const change = kind === 'spoiled' ? spoiled : highS;
    return [
      rule(
        `funding_created: a ${kind} signature`,
        CREATED,
        SIGNATURE,
        'opening_by_peer',
        (scene) =>
          scene.change('funding_created', (message) => ({
            ...message,
            signature: change(message.signature),
          })),
        { reaction: 'error' },
      ),
      rule(
        `funding_signed: a ${kind} signature`,
        SIGNED,
        SIGNATURE + ' MUST NOT broadcast the funding transaction before receipt of a valid `funding_signed`.',
        'opening_by_fleet',
        (scene) => {
          scene.change('funding_signed', (message) => ({ ...message, signature: change(message.signature) }));
          // It stays with the channel that it believes to have.
          scene.hostile.receives = ({ type }) => type !== 'error';
        },
        { reaction: 'error', check: errorByFinalId },
      ),
    ];
  }),
  ...(['its own', "another peer's"] as const).map((whose) =>
    rule(
      `funding_created: the outpoint of ${whose} channel`,
      CREATED,
      DERIVED,
      'open_funded_by_peer',
      async (scene) => {
        const { channel } = whose === 'its own' ? scene.hostile : scene.honest;
        if (channel === undefined) return;
        const { fundingTxid, fundingOutputIndex } = primaryFunding(channel);
        await new SecondChannel(scene, 'second').fund(fundingTxid, fundingOutputIndex);
        await scene.pause(500);
        // More than the peer's window of unprocessed bytes: whatever was refused is done with.
        scene.send(...Array.from({ length: 6 }, () => make('warning', FILLING)));
        await scene.payThrough(AMOUNT_MSAT);
      },
      { reaction: 'refusal', hears: ['error: the funding outpoint is that of another channel'] },
    ),
  ),
  rule(
    'funding_created: an opening that the fleet began',
    CREATED,
    '`temporary_channel_id` the same as the `temporary_channel_id` in the `open_channel` message.',
    'opening_by_fleet',
    (scene) => {
      scene.lose('warning');
      scene.change('accept_channel', (message) => [
        make('funding_created', {
          temporaryChannelId: message.temporaryChannelId,
          fundingTxid: new Uint8Array(32).fill(3),
          fundingOutputIndex: 0,
          signature: new Uint8Array(64).fill(1),
        }),
        message,
      ]);
    },
    { reaction: 'warning', hears: ['warning: funding_created', 'funding_created'] },
  ),
  rule(
    'funding_signed: another channel_id',
    SIGNED,
    '`channel_id` by exclusive-OR of the `funding_txid` and the `funding_output_index` from the `funding_created` message.',
    'opening_by_fleet',
    (scene) =>
      scene.change('funding_signed', (message) => ({ ...message, channelId: new Uint8Array(32).fill(3) })),
    {
      reaction: 'error',
      hears: ['error: unknown channel'],
      check: (scene) => {
        if (scene.hasOrdered('funding')) throw new RangeError('the funding was broadcast');
      },
    },
  ),
  rule(
    'funding_signed: as it should be',
    SIGNED,
    'on receipt of a valid `funding_signed`: SHOULD broadcast the funding transaction.',
    'unconfirmed_by_fleet',
    () => undefined,
    {
      reaction: 'ignore',
      check: (scene) => {
        if (!scene.hasOrdered('funding')) throw new RangeError('the funding was not broadcast');
      },
    },
  ),
  ...(['unconfirmed_by_peer', 'unconfirmed_by_fleet'] as const).map((stage) =>
    rule(
      `funding_signed: and then a reconnection, ${stage}`,
      'Message Retransmission',
      stage === 'unconfirmed_by_peer'
        ? 'if it has sent the `funding_signed` message: MUST remember the channel for reconnection.'
        : 'if it has broadcast the funding transaction: MUST remember the channel for reconnection.',
      stage,
      (scene) => scene.reconnect(),
      { reaction: 'ignore', hears: ['channel_reestablish'] },
    ),
  ),
  rule(
    'accept_channel: and then nothing but a reset',
    'Message Retransmission',
    'otherwise: SHOULD NOT remember the channel for reconnection.',
    'opening_by_fleet',
    (scene) => {
      scene.hostile.receives = ({ type }) => {
        if (type === 'funding_created') scene.hostile.cut();
        return type !== 'funding_created';
      };
    },
    {
      reaction: 'disconnect',
      never: 'channel_reestablish',
      check: (scene) => {
        if (scene.phases().length > 0 || scene.hasOrdered('funding'))
          throw new RangeError('it is remembered');
      },
    },
  ),
  rule(
    'channel_ready: a second_per_commitment_point on no curve',
    READY,
    'MUST set `second_per_commitment_point` to the per-commitment point to be used for commitment transaction #1.',
    'unconfirmed_by_peer',
    (scene) =>
      scene.send(
        make('channel_ready', {
          channelId: scene.channelId,
          secondPerCommitmentPoint: Uint8Array.from([2, ...new Uint8Array(32).fill(0xff)]),
        }),
      ),
    { reaction: 'error' },
  ),
  rule(
    'channel_ready: before the funding is confirmed',
    READY,
    'SHOULD wait until the funding transaction has reached `minimum_depth` before sending this message.',
    'unconfirmed_by_peer',
    async (scene) => {
      const secondPerCommitmentPoint = scene.hostile.node.signer.point(1n);
      scene.send(make('channel_ready', { channelId: scene.channelId, secondPerCommitmentPoint }));
      scene.lose();
      await scene.until('open', () => scene.hostile.isOpen);
    },
    { reaction: 'ignore', hears: ['channel_ready'] },
  ),
  rule(
    'channel_ready: another alias',
    READY,
    'MAY send multiple `channel_ready` messages to the same peer with different `alias` values.',
    'open_funded_by_peer',
    (scene) =>
      scene.send(
        make('channel_ready', {
          channelId: scene.channelId,
          secondPerCommitmentPoint: scene.hostile.node.signer.point(1n),
          tlvs: { shortChannelId: 4_711n },
        }),
      ),
    { reaction: 'ignore' },
  ),
];
