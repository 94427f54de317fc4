/** Derives the content of either side's commitment, now or after the next commitment_signed, from the named states. */
import { InternalError } from '@fulmen/codec';
import type { CommitmentHtlc, CommitmentSpec } from '../commitment-spec.ts';
import type { HtlcDirection } from '../htlc.ts';
import type { CommitmentContent } from '@fulmen/monitor';
import type {
  ChannelChanges,
  EstablishedChannel,
  FeerateUpdate,
  Funding,
  Htlc,
  HtlcState,
} from '../state.ts';
import type { CommitmentOwner } from '../commitment/types.ts';
import { primaryFunding } from '../state.ts';
import { isFulfilled, move, payerDirection } from './transitions.ts';

/** Not yet on the commitment, on it, or already off it. */
export type Presence = 'absent' | 'present' | 'removed';

/** Who stands on whose commitment; see the table at `Htlc`. */
const PRESENCE: Readonly<
  Record<CommitmentOwner, Readonly<Record<HtlcDirection, Readonly<Record<HtlcState, Presence>>>>>
> = {
  holder: {
    outbound: {
      add_pending: 'absent',
      add_signed: 'absent',
      add_acked: 'absent',
      committed: 'present',
      removal_queued: 'present',
      removal_pending: 'present',
      removal_acked: 'removed',
      removal_signed: 'removed',
    },
    inbound: {
      add_pending: 'absent',
      add_acked: 'present',
      add_signed: 'present',
      committed: 'present',
      removal_queued: 'present',
      removal_pending: 'present',
      removal_signed: 'present',
      removal_acked: 'present',
    },
  },
  counterparty: {
    outbound: {
      add_pending: 'absent',
      add_signed: 'present',
      add_acked: 'present',
      committed: 'present',
      removal_queued: 'present',
      removal_pending: 'present',
      removal_acked: 'present',
      removal_signed: 'removed',
    },
    inbound: {
      add_pending: 'absent',
      add_acked: 'absent',
      add_signed: 'present',
      committed: 'present',
      removal_queued: 'present',
      removal_pending: 'present',
      removal_signed: 'removed',
      removal_acked: 'removed',
    },
  },
};

export function presenceOf(htlc: Htlc, owner: CommitmentOwner): Presence {
  return PRESENCE[owner][htlc.body.direction][htlc.state];
}

type Part = Pick<EstablishedChannel, 'changes' | 'fundings' | 'parameters'>;

/** The commitment of `owner` on one funding, as last signed. */
export function currentSpec(state: Part, owner: CommitmentOwner, funding: Funding): CommitmentSpec {
  return specFrom(state, owner, funding, (htlc) => presenceOf(htlc, owner));
}

/** The commitment of `owner` as the next commitment_signed for it makes it. */
export function nextSpec(state: Part, owner: CommitmentOwner, fundingIndex: number): CommitmentSpec {
  const moved = move(state, owner === 'holder' ? 'counterparty_signs' : 'holder_signs');
  const funding = moved.fundings[fundingIndex];
  if (funding === undefined) throw new InternalError('no such funding');
  const next: Part = {
    parameters: state.parameters,
    changes: bump(moved.changes, owner),
    fundings: moved.fundings,
  };
  return currentSpec(next, owner, funding);
}

/** A commitment whose HTLCs are chosen by `presence`: for checks that must be stricter or more lenient than what is signed. */
export function specFrom(
  state: Part,
  owner: CommitmentOwner,
  funding: Funding,
  presence: (htlc: Htlc) => Presence,
): CommitmentSpec {
  let toHolderMsat = funding.holderBalanceMsat;
  let toCounterpartyMsat = funding.counterpartyBalanceMsat;
  const htlcs: CommitmentHtlc[] = [];
  for (const htlc of state.changes.htlcs) {
    const { direction, id, amountMsat, paymentHash, cltvExpiryHeight } = htlc.body;
    const where = presence(htlc);
    if (where === 'absent' || (where === 'removed' && !isFulfilled(htlc))) continue;
    if (direction === 'outbound') toHolderMsat -= amountMsat;
    else toCounterpartyMsat -= amountMsat;
    if (where === 'present') htlcs.push({ direction, id, amountMsat, paymentHash, cltvExpiryHeight });
    else if (direction === 'outbound') toCounterpartyMsat += amountMsat;
    else toHolderMsat += amountMsat;
  }
  return {
    commitmentNumber:
      owner === 'holder' ? state.changes.holderCommitmentNumber : state.changes.counterpartyCommitmentNumber,
    feerateSatPerKw: currentFeerate(state, owner),
    toHolderMsat,
    toCounterpartyMsat,
    htlcs,
  };
}

/** The feerate on a commitment as last signed, in sat per 1000 weight units. */
export function currentFeerate(state: Part, owner: CommitmentOwner): number {
  const table = PRESENCE[owner][payerDirection(state)];
  return feerateWhere(state.changes.feerates, (feerate) => table[feerate.state] === 'present');
}

/** The newest feerate that anyone asked for. */
export function newestFeerate(changes: ChannelChanges): number {
  return feerateWhere(changes.feerates, () => true);
}

function feerateWhere(
  feerates: readonly FeerateUpdate[],
  included: (feerate: FeerateUpdate) => boolean,
): number {
  const found = feerates.findLast(included) ?? feerates[0];
  if (found === undefined) throw new InternalError('a channel has a feerate');
  return found.feerateSatPerKw;
}

function bump(changes: ChannelChanges, owner: CommitmentOwner): ChannelChanges {
  return owner === 'holder'
    ? { ...changes, holderCommitmentNumber: changes.holderCommitmentNumber + 1n }
    : { ...changes, counterpartyCommitmentNumber: changes.counterpartyCommitmentNumber + 1n };
}

/** What the monitor keeps of a commitment: HTLCs by reference. */
export function contentOf(spec: CommitmentSpec): CommitmentContent {
  const { commitmentNumber, feerateSatPerKw, toHolderMsat, toCounterpartyMsat, htlcs } = spec;
  return {
    commitmentNumber,
    feerateSatPerKw,
    toHolderMsat,
    toCounterpartyMsat,
    htlcs: htlcs.map(({ direction, id }) => ({ direction, id })),
  };
}

/** The counterparty's latest commitment of the primary funding, as the messages carry it. */
export function counterpartySpec(state: EstablishedChannel): CommitmentSpec {
  return currentSpec(state, 'counterparty', primaryFunding(state));
}

/** The holder's latest commitment of the primary funding. */
export function holderSpec(state: EstablishedChannel): CommitmentSpec {
  return currentSpec(state, 'holder', primaryFunding(state));
}

/** Whether the counterparty still owes the secret of its previous commitment. */
export function isAwaitingRevocation(changes: ChannelChanges): boolean {
  return changes.counterpartyCommitmentNumber > changes.counterpartySecrets.count;
}

/** Whether a commitment_signed from the holder (or the counterparty) would change anything. */
export function hasPendingChanges(state: Part, signer: CommitmentOwner): boolean {
  const moved = move(state, signer === 'holder' ? 'holder_signs' : 'counterparty_signs');
  return (
    moved.touched.length > 0 ||
    moved.changes.feerates.length !== state.changes.feerates.length ||
    moved.changes.feerates.some((feerate, i) => feerate.state !== state.changes.feerates[i]?.state)
  );
}

/** Whether nothing at all is on its way: no HTLC, one feerate, no secret owed. */
export function isQuiet(state: Part): boolean {
  return (
    state.changes.htlcs.length === 0 &&
    state.changes.feerates.length === 1 &&
    !isAwaitingRevocation(state.changes)
  );
}
