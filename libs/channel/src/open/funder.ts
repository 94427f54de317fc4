/** BOLT 2 "Channel Establishment v1", as the funder. */
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
import type { ChannelTypeMeaning } from './channel-type.ts';
import { decodeChannelType, encodeChannelType, isTypeNegotiated } from './channel-type.ts';
import { establish, firstCounterpartySpec } from './establish.ts';
import type { HolderKeys } from './terms.ts';
import { fundingScriptPubKey } from '../commitment/scripts/funding.ts';
import { checkAmounts, checkCounterpartyTerms, holderParameters, openingTlvs, partyOf } from './terms.ts';

/** A user's wish to open a channel. */
export interface OpenRequest {
  /** Random, 32 bytes, unique with this peer. */
  readonly temporaryChannelId: Uint8Array;
  readonly counterpartyNodeId: Uint8Array;
  readonly keys: HolderKeys;
  readonly features: NegotiatedFeatures;
  readonly fundingSat: bigint;
  readonly pushMsat: bigint;
  readonly feerateSatPerKw: number;
  readonly announce: boolean;
  readonly channelType: ChannelTypeMeaning;
  /** Where a mutual close pays the holder. */
  readonly shutdownScript: Uint8Array;
  /** The alias that the holder gives to the counterparty (needed with scid_alias and zero_conf). */
  readonly aliasScid?: bigint;
}

/** Sends open_channel. Needs the holder's point 0. */
export function openChannel(ctx: ChannelContext, request: OpenRequest): StepResult<OpeningChannel> {
  const { features, fundingSat, pushMsat, feerateSatPerKw, announce } = request;
  // BOLT 2: "if option_dual_fund has been negotiated: fail the channel." (as the receiver of open_channel would)
  if (features.dualFund) return refuse('invalid_open', 'the peer wants dual funding');
  // BOLT 2: "SHOULD NOT set it to a type containing a feature which was not negotiated."
  if (!isTypeNegotiated(request.channelType, features))
    return refuse('channel_type', 'the channel type was not negotiated');
  // BOLT 2: "if announce_channel is true: MUST NOT send channel_type with the option_scid_alias bit set."
  if (announce && request.channelType.scidAlias === 'scid_alias')
    return refuse('channel_type', 'a public channel cannot have scid_alias');
  // BOLT 2: "if option_scid_alias was negotiated: MUST set short_channel_id alias."
  if (request.channelType.confirmations === 'zero_conf' && request.aliasScid === undefined)
    return refuse('invalid_open', 'zero-conf needs an alias');
  if (!isShutdownScript(request.shutdownScript, features))
    return refuse('shutdown_script', 'no script that shutdown may carry');
  const format = request.channelType.commitmentFormat;
  const holder = holderParameters(ctx.config, request.keys, request);
  const wrong = checkAmounts(
    { fundingSat, pushMsat, feerateSatPerKw, format },
    { funderSat: holder.channelReserveSat, fundeeSat: holder.channelReserveSat },
    features,
    ctx.config,
  );
  if (wrong !== undefined) return refuse('invalid_open', wrong);
  if (!isAcceptableFeerate(ctx, format, feerateSatPerKw))
    return refuse('feerate_out_of_range', 'the feerate is out of range');
  const firstPoint = ctx.holderPoint(0n);
  if (firstPoint === undefined)
    return fault('holder_point_missing', 'ignore', 'the point of commitment 0 is needed');
  const channelType = encodeChannelType(request.channelType);
  const state: OpeningChannel = {
    type: 'opening',
    temporaryChannelId: request.temporaryChannelId,
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
    phase: { type: 'awaiting_accept' },
  };
  const message = make('open_channel', {
    chainHash: ctx.config.chainHash,
    temporaryChannelId: request.temporaryChannelId,
    fundingSatoshis: fundingSat,
    pushMsat,
    dustLimitSatoshis: holder.dustLimitSat,
    maxHtlcValueInFlightMsat: holder.maxHtlcValueInFlightMsat,
    channelReserveSatoshis: holder.channelReserveSat,
    htlcMinimumMsat: holder.htlcMinimumMsat,
    feeratePerKw: feerateSatPerKw,
    toSelfDelay: holder.toSelfDelayBlocks,
    maxAcceptedHtlcs: holder.maxAcceptedHtlcs,
    fundingPubkey: holder.fundingPubkey,
    revocationBasepoint: holder.revocationBasepoint,
    paymentBasepoint: holder.paymentBasepoint,
    delayedPaymentBasepoint: holder.delayedPaymentBasepoint,
    htlcBasepoint: holder.htlcBasepoint,
    firstPerCommitmentPoint: firstPoint,
    channelFlags: announce ? 1 : 0,
    tlvs: openingTlvs(holder, channelType),
  });
  return stepOf(state, sendReady(message));
}

/** accept_channel: the shell builds the funding transaction (LDK's FundingGenerationReady). */
export function receiveAccept(
  ctx: ChannelContext,
  state: OpeningChannel,
  message: MessageOf<'accept_channel'>,
): StepResult<OpeningChannel> {
  const { terms, phase } = state;
  if (phase.type !== 'awaiting_accept')
    return fault('unexpected_message', 'warning', `accept_channel in phase ${phase.type}`);
  // BOLT 2: "if the message doesn't include a channel_type: MUST fail the channel. if channel_type does not match the
  // channel_type from open_channel: MUST fail the channel."
  const { channelType } = message.tlvs;
  if (channelType === undefined || !equalBytes(channelType, terms.channelType))
    return fault('channel_type', 'fail_channel', 'accept_channel: another channel_type');
  const acceptable = checkCounterpartyTerms(ctx, message, {
    holder: terms.holder,
    format: terms.commitmentFormat,
    fundingSat: terms.fundingSat,
    features: terms.features,
  });
  if (!acceptable.ok) return acceptable;
  // BOLT 2: "if minimum_depth is unreasonably large: MAY fail the channel."
  if (message.minimumDepth > ctx.config.maximumMinimumDepth)
    return fault('invalid_accept', 'fail_channel', 'accept_channel: minimum_depth is unreasonably large');
  const meaning = decodeChannelType(terms.channelType);
  // BOLT 2: "if channel_type includes option_zeroconf: MUST set minimum_depth to zero."
  if (meaning?.confirmations === 'zero_conf' && message.minimumDepth !== 0)
    return fault(
      'invalid_accept',
      'fail_channel',
      'accept_channel: minimum_depth of a zero-conf channel is not 0',
    );
  const counterparty = partyOf(message);
  const wrong = checkAmounts(
    {
      fundingSat: terms.fundingSat,
      pushMsat: terms.pushMsat,
      feerateSatPerKw: terms.feerateSatPerKw,
      format: terms.commitmentFormat,
    },
    { funderSat: counterparty.channelReserveSat, fundeeSat: terms.holder.channelReserveSat },
    terms.features,
    ctx.config,
  );
  if (wrong !== undefined) return fault('invalid_accept', 'fail_channel', `accept_channel: ${wrong}`);
  const next: OpeningChannel = {
    ...state,
    phase: {
      type: 'awaiting_funding_transaction',
      counterparty: {
        parameters: counterparty,
        firstPerCommitmentPoint: message.firstPerCommitmentPoint,
        minimumDepth: message.minimumDepth,
      },
    },
  };
  return stepOf(next, {
    type: 'fund_channel',
    fundingValueSat: terms.fundingSat,
    scriptPubKey: fundingScriptPubKey(terms.holder.fundingPubkey, counterparty.fundingPubkey),
  });
}

/** The shell built (and did not broadcast) the funding transaction. */
export function fundingTransactionCreated(
  state: OpeningChannel,
  fundingTxid: Uint8Array,
  fundingOutputIndex: number,
): StepResult<OpeningChannel> {
  const { phase } = state;
  if (phase.type !== 'awaiting_funding_transaction')
    return refuse('invalid_command', 'no funding transaction is awaited');
  if (
    fundingTxid.length !== 32 ||
    !Number.isInteger(fundingOutputIndex) ||
    fundingOutputIndex < 0 ||
    fundingOutputIndex > 0xffff
  ) {
    return refuse('invalid_command', 'not an outpoint that funding_created can carry');
  }
  const next: OpeningChannel = {
    ...state,
    phase: {
      type: 'awaiting_funding_signed',
      counterparty: phase.counterparty,
      fundingTxid,
      fundingOutputIndex,
    },
  };
  return stepOf(next, {
    type: 'send',
    message: {
      kind: 'funding_created',
      temporaryChannelId: state.temporaryChannelId,
      fundingTxid,
      fundingOutputIndex,
      spec: firstCounterpartySpec(next, 'holder'),
      counterpartyPerCommitmentPoint: phase.counterparty.firstPerCommitmentPoint,
    },
  });
}

/** funding_signed: the funding transaction may be broadcast once this step is committed. */
export function receiveFundingSigned(
  ctx: ChannelContext,
  state: OpeningChannel,
  message: MessageOf<'funding_signed'>,
): StepResult {
  const { phase } = state;
  if (phase.type !== 'awaiting_funding_signed')
    return fault('unexpected_message', 'warning', `funding_signed in phase ${phase.type}`);
  return establish(ctx, state, {
    funder: 'holder',
    counterparty: phase.counterparty,
    fundingTxid: phase.fundingTxid,
    fundingOutputIndex: phase.fundingOutputIndex,
    signature: message.signature,
    claimedChannelId: message.channelId,
  });
}
