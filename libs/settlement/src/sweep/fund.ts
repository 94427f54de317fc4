/** Coins of the wallet for transactions that cannot pay their fee themselves. */
import { DUST_THRESHOLD_SAT, type TxOutput } from '@fulmen/bitcoin';
import type { PlannedInput, WalletCoin } from './types.ts';
import { plannedWeight } from './weights.ts';

export interface FundingRequest {
  readonly inputs: readonly PlannedInput[];
  readonly outputs: readonly TxOutput[];
  /** What the inputs bring beyond the outputs. */
  readonly surplusSat: bigint;
  /** The fee of a weight. */
  readonly feeSat: (weight: number) => bigint;
  /** Spent by the transaction that this one replaces; they come first. */
  readonly held: readonly WalletCoin[];
  readonly available: readonly WalletCoin[];
  readonly maximumCoins: number;
}

export type Funded =
  | {
      readonly type: 'funded';
      readonly coins: readonly WalletCoin[];
      readonly weight: number;
      readonly feeSat: bigint;
      readonly homeSat: bigint;
    }
  | { readonly type: 'short'; readonly missingSat: bigint };

/** A fee may rise to several times what it is now, with the same coins: no new input must be found then. */
const HEADROOM = 4n;

/** Whether a coin pays this fee by itself, and goes on to pay it when fees rise. */
export function isAmple({ valueSat }: WalletCoin, feeSat: bigint): boolean {
  return valueSat >= DUST_THRESHOLD_SAT.p2wpkh + (1n + HEADROOM) * feeSat;
}

/** Adds coins until the fee is paid and change above dust is left. */
export function fund(request: FundingRequest): Funded {
  const { inputs, outputs, surplusSat, held, maximumCoins } = request;
  const coins = [...held];
  const left = [...request.available].sort((a, b) => (a.valueSat < b.valueSat ? -1 : 1));
  for (;;) {
    const all: readonly PlannedInput[] = [
      ...inputs,
      ...coins.map((coin) => ({ type: 'coin', coin }) as const),
    ];
    const weight = plannedWeight(all, outputs, 'home');
    const feeSat = request.feeSat(weight);
    const inSat = coins.reduce((sum, { valueSat }) => sum + valueSat, surplusSat);
    const homeSat = inSat - feeSat;
    if (homeSat >= DUST_THRESHOLD_SAT.p2wpkh) return { type: 'funded', coins, weight, feeSat, homeSat };
    const missingSat = DUST_THRESHOLD_SAT.p2wpkh - homeSat;
    const enough = left.findIndex(({ valueSat }) => valueSat >= missingSat + HEADROOM * feeSat);
    const at = enough >= 0 ? enough : left.length - 1;
    const [next] = at < 0 || coins.length >= maximumCoins ? [] : left.splice(at, 1);
    if (next === undefined) return { type: 'short', missingSat };
    coins.push(next);
  }
}
