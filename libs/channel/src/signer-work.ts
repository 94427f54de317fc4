/** What the signer is owed, derived from the state and from what the signer says of itself. */
import type { Result } from '@fulmen/codec';
import { err, ok } from '@fulmen/codec';
import { lookupSecret } from '@fulmen/keys';
import { holderSignatures } from './commit.ts';
import type { SignerWork } from './effect.ts';
import type { EstablishedChannel } from './state.ts';
import { holderSpec } from './updates/spec.ts';

/** How far the signer is: the last holder commitment that it validated, and how many of the counterparty's secrets it has. */
export interface SignerProgress {
  readonly holderCommitmentNumber: bigint;
  readonly counterpartyRevocations: bigint;
}

/** The signer's and the channel's state do not fit together: the channel must go passive. */
export interface SignerMismatch {
  readonly type: 'signer_mismatch';
  readonly reason: string;
}

/** Where a signer stands that is told of every step. */
export function signerProgress(state: EstablishedChannel): SignerProgress {
  return {
    holderCommitmentNumber: state.changes.holderCommitmentNumber,
    counterpartyRevocations: state.changes.counterpartySecrets.count,
  };
}

/**
 * The work to hand over before or with the signer's next call, given how far
 * it is: after a step, and after a restore with a signer that is one step
 * behind. A signer that is ahead by one validated commitment belongs to a step
 * that was never committed, and is refused: nothing can be ahead of the state
 * that caused it (law 2).
 */
export function signerWork(
  state: EstablishedChannel,
  since: SignerProgress,
): Result<SignerWork, SignerMismatch> {
  // A passive channel signs nothing, and what it missed is lost; a closed one needs nothing any more.
  if (state.phase.type === 'passive' || state.phase.type === 'closed')
    return ok({ counterpartyRevocations: [] });
  const { holderCommitmentNumber, counterpartySecrets } = state.changes;
  if (
    since.holderCommitmentNumber > holderCommitmentNumber ||
    since.counterpartyRevocations > counterpartySecrets.count
  ) {
    return err({ type: 'signer_mismatch', reason: 'the signer is ahead of the channel' });
  }
  if (since.holderCommitmentNumber < holderCommitmentNumber - 1n) {
    return err({ type: 'signer_mismatch', reason: 'the signer is more than one holder commitment behind' });
  }
  const counterpartyRevocations: { readonly commitmentNumber: bigint; readonly secret: Uint8Array }[] = [];
  for (let number = since.counterpartyRevocations; number < counterpartySecrets.count; number += 1n) {
    const secret = lookupSecret(counterpartySecrets, number);
    if (secret !== undefined) counterpartyRevocations.push({ commitmentNumber: number, secret });
  }
  if (since.holderCommitmentNumber === holderCommitmentNumber) return ok({ counterpartyRevocations });
  return ok({
    counterpartyRevocations,
    holderCommitment: { spec: holderSpec(state), signatures: holderSignatures(state) },
  });
}
