/** The terms of an opening: what the holder asks for, and whether the counterparty's are acceptable. */
import type { Result } from '@fulmen/codec';
import { equalBytes, ok } from '@fulmen/codec';
import type { MessageOf } from '@fulmen/wire';
import { isShutdownScript } from '../close/shutdown.ts';
import { funderCommitmentCostSat } from '../commitment/fees.ts';
import { LARGE_CHANNEL_SAT, MAX_ACCEPTED_HTLCS_LIMIT, MAX_MONEY_SAT, MIN_DUST_LIMIT_SAT } from '../config.ts';
import type { ChannelConfig } from '../config.ts';
import type { ChannelContext, NegotiatedFeatures } from '../context.ts';
import type { ChannelError, ChannelErrorCode } from '../errors.ts';
import { fault } from '../errors.ts';
import type { CommitmentFormatName, PartyParameters } from '../parameters.ts';

/** The holder's public keys of a channel, from the signer. */
export interface HolderKeys {
  /** 32 bytes that name the channel's keys in the signer. */
  readonly channelKeysId: Uint8Array;
  readonly fundingPubkey: Uint8Array;
  readonly revocationBasepoint: Uint8Array;
  readonly paymentBasepoint: Uint8Array;
  readonly delayedPaymentBasepoint: Uint8Array;
  readonly htlcBasepoint: Uint8Array;
}

const KEYS = [
  'fundingPubkey',
  'revocationBasepoint',
  'paymentBasepoint',
  'delayedPaymentBasepoint',
  'htlcBasepoint',
] as const;

/** The holder's parameters by its policy. */
export function holderParameters(
  config: ChannelConfig,
  keys: HolderKeys,
  channel: {
    readonly fundingSat: bigint;
    readonly announce: boolean;
    readonly shutdownScript: Uint8Array;
    readonly features: NegotiatedFeatures;
  },
): PartyParameters {
  const { fundingSat, announce } = channel;
  const percent = announce ? config.inFlightPercentAnnounced : config.inFlightPercentUnannounced;
  const share = (fundingSat * config.reserveMillionths) / 1_000_000n;
  const reserve = share > config.reserveFloorSat ? share : config.reserveFloorSat;
  const commitsToScript = config.upfrontShutdownScript && channel.features.upfrontShutdownScript;
  return {
    fundingPubkey: keys.fundingPubkey,
    revocationBasepoint: keys.revocationBasepoint,
    paymentBasepoint: keys.paymentBasepoint,
    delayedPaymentBasepoint: keys.delayedPaymentBasepoint,
    htlcBasepoint: keys.htlcBasepoint,
    dustLimitSat: config.dustLimitSat,
    toSelfDelayBlocks: config.toSelfDelayBlocks,
    channelReserveSat: reserve < fundingSat ? reserve : fundingSat,
    htlcMinimumMsat: config.htlcMinimumMsat,
    maxHtlcValueInFlightMsat: fundingSat * 10n * BigInt(percent),
    maxAcceptedHtlcs: config.maxAcceptedHtlcs,
    ...(commitsToScript ? { upfrontShutdownScript: channel.shutdownScript } : {}),
  };
}

/** The tlvs that open_channel and accept_channel share. A zero-length script commits to nothing. */
export function openingTlvs(holder: PartyParameters, channelType: Uint8Array) {
  return { upfrontShutdownScript: holder.upfrontShutdownScript ?? new Uint8Array(0), channelType };
}

type OpeningMessage = MessageOf<'open_channel' | 'accept_channel'>;

/** The fields that open_channel and accept_channel share, as parameters of their sender. */
export function partyOf(message: OpeningMessage): PartyParameters {
  const script = message.tlvs.upfrontShutdownScript;
  return {
    fundingPubkey: message.fundingPubkey,
    revocationBasepoint: message.revocationBasepoint,
    paymentBasepoint: message.paymentBasepoint,
    delayedPaymentBasepoint: message.delayedPaymentBasepoint,
    htlcBasepoint: message.htlcBasepoint,
    dustLimitSat: message.dustLimitSatoshis,
    toSelfDelayBlocks: message.toSelfDelay,
    channelReserveSat: message.channelReserveSatoshis,
    htlcMinimumMsat: message.htlcMinimumMsat,
    maxHtlcValueInFlightMsat: message.maxHtlcValueInFlightMsat,
    maxAcceptedHtlcs: message.maxAcceptedHtlcs,
    // BOLT 2: a zero-length shutdown_scriptpubkey commits to nothing.
    ...(script === undefined || script.length === 0 ? {} : { upfrontShutdownScript: script }),
  };
}

/** The requirements on what the counterparty sent in open_channel or accept_channel, with the dust limits cross-checked. */
export function checkCounterpartyTerms(
  ctx: ChannelContext,
  message: OpeningMessage,
  channel: {
    readonly holder: PartyParameters;
    readonly format: CommitmentFormatName;
    readonly fundingSat: bigint;
    readonly features: NegotiatedFeatures;
  },
): Result<void, ChannelError> {
  const { config, secp } = ctx;
  const code: ChannelErrorCode = message.type === 'open_channel' ? 'invalid_open' : 'invalid_accept';
  const reject = (text: string) => fault(code, 'fail_channel', `${message.type}: ${text}`);
  const theirs = partyOf(message);
  // BOLT 2: "max_accepted_htlcs is greater than 483": MUST fail the channel.
  if (theirs.maxAcceptedHtlcs > MAX_ACCEPTED_HTLCS_LIMIT)
    return reject('max_accepted_htlcs is greater than 483');
  if (theirs.maxAcceptedHtlcs < config.minimumAcceptedHtlcs) return reject('max_accepted_htlcs is too small');
  // BOLT 2: "dust_limit_satoshis is greater than channel_reserve_satoshis": MUST fail the channel.
  if (theirs.dustLimitSat > theirs.channelReserveSat)
    return reject('dust_limit_satoshis is greater than channel_reserve_satoshis');
  // BOLT 2: "dust_limit_satoshis is smaller than 354 satoshis": MUST fail the channel.
  if (theirs.dustLimitSat < MIN_DUST_LIMIT_SAT) return reject('dust_limit_satoshis is smaller than 354');
  // BOLT 2: "it considers dust_limit_satoshis too large": MAY fail the channel.
  const maximumDust =
    channel.format === 'anchors' ? config.maximumDustLimitAnchorsSat : config.maximumDustLimitSat;
  if (theirs.dustLimitSat > maximumDust) return reject('dust_limit_satoshis is too large');
  // BOLT 2, accept_channel: "if channel_reserve_satoshis is less than dust_limit_satoshis within the open_channel message: MUST
  // fail the channel. if channel_reserve_satoshis from the open_channel message is less than dust_limit_satoshis: MUST fail the channel."
  if (theirs.channelReserveSat < channel.holder.dustLimitSat)
    return reject('channel_reserve_satoshis is below our dust limit');
  if (channel.holder.channelReserveSat < theirs.dustLimitSat)
    return reject('dust_limit_satoshis is above the reserve we ask for');
  // BOLT 2: "it considers channel_reserve_satoshis too large": MAY fail the channel.
  if (theirs.channelReserveSat >= channel.fundingSat)
    return reject('channel_reserve_satoshis is not below the funding');
  // BOLT 2: "to_self_delay is unreasonably large": MUST fail the channel.
  if (theirs.toSelfDelayBlocks > config.maximumToSelfDelayBlocks)
    return reject('to_self_delay is unreasonably large');
  if (
    theirs.htlcMinimumMsat > config.maximumHtlcMinimumMsat ||
    theirs.htlcMinimumMsat >= channel.fundingSat * 1000n
  )
    return reject('htlc_minimum_msat is too large');
  if (theirs.maxHtlcValueInFlightMsat < config.minimumInFlightMsat)
    return reject('max_htlc_value_in_flight_msat is too small');
  const points = [
    theirs.fundingPubkey,
    theirs.revocationBasepoint,
    theirs.paymentBasepoint,
    theirs.delayedPaymentBasepoint,
    theirs.htlcBasepoint,
    message.firstPerCommitmentPoint,
  ];
  // BOLT 2: basepoints and funding_pubkey "are not valid secp256k1 pubkeys in compressed format": MUST fail the channel.
  if (!points.every((point) => secp.isPublicKey(point))) return reject('a public key is not valid');
  // A counterparty that gives back our own keys would sign for both sides; the signer registers no such channel.
  const own: PartyParameters = channel.holder;
  const isReflected = KEYS.some((key) => equalBytes(own[key], theirs[key]));
  if (isReflected) return reject('a public key is one of ours');
  // BOLT 2: "MUST include upfront_shutdown_script with either a valid shutdown_scriptpubkey ..., or a zero-length".
  if (
    theirs.upfrontShutdownScript !== undefined &&
    !isShutdownScript(theirs.upfrontShutdownScript, channel.features)
  ) {
    return reject('upfront_shutdown_script is of no accepted form');
  }
  return ok(undefined);
}

/** The amounts of an opening, whoever proposes them. */
export function checkAmounts(
  amounts: {
    readonly fundingSat: bigint;
    readonly pushMsat: bigint;
    readonly feerateSatPerKw: number;
    readonly format: CommitmentFormatName;
  },
  reserves: { readonly funderSat: bigint; readonly fundeeSat: bigint },
  features: NegotiatedFeatures,
  config: ChannelConfig,
): string | undefined {
  const { fundingSat, pushMsat, feerateSatPerKw, format } = amounts;
  if (fundingSat > MAX_MONEY_SAT || fundingSat > config.maximumFundingSat)
    return 'funding_satoshis is too large';
  // BOLT 2: "funding_satoshis is greater than or equal to 2^24 and the receiver does not support option_support_large_channel".
  if (fundingSat >= LARGE_CHANNEL_SAT && !features.largeChannels)
    return 'funding_satoshis needs option_support_large_channel';
  // BOLT 2: "funding_satoshis is too small": MAY fail the channel.
  if (fundingSat < config.minimumFundingSat) return 'funding_satoshis is too small';
  // BOLT 2: "push_msat is greater than funding_satoshis * 1000".
  if (pushMsat < 0n || pushMsat > fundingSat * 1000n) return 'push_msat is greater than the funding';
  const funderSat = (fundingSat * 1000n - pushMsat) / 1000n;
  const costSat = funderCommitmentCostSat(format, feerateSatPerKw, 0);
  // BOLT 2: "the funder's amount for the initial commitment transaction is not sufficient for full fee payment".
  if (funderSat < costSat) return 'the funder cannot pay the fee of the first commitment';
  // BOLT 2: "both to_local and to_remote amounts for the initial commitment transaction are less than or equal to channel_reserve_satoshis".
  if (funderSat - costSat <= reserves.funderSat && pushMsat / 1000n <= reserves.fundeeSat)
    return 'neither side is above its reserve';
  return undefined;
}
