/**
 * The policy's defaults: nowhere narrower than what the channel core puts up with, for what the core has taken and the
 * signer then refuses is a channel that can only be closed. A refusal is an alarm, not a nuisance.
 */
import { MAX_MONEY_SAT } from '@fulmen/bitcoin';
import {
  MAX_DUST_EXPOSURE_SAT,
  MAX_FEERATE_SAT_PER_KW,
  MIN_DUST_LIMIT_SAT,
  MIN_FEERATE_SAT_PER_KW,
} from '@fulmen/channel/config';
import type { PolicyLimits } from './types.ts';

export const DEFAULT_LIMITS: PolicyLimits = {
  minimumFeerateSatPerKw: MIN_FEERATE_SAT_PER_KW,
  maximumFeerateSatPerKw: MAX_FEERATE_SAT_PER_KW,
  maximumDustExposureSat: MAX_DUST_EXPOSURE_SAT,
  maximumChannelSat: MAX_MONEY_SAT,
  minimumDustLimitSat: MIN_DUST_LIMIT_SAT,
  maximumDustLimitSat: 10_000n,
  minimumCounterpartyDelayBlocks: 6,
  maximumHolderDelayBlocks: 2016,
  allowedScripts: [],
};
