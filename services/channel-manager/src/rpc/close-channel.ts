import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import { MAX_FEERATE_SAT_PER_KW } from '@fulmen/channel';
import type { CloseChannelRequest, CloseChannelResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { invalid, require32, requireScript } from './validate.ts';

/** Closes a channel: together with the peer, or alone. */
export async function closeChannel(
  { engine }: ManagerDeps,
  request: CloseChannelRequest,
): Promise<CloseChannelResponse> {
  const channelId = require32('channel_id', request.channelId);
  const { scriptPubkey, feerateSatPerKw, maxFeerateSatPerKw } = request;
  if (request.force) {
    if (feerateSatPerKw !== undefined || maxFeerateSatPerKw !== undefined)
      throw invalid(
        'a commitment has the feerate it was signed with: leave feerate_sat_per_kw and max_feerate_sat_per_kw out',
      );
    if (scriptPubkey !== undefined)
      throw invalid('a force close pays to the wallet: leave script_pubkey out, or close without force');
    await engine.closeChannel(channelId, { kind: 'force' });
    return {};
  }
  const script =
    scriptPubkey === undefined ? undefined : requireScript('script_pubkey', scriptPubkey, 'the wallet');
  const feerates = {
    ...(feerateSatPerKw !== undefined && { targetSatPerKw: feerate('feerate_sat_per_kw', feerateSatPerKw) }),
    ...(maxFeerateSatPerKw !== undefined && {
      maximumSatPerKw: feerate('max_feerate_sat_per_kw', maxFeerateSatPerKw),
    }),
  };
  const isFree = feerateSatPerKw === undefined && maxFeerateSatPerKw === undefined;
  await engine.closeChannel(channelId, {
    kind: 'cooperative',
    script,
    feerates: isFree ? undefined : feerates,
  });
  return {};
}

function feerate(name: string, satPerKw: number): number {
  if (satPerKw < FEERATE_FLOOR_SAT_PER_KW || satPerKw > MAX_FEERATE_SAT_PER_KW)
    throw invalid(
      `${name} must be between ${FEERATE_FLOOR_SAT_PER_KW} and ${MAX_FEERATE_SAT_PER_KW} sat per 1000 weight units`,
    );
  return satPerKw;
}
