/** LDK's eight feerate targets in an order that makes sense and within bounds, whatever the node said. */
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import type { FeeEstimateMode } from '@fulmen/chain';

export type FeerateTarget =
  | 'maximum_fee_estimate'
  | 'urgent_on_chain_sweep'
  | 'min_allowed_anchor_channel_remote_fee'
  | 'min_allowed_non_anchor_channel_remote_fee'
  | 'anchor_channel_fee'
  | 'non_anchor_channel_fee'
  | 'channel_close_minimum'
  | 'output_spending_fee';

/** Blocks to confirm within, and how an estimate weighs a recent fall. */
export const QUESTIONS: Readonly<
  Record<FeerateTarget, { readonly blocks: number; readonly mode: FeeEstimateMode }>
> = {
  maximum_fee_estimate: { blocks: 1, mode: 'conservative' },
  urgent_on_chain_sweep: { blocks: 3, mode: 'conservative' },
  non_anchor_channel_fee: { blocks: 12, mode: 'economical' },
  output_spending_fee: { blocks: 12, mode: 'economical' },
  channel_close_minimum: { blocks: 144, mode: 'economical' },
  min_allowed_non_anchor_channel_remote_fee: { blocks: 144, mode: 'economical' },
  anchor_channel_fee: { blocks: 1008, mode: 'economical' },
  min_allowed_anchor_channel_remote_fee: { blocks: 1008, mode: 'economical' },
};
export const TARGETS = Object.keys(QUESTIONS) as readonly FeerateTarget[];

/** From the lowest to the highest: none may be above the next. */
const ORDER: readonly FeerateTarget[] = [
  'min_allowed_anchor_channel_remote_fee',
  'anchor_channel_fee',
  'min_allowed_non_anchor_channel_remote_fee',
  'channel_close_minimum',
  'non_anchor_channel_fee',
  'output_spending_fee',
  'urgent_on_chain_sweep',
  'maximum_fee_estimate',
];

/** The fee above which a peer's fee is refused is far above any estimate of today: fees rise fast. */
const MAXIMUM_FACTOR = 10;

export type Feerates = Readonly<Record<FeerateTarget, number>>;

/** Bounds and order, whatever the node said. `undefined` where it said nothing. */
export function arrangeFeerates(
  raw: Readonly<Partial<Record<FeerateTarget, number>>>,
  bounds: { readonly minimum: number; readonly maximum: number; readonly fallback: number | undefined },
): Feerates | undefined {
  const known = ORDER.map((target) => raw[target]).filter((feerate) => feerate !== undefined);
  const start = bounds.fallback ?? (known.length === 0 ? undefined : Math.min(...known));
  if (start === undefined) return undefined;
  // The operator's maximum is the last word: a mempool that asks for more is not followed.
  const minimum = Math.min(Math.max(bounds.minimum, FEERATE_FLOOR_SAT_PER_KW), bounds.maximum);
  const clamp = (feerate: number): number => Math.ceil(Math.min(Math.max(feerate, minimum), bounds.maximum));
  const result: Partial<Record<FeerateTarget, number>> = {};
  let previous = minimum;
  for (const target of ORDER) {
    const estimate = raw[target] ?? (known.length === 0 ? start : previous);
    const wanted = target === 'maximum_fee_estimate' ? estimate * MAXIMUM_FACTOR : estimate;
    previous = Math.max(previous, clamp(wanted));
    result[target] = previous;
  }
  // What the counterparty must pay at least is the floor of relaying, with room for what changed since it last looked.
  result.min_allowed_anchor_channel_remote_fee = FEERATE_FLOOR_SAT_PER_KW;
  result.min_allowed_non_anchor_channel_remote_fee = Math.max(
    FEERATE_FLOOR_SAT_PER_KW,
    Math.floor((result.min_allowed_non_anchor_channel_remote_fee ?? previous) / 2),
  );
  // Bounds on what others offer, and no bids of ours: a guess must not refuse what would be relayed.
  if (raw.min_allowed_non_anchor_channel_remote_fee === undefined)
    result.min_allowed_non_anchor_channel_remote_fee = Math.max(
      FEERATE_FLOOR_SAT_PER_KW,
      Math.floor(minimum / 2),
    );
  if (raw.channel_close_minimum === undefined) result.channel_close_minimum = clamp(minimum);
  return result as Feerates;
}
