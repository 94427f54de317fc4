/**
 * May this HTLC be forwarded over that channel? (BOLT 4, "Failure Messages";
 * BOLT 7, "HTLC Fees"). The terms are always those of the *outgoing* channel.
 */
import type { Result } from '@fulmen/codec';
import { err, ok } from '@fulmen/codec';
import type { FailureMessage } from '@fulmen/onion/failure-message';
import type { FeeTerms } from './fee.ts';
import { forwardingFeeMsat } from './fee.ts';

/** What we published for a channel, toward its counterparty. */
export interface ForwardingPolicy extends FeeTerms {
  readonly cltvExpiryDelta: number;
  readonly htlcMinimumMsat: bigint;
  readonly htlcMaximumMsat: bigint;
}

/** The channel that the payload names. */
export interface OutgoingChannelTerms {
  readonly policy: ForwardingPolicy;
  /** The policy before the last change, still honoured for `PREVIOUS_POLICY_SECONDS`. */
  readonly previous?: { readonly policy: ForwardingPolicy; readonly replacedAtSeconds: number };
  /** Our channel_update says "disabled", or the peer is away. */
  readonly status: 'enabled' | 'disabled';
  /** The latest channel_update, under the scid that the onion used; empty to give none (the better privacy). */
  readonly channelUpdate: Uint8Array;
}

/** An incoming HTLC and what its payload asks for. */
export interface ForwardRequest {
  readonly incomingAmountMsat: bigint;
  readonly incomingCltvExpiryHeight: number;
  readonly amountToForwardMsat: bigint;
  readonly outgoingCltvExpiryHeight: number;
}

/** BOLT 7: "SHOULD keep accepting the previous channel parameters for 10 minutes". */
export const PREVIOUS_POLICY_SECONDS = 600;
/** BOLT 4, `max_htlc_cltv`: two weeks. */
export const MAX_HTLC_CLTV = 2016;
/** Blocks before an inbound expiry by which a claim must be on its way to the chain. */
export const CLTV_CLAIM_BUFFER = 36;
/** Blocks that an outbound HTLC may be late before we go on-chain. */
export const LATENCY_GRACE_PERIOD_BLOCKS = 3;
/** An inbound HTLC that expires this soon is failed back rather than worked on. */
export const HTLC_FAIL_BACK_BUFFER = CLTV_CLAIM_BUFFER + LATENCY_GRACE_PERIOD_BLOCKS;

/**
 * Checks a forward; the error is what the sender shall get.
 *
 * @param outgoing undefined if no channel has the scid of the payload.
 * @param currentHeight height of our best block.
 * @param nowSeconds our clock, for the previous policy's grace.
 */
export function checkForward(
  request: ForwardRequest,
  outgoing: OutgoingChannelTerms | undefined,
  currentHeight: number,
  nowSeconds: number,
): Result<void, FailureMessage> {
  // BOLT 4: "if the receiving peer specified by the onion is NOT known: return an `unknown_next_peer` error."
  if (outgoing === undefined) return err({ kind: 'unknown_next_peer' });
  const termsFailure = checkTerms(request, outgoing.policy, outgoing.channelUpdate);
  if (termsFailure !== undefined && !previousPolicyAllows(request, outgoing, nowSeconds))
    return err(termsFailure);

  const { channelUpdate } = outgoing;
  // BOLT 4: "if the `cltv_expiry` is unreasonably near the present: […] return an `expiry_too_soon` error."
  // The next block may come while the HTLC is committed, hence the one.
  const nextHeight = currentHeight + 1;
  if (
    request.incomingCltvExpiryHeight <= nextHeight + HTLC_FAIL_BACK_BUFFER ||
    request.outgoingCltvExpiryHeight <= nextHeight + LATENCY_GRACE_PERIOD_BLOCKS
  ) {
    return err({ kind: 'expiry_too_soon', channelUpdate });
  }
  // BOLT 4: "if the channel is disabled: report the current channel setting for the outgoing channel."
  if (outgoing.status === 'disabled')
    return err({ kind: 'channel_disabled', disabledFlags: 0, channelUpdate });
  // BOLT 4: "if the `cltv_expiry` is more than `max_htlc_cltv` in the future: return an `expiry_too_far` error."
  if (request.incomingCltvExpiryHeight > currentHeight + MAX_HTLC_CLTV)
    return err({ kind: 'expiry_too_far' });
  return ok(undefined);
}

function previousPolicyAllows(
  request: ForwardRequest,
  outgoing: OutgoingChannelTerms,
  nowSeconds: number,
): boolean {
  const { previous } = outgoing;
  return (
    previous !== undefined &&
    nowSeconds - previous.replacedAtSeconds <= PREVIOUS_POLICY_SECONDS &&
    checkTerms(request, previous.policy, outgoing.channelUpdate) === undefined
  );
}

/** The first of the published terms that the request breaks, in the order of BOLT 4's list. */
function checkTerms(
  request: ForwardRequest,
  policy: ForwardingPolicy,
  channelUpdate: Uint8Array,
): FailureMessage | undefined {
  const { amountToForwardMsat, incomingAmountMsat, incomingCltvExpiryHeight, outgoingCltvExpiryHeight } =
    request;
  // There is no code for "above the maximum"; the channel cannot carry it.
  if (amountToForwardMsat > policy.htlcMaximumMsat)
    return { kind: 'temporary_channel_failure', channelUpdate };
  // BOLT 4: "less than the currently specified minimum amount: report the amount of the outgoing HTLC"
  if (amountToForwardMsat < policy.htlcMinimumMsat) {
    return { kind: 'amount_below_minimum', htlcMsat: amountToForwardMsat, channelUpdate };
  }
  // BOLT 4: "does NOT pay a sufficient fee: report the amount of the incoming HTLC"
  if (incomingAmountMsat - amountToForwardMsat < forwardingFeeMsat(amountToForwardMsat, policy)) {
    return { kind: 'fee_insufficient', htlcMsat: incomingAmountMsat, channelUpdate };
  }
  // BOLT 4: "if the incoming `cltv_expiry` minus the `outgoing_cltv_value` is below the `cltv_expiry_delta` for the
  // outgoing channel: report the `cltv_expiry` of the outgoing HTLC"
  if (incomingCltvExpiryHeight - outgoingCltvExpiryHeight < policy.cltvExpiryDelta) {
    return { kind: 'incorrect_cltv_expiry', cltvExpiryHeight: outgoingCltvExpiryHeight, channelUpdate };
  }
  return undefined;
}
