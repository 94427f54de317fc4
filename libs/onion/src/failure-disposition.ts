/**
 * What the origin of a payment learns from a failure (BOLT 4, "Receiving
 * Failure Codes"): read from the flags, so that unknown codes count too.
 */
import { BADONION, NODE, PERM, UPDATE, failureCode } from './failure-message.ts';
import type { FailureMessage } from './failure-message.ts';

/** Where in the route the failure came from. */
export type FailureOrigin = 'intermediate' | 'final';

/** What to do next with the payment. */
export type FailureDisposition =
  /** The recipient refuses for good: fail the payment. */
  | { readonly kind: 'fail_payment' }
  /** The recipient may accept another attempt (time-out of parts, block height). */
  | { readonly kind: 'retry' }
  /** Try without this node. */
  | { readonly kind: 'avoid_node'; readonly permanent: boolean }
  /** Try without the channel that leaves this node; `channelUpdate` may be used for this payment alone. */
  | {
      readonly kind: 'avoid_channel';
      readonly permanent: boolean;
      readonly channelUpdate: Uint8Array | undefined;
    }
  /** Something inside the blinded path failed: try another path of the recipient's. */
  | { readonly kind: 'avoid_blinded_path' };

/** The flag bits of a failure code. */
export interface FailureFlags {
  /** The onion was unparsable, as reported by the node that sent it on. */
  readonly badOnion: boolean;
  readonly permanent: boolean;
  readonly node: boolean;
  readonly update: boolean;
}

/** Splits a code's top byte. */
export function failureFlags(code: number): FailureFlags {
  return {
    badOnion: (code & BADONION) !== 0,
    permanent: (code & PERM) !== 0,
    node: (code & NODE) !== 0,
    update: (code & UPDATE) !== 0,
  };
}

/** The disposition of a failure from an intermediate hop or from the final node. */
export function failureDisposition(failure: FailureMessage, origin: FailureOrigin): FailureDisposition {
  if (failure.kind === 'invalid_onion_blinding') return { kind: 'avoid_blinded_path' };
  const flags = failureFlags(failureCode(failure));
  if (origin === 'final') {
    // BOLT 4: "if the final node is returning the error: if the PERM bit is set: SHOULD fail the payment."
    return flags.permanent ? { kind: 'fail_payment' } : { kind: 'retry' };
  }
  // BOLT 4: "if the NODE bit is set: SHOULD remove all channels connected with the erring node"
  if (flags.node) return { kind: 'avoid_node', permanent: flags.permanent };
  // Only the final node may send these: an intermediate one that does breaks the protocol.
  if (
    failure.kind === 'incorrect_or_unknown_payment_details' ||
    failure.kind === 'final_incorrect_cltv_expiry' ||
    failure.kind === 'final_incorrect_htlc_amount' ||
    failure.kind === 'mpp_timeout'
  ) {
    return { kind: 'avoid_node', permanent: true };
  }
  return { kind: 'avoid_channel', permanent: flags.permanent, channelUpdate: channelUpdateOf(failure) };
}

/** The `channel_update` in a failure, if it has one. */
function channelUpdateOf(failure: FailureMessage): Uint8Array | undefined {
  return 'channelUpdate' in failure && failure.channelUpdate.length > 0 ? failure.channelUpdate : undefined;
}
