/** When the holder, as funder, proposes another feerate for its commitments (BOLT 2, "Updating Fees"). */
import type { CommitmentFormatName } from '../parameters.ts';
import type { ChannelState } from '../state.ts';
import { newestFeerate } from './spec.ts';

/** What a commitment of each format should pay now, in sat per 1000 weight. */
export type CommitmentFeerates = Readonly<Record<CommitmentFormatName, number>>;

/** A rise by less is not worth a round of messages. */
const LEAST_RISE_PERCENT = 10;
/** A fall is followed once it is this deep: feerates that fall often rise again. */
const LEAST_FALL_FACTOR = 2;

/** The feerate to propose; undefined while the present one will do, or where none can be proposed. */
export function feerateToPropose(state: ChannelState, wanted: CommitmentFeerates): number | undefined {
  if (state.type !== 'established' || state.parameters.funder !== 'holder') return undefined;
  if (state.phase.type !== 'open' || state.connection.type !== 'connected') return undefined;
  const target = wanted[state.parameters.commitmentFormat];
  const present = newestFeerate(state.changes);
  const rises = target * 100 >= present * (100 + LEAST_RISE_PERCENT);
  const falls = target * LEAST_FALL_FACTOR <= present;
  return rises || falls ? target : undefined;
}
