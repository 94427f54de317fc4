/** A mutual close. */
import type { SignClosingRequest, SignClosingResponse } from '@fulmen/proto/signer/v1/signer';
import { sha256 } from '@fulmen/crypto';
import * as decode from '../decode.ts';
import { signClosing } from '../enforcement/closing.ts';
import { checkShard, contextOf, orRefuse, runUnary, shutdownScript, unregistered } from '../signer.ts';
import type { Signer } from '../signer.ts';

export async function closing(signer: Signer, request: SignClosingRequest): Promise<SignClosingResponse> {
  const operation = 'sign_closing';
  const decoded = orRefuse(
    signer,
    operation,
    decode.decoding(() => ({
      channelKeysId: decode.fixed('channel_keys_id', request.channelKeysId, 32),
      shard: decode.shard(request.shard),
      epoch: decode.epoch(request.epoch),
      closing: {
        toHolderSat: request.toHolderSat,
        toCounterpartySat: request.toCounterpartySat,
        feeSat: request.feeSat,
        holderScript: decode.script('holder_script', request.holderScript),
        counterpartyScript: decode.script('counterparty_script', request.counterpartyScript),
      },
    })),
  );
  const { channelKeysId } = decoded;
  return runUnary<SignClosingResponse>(signer, operation, {
    priority: 'channel',
    channelKeysId,
    evaluate: (view) => {
      const { channel } = view;
      if (channel === undefined) return unregistered();
      const allowed = checkShard(view, channel, decoded);
      if (!allowed.ok) return allowed;
      const signed = signClosing(
        contextOf(signer, channelKeysId),
        channel,
        decoded.closing,
        shutdownScript(signer, channelKeysId),
      );
      if (!signed.ok) return signed;
      const { state, signature } = signed.value;
      const audit = { operation, channelKeysId, detail: sha256(signature) } as const;
      return {
        ok: true,
        value: { answer: { signature }, audit, ...(state === channel ? {} : { channel: state }) },
      };
    },
  });
}
