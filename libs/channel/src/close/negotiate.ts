/** BOLT 2 "Legacy Closing Negotiation: closing_signed", with fee ranges. */
import type { MessageOf } from '@fulmen/wire';
import type { ClosingOutputs } from '../commitment/closing.ts';
import {
  MAX_OMITTED_OUTPUT_SAT,
  buildClosingTransaction,
  closingFeeSat,
  closingSpec,
  isClosingDust,
  maximumClosingFeeSat,
  mayOmitHolder,
} from '../commitment/closing.ts';
import type { ChannelContext } from '../context.ts';
import type { ChannelEffect, ClosingSpec } from '../effect.ts';
import { fault } from '../errors.ts';
import type { ClosingOffer, EstablishedChannel, Phase } from '../state.ts';
import { primaryFunding } from '../state.ts';
import type { Step, StepResult } from '../step.ts';
import { send, stepOf } from '../step.ts';

type Negotiating = Extract<Phase, { type: 'negotiating_closing' }>;
interface FeeRange {
  readonly minFeeSat: bigint;
  readonly maxFeeSat: bigint;
}

/** Both sides sent shutdown and nothing is left on either commitment. BOLT 2: the funder "SHOULD send a closing_signed message". */
export function startNegotiation(
  ctx: ChannelContext,
  state: EstablishedChannel,
  agreed: Pick<Negotiating, 'holderScript' | 'counterpartyScript' | 'channelReady' | 'feerates'>,
): Step<EstablishedChannel> {
  const phase: Negotiating = { type: 'negotiating_closing', ...agreed };
  const next: EstablishedChannel = { ...state, phase };
  if (state.parameters.funder !== 'holder') return { state: next, effects: [] };
  const feeRange = acceptableFees(ctx, next, phase);
  return offer(next, phase, { feeSat: targetFee(ctx, phase, feeRange), feeRange });
}

/** The counterparty proposes or accepts a closing fee. */
export function receiveClosingSigned(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: MessageOf<'closing_signed'>,
): StepResult<EstablishedChannel> {
  const { phase } = state;
  if (phase.type !== 'negotiating_closing' || state.connection.type !== 'connected') {
    const isOver =
      phase.type === 'closing_mutual' ||
      phase.type === 'closing_force' ||
      phase.type === 'passive' ||
      phase.type === 'closed';
    return fault(
      'unexpected_message',
      isOver ? 'ignore' : 'warning_disconnect',
      `closing_signed in phase ${phase.type}`,
    );
  }
  const feeSat = message.feeSatoshis;
  const range = message.tlvs.feeRange;
  const theirRange: FeeRange | undefined = range && {
    minFeeSat: range.minFeeSatoshis,
    maxFeeSat: range.maxFeeSatoshis,
  };
  if (feeSat > funderBalanceSat(state))
    return fault('closing_fee', 'warning_disconnect', 'closing_signed: the funder cannot pay the fee');
  // What the signer would refuse is not agreed on.
  if (feeSat > maximumFeeSat(phase))
    return fault('closing_fee', 'warning_disconnect', 'closing_signed: the fee is unreasonably large');
  // BOLT 2: "if the signature is not valid for either variant of closing transaction ... OR non-compliant with LOW-S-standard
  // rule: MUST send a warning and close the connection, or send an error and fail the channel."
  const signed = signedVariant(ctx, state, specFor(state, phase, feeSat), message.signature);
  if (signed === undefined) {
    // BOLT 2: "if one of the outputs in the closing transaction is below the dust limit for its scriptpubkey: MUST fail the channel".
    return hasSignedDust(ctx, state, specFor(state, phase, feeSat), message.signature)
      ? fault('closing_fee', 'fail_channel', 'closing_signed: an output is below the dust limit')
      : fault('invalid_signature', 'warning_disconnect', 'closing_signed: invalid signature');
  }
  return decide(
    ctx,
    state,
    phase,
    { feeSat, ...(theirRange && { feeRange: theirRange }) },
    signed,
    message.signature,
  );
}

function decide(
  ctx: ChannelContext,
  state: EstablishedChannel,
  phase: Negotiating,
  theirs: ClosingOffer,
  closing: ClosingSpec,
  signature: Uint8Array,
): StepResult<EstablishedChannel> {
  const ours = phase.holderOffer;
  // BOLT 2: "if fee_satoshis is equal to its previously sent fee_satoshis: SHOULD sign and broadcast the final closing transaction."
  if (ours?.feeSat === theirs.feeSat) return agree(state, closing, signature, []);
  const accept = () => {
    // BOLT 2: "SHOULD reply with a closing_signed with the same fee_satoshis value if it is different from its previously sent".
    // Of the very transaction that the counterparty signed: it looks for no other.
    const reply = offer(
      state,
      phase,
      { feeSat: theirs.feeSat, ...(ours?.feeRange && { feeRange: ours.feeRange }) },
      closing,
    );
    return agree(reply.state, closing, signature, reply.effects);
  };
  // BOLT 2: "if fee_satoshis matches its previously sent fee_range: SHOULD use fee_satoshis to sign and broadcast".
  if (ours?.feeRange !== undefined && contains(ours.feeRange, theirs.feeSat)) return accept();

  const acceptable = ours?.feeRange ?? widened(acceptableFees(ctx, state, phase), state, theirs.feeRange);
  const considered: Negotiating = { ...phase, counterpartyOffer: theirs };
  if (theirs.feeRange !== undefined) {
    const overlap = {
      minFeeSat: max(acceptable.minFeeSat, theirs.feeRange.minFeeSat),
      maxFeeSat: min(min(acceptable.maxFeeSat, theirs.feeRange.maxFeeSat), maximumFeeSat(phase)),
    };
    // BOLT 2: "if there is no overlap between that and its own fee_range: SHOULD send a warning".
    if (overlap.minFeeSat > overlap.maxFeeSat)
      return fault('closing_fee', 'warning', 'closing_signed: the fee ranges do not overlap');
    if (state.parameters.funder === 'holder') {
      // BOLT 2: "if it is the funder: if fee_satoshis is not in the overlap between the sent and received fee_range: MUST fail the channel".
      return contains(overlap, theirs.feeSat)
        ? accept()
        : fault('closing_fee', 'fail_channel', 'closing_signed: the fee is outside of both ranges');
    }
    // BOLT 2: "if it has already sent a closing_signed: if fee_satoshis is not the same as the value it sent: MUST fail the channel".
    if (ours !== undefined)
      return fault('closing_fee', 'fail_channel', 'closing_signed: another fee than the one agreed on');
    if (contains(overlap, theirs.feeSat)) return accept();
    // BOLT 2: "MUST propose a fee_satoshis in the overlap between received and (about-to-be) sent fee_range."
    const step = offer(state, considered, {
      feeSat: clamp(targetFee(ctx, phase, acceptable), overlap),
      feeRange: acceptable,
    });
    return stepOf(step.state, ...step.effects);
  }
  const yielding = { ...acceptable, minFeeSat: acceptable.minFeeSat - slackSat(acceptable) };
  if (contains(yielding, theirs.feeSat)) return accept();
  const last = phase.counterpartyOffer;
  // BOLT 2: "if fee_satoshis is not strictly between its last-sent fee_satoshis and its previously-received fee_satoshis,
  // UNLESS it has since reconnected: SHOULD send a warning and close the connection".
  if (ours !== undefined && last !== undefined && !strictlyBetween(theirs.feeSat, ours.feeSat, last.feeSat)) {
    return fault('closing_fee', 'warning_disconnect', 'closing_signed: the fee does not converge');
  }
  if (ours === undefined)
    return made(
      offer(state, considered, { feeSat: targetFee(ctx, phase, acceptable), feeRange: acceptable }),
    );
  const nextFeeSat = nextOffer(ours.feeSat, theirs.feeSat, yielding);
  // A close by force would cost what the operator wanted to save; another bound, or the peer's, is tried on the next connection.
  if (nextFeeSat === undefined)
    return fault('closing_fee', 'warning', 'closing_signed: no acceptable fee is left');
  // Without its own fee range: the peer knows none, and this fee may be a little outside of it.
  return made(offer(state, considered, { feeSat: nextFeeSat }));
}

function made(step: Step<EstablishedChannel>): StepResult<EstablishedChannel> {
  return stepOf(step.state, ...step.effects);
}

/**
 * What is given up of the least fee when a peer without a fee range must be met: every offer must differ from the one
 * before, and at the same feerate one rounds down where the other rounds up.
 */
function slackSat({ minFeeSat }: FeeRange): bigint {
  return max(minFeeSat / 100n, 1n);
}

/** Offers on the way to a bound; enough for a peer that begins a hundred times away and comes nearer by a tenth. */
const OFFERS_TO_BOUND = 32n;

/**
 * BOLT 2: "MUST propose a value 'strictly between' the received fee_satoshis and its previously-sent fee_satoshis." Where the
 * middle is more than the holder puts up with, a little of what is left to that bound: LND comes nearer by a tenth at each
 * offer and takes what is within three tenths, so that many small steps find a fee where one large one would not.
 */
function nextOffer(oursSat: bigint, theirsSat: bigint, acceptable: FeeRange): bigint | undefined {
  const middle = (oursSat + theirsSat) / 2n;
  const isUp = theirsSat > oursSat;
  const leftSat = isUp ? acceptable.maxFeeSat - oursSat : oursSat - acceptable.minFeeSat;
  const stepSat = (leftSat + OFFERS_TO_BOUND - 1n) / OFFERS_TO_BOUND;
  const next = contains(acceptable, middle) ? middle : isUp ? oursSat + stepSat : oursSat - stepSat;
  return contains(acceptable, next) && strictlyBetween(next, oursSat, theirsSat) ? next : undefined;
}

function offer(
  state: EstablishedChannel,
  phase: Negotiating,
  made: ClosingOffer,
  closing: ClosingSpec = specFor(state, phase, made.feeSat),
): Step<EstablishedChannel> {
  return {
    state: { ...state, phase: { ...phase, holderOffer: made } },
    effects: [closingSigned(state, closing, made.feeRange)],
  };
}

function closingSigned(
  { channelId }: EstablishedChannel,
  closing: ClosingSpec,
  feeRange?: FeeRange,
): ChannelEffect {
  return send({ kind: 'closing_signed', channelId, closing, ...(feeRange && { feeRange }) });
}

/**
 * The closing_signed that a frozen channel did not send: its offer, or its answer to an offer that it accepts. The last
 * update before a negotiation is what lets it begin, and a close that is agreed on ends with its connection: whatever was
 * said while frozen was held, and the counterparty waits for it.
 */
export function heldClosing(state: EstablishedChannel): readonly ChannelEffect[] {
  const { phase } = state;
  if (phase.type === 'closing_mutual') return [closingSigned(state, phase.closing)];
  return phase.type === 'negotiating_closing' && phase.holderOffer !== undefined
    ? offer(state, phase, phase.holderOffer).effects
    : [];
}

function agree(
  state: EstablishedChannel,
  closing: ClosingSpec,
  counterpartySignature: Uint8Array,
  before: readonly ChannelEffect[],
): StepResult<EstablishedChannel> {
  return stepOf<EstablishedChannel>(
    { ...state, phase: { type: 'closing_mutual', closing, counterpartySignature } },
    ...before,
    { type: 'broadcast_closing', closing, counterpartySignature },
    { type: 'event', event: { type: 'channel_closed', reason: 'mutual close' } },
  );
}

function specFor(state: EstablishedChannel, phase: Negotiating, feeSat: bigint): ClosingSpec {
  const { holderBalanceMsat, counterpartyBalanceMsat } = primaryFunding(state);
  const { holderScript, counterpartyScript } = phase;
  return closingSpec({
    funder: state.parameters.funder,
    holderBalanceMsat,
    counterpartyBalanceMsat,
    holderScript,
    counterpartyScript,
    feeSat,
  });
}

/**
 * The closing transaction that the counterparty signed. BOLT 3: a node "MUST
 * remove any output below its own dust_limit_satoshis", and "MAY eliminate its
 * own output": an omitted output has the amount 0, and is one that the signer
 * lets go. Outputs that would not relay never exist, so that no close with dust
 * is ever agreed on.
 */
function signedVariant(
  ctx: ChannelContext,
  state: EstablishedChannel,
  closing: ClosingSpec,
  signature: Uint8Array,
): ClosingSpec | undefined {
  const variants: ClosingSpec[] = [closing];
  if (closing.toCounterpartySat < MAX_OMITTED_OUTPUT_SAT)
    variants.push({ ...closing, toCounterpartySat: 0n });
  if (mayOmitHolder(closing.toHolderSat, state.parameters.counterparty.dustLimitSat))
    variants.push({ ...closing, toHolderSat: 0n });
  const funding = primaryFunding(state);
  return variants.find((variant) => {
    const built = buildClosingTransaction({
      funding,
      closing: variant,
      dustLimitSat: state.parameters.holder.dustLimitSat,
    });
    return built.ok && ctx.secp.verify(built.value.sighash, signature, funding.counterpartyFundingPubkey);
  });
}

/** Whether the counterparty signed the close with an output that must not be there. */
function hasSignedDust(
  ctx: ChannelContext,
  state: EstablishedChannel,
  closing: ClosingSpec,
  signature: Uint8Array,
): boolean {
  const funding = primaryFunding(state);
  const { dustLimitSat } = state.parameters.holder;
  const isHolderDust = isClosingDust(closing.toHolderSat, closing.holderScript, dustLimitSat);
  const isCounterpartyDust = isClosingDust(
    closing.toCounterpartySat,
    closing.counterpartyScript,
    dustLimitSat,
  );
  const dusty: ClosingOutputs[] = [
    ...(isHolderDust || isCounterpartyDust ? (['both'] as const) : []),
    ...(isHolderDust ? (['holder_only'] as const) : []),
    ...(isCounterpartyDust ? (['counterparty_only'] as const) : []),
  ];
  return dusty.some((outputs) => {
    const built = buildClosingTransaction({ funding, closing, dustLimitSat: 0n, outputs });
    return built.ok && ctx.secp.verify(built.value.sighash, signature, funding.counterpartyFundingPubkey);
  });
}

function maximumFeeSat({ holderScript, counterpartyScript }: Negotiating): bigint {
  return maximumClosingFeeSat([holderScript, counterpartyScript]);
}

function funderBalanceSat(state: EstablishedChannel): bigint {
  const { holderBalanceMsat, counterpartyBalanceMsat } = primaryFunding(state);
  return (state.parameters.funder === 'holder' ? holderBalanceMsat : counterpartyBalanceMsat) / 1000n;
}

/**
 * The fees that the holder puts up with: as funder up to the target plus what a force close would cost, as fundee anything
 * that relays; nothing is offered or taken above what the signer signs. What the operator said goes before: a lowest
 * feerate, and as funder a highest.
 */
function acceptableFees(ctx: ChannelContext, state: EstablishedChannel, phase: Negotiating): FeeRange {
  const scripts = [phase.holderScript, phase.counterpartyScript];
  const mostSat = min(funderBalanceSat(state), maximumFeeSat(phase));
  const feeSat = (feerateSatPerKw: number): bigint => min(closingFeeSat(scripts, feerateSatPerKw), mostSat);
  const { closeMinimumSatPerKw } = ctx.feerates;
  const { targetSatPerKw, maximumSatPerKw } = phase.feerates ?? {};
  if (state.parameters.funder !== 'holder')
    return { minFeeSat: feeSat(targetSatPerKw ?? closeMinimumSatPerKw), maxFeeSat: funderBalanceSat(state) };
  // Whoever asks for a feerate wants it, and not a peer's that confirms later; it may be less than the estimates would bid.
  const minFeeSat = feeSat(targetSatPerKw ?? Math.min(closeMinimumSatPerKw, maximumSatPerKw ?? Infinity));
  const targetFeeSat = feeSat(targetSatPerKw ?? ctx.feerates.closeTargetSatPerKw);
  const maxFeeSat =
    maximumSatPerKw === undefined
      ? min(max(targetFeeSat, minFeeSat) + ctx.config.forceCloseAvoidanceMaxFeeSat, mostSat)
      : feeSat(maximumSatPerKw);
  return { minFeeSat, maxFeeSat };
}

/** BOLT 2: "if it is not the funder: SHOULD set max_fee_satoshis to at least the max_fee_satoshis received". */
function widened(range: FeeRange, state: EstablishedChannel, theirs: FeeRange | undefined): FeeRange {
  return state.parameters.funder === 'holder' || theirs === undefined
    ? range
    : { ...range, maxFeeSat: max(range.maxFeeSat, theirs.maxFeeSat) };
}

function targetFee(ctx: ChannelContext, phase: Negotiating, range: FeeRange): bigint {
  return clamp(
    closingFeeSat(
      [phase.holderScript, phase.counterpartyScript],
      phase.feerates?.targetSatPerKw ?? ctx.feerates.closeTargetSatPerKw,
    ),
    range,
  );
}

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const clamp = (value: bigint, range: FeeRange): bigint => max(range.minFeeSat, min(value, range.maxFeeSat));
const contains = (range: FeeRange, feeSat: bigint): boolean =>
  feeSat >= range.minFeeSat && feeSat <= range.maxFeeSat;
const strictlyBetween = (value: bigint, a: bigint, b: bigint): boolean =>
  value > min(a, b) && value < max(a, b);
