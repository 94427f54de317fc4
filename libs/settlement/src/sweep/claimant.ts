/** Whose keys a transaction spends a claimed output with, read from its witness. */
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import { assertNever } from '@fulmen/codec';
import { type SpendingInput, readDelayedSpend, readHtlcSpend } from '../spends.ts';
import type { Claim } from '../types.ts';

/** Undefined: anybody's, or none of the script's paths. */
export function claimantOf(spend: SpendingInput, { kind }: Claim): CommitmentOwner | undefined {
  switch (kind.type) {
    case 'holder_delayed':
      return readDelayedSpend(spend, 'holder').by;
    case 'revoked_delayed':
      return readDelayedSpend(spend, 'counterparty').by;
    case 'holder_htlc':
      return htlcClaimantOf(spend, 'holder', kind.htlc.paymentHash);
    case 'counterparty_htlc':
    case 'revoked_htlc':
      return htlcClaimantOf(spend, 'counterparty', kind.htlc.paymentHash);
    case 'counterparty_balance':
      return 'holder';
    case 'anchor':
      // "<sig> <script>" is the holder's; "<> <script>" anybody's.
      return (spend.tx.inputs[spend.inputIndex]?.witness[0]?.length ?? 0) > 0 ? 'holder' : undefined;
    default:
      return assertNever(kind);
  }
}

function htlcClaimantOf(
  spend: SpendingInput,
  owner: CommitmentOwner,
  paymentHash: Uint8Array,
): CommitmentOwner | undefined {
  const read = readHtlcSpend(spend, owner, paymentHash);
  return read.type === 'other' ? undefined : read.by;
}
