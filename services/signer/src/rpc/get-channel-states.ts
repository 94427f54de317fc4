/** The signer's numbers, with which a new owner of a shard compares its own. */
import type {
  GetChannelStatesRequest,
  GetChannelStatesResponse,
  SignerChannelState as WireState,
} from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import { decoding, fixed } from '../decode.ts';
import { holderPoints } from '../enforcement/sign-item.ts';
import type { SignerChannelState } from '../enforcement/types.ts';
import { LaneUnavailableError } from '../lane.ts';
import { contextOf, orRefuse } from '../signer.ts';
import type { Signer } from '../signer.ts';

const MAX_CHANNELS = 1_000;

export async function getChannelStates(
  signer: Signer,
  request: GetChannelStatesRequest,
): Promise<GetChannelStatesResponse> {
  if (request.channelKeysIds.length > MAX_CHANNELS)
    throw new RpcError('invalid_argument', `at most ${MAX_CHANNELS} channels at once`);
  const ids = orRefuse(
    signer,
    'get_channel_states',
    decoding(() => request.channelKeysIds.map((id) => fixed('channel_keys_id', id, 32))),
  );
  try {
    // Through the lane, so that what is answered is durable, and comes after every request before it.
    return { states: await Promise.all(ids.map((id) => readState(signer, id))) };
  } catch (error) {
    if (error instanceof LaneUnavailableError) throw new RpcError('unavailable', error.message);
    throw error;
  }
}

function readState(signer: Signer, channelKeysId: Uint8Array): Promise<WireState> {
  return signer.lane.submit({
    priority: 'channel',
    channelKeysId,
    evaluate: ({ channel }) => ({ answer: toWire(signer, channelKeysId, channel) }),
  });
}

function toWire(signer: Signer, channelKeysId: Uint8Array, state: SignerChannelState | undefined): WireState {
  const points = holderPoints(contextOf(signer, channelKeysId), state ?? { nextHolderRevocation: 0n });
  return {
    channelKeysId,
    registered: state !== undefined,
    nextHolderCommitment: state?.nextHolderCommitment ?? 0n,
    nextHolderRevocation: state?.nextHolderRevocation ?? 0n,
    nextCounterpartyCommitment: state?.nextCounterpartyCommitment ?? 0n,
    nextCounterpartyRevocation: state?.secrets.count ?? 0n,
    closing: state !== undefined && (state.lock.type === 'closing' || state.lock.type === 'frozen'),
    firstPointNumber: points.firstPointNumber,
    perCommitmentPoints: [...points.perCommitmentPoints],
  };
}
