/** What a channel's core is given with every input: the curve, the node's policy, and answers that the shell cached. */
import type { Secp256k1 } from '@fulmen/crypto';
import type { ChannelConfig } from './config.ts';

/** The fee estimator's answers of this moment, sat per 1000 weight units, each at least 253. */
export interface FeerateEstimates {
  /** LDK `MinAllowedAnchorChannelRemoteFee`. */
  readonly minimumAnchorSatPerKw: number;
  /** LDK `MinAllowedNonAnchorChannelRemoteFee`. */
  readonly minimumNonAnchorSatPerKw: number;
  /** LDK `MaximumFeeEstimate`: bounds dust exposure and what a counterparty may ask for. */
  readonly maximumSatPerKw: number;
  /** LDK `ChannelCloseMinimum`. */
  readonly closeMinimumSatPerKw: number;
  /** LDK `NonAnchorChannelFee`: what a mutual close aims at. */
  readonly closeTargetSatPerKw: number;
}

export interface ChannelContext {
  readonly secp: Secp256k1;
  readonly config: ChannelConfig;
  readonly feerates: FeerateEstimates;
  /**
   * The holder's per-commitment point of this channel, from the shell's cache
   * of what the signer gave. Undefined fails the step with
   * `holder_point_missing`, and the shell fetches and repeats.
   */
  readonly holderPoint: (commitmentNumber: bigint) => Uint8Array | undefined;
}

/** What both nodes agreed on in `init`, as far as a channel cares. */
export interface NegotiatedFeatures {
  readonly largeChannels: boolean;
  readonly anchors: boolean;
  readonly upfrontShutdownScript: boolean;
  readonly shutdownAnySegwit: boolean;
  readonly scidAlias: boolean;
  readonly zeroConf: boolean;
  readonly dualFund: boolean;
}
