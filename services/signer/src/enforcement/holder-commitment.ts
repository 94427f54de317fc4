/**
 * Signing the holder's own commitment: the end of the channel. The lock and
 * the signature are one decision, so that no race broadcasts a state that is
 * revoked, or revokes one that is broadcast.
 */
import { assembleCommitment } from '@fulmen/channel/commitment/sign';
import { encodeTx } from '@fulmen/bitcoin';
import { equalBytes, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { validateHolderCommitment, verifyHolderCommitment } from './commitments.ts';
import type { EnforcementContext } from './commitments.ts';
import { commitmentDigest } from './digest.ts';
import { refuse } from './refuse.ts';
import type { HolderCommitmentRequest, Refusal, SignerChannelState } from './types.ts';

/** Validates the commitment if it is the next one, locks the channel, and signs. Gives the whole transaction. */
export function signHolderCommitment(
  ctx: EnforcementContext,
  before: SignerChannelState,
  request: HolderCommitmentRequest,
): Result<{ readonly state: SignerChannelState; readonly transaction: Uint8Array }, Refusal> {
  const { commitmentNumber } = request.spec;
  if (before.lock.type === 'frozen')
    return refuse('policy-holder-commitment-revoked', 'the channel is frozen: its last state is not known');
  if (commitmentNumber < before.nextHolderRevocation)
    return refuse('policy-holder-commitment-revoked', `holder commitment ${commitmentNumber} is revoked`);
  let state = before;
  if (commitmentNumber >= state.nextHolderCommitment) {
    // A closed channel's next commitment may still be one that the manager committed before it asked for a mutual close.
    const unlocked: SignerChannelState =
      state.lock.type === 'mutual_close' ? { ...state, lock: { type: 'none' } } : state;
    const validated = validateHolderCommitment(ctx, unlocked, request, 'close');
    if (!validated.ok) return validated;
    state = validated.value;
  }
  const record = state.holderCommitments.find((candidate) => candidate.commitmentNumber === commitmentNumber);
  if (record === undefined || !equalBytes(record.digest, commitmentDigest(request.spec))) {
    return refuse(
      'policy-commitment-retry-same',
      `holder commitment ${commitmentNumber} was validated with another content`,
    );
  }
  const verified = verifyHolderCommitment(ctx, state, request);
  if (!verified.ok) return verified;
  const { built, signatures } = verified.value;
  const transaction = assembleCommitment(built, state.registration.funding, {
    holderSignature: ctx.secp.sign(built.sighash, ctx.secrets.fundingSecret),
    counterpartySignature: signatures.signature,
  });
  const closed: SignerChannelState =
    state.lock.type === 'closing' ? state : { ...state, lock: { type: 'closing', commitmentNumber } };
  return ok({ state: closed, transaction: encodeTx(transaction) });
}
