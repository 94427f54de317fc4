/** From the opening to a channel: the first commitments, and the birth of the monitor. */
import { equalBytes } from '@fulmen/codec';
import { EMPTY_SECRET_STORE } from '@fulmen/keys';
import type { MonitorParameters, MonitorParty } from '@fulmen/monitor';
import type { CommitmentSpec } from '../commitment-spec.ts';
import { buildCommitment } from '../commitment/build.ts';
import { fundingScriptPubKey } from '../commitment/scripts/funding.ts';
import { verifyCommitmentSignatures } from '../commitment/sign.ts';
import { holderSignatures } from '../commit.ts';
import type { ChannelContext } from '../context.ts';
import type { ChannelEffect } from '../effect.ts';
import { fault } from '../errors.ts';
import type { ChannelParameters, PartyParameters } from '../parameters.ts';
import { fundingSignedMessage } from '../regenerate.ts';
import type { CounterpartyTerms, EstablishedChannel, Funding, OpeningChannel } from '../state.ts';
import { primaryFunding } from '../state.ts';
import type { Step, StepResult } from '../step.ts';
import { andThen, send, withMonitorUpdate } from '../step.ts';
import { contentOf, counterpartySpec, holderSpec } from '../updates/spec.ts';
import { readyIfDeep } from './ready.ts';

type Funder = 'holder' | 'counterparty';

/** BOLT 2 "Definition of channel_id": "combining the funding_txid and the funding_output_index, using big-endian exclusive-OR". */
export function channelIdOf(fundingTxid: Uint8Array, fundingOutputIndex: number): Uint8Array {
  const id = Uint8Array.from(fundingTxid);
  id[30] = (id[30] ?? 0) ^ (fundingOutputIndex >> 8);
  id[31] = (id[31] ?? 0) ^ (fundingOutputIndex & 0xff);
  return id;
}

/** The counterparty's commitment 0. */
export function firstCounterpartySpec(state: OpeningChannel, funder: Funder): CommitmentSpec {
  return {
    commitmentNumber: 0n,
    feerateSatPerKw: state.terms.feerateSatPerKw,
    ...firstBalances(state, funder),
    htlcs: [],
  };
}

function firstBalances(
  { terms }: OpeningChannel,
  funder: Funder,
): { readonly toHolderMsat: bigint; readonly toCounterpartyMsat: bigint } {
  const funderMsat = terms.fundingSat * 1000n - terms.pushMsat;
  return funder === 'holder'
    ? { toHolderMsat: funderMsat, toCounterpartyMsat: terms.pushMsat }
    : { toHolderMsat: terms.pushMsat, toCounterpartyMsat: funderMsat };
}

export interface Establishment {
  readonly funder: Funder;
  readonly counterparty: CounterpartyTerms;
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  /** The counterparty's, on the holder's commitment 0. */
  readonly signature: Uint8Array;
  /** As funding_signed names it. */
  readonly claimedChannelId?: Uint8Array;
}

/** Verifies the counterparty's first signature and makes the channel. */
export function establish(
  ctx: ChannelContext,
  opening: OpeningChannel,
  with_: Establishment,
): StepResult<EstablishedChannel> {
  const state = firstState(opening, with_);
  if (with_.claimedChannelId !== undefined && !equalBytes(with_.claimedChannelId, state.channelId)) {
    return fault('wrong_channel_id', 'fail_channel', 'funding_signed: wrong channel_id');
  }
  const point = ctx.holderPoint(0n);
  if (point === undefined)
    return fault('holder_point_missing', 'ignore', 'the point of commitment 0 is needed');
  const commitment = buildCommitment(ctx.secp, {
    parameters: state.parameters,
    funding: primaryFunding(state),
    owner: 'holder',
    spec: holderSpec(state),
    perCommitmentPoint: point,
  });
  // BOLT 2: "if signature is incorrect OR non-compliant with LOW-S-standard rule: MUST send a warning and close the connection, or
  // send an error and fail the channel."
  if (
    !verifyCommitmentSignatures(ctx.secp, commitment, { signature: with_.signature, htlcSignatures: [] }).ok
  ) {
    return fault(
      'invalid_signature',
      'fail_channel',
      with_.funder === 'holder' ? 'funding_signed: invalid signature' : 'funding_created: invalid signature',
    );
  }
  const step = withMonitorUpdate(
    state,
    {
      type: 'latest_counterparty_commitment',
      content: contentOf(counterpartySpec(state)),
      newHtlcs: [],
      perCommitmentPoint: with_.counterparty.firstPerCommitmentPoint,
    },
    {
      type: 'latest_holder_commitment',
      content: contentOf(holderSpec(state)),
      newHtlcs: [],
      signatures: holderSignatures(state),
      perCommitmentPoint: point,
    },
  );
  const funding = primaryFunding(state);
  const next: ChannelEffect =
    // BOLT 2: "MUST NOT broadcast the funding transaction before receipt of a valid funding_signed."
    with_.funder === 'holder' ? { type: 'broadcast_funding' } : send(fundingSignedMessage(state));
  const born: Step<EstablishedChannel> = {
    state: step.state,
    effects: [
      { type: 'watch_channel', parameters: monitorParameters(state) },
      ...step.effects,
      next,
      {
        type: 'watch_funding',
        fundingTxid: funding.fundingTxid,
        fundingOutputIndex: funding.fundingOutputIndex,
        fundingValueSat: funding.fundingValueSat,
        scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
        minimumDepth: state.minimumDepth,
      },
      {
        type: 'event',
        event: {
          type: 'channel_pending',
          fundingTxid: funding.fundingTxid,
          fundingOutputIndex: funding.fundingOutputIndex,
        },
      },
    ],
  };
  return { ok: true, value: andThen(born, readyIfDeep) };
}

function firstState(opening: OpeningChannel, with_: Establishment): EstablishedChannel {
  const { terms } = opening;
  const { funder, counterparty, fundingTxid, fundingOutputIndex, signature } = with_;
  const parameters: ChannelParameters = {
    channelKeysId: terms.channelKeysId,
    counterpartyNodeId: terms.counterpartyNodeId,
    funder,
    commitmentFormat: terms.commitmentFormat,
    channelType: terms.channelType,
    announce: terms.announce,
    holder: terms.holder,
    counterparty: counterparty.parameters,
  };
  const { toHolderMsat, toCounterpartyMsat } = firstBalances(opening, funder);
  const funding: Funding = {
    fundingTxid,
    fundingOutputIndex,
    fundingValueSat: terms.fundingSat,
    holderFundingPubkey: terms.holder.fundingPubkey,
    counterpartyFundingPubkey: counterparty.parameters.fundingPubkey,
    // Each side's reserve is imposed by the other.
    holderReserveSat: counterparty.parameters.channelReserveSat,
    counterpartyReserveSat: terms.holder.channelReserveSat,
    holderBalanceMsat: toHolderMsat,
    counterpartyBalanceMsat: toCounterpartyMsat,
    signature,
    htlcSignatures: [],
    confirmation: { type: 'unconfirmed' },
    announcement: { type: 'unannounced' },
  };
  return {
    type: 'established',
    channelId: channelIdOf(fundingTxid, fundingOutputIndex),
    parameters,
    shutdownScript: terms.shutdownScript,
    ...(terms.aliasScid === undefined ? {} : { aliasScid: terms.aliasScid }),
    minimumDepth: counterparty.minimumDepth,
    changes: {
      htlcs: [],
      feerates: [{ feerateSatPerKw: terms.feerateSatPerKw, state: 'committed' }],
      nextOutboundHtlcId: 0n,
      nextInboundHtlcId: 0n,
      holderCommitmentNumber: 0n,
      counterpartyCommitmentNumber: 0n,
      counterpartyPoints: { current: counterparty.firstPerCommitmentPoint },
      counterpartySecrets: EMPTY_SECRET_STORE,
      lastSent: 'commitment_signed',
    },
    fundings: [funding],
    phase: { type: 'awaiting_funding_confirmations' },
    connection: { type: 'connected', features: terms.features },
    monitor: { updateId: 0n, durability: { type: 'complete' } },
  };
}

/** What the channel's monitor is born with. */
export function monitorParameters(state: EstablishedChannel): MonitorParameters {
  const { parameters } = state;
  const party = (own: PartyParameters, other: PartyParameters): MonitorParty => ({
    fundingPubkey: own.fundingPubkey,
    revocationBasepoint: own.revocationBasepoint,
    paymentBasepoint: own.paymentBasepoint,
    delayedPaymentBasepoint: own.delayedPaymentBasepoint,
    htlcBasepoint: own.htlcBasepoint,
    dustLimitSat: own.dustLimitSat,
    selfDelayBlocks: other.toSelfDelayBlocks,
  });
  return {
    channelId: state.channelId,
    channelKeysId: parameters.channelKeysId,
    commitmentFormat: parameters.commitmentFormat,
    funder: parameters.funder,
    holder: party(parameters.holder, parameters.counterparty),
    counterparty: party(parameters.counterparty, parameters.holder),
    fundings: state.fundings.map(
      ({
        fundingTxid,
        fundingOutputIndex,
        fundingValueSat,
        holderFundingPubkey,
        counterpartyFundingPubkey,
      }) => ({
        fundingTxid,
        fundingOutputIndex,
        fundingValueSat,
        holderFundingPubkey,
        counterpartyFundingPubkey,
      }),
    ),
  };
}
