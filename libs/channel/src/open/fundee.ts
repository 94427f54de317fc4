/** BOLT 2 "Channel Establishment v1", as the fundee. */
import { equalBytes } from '@fulmen/codec';
import type { MessageOf } from '@fulmen/wire';
import { make } from '@fulmen/wire';
import { isShutdownScript } from '../close/shutdown.ts';
import type { ChannelContext, NegotiatedFeatures } from '../context.ts';
import { fault, refuse } from '../errors.ts';
import type { OpeningChannel } from '../state.ts';
import type { StepResult } from '../step.ts';
import { sendReady, stepOf } from '../step.ts';
import { isAcceptableFeerate } from '../updates/fee.ts';
import { decodeChannelType, isTypeNegotiated } from './channel-type.ts';
import { establish } from './establish.ts';
import type { HolderKeys } from './terms.ts';
import { checkAmounts, checkCounterpartyTerms, holderParameters, openingTlvs, partyOf } from './terms.ts';

/** The decision to accept an open_channel. */
export interface AcceptRequest {
  readonly counterpartyNodeId: Uint8Array;
  readonly keys: HolderKeys;
  readonly features: NegotiatedFeatures;
  readonly shutdownScript: Uint8Array;
  readonly aliasScid?: bigint;
  /** Whether this peer is trusted to open without confirmations. */
  readonly zeroConf: 'trusted' | 'refused';
}

/** Checks open_channel and answers with accept_channel. Needs the holder's point 0. */
export function acceptChannel(
  ctx: ChannelContext,
  request: AcceptRequest,
  message: MessageOf<'open_channel'>,
): StepResult<OpeningChannel> {
  const { config } = ctx;
  const { features } = request;
  const reject = (text: string) => fault('invalid_open', 'fail_channel', `open_channel: ${text}`);
  // BOLT 2: "the chain_hash value is set to a hash of a chain that is unknown to the receiver": MUST fail the channel.
  if (!equalBytes(message.chainHash, config.chainHash)) return reject('unknown chain_hash');
  // BOLT 2: "if option_dual_fund has been negotiated: fail the channel."
  if (features.dualFund) return reject('option_dual_fund was negotiated');
  // BOLT 2: "if the message doesn't include a channel_type: fail the channel"; "the channel_type is not suitable".
  const { channelType } = message.tlvs;
  const meaning = channelType && decodeChannelType(channelType);
  if (channelType === undefined || meaning === undefined || !isTypeNegotiated(meaning, features))
    return fault('channel_type', 'fail_channel', 'open_channel: channel_type is not suitable');
  const announce = (message.channelFlags & 1) === 1;
  if (announce && meaning.scidAlias === 'scid_alias')
    return fault('channel_type', 'fail_channel', 'open_channel: scid_alias for a public channel');
  // BOLT 2: "the channel_type includes option_zeroconf and it does not trust the sender to open an unconfirmed channel".
  if (meaning.confirmations === 'zero_conf' && request.zeroConf === 'refused')
    return fault('channel_type', 'fail_channel', 'open_channel: zero-conf is not accepted');
  if (meaning.confirmations === 'zero_conf' && request.aliasScid === undefined)
    return refuse('invalid_open', 'zero-conf needs an alias');
  if (!isShutdownScript(request.shutdownScript, features))
    return refuse('shutdown_script', 'no script that shutdown may carry');

  const { fundingSatoshis: fundingSat, pushMsat, feeratePerKw: feerateSatPerKw } = message;
  const format = meaning.commitmentFormat;
  const holder = holderParameters(config, request.keys, {
    fundingSat,
    announce,
    shutdownScript: request.shutdownScript,
    features,
  });
  const acceptable = checkCounterpartyTerms(ctx, message, { holder, format, fundingSat, features });
  if (!acceptable.ok) return acceptable;
  const wrong = checkAmounts(
    { fundingSat, pushMsat, feerateSatPerKw, format },
    { funderSat: holder.channelReserveSat, fundeeSat: message.channelReserveSatoshis },
    features,
    config,
  );
  if (wrong !== undefined) return reject(wrong);
  // BOLT 2: "it considers feerate_per_kw too small for timely processing or unreasonably large": MUST fail the channel.
  if (!isAcceptableFeerate(ctx, format, feerateSatPerKw))
    return fault('feerate_out_of_range', 'fail_channel', 'open_channel: feerate_per_kw is out of range');
  const firstPoint = ctx.holderPoint(0n);
  if (firstPoint === undefined)
    return fault('holder_point_missing', 'ignore', 'the point of commitment 0 is needed');

  const minimumDepth = meaning.confirmations === 'zero_conf' ? 0 : config.minimumDepth;
  const state: OpeningChannel = {
    type: 'opening',
    temporaryChannelId: message.temporaryChannelId,
    terms: {
      channelKeysId: request.keys.channelKeysId,
      counterpartyNodeId: request.counterpartyNodeId,
      commitmentFormat: format,
      channelType,
      announce,
      fundingSat,
      pushMsat,
      feerateSatPerKw,
      holder,
      shutdownScript: request.shutdownScript,
      ...(request.aliasScid === undefined ? {} : { aliasScid: request.aliasScid }),
      features,
    },
    phase: {
      type: 'awaiting_funding_created',
      counterparty: {
        parameters: partyOf(message),
        firstPerCommitmentPoint: message.firstPerCommitmentPoint,
        minimumDepth,
      },
    },
  };
  const reply = make('accept_channel', {
    temporaryChannelId: message.temporaryChannelId,
    dustLimitSatoshis: holder.dustLimitSat,
    maxHtlcValueInFlightMsat: holder.maxHtlcValueInFlightMsat,
    channelReserveSatoshis: holder.channelReserveSat,
    htlcMinimumMsat: holder.htlcMinimumMsat,
    minimumDepth,
    toSelfDelay: holder.toSelfDelayBlocks,
    maxAcceptedHtlcs: holder.maxAcceptedHtlcs,
    fundingPubkey: holder.fundingPubkey,
    revocationBasepoint: holder.revocationBasepoint,
    paymentBasepoint: holder.paymentBasepoint,
    delayedPaymentBasepoint: holder.delayedPaymentBasepoint,
    htlcBasepoint: holder.htlcBasepoint,
    firstPerCommitmentPoint: firstPoint,
    tlvs: openingTlvs(holder, channelType),
  });
  return stepOf(state, sendReady(reply));
}

/** funding_created: the channel exists from here on. */
export function receiveFundingCreated(
  ctx: ChannelContext,
  state: OpeningChannel,
  message: MessageOf<'funding_created'>,
): StepResult {
  const { phase } = state;
  if (phase.type !== 'awaiting_funding_created')
    return fault('unexpected_message', 'warning', `funding_created in phase ${phase.type}`);
  return establish(ctx, state, {
    funder: 'counterparty',
    counterparty: phase.counterparty,
    fundingTxid: message.fundingTxid,
    fundingOutputIndex: message.fundingOutputIndex,
    signature: message.signature,
  });
}
