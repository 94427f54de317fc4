/** One channel's part of a SignBatch: all of it, in the contract's order, or nothing. */
import { ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { commitmentPoint } from '@fulmen/keys';
import {
  releaseSecret,
  signCounterpartyCommitment,
  takeRevocation,
  validateHolderCommitment,
} from './commitments.ts';
import type { EnforcementContext } from './commitments.ts';
import { refuse } from './refuse.ts';
import type {
  FundingSignatures,
  Refusal,
  SignItemAnswer,
  SignItemRequest,
  SignerChannelState,
} from './types.ts';

/** How many per-commitment points an answer carries. */
export const POINTS_IN_ANSWER = 3;

/** Adds the node's key, for onions. */
export interface SignItemContext extends EnforcementContext {
  readonly nodeSecret: Uint8Array;
}

/** A state that was not changed is returned as the same object: then there is nothing to commit. */
export function signItem(
  ctx: SignItemContext,
  before: SignerChannelState,
  request: SignItemRequest,
): Result<{ readonly state: SignerChannelState; readonly answer: SignItemAnswer }, Refusal> {
  let state = before;
  for (const revocation of request.revocations) {
    const taken = takeRevocation(ctx, state, revocation);
    if (!taken.ok) return taken;
    state = taken.value;
  }
  if (request.holderCommitment !== undefined) {
    const validated = validateHolderCommitment(ctx, state, request.holderCommitment, 'go_on');
    if (!validated.ok) return validated;
    state = validated.value;
  }
  let releasedSecret: Uint8Array | undefined;
  if (request.releaseSecretNumber !== undefined) {
    const released = releaseSecret(ctx, state, request.releaseSecretNumber);
    if (!released.ok) return released;
    ({ state, secret: releasedSecret } = released.value);
  }
  const signatures: FundingSignatures[] = [];
  if (request.counterpartyCommitment !== undefined) {
    const signed = signCounterpartyCommitment(ctx, state, request.counterpartyCommitment);
    if (!signed.ok) return signed;
    state = signed.value.state;
    signatures.push(signed.value.signatures);
  }
  const sharedSecrets: Uint8Array[] = [];
  for (const { publicKey, tweak } of request.ecdhs) {
    if (!ctx.secp.isPublicKey(publicKey))
      return refuse('policy-malformed-request', 'an ECDH point is not on the curve');
    if (tweak !== undefined && !ctx.secp.isSecretKey(tweak))
      return refuse('policy-malformed-request', 'an ECDH tweak is no scalar');
    const secret = tweak === undefined ? ctx.nodeSecret : ctx.secp.secretKeyTweakMul(ctx.nodeSecret, tweak);
    sharedSecrets.push(ctx.secp.ecdh(publicKey, secret));
  }
  return ok({ state, answer: { releasedSecret, ...holderPoints(ctx, state), signatures, sharedSecrets } });
}

/** The points from the first unreleased holder commitment on. */
export function holderPoints(
  ctx: EnforcementContext,
  state: Pick<SignerChannelState, 'nextHolderRevocation'>,
): Pick<SignItemAnswer, 'firstPointNumber' | 'perCommitmentPoints'> {
  return {
    firstPointNumber: state.nextHolderRevocation,
    perCommitmentPoints: Array.from({ length: POINTS_IN_ANSWER }, (_, i) =>
      commitmentPoint(ctx.secp, ctx.secrets.perCommitmentSeed, state.nextHolderRevocation + BigInt(i)),
    ),
  };
}
