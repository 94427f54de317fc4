/** BOLT 2, "Channel Establishment v1", as the receiver of each message. */
import { FeatureBits } from '@fulmen/codec';
import type { MessageOf } from '@fulmen/wire';
import type { Rule } from './rule.ts';

type Open = MessageOf<'open_channel'>;
type Accept = MessageOf<'accept_channel'>;

const FAIL_IF = 'The receiving node MUST fail the channel if:';

function open(
  name: string,
  sentence: string,
  change: (message: Open) => Partial<Open>,
  outcome: Pick<Rule, 'reaction' | 'hears'> = { reaction: 'error' },
): Rule {
  return {
    name: `open_channel: ${name}`,
    section: 'The `open_channel` Message',
    sentence,
    stage: 'opening_by_peer',
    act: (scene) => scene.change('open_channel', (message) => ({ ...message, ...change(message) })),
    ...outcome,
  };
}

function accept(
  name: string,
  sentence: string,
  change: (message: Accept) => Partial<Accept>,
  reaction: Rule['reaction'] = 'error',
  hears: readonly string[] = [],
): Rule {
  return {
    name: `accept_channel: ${name}`,
    section: 'The `accept_channel` Message',
    sentence,
    stage: 'opening_by_fleet',
    act: (scene) => {
      // A reserve of 1,000 sat is below what may be dust.
      scene.fundingSat = 100_000n;
      scene.pushMsat = 30_000_000n;
      scene.change('accept_channel', (message) => ({ ...message, ...change(message) }));
    },
    reaction,
    hears,
  };
}

const SAME = 'Other fields have the same requirements as their counterparts in `open_channel`.';
const withoutType = <M extends Open | Accept>({ tlvs }: M): { tlvs: M['tlvs'] } => {
  const { channelType: _, ...rest } = tlvs;
  return { tlvs: rest };
};

/** Features that are no channel type. */
const NO_TYPE = FeatureBits.of({ gossip_queries: 'required' }).encode();
const SCID_ALIAS = FeatureBits.of({
  static_remotekey: 'required',
  anchors: 'required',
  scid_alias: 'required',
}).encode();
const ZERO_CONF = FeatureBits.of({
  static_remotekey: 'required',
  anchors: 'required',
  scid_alias: 'required',
  zeroconf: 'required',
}).encode();
const NO_KEY = `${FAIL_IF} \`funding_pubkey\`, \`revocation_basepoint\`, \`htlc_basepoint\`, \`payment_basepoint\`, or \`delayed_payment_basepoint\` are not valid secp256k1 pubkeys in compressed format.`;
const UNSUITABLE = `${FAIL_IF} the \`channel_type\` is not suitable.`;
/** No point has this x. */
const NO_CURVE = Uint8Array.from([2, ...new Uint8Array(32).fill(0xff)]);
/** Five is no prefix of a compressed key. */
const NO_POINT = Uint8Array.from([5, ...new Uint8Array(32).fill(1)]);

export const OPEN_RULES: readonly Rule[] = [
  open(
    'an unknown chain',
    `${FAIL_IF} the \`chain_hash\` value is set to a hash of a chain that is unknown to the receiver.`,
    () => ({ chainHash: new Uint8Array(32).fill(7) }),
  ),
  open(
    'more pushed than funded',
    `${FAIL_IF} \`push_msat\` is greater than \`funding_satoshis\` * 1000.`,
    ({ fundingSatoshis }) => ({ pushMsat: fundingSatoshis * 1_000n + 1n }),
  ),
  open('an endless delay', `${FAIL_IF} \`to_self_delay\` is unreasonably large.`, () => ({
    toSelfDelay: 60_000,
  })),
  open('484 HTLCs', `${FAIL_IF} \`max_accepted_htlcs\` is greater than 483.`, () => ({
    maxAcceptedHtlcs: 484,
  })),
  open(
    'a feerate too small',
    `${FAIL_IF} it considers \`feerate_per_kw\` too small for timely processing or unreasonably large.`,
    () => ({ feeratePerKw: 100 }),
  ),
  open(
    'a feerate too large',
    `${FAIL_IF} it considers \`feerate_per_kw\` too small for timely processing or unreasonably large.`,
    () => ({ feeratePerKw: 1_000_000 }),
  ),
  ...(
    [
      'fundingPubkey',
      'revocationBasepoint',
      'htlcBasepoint',
      'paymentBasepoint',
      'delayedPaymentBasepoint',
    ] as const
  ).map((field) =>
    open(
      `no key as ${field}`,
      NO_KEY,
      () => ({ [field]: NO_POINT }),
      // Bytes that do not decode end the connection, and an opening does not survive that.
      { reaction: 'warning_disconnect' },
    ),
  ),
  ...(['htlcBasepoint', 'firstPerCommitmentPoint'] as const).map((field) =>
    open(`${field} on no curve`, NO_KEY, () => ({ [field]: NO_CURVE })),
  ),
  open(
    'dust above the reserve',
    `${FAIL_IF} \`dust_limit_satoshis\` is greater than \`channel_reserve_satoshis\`.`,
    ({ channelReserveSatoshis }) => ({ dustLimitSatoshis: channelReserveSatoshis + 1n }),
  ),
  open('dust of 353', `${FAIL_IF} \`dust_limit_satoshis\` is smaller than \`354 satoshis\`.`, () => ({
    dustLimitSatoshis: 353n,
  })),
  open(
    'a funder that cannot pay the fee',
    `${FAIL_IF} the funder's amount for the initial commitment transaction is not sufficient for full fee payment.`,
    ({ fundingSatoshis }) => ({ pushMsat: (fundingSatoshis - 500n) * 1_000n }),
  ),
  open(
    'nobody above the reserve',
    `${FAIL_IF} both \`to_local\` and \`to_remote\` amounts for the initial commitment transaction are less than or equal to \`channel_reserve_satoshis\`.`,
    ({ fundingSatoshis }) => ({ channelReserveSatoshis: fundingSatoshis, pushMsat: 0n }),
  ),
  open(
    'no channel type',
    "The receiving node MUST: if the message doesn't include a `channel_type`: fail the channel.",
    withoutType,
  ),
  open('a type in more bytes than it needs', UNSUITABLE, ({ tlvs }) => ({
    tlvs: { ...tlvs, channelType: Uint8Array.from([0, ...(tlvs.channelType ?? [])]) },
  })),
  open('a public channel with scid_alias', UNSUITABLE, ({ tlvs }) => ({
    channelFlags: 1,
    tlvs: { ...tlvs, channelType: SCID_ALIAS },
  })),
  open(
    'a shutdown script of no allowed form',
    'MUST include `upfront_shutdown_script` with either a valid `shutdown_scriptpubkey` as required by `shutdown` `scriptpubkey`, or a zero-length `shutdown_scriptpubkey`.',
    ({ tlvs }) => ({
      tlvs: { ...tlvs, upfrontShutdownScript: Uint8Array.from([0x51]) },
    }),
  ),
  open('a type that is none', UNSUITABLE, ({ tlvs }) => ({
    tlvs: { ...tlvs, channelType: NO_TYPE },
  })),
  open(
    'zero-conf without trust',
    `${FAIL_IF} the \`channel_type\` includes \`option_zeroconf\` and it does not trust the sender to open an unconfirmed channel.`,
    ({ tlvs }) => ({ tlvs: { ...tlvs, channelType: ZERO_CONF } }),
  ),
  open(
    'undefined flags',
    'The receiving node MUST: ignore undefined bits in `channel_flags`.',
    ({ channelFlags }) => ({ channelFlags: channelFlags | 0b1010_1010 }),
    { reaction: 'ignore', hears: ['accept_channel'] },
  ),
  accept(
    'a reserve below our dust limit',
    'if `channel_reserve_satoshis` is less than `dust_limit_satoshis` within the `open_channel` message: MUST fail the channel.',
    () => ({ channelReserveSatoshis: 353n }),
  ),
  accept(
    'dust above our reserve',
    'if `channel_reserve_satoshis` from the `open_channel` message is less than `dust_limit_satoshis`: MUST fail the channel.',
    () => ({ dustLimitSatoshis: 1_001n, channelReserveSatoshis: 2_000n }),
    'error',
    ['error: accept_channel: dust_limit_satoshis is above the reserve we ask for'],
  ),
  accept(
    'no channel type',
    "if the message doesn't include a `channel_type`: MUST fail the channel.",
    withoutType,
  ),
  accept(
    'another channel type',
    'if `channel_type` does not match the `channel_type` from `open_channel`: MUST fail the channel.',
    ({ tlvs }) => ({
      tlvs: { ...tlvs, channelType: FeatureBits.of({ static_remotekey: 'required' }).encode() },
    }),
  ),
  accept('dust of 353', SAME, () => ({ dustLimitSatoshis: 353n })),
  accept('484 HTLCs', SAME, () => ({ maxAcceptedHtlcs: 484 })),
  accept('an endless delay', SAME, () => ({ toSelfDelay: 60_000 })),
  accept('no key as fundingPubkey', SAME, () => ({ fundingPubkey: NO_POINT }), 'warning_disconnect'),
  accept('a key on no curve', SAME, () => ({ htlcBasepoint: NO_CURVE })),
  accept(
    'a minimum_depth of years',
    'if `minimum_depth` is unreasonably large: MAY fail the channel.',
    () => ({ minimumDepth: 100_000 }),
  ),
  accept(
    'another temporary_channel_id',
    'The `temporary_channel_id` MUST be the same as the `temporary_channel_id` in the `open_channel` message.',
    () => ({ temporaryChannelId: new Uint8Array(32).fill(0x44) }),
  ),
  {
    name: "accept_channel: the fleet's own keys",
    section: 'The `accept_channel` Message',
    sentence: SAME,
    stage: 'opening_by_fleet',
    act: (scene) =>
      scene.change('accept_channel', (message) => {
        const open = scene.heard.map((heard) => heard.message).find(({ type }) => type === 'open_channel');
        return open?.type === 'open_channel' ? { ...message, fundingPubkey: open.fundingPubkey } : message;
      }),
    reaction: 'error',
    hears: ['error: accept_channel: a public key is one of ours'],
  },
  {
    name: 'accept_channel: twice',
    section: 'The `accept_channel` Message',
    sentence: SAME,
    stage: 'opening_by_fleet',
    act: (scene) => {
      scene.change('accept_channel', (message) => [message, message]);
      scene.lose('warning');
    },
    reaction: 'warning',
  },
];
