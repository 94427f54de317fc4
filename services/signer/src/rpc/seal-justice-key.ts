/** Hands a channel's revocation basepoint secret to a tower that the configuration names, and to no other. */
import type { SealJusticeKeyRequest, SealJusticeKeyResponse } from '@fulmen/proto/signer/v1/signer';
import { equalBytes } from '@fulmen/codec';
import { decoding, fixed } from '../decode.ts';
import { refuse } from '../enforcement/refuse.ts';
import { sealJusticeKey as seal } from '../justice/seal.ts';
import { orRefuse, secretsOf } from '../signer.ts';
import type { Signer } from '../signer.ts';

export async function sealJusticeKey(
  signer: Signer,
  request: SealJusticeKeyRequest,
): Promise<SealJusticeKeyResponse> {
  const operation = 'seal_justice_key';
  const { channelKeysId, towerKey } = orRefuse(
    signer,
    operation,
    decoding(() => ({
      channelKeysId: fixed('channel_keys_id', request.channelKeysId, 32),
      towerKey: fixed('tower_public_key', request.towerPublicKey, 33),
    })),
  );
  // The list is the signer's own: whoever adds a tower in the node's database gets no key by that.
  if (!signer.towerKeys.some((allowed) => equalBytes(allowed, towerKey)))
    return orRefuse(
      signer,
      operation,
      refuse('policy-tower-key', 'this tower is not on the signer’s list (FULMEN_SIGNER_TOWER_KEYS)'),
    );
  const { revocationBasepointSecret } = secretsOf(signer, channelKeysId);
  let ephemeral = signer.runtime.randomBytes(32);
  while (!signer.secp.isSecretKey(ephemeral)) ephemeral = signer.runtime.randomBytes(32);
  return { sealedKey: seal(signer.secp, { channelKeysId, revocationBasepointSecret }, towerKey, ephemeral) };
}
