/**
 * A channel that the node knows from a static backup only: its parameters, and
 * nothing of what happened in it. It can do one thing, which is to have the peer
 * close it; the monitor is born to claim the holder's balance from that close.
 */
import { EMPTY_SECRET_STORE } from '@fulmen/keys';
import { fundingScriptPubKey } from '../commitment/scripts/funding.ts';
import type { ChannelParameters } from '../parameters.ts';
import type { EstablishedChannel, Funding } from '../state.ts';
import type { Step } from '../step.ts';
import { withMonitorUpdate } from '../step.ts';
import { monitorParameters } from './establish.ts';

export interface StaticRestoration {
  readonly channelId: Uint8Array;
  readonly parameters: ChannelParameters;
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  readonly shutdownScript: Uint8Array;
  /** For people. */
  readonly reason: string;
}

/**
 * The channel in its last phase: it never signs and never broadcasts, for
 * whatever it would sign may be revoked. Effects: the monitor's birth, its first
 * update (passive), the watch of the funding output.
 */
export function restoreStatically(from: StaticRestoration): Step<EstablishedChannel> {
  const { parameters, fundingTxid, fundingOutputIndex, fundingValueSat } = from;
  const { holder, counterparty } = parameters;
  const funding: Funding = {
    fundingTxid,
    fundingOutputIndex,
    fundingValueSat,
    holderFundingPubkey: holder.fundingPubkey,
    counterpartyFundingPubkey: counterparty.fundingPubkey,
    holderReserveSat: counterparty.channelReserveSat,
    counterpartyReserveSat: holder.channelReserveSat,
    // Nobody here knows; what the peer's commitment pays is what the holder gets.
    holderBalanceMsat: 0n,
    counterpartyBalanceMsat: fundingValueSat * 1000n,
    signature: new Uint8Array(64),
    htlcSignatures: [],
    confirmation: { type: 'unconfirmed' },
    announcement: { type: 'unannounced' },
  };
  const state: EstablishedChannel = {
    type: 'established',
    channelId: from.channelId,
    parameters,
    shutdownScript: from.shutdownScript,
    minimumDepth: 1,
    changes: {
      htlcs: [],
      feerates: [{ feerateSatPerKw: 0, state: 'committed' }],
      nextOutboundHtlcId: 0n,
      nextInboundHtlcId: 0n,
      holderCommitmentNumber: 0n,
      counterpartyCommitmentNumber: 0n,
      // Lost with the rest, and never asked for in this phase: a point of the counterparty's stands in.
      counterpartyPoints: { current: counterparty.fundingPubkey },
      counterpartySecrets: EMPTY_SECRET_STORE,
      lastSent: 'commitment_signed',
    },
    fundings: [funding],
    phase: { type: 'passive', reason: from.reason },
    connection: { type: 'disconnected' },
    monitor: { updateId: 0n, durability: { type: 'complete' } },
  };
  const step = withMonitorUpdate(
    state,
    { type: 'shutdown_script', scriptPubKey: from.shutdownScript },
    { type: 'channel_force_closed', shouldBroadcast: 'passive', reason: from.reason },
  );
  return {
    state: step.state,
    effects: [
      { type: 'watch_channel', parameters: monitorParameters(state) },
      ...step.effects,
      {
        type: 'watch_funding',
        fundingTxid,
        fundingOutputIndex,
        fundingValueSat,
        scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
        minimumDepth: state.minimumDepth,
      },
    ],
  };
}
