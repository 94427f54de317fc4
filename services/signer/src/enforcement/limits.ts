/** The policy's defaults. They are wider than the manager's own, so that a refusal is an alarm and not a nuisance. */
import { MAX_MONEY_SAT } from '@fulmen/bitcoin';
import { MIN_DUST_LIMIT_SAT, MIN_FEERATE_SAT_PER_KW } from '@fulmen/channel/config';
import type { PolicyLimits } from './types.ts';

export const DEFAULT_LIMITS: PolicyLimits = {
  minimumFeerateSatPerKw: MIN_FEERATE_SAT_PER_KW,
  // 1,000 sat/vB: above every feerate that was ever needed.
  maximumFeerateSatPerKw: 250_000,
  maximumDustExposureSat: 500_000n,
  maximumChannelSat: MAX_MONEY_SAT,
  minimumDustLimitSat: MIN_DUST_LIMIT_SAT,
  maximumDustLimitSat: 10_000n,
  minimumCounterpartyDelayBlocks: 6,
  maximumHolderDelayBlocks: 2016,
  allowedScripts: [],
};
