/**
 * What may be spent to bring an output home: a share of its value, so that an
 * attacker who makes fees rise can never make a claim cost more than it is
 * worth, and yet cannot outbid it cheaply.
 */
import { assertNever } from '@fulmen/codec';
import type { Claim } from '../types.ts';
import type { SweepPolicy } from './types.ts';

export const DEFAULT_SWEEP_POLICY: SweepPolicy = {
  deadlinePercent: 50,
  // The rest would be the cheater's.
  justicePercent: 95,
  noDeadlinePercent: 20,
  // It has no other use; it only must not cost more than it brings.
  anchorPercent: 80,
  commitmentDeadlinePercent: 50,
  commitmentNoDeadlinePermille: 5,
  commitmentMaximumSat: 1_000_000n,
  maximumFeeSat: 5_000_000n,
  maximumFeerateSatPerKw: 250_000,
  aloneWithinBlocks: 10,
  deadlineSpreadBlocks: 12,
  maximumInputs: 100,
  // A replacement must pay for all that it replaces; a quarter of what relays (400,000) is enough for the inputs above.
  maximumWeight: 100_000,
};

/** Budget of a claim, in satoshis. Of a transaction already fixed by both sides there is nothing to decide: its own fee. */
export function claimBudgetSat({ valueSat, kind, deadlineHeight }: Claim, policy: SweepPolicy): bigint {
  const share = (percent: number): bigint => (valueSat * BigInt(percent)) / 100n;
  switch (kind.type) {
    case 'revoked_delayed':
    case 'revoked_htlc':
      return share(policy.justicePercent);
    case 'anchor':
      return share(policy.anchorPercent);
    case 'holder_htlc':
      if (kind.aggregation === 'fixed') return valueSat - kind.output.valueSat;
      return share(deadlineHeight === undefined ? policy.noDeadlinePercent : policy.deadlinePercent);
    case 'holder_delayed':
    case 'counterparty_htlc':
    case 'counterparty_balance':
      return share(deadlineHeight === undefined ? policy.noDeadlinePercent : policy.deadlinePercent);
    default:
      return assertNever(kind);
  }
}

/** Budget of the child that pays for a commitment. */
export function commitmentBudgetSat(
  stakeSat: bigint,
  deadline: 'deadline' | 'none',
  policy: SweepPolicy,
): bigint {
  const budget =
    deadline === 'deadline'
      ? (stakeSat * BigInt(policy.commitmentDeadlinePercent)) / 100n
      : (stakeSat * BigInt(policy.commitmentNoDeadlinePermille)) / 1000n;
  return budget < policy.commitmentMaximumSat ? budget : policy.commitmentMaximumSat;
}
