import type { CloseChannelRequest, CloseChannelResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { invalid, require32 } from './validate.ts';

/** BOLT 2: from P2WPKH's and older scripts' 22 bytes to OP_RETURN with 80 bytes of data. */
const MIN_SCRIPT_LENGTH = 4;
const MAX_SCRIPT_LENGTH = 83;

/** Closes a channel: together with the peer, or alone. */
export async function closeChannel(
  { engine }: ManagerDeps,
  request: CloseChannelRequest,
): Promise<CloseChannelResponse> {
  const channelId = require32('channel_id', request.channelId);
  const { scriptPubkey } = request;
  if (request.force) {
    if (scriptPubkey !== undefined)
      throw invalid('a force close pays to the wallet: leave script_pubkey out, or close without force');
    await engine.closeChannel(channelId, { kind: 'force' });
    return {};
  }
  if (
    scriptPubkey !== undefined &&
    (scriptPubkey.length < MIN_SCRIPT_LENGTH || scriptPubkey.length > MAX_SCRIPT_LENGTH)
  ) {
    throw invalid(
      `script_pubkey must have between ${MIN_SCRIPT_LENGTH} and ${MAX_SCRIPT_LENGTH} bytes; leave it out to close to the wallet`,
    );
  }
  await engine.closeChannel(channelId, { kind: 'cooperative', script: scriptPubkey });
  return {};
}
