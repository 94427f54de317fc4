/**
 * The signer of a tower, composed from its ports. It keeps nothing: each request
 * brings the sealed key of its channel, which is opened, used and dropped.
 */
import { JusticeSignerServiceService } from '@fulmen/proto/tower/v1/tower';
import type { SignJusticeRequest, SignJusticeResponse } from '@fulmen/proto/tower/v1/tower';
import { toHex } from '@fulmen/codec';
import { RpcError, type RpcServer } from '@fulmen/rpc';
import type { Logger, Metrics, RunningService } from '@fulmen/service';
import { type JusticeKeys, openKey, type RevokedOutput, signJustice } from './sign.ts';

export interface JusticeSignerPorts {
  readonly rpcServer: RpcServer;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export async function startJusticeSigner(
  keys: JusticeKeys,
  { rpcServer, logger, metrics }: JusticeSignerPorts,
): Promise<RunningService> {
  const publicKey = keys.secp.publicKeyOf(keys.secret);
  const signed = metrics.counter(
    'justice_signatures_total',
    'Inputs signed that punish a revoked commitment',
  );
  const refused = metrics.counter('justice_refusals_total', 'Requests of a tower that were refused');
  rpcServer.add(JusticeSignerServiceService, {
    getJusticeNode: async () => ({ publicKey, destinationScript: keys.destinationScript }),
    checkKey: async (request) => {
      const opened = openKey(keys, {
        parameters: Uint8Array.from(request.parameters),
        sealedKey: Uint8Array.from(request.sealedKey),
      });
      if (!opened.ok)
        throw new RpcError('permission_denied', opened.error.reason, {
          'fulmen-policy': opened.error.policy,
        });
      return {};
    },
    signJustice: async (request: SignJusticeRequest): Promise<SignJusticeResponse> => {
      const result = signJustice(keys, {
        transaction: Uint8Array.from(request.transaction),
        inputs: request.inputs.map(inputOf),
      });
      if (!result.ok) {
        const { policy, reason } = result.error;
        refused.inc();
        logger.warn({ policy, reason }, 'a claim was refused');
        throw new RpcError('permission_denied', reason, { 'fulmen-policy': policy });
      }
      signed.inc(result.value.length);
      logger.info({ inputs: result.value.length }, 'justice was signed');
      return { signatures: [...result.value] };
    },
  });
  const address = await rpcServer.listen();
  logger.info({ publicKey: toHex(publicKey), address }, 'justice signer serves');
  return {
    address,
    failed: new Promise(() => undefined),
    stop: () => rpcServer.stop(2_000),
  };
}

function inputOf(input: SignJusticeRequest['inputs'][number]): RevokedOutput {
  const { htlc } = input;
  return {
    parameters: Uint8Array.from(input.parameters),
    sealedKey: Uint8Array.from(input.sealedKey),
    valueSat: input.valueSat,
    perCommitmentSecret: Uint8Array.from(input.perCommitmentSecret),
    htlc:
      htlc === undefined
        ? undefined
        : {
            direction: htlc.outbound ? 'outbound' : 'inbound',
            paymentHash: Uint8Array.from(htlc.paymentHash),
            cltvExpiryHeight: htlc.cltvExpiryHeight,
          },
  };
}
