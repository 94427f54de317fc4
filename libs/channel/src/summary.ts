/** What the API and routing want to know of a channel. */
import { dearestCostSat, pessimisticSpec, OWNERS } from './updates/limits.ts';
import type { ChannelContext } from './context.ts';
import type { HtlcBody } from './htlc.ts';
import type { ChannelState, EstablishedChannel } from './state.ts';
import { primaryFunding } from './state.ts';
import { newestFeerate } from './updates/spec.ts';

export interface ChannelSummary {
  /** Temporary while the channel is being opened. */
  readonly channelId: Uint8Array;
  readonly phase: string;
  readonly isUsable: boolean;
  readonly capacitySat: bigint;
  readonly holderBalanceMsat: bigint;
  readonly counterpartyBalanceMsat: bigint;
  readonly feerateSatPerKw: number;
  /** The most that the holder could offer in one HTLC now (0 when unusable), and receive. */
  readonly outboundLiquidityMsat: bigint;
  readonly inboundLiquidityMsat: bigint;
  readonly pendingInboundHtlcs: number;
  readonly pendingOutboundHtlcs: number;
  readonly shortChannelId: bigint | undefined;
  readonly aliasScid: bigint | undefined;
  readonly counterpartyAliasScid: bigint | undefined;
}

export function summary(ctx: ChannelContext, state: ChannelState): ChannelSummary {
  if (state.type === 'opening') {
    const { terms } = state;
    return {
      channelId: state.temporaryChannelId,
      phase: state.phase.type,
      isUsable: false,
      capacitySat: terms.fundingSat,
      holderBalanceMsat: 0n,
      counterpartyBalanceMsat: 0n,
      feerateSatPerKw: terms.feerateSatPerKw,
      outboundLiquidityMsat: 0n,
      inboundLiquidityMsat: 0n,
      pendingInboundHtlcs: 0,
      pendingOutboundHtlcs: 0,
      shortChannelId: undefined,
      aliasScid: terms.aliasScid,
      counterpartyAliasScid: undefined,
    };
  }
  const funding = primaryFunding(state);
  const isUsable = state.phase.type === 'open' && state.connection.type === 'connected';
  const count = (direction: 'inbound' | 'outbound') =>
    state.changes.htlcs.filter((htlc) => htlc.body.direction === direction).length;
  return {
    channelId: state.channelId,
    phase: state.phase.type,
    isUsable,
    capacitySat: funding.fundingValueSat,
    holderBalanceMsat: funding.holderBalanceMsat,
    counterpartyBalanceMsat: funding.counterpartyBalanceMsat,
    feerateSatPerKw: newestFeerate(state.changes),
    outboundLiquidityMsat: isUsable ? outboundLiquidity(ctx, state) : 0n,
    inboundLiquidityMsat: isUsable ? inboundLiquidity(ctx, state) : 0n,
    pendingInboundHtlcs: count('inbound'),
    pendingOutboundHtlcs: count('outbound'),
    shortChannelId:
      funding.confirmation.type === 'confirmed' ? funding.confirmation.shortChannelId : undefined,
    aliasScid: state.aliasScid,
    counterpartyAliasScid: state.counterpartyAliasScid,
  };
}

/** A lower bound: the HTLC is taken to be untrimmed on both commitments. */
function outboundLiquidity(ctx: ChannelContext, state: EstablishedChannel): bigint {
  const { counterparty, funder } = state.parameters;
  let most: bigint | undefined;
  for (const [i, funding] of state.fundings.entries()) {
    for (const owner of OWNERS) {
      const spec = pessimisticSpec(state, owner, i);
      const options = { extraHtlcs: 2, feerateMultiple: ctx.config.feeSpikeMultiple };
      const keepSat =
        funding.holderReserveSat + (funder === 'holder' ? dearestCostSat(state, owner, spec, options) : 0n);
      most = smaller(most, spec.toHolderMsat - keepSat * 1000n);
      const counterpartyKeepsSat =
        funding.counterpartyReserveSat + dearestCostSat(state, owner, spec, { extraHtlcs: 1 });
      if (funder === 'counterparty' && spec.toCounterpartyMsat < counterpartyKeepsSat * 1000n) return 0n;
    }
    const offered = pessimisticSpec(state, 'counterparty', i).htlcs.filter(isOffered('outbound'));
    if (offered.length >= counterparty.maxAcceptedHtlcs) return 0n;
    most = smaller(most, counterparty.maxHtlcValueInFlightMsat - sumMsat(offered));
  }
  return atLeastZero(most ?? 0n);
}

function inboundLiquidity(ctx: ChannelContext, state: EstablishedChannel): bigint {
  const { holder, funder } = state.parameters;
  let most: bigint | undefined;
  for (const [i, funding] of state.fundings.entries()) {
    const spec = pessimisticSpec(state, 'holder', i);
    const costSat =
      funder === 'counterparty'
        ? dearestCostSat(state, 'holder', spec, {
            extraHtlcs: 2,
            feerateMultiple: ctx.config.feeSpikeMultiple,
          })
        : 0n;
    most = smaller(most, spec.toCounterpartyMsat - (funding.counterpartyReserveSat + costSat) * 1000n);
    const received = spec.htlcs.filter(isOffered('inbound'));
    if (received.length >= holder.maxAcceptedHtlcs) return 0n;
    most = smaller(most, holder.maxHtlcValueInFlightMsat - sumMsat(received));
  }
  return atLeastZero(most ?? 0n);
}

/** Inbound HTLCs that are irrevocably committed and that nobody decided about yet: to be acted on again after a restore. */
export function unresolvedInboundHtlcs(state: EstablishedChannel): readonly HtlcBody[] {
  return state.changes.htlcs
    .filter((htlc) => htlc.body.direction === 'inbound' && htlc.state === 'committed')
    .map((htlc) => htlc.body);
}

function isOffered(direction: 'inbound' | 'outbound') {
  return (htlc: { readonly direction: string }): boolean => htlc.direction === direction;
}

function sumMsat(htlcs: readonly { readonly amountMsat: bigint }[]): bigint {
  return htlcs.reduce((sum, { amountMsat }) => sum + amountMsat, 0n);
}

function smaller(a: bigint | undefined, b: bigint): bigint {
  return a === undefined || b < a ? b : a;
}

function atLeastZero(value: bigint): bigint {
  return value < 0n ? 0n : value;
}
