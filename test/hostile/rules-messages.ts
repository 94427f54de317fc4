/** BOLT 1 as it holds for the messages of BOLT 2: their form, ids that name nothing, messages that nobody negotiated. */
import { concatBytes, utf8Encode } from '@fulmen/codec';
import { encodeMessage, make, type MessageInputOf, type MessageName } from '@fulmen/wire';
import type { Rule } from './rule.ts';
import type { Scene } from './scene.ts';

const FORMAT = 'BOLT 1: Lightning Message Format';
const TLV = 'BOLT 1: Type-Length-Value Format';
const ERRORS = 'BOLT 1: The `error` and `warning` Messages';

const UNKNOWN = new Uint8Array(32).fill(0x99);
const ALL = new Uint8Array(32);
const BYTES = new Uint8Array(32).fill(2);
const SIGNATURE = new Uint8Array(64).fill(1);

/** One of each, about `channelId`; nothing that would follow from one of them if it named a channel matters. */
function samples(scene: Scene, channelId: Uint8Array): readonly MessageInputOf<MessageName>[] {
  const point = scene.hostile.nodeId;
  const opening = {
    temporaryChannelId: channelId,
    dustLimitSatoshis: 354n,
    maxHtlcValueInFlightMsat: 1n,
    channelReserveSatoshis: 1_000n,
    htlcMinimumMsat: 1n,
    toSelfDelay: 144,
    maxAcceptedHtlcs: 30,
    fundingPubkey: point,
    revocationBasepoint: point,
    paymentBasepoint: point,
    delayedPaymentBasepoint: point,
    htlcBasepoint: point,
    firstPerCommitmentPoint: point,
  };
  const fee = { fundingSatoshis: 1_000_000n, pushMsat: 0n, feeratePerKw: 1_000, channelFlags: 0 };
  const next = { nextCommitmentNumber: 1n, nextRevocationNumber: 0n };
  return [
    make('open_channel', { ...opening, ...fee, chainHash: BYTES }),
    make('accept_channel', { ...opening, minimumDepth: 1 }),
    make('funding_created', {
      temporaryChannelId: channelId,
      fundingTxid: BYTES,
      fundingOutputIndex: 0,
      signature: SIGNATURE,
    }),
    make('funding_signed', { channelId, signature: SIGNATURE }),
    make('channel_ready', { channelId, secondPerCommitmentPoint: point }),
    make('shutdown', { channelId, scriptpubkey: BYTES }),
    make('closing_signed', { channelId, feeSatoshis: 1n, signature: SIGNATURE }),
    make('stfu', { channelId, initiator: 1 }),
    make('update_add_htlc', {
      channelId,
      id: 0n,
      amountMsat: 1n,
      paymentHash: BYTES,
      cltvExpiry: 1,
      onionRoutingPacket: new Uint8Array(1_366),
    }),
    make('update_fulfill_htlc', { channelId, id: 0n, paymentPreimage: BYTES }),
    make('update_fail_htlc', { channelId, id: 0n, reason: BYTES }),
    make('update_fail_malformed_htlc', { channelId, id: 0n, sha256OfOnion: BYTES, failureCode: 0xc005 }),
    make('update_fee', { channelId, feeratePerKw: 1_000 }),
    make('commitment_signed', { channelId, signature: SIGNATURE, htlcSignatures: [] }),
    make('revoke_and_ack', { channelId, perCommitmentSecret: BYTES, nextPerCommitmentPoint: point }),
    make('channel_reestablish', {
      channelId,
      ...next,
      yourLastPerCommitmentSecret: ALL,
      myCurrentPerCommitmentPoint: point,
    }),
  ];
}

export const MESSAGES_OF_BOLT_2 = [
  'open_channel',
  'accept_channel',
  'funding_created',
  'funding_signed',
  'channel_ready',
  'shutdown',
  'closing_signed',
  'stfu',
  'update_add_htlc',
  'update_fulfill_htlc',
  'update_fail_htlc',
  'update_fail_malformed_htlc',
  'update_fee',
  'commitment_signed',
  'revoke_and_ack',
  'channel_reestablish',
] as const;

function sample(scene: Scene, name: MessageName, channelId: Uint8Array): Uint8Array {
  return concatBytes(
    ...samples(scene, channelId)
      .filter(({ type }) => type === name)
      .map(encodeMessage),
  );
}

/** A row for each message. */
function forEach(
  what: string,
  rule: Omit<Rule, 'name' | 'act' | 'stage' | 'shares'>,
  bytes: (scene: Scene, name: MessageName) => Uint8Array,
): Rule[] {
  return MESSAGES_OF_BOLT_2.map((name) => ({
    ...rule,
    name: `${name}: ${what}`,
    stage: 'open_funded_by_peer',
    shares: 'its_stage',
    act: (scene) => scene.send(bytes(scene, name)),
  }));
}

const append = (scene: Scene, name: MessageName, ...tlvs: readonly number[]): Uint8Array =>
  concatBytes(sample(scene, name, UNKNOWN), Uint8Array.from(tlvs));

/** A TLV that is declared for the message, of a length that its value cannot have. */
function wrongLength(name: MessageName, type: number, length: number): Rule {
  return {
    name: `${name}: TLV ${type} with ${length} bytes`,
    section: TLV,
    sentence:
      'if `length` is not exactly equal to that required for the known encoding for `type`: MUST fail to parse the `tlv_stream`.',
    stage: 'open_funded_by_peer',
    shares: 'its_stage',
    act: (scene) => scene.send(append(scene, name, type, length, ...new Uint8Array(length).fill(2))),
    reaction: 'warning_disconnect',
  };
}

/** On update_fee, which has no TLVs of its own. */
function stream(what: string, sentence: string, ...tlvs: readonly number[]): Rule {
  return {
    name: `TLV stream: ${what}`,
    section: TLV,
    sentence,
    stage: 'open_funded_by_peer',
    shares: 'its_stage',
    act: (scene) => scene.send(append(scene, 'update_fee', ...tlvs)),
    reaction: 'warning_disconnect',
  };
}

/** Messages of protocols that the fleet does not offer, by their type numbers. */
const NOT_NEGOTIATED: readonly (readonly [string, number])[] = [
  ['closing_complete', 40],
  ['closing_sig', 41],
  ['open_channel2', 64],
  ['accept_channel2', 65],
  ['tx_add_input', 66],
  ['tx_add_output', 67],
  ['tx_remove_input', 68],
  ['tx_remove_output', 69],
  ['tx_complete', 70],
  ['tx_signatures', 71],
  ['tx_init_rbf', 72],
  ['tx_ack_rbf', 73],
  ['tx_abort', 74],
  ['splice_locked', 77],
  ['splice_init', 80],
  ['splice_ack', 81],
];

/** error and warning, as bytes: they may name anything. */
function complaint(
  what: string,
  sentence: string,
  message: (scene: Scene) => readonly ['error' | 'warning', Uint8Array],
  outcome: Pick<Rule, 'reaction' | 'hears' | 'never'>,
): Rule {
  return {
    name: what,
    section: ERRORS,
    sentence,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      const [type, channelId] = message(scene);
      scene.send(make(type, { channelId, data: utf8Encode('nothing\u0007 to be seen') }));
    },
    ...outcome,
  };
}

const NO_CHANNEL = 'if no existing channel is referred to by `channel_id`: MUST ignore the message.';

export const MESSAGE_RULES: readonly Rule[] = [
  ...forEach(
    'a byte short',
    {
      section: FORMAT,
      sentence:
        'upon receiving a known message with insufficient length for the contents: MUST close the connection.',
      reaction: 'warning_disconnect',
    },
    (scene, name) => sample(scene, name, UNKNOWN).subarray(0, -1),
  ),
  ...forEach(
    'an unknown even TLV',
    {
      section: FORMAT,
      sentence: 'Otherwise, if the `extension` is invalid: MUST close the connection.',
      reaction: 'warning_disconnect',
    },
    (scene, name) => append(scene, name, 100, 0),
  ),
  ...forEach(
    'an unknown odd TLV, about an unknown channel',
    {
      section: ERRORS,
      sentence:
        'SHOULD send `error` with the unknown `channel_id` in reply to messages of type `32`-`255` related to unknown channels.',
      reaction: 'refusal',
    },
    (scene, name) => append(scene, name, 101, 0),
  ),
  ...forEach(
    'about all channels',
    {
      section: ERRORS,
      sentence: 'when sending `error`: MUST fail the channel(s) referred to by the error message.',
      reaction: 'warning',
      never: 'error',
    },
    (scene, name) => sample(scene, name, ALL),
  ),
  wrongLength('channel_ready', 1, 7),
  wrongLength('closing_signed', 1, 15),
  wrongLength('update_add_htlc', 0, 32),
  wrongLength('update_fulfill_htlc', 1, 200),
  wrongLength('update_fail_htlc', 1, 200),
  wrongLength('commitment_signed', 1, 33),
  wrongLength('channel_reestablish', 1, 32),
  wrongLength('channel_reestablish', 5, 34),
  stream(
    'a type that is not minimal',
    'if a `type` or `length` is not minimally encoded: MUST fail to parse the `tlv_stream`.',
    ...[0xfd, 0, 101, 0],
  ),
  stream(
    'a length that is not minimal',
    'if a `type` or `length` is not minimally encoded: MUST fail to parse the `tlv_stream`.',
    ...[101, 0xfd, 0, 0],
  ),
  stream(
    'types that do not increase',
    'if decoded `type`s are not strictly-increasing: MUST fail to parse the `tlv_stream`.',
    ...[103, 0, 101, 0],
  ),
  stream(
    'a type twice',
    'if decoded `type`s are not strictly-increasing: MUST fail to parse the `tlv_stream`.',
    ...[101, 0, 101, 0],
  ),
  stream(
    'a length beyond the message',
    'if `length` exceeds the number of bytes remaining in the message: MUST fail to parse the `tlv_stream`.',
    ...[101, 9, 1],
  ),
  ...NOT_NEGOTIATED.map(([name, type]): Rule => ({
    name: `${name}: not negotiated`,
    section: FORMAT,
    sentence:
      type % 2 === 0
        ? 'upon receiving a message of _even_, unknown type: MUST close the connection.'
        : 'upon receiving a message of _odd_, unknown type: MUST ignore the received message.',
    stage: 'open_funded_by_peer',
    shares: 'its_stage',
    act: (scene) => scene.send(concatBytes(Uint8Array.from([0, type]), scene.channelId, new Uint8Array(80))),
    reaction: type % 2 === 0 ? 'warning_disconnect' : 'ignore',
  })),
  {
    name: 'stfu: when nobody offered it',
    section: 'Channel Quiescence',
    sentence: 'MUST NOT send `stfu` unless `option_quiesce` is negotiated.',
    stage: 'open_funded_by_peer',
    shares: 'its_stage',
    act: (scene) => scene.send(sample(scene, 'stfu', scene.channelId)),
    reaction: 'warning_disconnect',
  },
  complaint(
    'error: about all channels',
    'if `channel_id` is all zero: MUST fail all channels with the sending node.',
    () => ['error', ALL],
    { reaction: 'error', hears: ['the peer failed the channel: nothing? to be seen'] },
  ),
  complaint(
    'error: about the channel',
    'otherwise: MUST fail the channel referred to by `channel_id`, if that channel is with the sending node.',
    ({ channelId }) => ['error', channelId],
    { reaction: 'error' },
  ),
  complaint(
    "error: about another peer's channel",
    NO_CHANNEL,
    ({ honest, channelId }) => ['error', honest.channel?.channelId ?? channelId],
    {
      reaction: 'ignore',
    },
  ),
  complaint('error: about an unknown channel', NO_CHANNEL, () => ['error', UNKNOWN], { reaction: 'ignore' }),
  complaint(
    'warning: about the channel',
    'upon receiving `warning`: SHOULD log the message for later diagnosis.',
    ({ channelId }) => ['warning', channelId],
    { reaction: 'ignore', never: 'shutdown' },
  ),
  complaint('warning: about an unknown channel', NO_CHANNEL, () => ['warning', UNKNOWN], {
    reaction: 'ignore',
  }),
];
