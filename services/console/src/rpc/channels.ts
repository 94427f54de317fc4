/** ChannelService: channels, their policies, and what was forwarded through them. */
import type { ChannelServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { refuse } from '../errors.ts';
import { idempotencyKey, listLimit, requireBytes, requireNodeId, requirePositive } from '../validate.ts';
import { command, type ConsoleContext, negotiation, query } from './context.ts';
import { setEveryPolicy } from './every-channel.ts';

/** BOLT 2: the longest script that a shutdown may name is far below this. */
const MAX_SCRIPT_BYTES = 42;

export function channelService(context: ConsoleContext): Handlers<typeof ChannelServiceService> {
  const { guard, managers, settlement, runtime } = context;
  return {
    openChannel: guard.unary(
      {
        name: 'ChannelService.OpenChannel',
        scope: 'channels',
        audit: (
          { nodeId, fundingSat, pushMsat, shutdownScript, zeroConf, idempotencyKey: key },
          response,
        ) => ({
          nodeId,
          fundingSat,
          pushMsat,
          shutdownScript,
          zeroConf,
          key,
          channelId: response?.channelId,
        }),
      },
      (request, call) => {
        requireNodeId(request.nodeId);
        requirePositive('funding_sat', request.fundingSat);
        if (request.pushMsat > request.fundingSat * 1000n)
          throw refuse('invalid_argument', 'push_msat is more than the channel holds.');
        if ((request.shutdownScript?.length ?? 0) > MAX_SCRIPT_BYTES)
          throw refuse('invalid_argument', `shutdown_script is longer than ${MAX_SCRIPT_BYTES} bytes.`);
        const keyed = {
          ...request,
          idempotencyKey: idempotencyKey(request.idempotencyKey, runtime.randomBytes),
        };
        return managers.run((client, options) => client.openChannel(keyed, options), negotiation(call));
      },
    ),
    closeChannel: guard.unary(
      {
        name: 'ChannelService.CloseChannel',
        scope: 'channels',
        audit: ({ channelId, force, scriptPubkey, feerateSatPerKw, maxFeerateSatPerKw }) => ({
          channelId,
          force,
          scriptPubkey,
          feerateSatPerKw,
          maxFeerateSatPerKw,
        }),
      },
      (request, call) => {
        requireBytes('channel_id', request.channelId, 32);
        if ((request.scriptPubkey?.length ?? 0) > MAX_SCRIPT_BYTES)
          throw refuse('invalid_argument', `script_pubkey is longer than ${MAX_SCRIPT_BYTES} bytes.`);
        return managers.run((client, options) => client.closeChannel(request, options), negotiation(call));
      },
    ),
    listChannels: guard.unary({ name: 'ChannelService.ListChannels', scope: 'read' }, (request, call) =>
      managers.run((client, options) => client.listChannels(request, options), query(call)),
    ),
    listClosingChannels: guard.unary(
      { name: 'ChannelService.ListClosingChannels', scope: 'read' },
      ({ includeResolved, limit }, call) => {
        const bounded = { includeResolved, limit: listLimit(limit) };
        return settlement.run((client, options) => client.listClosingChannels(bounded, options), query(call));
      },
    ),
    updateChannelPolicy: guard.unary(
      {
        name: 'ChannelService.UpdateChannelPolicy',
        scope: 'channels',
        audit: (
          {
            channelId,
            feeBaseMsat,
            feeProportionalMillionths,
            cltvExpiryDelta,
            htlcMinimumMsat,
            htlcMaximumMsat,
          },
          response,
        ) => ({
          channelId,
          feeBaseMsat,
          feeProportionalMillionths,
          cltvExpiryDelta,
          htlcMinimumMsat,
          htlcMaximumMsat,
          channels: response?.channels,
          notSet: response?.notSet.length,
        }),
      },
      (request, call) => {
        if (request.channelId.length === 0) return setEveryPolicy(context, request, call);
        requireBytes('channel_id', request.channelId, 32);
        return managers.run((client, options) => client.updateChannelPolicy(request, options), command(call));
      },
    ),
    listForwards: guard.unary({ name: 'ChannelService.ListForwards', scope: 'read' }, ({ limit }, call) => {
      const bounded = { limit: listLimit(limit) };
      return managers.run((client, options) => client.listForwards(bounded, options), query(call));
    }),
  };
}
