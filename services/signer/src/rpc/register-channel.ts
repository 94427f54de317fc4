/** Fixes a channel's parameters for life. */
import type { RegisterChannelRequest, RegisterChannelResponse } from '@fulmen/proto/signer/v1/signer';
import { sha256 } from '@fulmen/crypto';
import { decodeRegistration, decoding } from '../decode.ts';
import { encodeRegistration } from '../enforcement/codec.ts';
import { fenced } from '../enforcement/refuse.ts';
import { registerChannel } from '../enforcement/registration.ts';
import { contextOf, orRefuse, runUnary, shutdownScript } from '../signer.ts';
import type { Signer } from '../signer.ts';

export async function register(
  signer: Signer,
  request: RegisterChannelRequest,
): Promise<RegisterChannelResponse> {
  const { registration, epoch } = orRefuse(
    signer,
    'register_channel',
    decoding(() => decodeRegistration(request)),
  );
  const { channelKeysId } = registration;
  return runUnary<RegisterChannelResponse>(signer, 'register_channel', {
    priority: 'channel',
    channelKeysId,
    evaluate: (view) => {
      const fence = view.fenceOf(registration.shard);
      if (epoch < fence) return fenced(epoch, fence);
      const ctx = {
        ...contextOf(signer, channelKeysId),
        nodeId: signer.keys.nodeId,
        walletScript: shutdownScript(signer, channelKeysId),
      };
      const registered = registerChannel(
        ctx,
        view.channel,
        registration,
        request.restored ? 'restored' : 'new',
      );
      if (!registered.ok) return registered;
      if (registered.value === view.channel) return { ok: true, value: { answer: {} } };
      const detail = sha256(encodeRegistration(registration));
      const operation = request.restored ? ('restore_channel' as const) : ('register_channel' as const);
      return {
        ok: true,
        value: {
          answer: {},
          channel: registered.value,
          audit: { operation, channelKeysId, detail },
        },
      };
    },
  });
}
