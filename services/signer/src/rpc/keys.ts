/** The RPCs that give public keys or shared secrets and change nothing. */
import type {
  EcdhRequest,
  EcdhResponse,
  GetDerivedSecretRequest,
  GetDerivedSecretResponse,
  GetNodeResponse,
  GetPerCommitmentPointsRequest,
  GetPerCommitmentPointsResponse,
  NewChannelKeysRequest,
  NewChannelKeysResponse,
} from '@fulmen/proto/signer/v1/signer';
import { utf8Encode } from '@fulmen/codec';
import { hkdfSha256 } from '@fulmen/crypto';
import { commitmentPoint, holderBasepoints } from '@fulmen/keys';
import type { KeyTree } from '@fulmen/keys';
import { RpcError } from '@fulmen/rpc';
import { commitmentNumber, decoding, fixed } from '../decode.ts';
import { refuse } from '../enforcement/refuse.ts';
import { isAllowedScript } from '../enforcement/registration.ts';
import { POINTS_IN_ANSWER } from '../enforcement/sign-item.ts';
import { orRefuse, secretsOf, shutdownScript } from '../signer.ts';
import type { Signer } from '../signer.ts';

/** Who the node is. */
export async function getNode(signer: Signer): Promise<GetNodeResponse> {
  return {
    nodeId: signer.keys.nodeId,
    network: signer.network.name,
    keyScheme: signer.keys.keyScheme,
    health: signer.health.state,
  };
}

/** For transport handshakes: rate-limited, for anyone on the internet can cause one. */
export async function ecdh(signer: Signer, request: EcdhRequest): Promise<EcdhResponse> {
  if (signer.ecdhBucket.take(signer.runtime.monotonicMs()) === 'empty')
    throw new RpcError('resource_exhausted', 'too many handshakes');
  const publicKey = orRefuse(
    signer,
    'ecdh',
    decoding(() => fixed('public_key', request.publicKey, 33)),
  );
  if (!signer.secp.isPublicKey(publicKey))
    return orRefuse(signer, 'ecdh', refuse('policy-malformed-request', 'not a point of the curve'));
  return { sharedSecret: signer.secp.ecdh(publicKey, signer.keys.nodeSecret) };
}

/** The public keys of a channel to be. */
export async function newChannelKeys(
  signer: Signer,
  request: NewChannelKeysRequest,
): Promise<NewChannelKeysResponse> {
  const channelKeysId = orRefuse(
    signer,
    'new_channel_keys',
    decoding(() => fixed('channel_keys_id', request.channelKeysId, 32)),
  );
  const walletScript = shutdownScript(signer, channelKeysId);
  const asked = request.shutdownScript;
  if (asked !== undefined && !isAllowedScript(signer.limits, walletScript, asked))
    orRefuse(
      signer,
      'new_channel_keys',
      refuse(
        'policy-channel-shutdown-script',
        'the shutdown script is not the wallet’s, and not among FULMEN_SIGNER_ALLOWED_SCRIPTS',
      ),
    );
  const secrets = secretsOf(signer, channelKeysId);
  return {
    ...holderBasepoints(signer.secp, secrets),
    perCommitmentPoints: Array.from({ length: POINTS_IN_ANSWER }, (_, i) =>
      commitmentPoint(signer.secp, secrets.perCommitmentSeed, BigInt(i)),
    ),
    shutdownScript: asked ?? walletScript,
  };
}

/** Purposes, and the key of the tree that each comes from. None of these keys signs. */
const DERIVED: Readonly<Record<string, (keys: KeyTree) => Uint8Array>> = {
  'inbound-payment': (keys) => keys.inboundPaymentKey,
  'peer-storage': (keys) => keys.peerStorageKey,
  'lsps2-promise': (keys) => keys.inboundPaymentKey,
  offers: (keys) => keys.offersKey,
};

export async function getDerivedSecret(
  signer: Signer,
  request: GetDerivedSecretRequest,
): Promise<GetDerivedSecretResponse> {
  const root = Object.hasOwn(DERIVED, request.purpose) ? DERIVED[request.purpose] : undefined;
  if (root === undefined)
    return orRefuse(
      signer,
      'get_derived_secret',
      refuse('policy-derived-secret', `no secret has the purpose "${request.purpose.slice(0, 32)}"`),
    );
  return {
    secret: hkdfSha256(root(signer.keys), new Uint8Array(0), utf8Encode(`fulmen ${request.purpose}`), 32),
  };
}

const MAX_POINTS = 16;

/** Points of holder commitments, which are public, of any number. */
export async function getPerCommitmentPoints(
  signer: Signer,
  request: GetPerCommitmentPointsRequest,
): Promise<GetPerCommitmentPointsResponse> {
  const operation = 'get_per_commitment_points';
  if (request.commitmentNumbers.length > MAX_POINTS)
    throw new RpcError('invalid_argument', `at most ${MAX_POINTS} points at once`);
  const { channelKeysId, numbers } = orRefuse(
    signer,
    operation,
    decoding(() => ({
      channelKeysId: fixed('channel_keys_id', request.channelKeysId, 32),
      numbers: request.commitmentNumbers.map(commitmentNumber),
    })),
  );
  const { perCommitmentSeed } = secretsOf(signer, channelKeysId);
  return { points: numbers.map((number) => commitmentPoint(signer.secp, perCommitmentSeed, number)) };
}
