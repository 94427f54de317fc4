/**
 * What to do with an inbound HTLC once it is irrevocably committed: decided
 * from its onion as soon as the shared secret is known, so that the step which
 * commits it writes its intent in the same transaction.
 */
import { type HtlcBody } from '@fulmen/channel';
import type { Secp256k1 } from '@fulmen/crypto';
import { sha256 } from '@fulmen/crypto';
import {
  decodeHopPayload,
  FAILURE_CODES,
  type FailureMessage,
  type HopInstruction,
  hopInstruction,
  onionEphemeralKey,
  peelOnion,
  wrapFailure,
} from '@fulmen/onion';
import type { Intent } from '@fulmen/store';
import { shardOfPaymentHash } from '../lease/placement.ts';

export type HtlcDecision =
  | { readonly type: 'intent'; readonly intent: Intent; readonly sharedSecretHash: Uint8Array }
  /** Encrypted for the origin. */
  | { readonly type: 'fail'; readonly reason: Uint8Array }
  | { readonly type: 'fail_malformed'; readonly sha256OfOnion: Uint8Array; readonly failureCode: number };

export interface DecisionContext {
  readonly secp: Secp256k1;
  readonly channelId: Uint8Array;
  readonly shard: number;
  readonly nowUnixMs: number;
  /** The shard of an outgoing scid, if any channel of ours has it. */
  readonly shardOfScid: (shortChannelId: bigint) => Promise<number | undefined>;
  /** For HTLCs that end here alone: the failure when no invoice of ours has the hash, and it brings no preimage of its own. */
  readonly refuseUnknown: (
    htlc: HtlcBody,
    instruction: Extract<HopInstruction, { kind: 'receive' }>,
  ) => Promise<FailureMessage | undefined>;
}

/** The key of an onion to do ECDH with, or the decision when there is none to do. */
export function ephemeralKeyOf(
  secp: Secp256k1,
  htlc: HtlcBody,
): { ok: true; key: Uint8Array } | { ok: false; decision: HtlcDecision } {
  const key = onionEphemeralKey(secp, htlc.onionRoutingPacket);
  if (key.ok) return { ok: true, key: key.value };
  return { ok: false, decision: malformed(htlc, FAILURE_CODES[key.error.kind]) };
}

export async function decideHtlc(
  context: DecisionContext,
  htlc: HtlcBody,
  sharedSecret: Uint8Array,
): Promise<HtlcDecision> {
  const { secp } = context;
  const fail = (failure: FailureMessage): HtlcDecision => ({
    type: 'fail',
    reason: wrapFailure(sharedSecret, failure),
  });
  const peeled = peelOnion(secp, htlc.onionRoutingPacket, sharedSecret, htlc.paymentHash);
  if (!peeled.ok) {
    // BOLT 4: an unreadable onion is answered with update_fail_malformed_htlc; a readable one with a bad payload is not.
    if (peeled.error.kind === 'invalid_onion_payload') return fail(peeled.error);
    return malformed(htlc, FAILURE_CODES[peeled.error.kind]);
  }
  const { payload, next } = peeled.value;
  const decoded = decodeHopPayload(payload);
  if (!decoded.ok) return fail({ kind: 'invalid_onion_payload', tlvType: 0n, offset: 0 });
  const incoming = {
    amountMsat: htlc.amountMsat,
    cltvExpiryHeight: htlc.cltvExpiryHeight,
    pathKey: htlc.pathKey,
    packet: htlc.onionRoutingPacket,
  };
  const instruction = hopInstruction(
    decoded.value,
    next === undefined ? 'final' : 'intermediate',
    incoming,
    undefined,
  );
  if (!instruction.ok) {
    // Route blinding is not among our features: whoever uses it gets what BOLT 4 asks for inside a blinded path.
    return instruction.error.kind === 'invalid_onion_blinding'
      ? malformed(htlc, FAILURE_CODES.invalid_onion_blinding)
      : fail(instruction.error);
  }
  const base = {
    source: { type: 'htlc', channelId: context.channelId, htlcId: htlc.id } as const,
    sourceShard: context.shard,
    paymentHash: htlc.paymentHash,
    incomingAmountMsat: htlc.amountMsat,
    incomingCltvExpiryHeight: htlc.cltvExpiryHeight,
    sharedSecret,
    createdUnixMs: context.nowUnixMs,
  };
  const sharedSecretHash = sha256(sharedSecret);
  switch (instruction.value.kind) {
    case 'forward': {
      const { next: hop, amountMsat, cltvExpiryHeight } = instruction.value;
      // No terms allow that. It is failed before anybody looks at it: an onion can name more than there is money, and more
      // than any row holds.
      if (amountMsat > htlc.amountMsat)
        return fail({
          kind: 'fee_insufficient',
          htlcMsat: htlc.amountMsat,
          channelUpdate: new Uint8Array(0),
        });
      const targetShard = hop.kind === 'channel' ? await context.shardOfScid(hop.shortChannelId) : undefined;
      if (hop.kind !== 'channel' || targetShard === undefined || next === undefined)
        return fail({ kind: 'unknown_next_peer' });
      return {
        type: 'intent',
        sharedSecretHash,
        intent: {
          ...base,
          target: { type: 'scid', shortChannelId: hop.shortChannelId },
          targetShard,
          outgoingAmountMsat: amountMsat,
          outgoingCltvExpiryHeight: cltvExpiryHeight,
          onion: next.packet,
        },
      };
    }
    case 'receive': {
      const refusal = await context.refuseUnknown(htlc, instruction.value);
      if (refusal !== undefined) return fail(refusal);
      return {
        type: 'intent',
        sharedSecretHash,
        intent: {
          ...base,
          target: { type: 'local', paymentHash: htlc.paymentHash },
          targetShard: shardOfPaymentHash(htlc.paymentHash),
          outgoingAmountMsat: instruction.value.amountMsat,
          outgoingCltvExpiryHeight: instruction.value.cltvExpiryHeight,
          onion: payload,
        },
      };
    }
    case 'receive_blinded':
      return malformed(htlc, FAILURE_CODES.invalid_onion_blinding);
  }
}

function malformed(htlc: HtlcBody, failureCode: number): HtlcDecision {
  return { type: 'fail_malformed', sha256OfOnion: sha256(htlc.onionRoutingPacket), failureCode };
}
