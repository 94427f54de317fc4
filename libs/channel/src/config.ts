/** Policy of the node for its channels, with LDK's defaults, and the protocol's and LDK's constants. */
import type { FeerateEstimates } from './context.ts';

/** BOLT 2: `max_accepted_htlcs` is greater than 483: fail the channel. */
export const MAX_ACCEPTED_HTLCS_LIMIT = 483;
/** BOLT 2: `dust_limit_satoshis` is smaller than 354 satoshis: fail the channel. */
export const MIN_DUST_LIMIT_SAT = 354n;
/** BOLT 2: from 2^24 sat on a channel needs option_support_large_channel. */
export const LARGE_CHANNEL_SAT = 1n << 24n;
/** BOLT 2: `cltv_expiry` from here on would be a time. */
export const CLTV_EXPIRY_LIMIT = 500_000_000;
/** Floor of every feerate: what a Bitcoin node relays, rounded up to weight units. */
export const MIN_FEERATE_SAT_PER_KW = 253;
/** Ceiling of every commitment's feerate, 1,000 sat/vB: above every feerate that was ever needed. The signer keeps to it, too. */
export const MAX_FEERATE_SAT_PER_KW = 250_000;
/**
 * In place of estimates while there are none: what channels that exist may do is bounded as by the protocol alone, and a
 * mutual close bids what relays. No feerate of a new channel can be judged by them.
 */
export const FEERATES_WITHOUT_ESTIMATES: FeerateEstimates = {
  minimumAnchorSatPerKw: MIN_FEERATE_SAT_PER_KW,
  minimumNonAnchorSatPerKw: MIN_FEERATE_SAT_PER_KW,
  maximumSatPerKw: MAX_FEERATE_SAT_PER_KW,
  closeMinimumSatPerKw: MIN_FEERATE_SAT_PER_KW,
  closeTargetSatPerKw: MIN_FEERATE_SAT_PER_KW,
};
/** Ceiling of the exposure to dust that the holder enters into on one commitment. The signer keeps to it, too. */
export const MAX_DUST_EXPOSURE_SAT = 500_000n;
/** BOLT 3: each anchor has 330 sat, and the funder pays both. */
export const ANCHOR_SAT = 330n;
/** LDK: an outbound HTLC is enforced on-chain this many blocks after its expiry. */
export const LATENCY_GRACE_PERIOD_BLOCKS = 3;
/** LDK: an inbound HTLC with a known preimage is enforced this many blocks before its expiry. */
export const CLTV_CLAIM_BUFFER_BLOCKS = 36;
/** LDK: an inbound HTLC whose forward is unresolved is failed this many blocks before its expiry. */
export const HTLC_FAIL_BACK_BUFFER_BLOCKS = CLTV_CLAIM_BUFFER_BLOCKS + LATENCY_GRACE_PERIOD_BLOCKS;
/** BOLT 7: a channel is announced from this depth on. */
export const ANNOUNCEMENT_DEPTH = 6;
/** BOLT 2: the largest total supply; anything above is no amount. */
export const MAX_MONEY_SAT = 21_000_000n * 100_000_000n;

export interface ChannelConfig {
  /** 32 bytes: the genesis hash of the chain, as open_channel carries it. */
  readonly chainHash: Uint8Array;
  /** Depth that the holder waits for as fundee. */
  readonly minimumDepth: number;
  /** The deepest `minimum_depth` that the holder as funder puts up with. */
  readonly maximumMinimumDepth: number;
  /** Blocks that the counterparty waits for its own outputs. */
  readonly toSelfDelayBlocks: number;
  /** The longest delay that the counterparty may ask of the holder. */
  readonly maximumToSelfDelayBlocks: number;
  readonly htlcMinimumMsat: bigint;
  readonly maxAcceptedHtlcs: number;
  /** Share of the channel that may be in flight towards the holder, in percent. */
  readonly inFlightPercentAnnounced: number;
  readonly inFlightPercentUnannounced: number;
  /** Reserve asked of the counterparty, in millionths of the channel, and its floor. */
  readonly reserveMillionths: bigint;
  readonly reserveFloorSat: bigint;
  readonly dustLimitSat: bigint;
  /** The highest dust limit accepted: with anchors, and without. */
  readonly maximumDustLimitAnchorsSat: bigint;
  readonly maximumDustLimitSat: bigint;
  /** Commit to the shutdown script at opening. */
  readonly upfrontShutdownScript: boolean;
  readonly minimumFundingSat: bigint;
  readonly maximumFundingSat: bigint;
  /** The least the counterparty may put into max_htlc_value_in_flight, htlc_minimum, max_accepted_htlcs. */
  readonly minimumInFlightMsat: bigint;
  readonly maximumHtlcMinimumMsat: bigint;
  readonly minimumAcceptedHtlcs: number;
  /** Sum of trimmed HTLCs allowed on a commitment: this many millisatoshis per sat/kW of the limiting feerate. */
  readonly dustExposureFeerateMultiple: bigint;
  /** The funder keeps enough to pay for this multiple of the feerate. BOLT 2: "It is recommended that this 'fee spike buffer' can handle twice the current feerate_per_kw". */
  readonly feeSpikeMultiple: number;
  /** What the funder adds to a closing fee rather than force-close. */
  readonly forceCloseAvoidanceMaxFeeSat: bigint;
}

/** LDK's defaults for a chain. */
export function defaultChannelConfig(chainHash: Uint8Array): ChannelConfig {
  return {
    chainHash,
    minimumDepth: 6,
    maximumMinimumDepth: 144,
    toSelfDelayBlocks: 144,
    maximumToSelfDelayBlocks: 2016,
    htlcMinimumMsat: 1n,
    maxAcceptedHtlcs: 50,
    inFlightPercentAnnounced: 25,
    inFlightPercentUnannounced: 100,
    reserveMillionths: 10_000n,
    reserveFloorSat: 1000n,
    dustLimitSat: 354n,
    maximumDustLimitAnchorsSat: 10_000n,
    maximumDustLimitSat: 546n,
    upfrontShutdownScript: true,
    minimumFundingSat: 1000n,
    maximumFundingSat: MAX_MONEY_SAT,
    minimumInFlightMsat: 0n,
    maximumHtlcMinimumMsat: 1n << 62n,
    minimumAcceptedHtlcs: 1,
    dustExposureFeerateMultiple: 10_000n,
    feeSpikeMultiple: 2,
    forceCloseAvoidanceMaxFeeSat: 1000n,
  };
}
