/** A force close: locks the channel, then gives the holder's commitment ready to broadcast. */
import type {
  SignHolderCommitmentRequest,
  SignHolderCommitmentResponse,
} from '@fulmen/proto/signer/v1/signer';
import { sha256 } from '@fulmen/crypto';
import { decodeHolderCommitment, decoding, fixed } from '../decode.ts';
import { signHolderCommitment } from '../enforcement/holder-commitment.ts';
import { contextOf, orRefuse, runUnary, unregistered } from '../signer.ts';
import type { Signer } from '../signer.ts';

export async function holderCommitment(
  signer: Signer,
  request: SignHolderCommitmentRequest,
): Promise<SignHolderCommitmentResponse> {
  const operation = 'sign_holder_commitment';
  const { channelKeysId, commitment } = orRefuse(
    signer,
    operation,
    decoding(() => ({
      channelKeysId: fixed('channel_keys_id', request.channelKeysId, 32),
      commitment: decodeHolderCommitment(request.holderCommitment),
    })),
  );
  return runUnary<SignHolderCommitmentResponse>(signer, operation, {
    priority: 'claim',
    channelKeysId,
    weight: 1 + commitment.spec.htlcs.length,
    evaluate: ({ channel }) => {
      if (channel === undefined) return unregistered();
      const signed = signHolderCommitment(contextOf(signer, channelKeysId), channel, commitment);
      if (!signed.ok) return signed;
      const { state, transaction } = signed.value;
      if (state === channel) return { ok: true, value: { answer: { transaction } } };
      return {
        ok: true,
        value: {
          answer: { transaction },
          channel: state,
          audit: { operation, channelKeysId, detail: sha256(transaction) },
        },
      };
    },
  });
}
