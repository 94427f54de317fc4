/**
 * What past attempts say of where liquidity is. For each channel: the least
 * and the most that its first direction may hold, as offsets from zero and
 * from the capacity, so that one pair serves both directions (what one side
 * lacks, the other has). Knowledge fades: offsets halve every half-life. All
 * times are arguments, in seconds since 1970.
 */
import type { Result } from '@fulmen/codec';
import { err, ok } from '@fulmen/codec';

/** How observations become millisatoshi of penalty. */
export interface ScoringParameters {
  /** For every hop, so that shorter routes win. */
  readonly basePenaltyMsat: number;
  /** For every 2^30 msat sent over a hop. */
  readonly basePenaltyAmountMultiplierMsat: number;
  /** Times −log10 of the chance of success. */
  readonly liquidityPenaltyMultiplierMsat: number;
  /** The same, for every 2^20 msat sent. */
  readonly liquidityPenaltyAmountMultiplierMsat: number;
  /** A channel that tells its whole balance to probers is worth avoiding. */
  readonly antiProbingPenaltyMsat: number;
  /** For an amount above the upper bound: only when nothing else is left. */
  readonly impossiblePenaltyMsat: number;
  readonly halfLifeSeconds: number;
  /** Channels remembered; the one observed longest ago is forgotten first. */
  readonly maxChannels: number;
}

/** In the range of LDK's defaults. */
export const DEFAULT_SCORING: ScoringParameters = {
  basePenaltyMsat: 500,
  basePenaltyAmountMultiplierMsat: 8_192,
  liquidityPenaltyMultiplierMsat: 30_000,
  liquidityPenaltyAmountMultiplierMsat: 192,
  antiProbingPenaltyMsat: 250,
  impossiblePenaltyMsat: 1e11,
  halfLifeSeconds: 1_800,
  maxChannels: 200_000,
};

/** One thing learnt from an attempt. */
export interface Observation {
  readonly shortChannelId: bigint;
  readonly direction: 0 | 1;
  readonly amountMsat: bigint;
  /** What the channel can hold; its funding amount or, failing that, its htlc_maximum_msat. */
  readonly capacityMsat: bigint;
  /**
   * `passed`: the HTLC went through, and came back later; `failed`: it could
   * not; `settled`: it went through and the money moved.
   */
  readonly outcome: 'passed' | 'failed' | 'settled';
}

/** What path finding asks. */
export interface ScorerView {
  penaltyMsat(
    shortChannelId: bigint,
    direction: 0 | 1,
    amountMsat: number,
    capacityMsat: number,
    htlcMaximumMsat: number,
  ): number;
}

/** A view that knows nothing but the price of a hop. */
export const UNINFORMED_SCORER: ScorerView = {
  penaltyMsat: () => DEFAULT_SCORING.basePenaltyMsat,
};

interface Offsets {
  /** Direction 0 holds at least this. */
  low: number;
  /** Direction 0 holds at most capacity less this. */
  high: number;
  updatedAtSeconds: number;
}

/** The least and the most that a direction may hold. */
export interface LiquidityBounds {
  readonly lowerMsat: number;
  readonly upperMsat: number;
}

/** Why stored scores cannot be read. */
export type ScorerDecodeError = 'not_scores' | 'truncated' | 'invalid_entry';

const VERSION = 1;
const HEADER_LENGTH = 5;
const ENTRY_LENGTH = 8 + 8 + 8 + 4;
/** −log10 of a chance is capped here: below one in a hundred, differences do not matter. */
const MAX_NEGATIVE_LOG10 = 2;

/** The scores of one payer. One owner writes; views read. */
export class LiquidityScorer {
  readonly parameters: ScoringParameters;
  readonly #channels = new Map<bigint, Offsets>();

  constructor(parameters: ScoringParameters = DEFAULT_SCORING) {
    this.parameters = parameters;
  }

  get size(): number {
    return this.#channels.size;
  }

  /** The bounds of a direction as they are believed at `nowSeconds`. */
  bounds(
    shortChannelId: bigint,
    direction: 0 | 1,
    capacityMsat: number,
    nowSeconds: number,
  ): LiquidityBounds {
    const offsets = this.#channels.get(shortChannelId);
    if (offsets === undefined) return { lowerMsat: 0, upperMsat: capacityMsat };
    const decay = this.#decay(offsets, nowSeconds);
    const [near, far] = direction === 0 ? [offsets.low, offsets.high] : [offsets.high, offsets.low];
    const lowerMsat = Math.min(near * decay, capacityMsat);
    return { lowerMsat, upperMsat: Math.max(capacityMsat - far * decay, lowerMsat) };
  }

  /** Takes in what an attempt has shown. */
  observe(observation: Observation, nowSeconds: number): void {
    const capacity = Number(observation.capacityMsat);
    const amount = Math.min(Number(observation.amountMsat), capacity);
    const { shortChannelId, direction } = observation;
    let { lowerMsat, upperMsat } = this.bounds(shortChannelId, direction, capacity, nowSeconds);
    switch (observation.outcome) {
      case 'passed':
        lowerMsat = Math.max(lowerMsat, amount);
        upperMsat = Math.max(upperMsat, lowerMsat);
        break;
      case 'failed':
        upperMsat = Math.min(upperMsat, Math.max(amount - 1, 0));
        lowerMsat = Math.min(lowerMsat, upperMsat);
        break;
      case 'settled':
        lowerMsat = Math.max(lowerMsat - amount, 0);
        upperMsat = Math.max(upperMsat, amount) - amount;
        break;
    }
    const [low, high] =
      direction === 0 ? [lowerMsat, capacity - upperMsat] : [capacity - upperMsat, lowerMsat];
    // Deleting first moves the entry to the end: the map's order is the order of observation.
    this.#channels.delete(shortChannelId);
    this.#channels.set(shortChannelId, { low, high, updatedAtSeconds: nowSeconds });
    if (this.#channels.size > this.parameters.maxChannels) {
      for (const oldest of this.#channels.keys()) {
        this.#channels.delete(oldest);
        break;
      }
    }
  }

  /** Forgets what has faded to nothing: ten half-lives leave a thousandth. */
  prune(nowSeconds: number): void {
    for (const [shortChannelId, offsets] of this.#channels) {
      if (nowSeconds - offsets.updatedAtSeconds > 10 * this.parameters.halfLifeSeconds)
        this.#channels.delete(shortChannelId);
    }
  }

  /** Scores as they are at one moment, for one search. */
  at(nowSeconds: number): ScorerView {
    return {
      penaltyMsat: (shortChannelId, direction, amountMsat, capacityMsat, htlcMaximumMsat) => {
        const bounds = this.bounds(shortChannelId, direction, capacityMsat, nowSeconds);
        return penalty(this.parameters, bounds, amountMsat, capacityMsat, htlcMaximumMsat);
      },
    };
  }

  /** All scores as bytes: version, count, then scid, both offsets (f64) and time. */
  encode(): Uint8Array {
    const bytes = new Uint8Array(HEADER_LENGTH + ENTRY_LENGTH * this.#channels.size);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, VERSION);
    view.setUint32(1, this.#channels.size);
    let offset = HEADER_LENGTH;
    for (const [shortChannelId, offsets] of this.#channels) {
      view.setBigUint64(offset, shortChannelId);
      view.setFloat64(offset + 8, offsets.low);
      view.setFloat64(offset + 16, offsets.high);
      view.setUint32(offset + 24, offsets.updatedAtSeconds);
      offset += ENTRY_LENGTH;
    }
    return bytes;
  }

  /** Reads what `encode` wrote; never throws, and allocates no more than the bytes hold. */
  static decode(
    bytes: Uint8Array,
    parameters: ScoringParameters = DEFAULT_SCORING,
  ): Result<LiquidityScorer, ScorerDecodeError> {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < HEADER_LENGTH || view.getUint8(0) !== VERSION) return err('not_scores');
    const count = view.getUint32(1);
    if (bytes.length !== HEADER_LENGTH + ENTRY_LENGTH * count) return err('truncated');
    const scorer = new LiquidityScorer(parameters);
    for (let i = 0; i < Math.min(count, parameters.maxChannels); i++) {
      const offset = HEADER_LENGTH + ENTRY_LENGTH * i;
      const shortChannelId = view.getBigUint64(offset);
      const low = view.getFloat64(offset + 8);
      const high = view.getFloat64(offset + 16);
      if (!(low >= 0 && low < Infinity && high >= 0 && high < Infinity)) return err('invalid_entry');
      if (scorer.#channels.has(shortChannelId)) return err('invalid_entry');
      scorer.#channels.set(shortChannelId, { low, high, updatedAtSeconds: view.getUint32(offset + 24) });
    }
    return ok(scorer);
  }

  #decay(offsets: Offsets, nowSeconds: number): number {
    return 0.5 ** (Math.max(0, nowSeconds - offsets.updatedAtSeconds) / this.parameters.halfLifeSeconds);
  }
}

function penalty(
  parameters: ScoringParameters,
  bounds: LiquidityBounds,
  amountMsat: number,
  capacityMsat: number,
  htlcMaximumMsat: number,
): number {
  const base =
    parameters.basePenaltyMsat + (parameters.basePenaltyAmountMultiplierMsat * amountMsat) / 2 ** 30;
  const probing = htlcMaximumMsat >= capacityMsat / 2 ? parameters.antiProbingPenaltyMsat : 0;
  if (amountMsat <= bounds.lowerMsat) return base + probing;
  if (amountMsat > bounds.upperMsat) return base + probing + parameters.impossiblePenaltyMsat;
  // Liquidity is taken to lie anywhere between the bounds with equal chance.
  const chance = (bounds.upperMsat + 1 - amountMsat) / (bounds.upperMsat + 1 - bounds.lowerMsat);
  const negativeLog10 = Math.min(-Math.log10(chance), MAX_NEGATIVE_LOG10);
  return (
    base +
    probing +
    negativeLog10 *
      (parameters.liquidityPenaltyMultiplierMsat +
        (parameters.liquidityPenaltyAmountMultiplierMsat * amountMsat) / 2 ** 20)
  );
}
