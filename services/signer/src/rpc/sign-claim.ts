/** Claims of what a closed channel left on-chain; served before all other work. */
import type { Htlc as WireHtlc, SignClaimRequest, SignClaimResponse } from '@fulmen/proto/signer/v1/signer';
import { decodeTx } from '@fulmen/bitcoin';
import { equalBytes, ok } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import * as decode from '../decode.ts';
import { signClaim } from '../enforcement/claim.ts';
import type { ClaimRequest, ClaimedOutput } from '../enforcement/claim.ts';
import { contextOf, orRefuse, runUnary, shutdownScript, unregistered } from '../signer.ts';
import type { Signer } from '../signer.ts';
import { walletKeyOf } from '../wallet/paths.ts';

const MAX_ORIGINS = 500;

interface DecodedClaim extends ClaimRequest {
  readonly channelKeysId: Uint8Array;
  readonly paths: ReadonlyMap<number, readonly number[]>;
}

export async function claim(signer: Signer, request: SignClaimRequest): Promise<SignClaimResponse> {
  const operation = 'sign_claim';
  const decoded = orRefuse(
    signer,
    operation,
    decode.decoding(() => decodeClaim(request)),
  );
  const { channelKeysId } = decoded;
  return runUnary<SignClaimResponse>(signer, operation, {
    priority: 'claim',
    channelKeysId,
    evaluate: ({ channel }) => {
      if (channel === undefined) return unregistered();
      const upfront = channel.registration.holder.upfrontShutdownScript;
      const known = [
        shutdownScript(signer, channelKeysId),
        ...signer.limits.allowedScripts,
        ...(upfront === undefined ? [] : [upfront]),
      ];
      const isOwn = (index: number, script: Uint8Array): boolean =>
        known.some((one) => equalBytes(one, script)) || isWallet(signer, script, decoded.paths.get(index));
      const { transaction, inputIndex, spentValueSat } = decoded;
      const saidSat = new Map([[inputIndex, spentValueSat]]);
      const signed = signClaim(
        {
          ...contextOf(signer, channelKeysId),
          maximumFeeSat: signer.onchain.maximumFeeSat,
          otherInputsSat: signer.inputSums.totalSat(transaction, saidSat) - spentValueSat,
          isOwn,
        },
        channel.registration,
        decoded,
      );
      if (!signed.ok) return signed;
      signer.inputSums.add(transaction, saidSat);
      const { signature, publicKey, witnessScript = new Uint8Array(0) } = signed.value;
      return ok({
        answer: { signature, publicKey, witnessScript },
        audit: { operation, channelKeysId, detail: sha256(signature) } as const,
      });
    },
  });
}

function isWallet({ secp, keys }: Signer, script: Uint8Array, path: readonly number[] | undefined): boolean {
  return (
    path !== undefined &&
    walletKeyOf(secp, keys, script, [{ fingerprint: keys.masterFingerprint, path }]) !== undefined
  );
}

function decodeClaim(request: SignClaimRequest): DecodedClaim {
  const transaction = decodeTx(Uint8Array.from(request.transaction));
  if (!transaction.ok) throw new decode.MalformedRequestError(transaction.error.message);
  if (request.outputOrigins.length > MAX_ORIGINS) throw new decode.MalformedRequestError('too many origins');
  return {
    channelKeysId: decode.fixed('channel_keys_id', request.channelKeysId, 32),
    transaction: transaction.value,
    inputIndex: request.inputIndex,
    spentValueSat: decode.satoshis('spent_value_sat', request.spentValueSat),
    output: decodeOutput(request.output),
    paths: new Map(request.outputOrigins.map(({ outputIndex, path }) => [outputIndex, path])),
  };
}

function htlcOf(htlc: WireHtlc | undefined) {
  if (htlc === undefined) throw new decode.MalformedRequestError('no HTLC');
  return decode.decodeHtlc(htlc);
}

function decodeOutput(output: SignClaimRequest['output']): ClaimedOutput {
  switch (output?.$case) {
    case undefined:
      throw new decode.MalformedRequestError('no output is named');
    case 'holderDelayed':
      return {
        type: 'holder_delayed',
        commitmentNumber: decode.commitmentNumber(output.value.commitmentNumber),
      };
    case 'holderHtlc':
      return {
        type: 'holder_htlc',
        commitmentNumber: decode.commitmentNumber(output.value.commitmentNumber),
        htlc: htlcOf(output.value.htlc),
      };
    case 'counterpartyHtlc':
      return {
        type: 'counterparty_htlc',
        perCommitmentPoint: decode.fixed('per_commitment_point', output.value.perCommitmentPoint, 33),
        htlc: htlcOf(output.value.htlc),
      };
    case 'counterpartyBalance':
      return { type: 'counterparty_balance' };
    case 'revokedDelayed':
      return {
        type: 'revoked_delayed',
        perCommitmentSecret: decode.fixed('per_commitment_secret', output.value.perCommitmentSecret, 32),
      };
    case 'revokedHtlc':
      return {
        type: 'revoked_htlc',
        perCommitmentSecret: decode.fixed('per_commitment_secret', output.value.perCommitmentSecret, 32),
        htlc: htlcOf(output.value.htlc),
      };
    case 'anchor':
      return { type: 'anchor' };
  }
}
