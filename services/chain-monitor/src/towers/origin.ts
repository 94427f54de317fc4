/** What a tower checks of a channel before it takes anything of it. */
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { equalBytes } from '@fulmen/codec';
import { decodeMonitorParameters, type MonitorParameters } from '@fulmen/monitor';
import type { JusticeSignerServiceService, MonitorOrigin } from '@fulmen/proto/tower/v1/tower';
import { type Client, RpcError } from '@fulmen/rpc';
import type { ReceivedOrigin, ReceivedWatch } from '@fulmen/store/tower/tower-store';

export type JusticeClient = Client<JusticeSignerServiceService>;

/** What came does not make sense together with what is here. */
export class FeedFaultError extends Error {
  override readonly name = 'FeedFaultError';
}

/**
 * What a channel is born with: its key must open before anything of it is acknowledged.
 * @throws FeedFaultError; RpcError when the justice signer cannot say
 */
export async function checkOrigin(
  justice: Pick<JusticeClient, 'checkKey'>,
  channelId: Uint8Array,
  wire: MonitorOrigin,
): Promise<{ readonly origin: ReceivedOrigin; readonly watch: ReceivedWatch }> {
  const parameters = Uint8Array.from(wire.parameters);
  const sealedKey = Uint8Array.from(wire.sealedKey);
  const decoded = decodeMonitorParameters(parameters);
  if (!decoded.ok) throw new FeedFaultError(`the parameters do not decode: ${decoded.error.message}`);
  if (!equalBytes(decoded.value.channelId, channelId))
    throw new FeedFaultError('the parameters are of another channel');
  try {
    await justice.checkKey({ parameters, sealedKey });
  } catch (error) {
    if (error instanceof RpcError && error.code === 'permission_denied')
      throw new FeedFaultError(`the justice signer: ${error.message}`);
    throw error;
  }
  return { origin: { channelId, parameters, sealedKey }, watch: watchOf(decoded.value) };
}

function watchOf({ channelId, fundings }: MonitorParameters): ReceivedWatch {
  const [funding] = fundings;
  if (funding === undefined) throw new FeedFaultError('a channel without a funding');
  return {
    channelId,
    fundingTxid: funding.fundingTxid,
    fundingOutputIndex: funding.fundingOutputIndex,
    fundingValueSat: funding.fundingValueSat,
    scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
  };
}
