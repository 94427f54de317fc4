/** What the origin of an HTLC hears of its failure here or downstream. */
import {
  decodeFailureMessage,
  failureFromMalformed,
  type FailureMessage,
  wrapAgain,
  wrapFailure,
} from '@fulmen/onion';
import type { Resolution } from '@fulmen/store';

/** Nothing is wrong with the payment: the outgoing channel did not carry it this time. */
export const TEMPORARY_CHANNEL_FAILURE: FailureMessage = {
  kind: 'temporary_channel_failure',
  channelUpdate: new Uint8Array(0),
};

/** What goes upstream for a downstream failure: a relayed one is wrapped once more, one of ours is encrypted here. */
export function upstreamReason(
  secret: Uint8Array,
  outcome: Exclude<Resolution['outcome'], { type: 'fulfilled' }>,
): Uint8Array {
  switch (outcome.type) {
    case 'failed':
      return wrapAgain(secret, outcome.reason);
    case 'failed_here':
      return wrapFailure(secret, decodeFailureMessage(outcome.failure) ?? { kind: 'temporary_node_failure' });
    case 'failed_malformed':
      // BOLT 2: "MUST return an error in update_fail_htlc to the link that originally sent the HTLC, using the
      // failure_code given and setting the data to sha256_of_onion."
      return wrapFailure(
        secret,
        // A BADONION code that BOLT 4 does not know cannot be relayed as it is.
        failureFromMalformed(outcome.failureCode, outcome.sha256OfOnion) ?? TEMPORARY_CHANNEL_FAILURE,
      );
  }
}
