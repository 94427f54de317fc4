import type {
  UpdateChannelPolicyRequest,
  UpdateChannelPolicyResponse,
} from '@fulmen/proto/manager/v1/manager';
import type { PolicyChange } from '../engine/api.ts';
import type { ManagerDeps } from './deps.ts';
import { invalid, MAX_MSAT, MAX_U32, require32, requireAmount, requireRange } from './validate.ts';

/** BOLT 7's field has 16 bits; a forward could never meet more than two weeks of it. */
const MAX_CLTV_EXPIRY_DELTA = 2_016;
/** LDK's MIN_CLTV_EXPIRY_DELTA: below, an upstream HTLC might expire before the downstream one is settled on-chain. */
const MIN_CLTV_EXPIRY_DELTA = 48;

/** Changes what forwards over one channel cost. */
export async function updateChannelPolicy(
  { engine }: ManagerDeps,
  request: UpdateChannelPolicyRequest,
): Promise<UpdateChannelPolicyResponse> {
  const channelId = require32('channel_id', request.channelId);
  const { feeBaseMsat, feeProportionalMillionths, cltvExpiryDelta, htlcMinimumMsat, htlcMaximumMsat } =
    request;
  const change: PolicyChange = {
    ...(feeBaseMsat === undefined
      ? {}
      : { feeBaseMsat: requireRange('fee_base_msat', feeBaseMsat, 0, MAX_U32) }),
    ...(feeProportionalMillionths === undefined
      ? {}
      : {
          feeProportionalMillionths: requireRange(
            'fee_proportional_millionths',
            feeProportionalMillionths,
            0,
            MAX_U32,
          ),
        }),
    ...(cltvExpiryDelta === undefined
      ? {}
      : {
          cltvExpiryDelta: requireRange(
            'cltv_expiry_delta',
            cltvExpiryDelta,
            MIN_CLTV_EXPIRY_DELTA,
            MAX_CLTV_EXPIRY_DELTA,
          ),
        }),
    ...(htlcMinimumMsat === undefined
      ? {}
      : { htlcMinimumMsat: requireAmount('htlc_minimum_msat', htlcMinimumMsat, 0n, MAX_MSAT) }),
    ...(htlcMaximumMsat === undefined
      ? {}
      : { htlcMaximumMsat: requireAmount('htlc_maximum_msat', htlcMaximumMsat, 1n, MAX_MSAT) }),
  };
  if (Object.keys(change).length === 0)
    throw invalid('nothing to change: give at least one of the policy’s fields');
  if (htlcMinimumMsat !== undefined && htlcMaximumMsat !== undefined && htlcMinimumMsat > htlcMaximumMsat) {
    throw invalid('htlc_minimum_msat must not exceed htlc_maximum_msat');
  }
  await engine.updatePolicy(channelId, change);
  return { channels: 1, notSet: [] };
}
