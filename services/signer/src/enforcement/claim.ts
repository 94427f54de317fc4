/**
 * Claims: the outputs of a commitment that is on-chain. The signer rebuilds
 * the script of the spent output from the registered parameters, and lets the
 * money go nowhere but home; so a claim of an output that does not exist
 * gives a signature that is worth nothing.
 */
import { SIGHASH, p2pkhScript, p2wshScript, segwitV0Sighash } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { commitmentKeysOf, otherParty } from '@fulmen/channel/commitment/build';
import { htlcSide } from '@fulmen/channel/commitment/fees';
import { commitmentFormat } from '@fulmen/channel/commitment/format';
import { anchorScript } from '@fulmen/channel/commitment/scripts/anchor';
import { toLocalScript } from '@fulmen/channel/commitment/scripts/to-local';
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import type { CommitmentHtlc } from '@fulmen/channel/commitment-spec';
import { assertNever, equalBytes, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { hash160 } from '@fulmen/crypto';
import { commitmentPoint, derivePrivateKey, deriveRevocationPrivateKey } from '@fulmen/keys';
import type { EnforcementContext } from './commitments.ts';
import { refuse } from './refuse.ts';
import type { ChannelRegistration, Refusal } from './types.ts';

/** Which output is claimed. */
export type ClaimedOutput =
  | { readonly type: 'holder_delayed'; readonly commitmentNumber: bigint }
  | { readonly type: 'holder_htlc'; readonly commitmentNumber: bigint; readonly htlc: CommitmentHtlc }
  | {
      readonly type: 'counterparty_htlc';
      readonly perCommitmentPoint: Uint8Array;
      readonly htlc: CommitmentHtlc;
    }
  | { readonly type: 'counterparty_balance' }
  | { readonly type: 'revoked_delayed'; readonly perCommitmentSecret: Uint8Array }
  | { readonly type: 'revoked_htlc'; readonly perCommitmentSecret: Uint8Array; readonly htlc: CommitmentHtlc }
  | { readonly type: 'anchor' };

export interface ClaimRequest {
  readonly transaction: Tx;
  readonly inputIndex: number;
  readonly spentValueSat: bigint;
  readonly output: ClaimedOutput;
}

export interface ClaimSignature {
  readonly signature: Uint8Array;
  readonly publicKey: Uint8Array;
  /** Undefined for P2WPKH. */
  readonly witnessScript: Uint8Array | undefined;
}

export interface ClaimContext extends EnforcementContext {
  /** Highest fee of a claim. */
  readonly maximumFeeSat: bigint;
  /** What other inputs of the same transaction spend, as far as they were signed for before. */
  readonly otherInputsSat: bigint;
  /** Whether a script of the transaction's output is the wallet's. */
  readonly isOwn: (outputIndex: number, script: Uint8Array) => boolean;
}

interface Spent {
  readonly secretKey: Uint8Array;
  /** Undefined for P2WPKH. */
  readonly witnessScript: Uint8Array | undefined;
}

/** Signs, or refuses a transaction that pays anybody else. */
export function signClaim(
  ctx: ClaimContext,
  registration: ChannelRegistration,
  request: ClaimRequest,
): Result<ClaimSignature, Refusal> {
  const { transaction, inputIndex, spentValueSat, output } = request;
  if (inputIndex >= transaction.inputs.length)
    return refuse('policy-malformed-request', 'there is no such input');
  const valid = checkScalars(ctx, output);
  if (!valid.ok) return valid;
  const paid = checkDestinations(ctx, registration, request);
  if (!paid.ok) return paid;
  const { secretKey, witnessScript } = spentOutput(ctx, registration, output);
  const publicKey = ctx.secp.publicKeyOf(secretKey);
  const scriptCode = witnessScript ?? p2pkhScript(hash160(publicKey));
  const sighash = segwitV0Sighash(transaction, inputIndex, scriptCode, spentValueSat, SIGHASH.ALL);
  return ok({ signature: ctx.secp.sign(sighash, secretKey), publicKey, witnessScript });
}

function checkScalars({ secp }: EnforcementContext, output: ClaimedOutput): Result<void, Refusal> {
  if ('perCommitmentSecret' in output && !secp.isSecretKey(output.perCommitmentSecret))
    return refuse('policy-malformed-request', 'the per-commitment secret is no scalar');
  if ('perCommitmentPoint' in output && !secp.isPublicKey(output.perCommitmentPoint))
    return refuse('policy-malformed-request', 'the per-commitment point is not on the curve');
  return ok(undefined);
}

function checkDestinations(
  ctx: ClaimContext,
  registration: ChannelRegistration,
  { transaction, spentValueSat, output }: ClaimRequest,
): Result<void, Refusal> {
  // A second stage pays the holder's own delayed output. If the state were revoked it would be lost anyway, second stage or not.
  const delayed =
    output.type === 'holder_htlc'
      ? holderDelayedScriptPubKey(ctx, registration, output.commitmentNumber)
      : undefined;
  let outSat = 0n;
  for (const [index, { script, valueSat }] of transaction.outputs.entries()) {
    outSat += valueSat;
    if (ctx.isOwn(index, script) || (delayed !== undefined && equalBytes(script, delayed))) continue;
    return refuse('policy-claim-destination', `output ${index} does not pay the wallet`);
  }
  if (transaction.outputs.length === 0) return refuse('policy-claim-output', 'the claim pays nobody');
  // Whatever else the transaction spends, this much of it would not come home.
  const lostSat = ctx.otherInputsSat + spentValueSat - outSat;
  if (lostSat > ctx.maximumFeeSat)
    return refuse('policy-onchain-fee-range', `fee of at least ${lostSat} sat`);
  return ok(undefined);
}

/** Where the holder's second stages of a commitment pay: its own delayed output. */
export function holderDelayedScriptPubKey(
  ctx: EnforcementContext,
  registration: ChannelRegistration,
  commitmentNumber: bigint,
): Uint8Array {
  return p2wshScript(delayedScript(ctx, registration, 'holder', holderPoint(ctx, commitmentNumber)));
}

function holderPoint(ctx: EnforcementContext, commitmentNumber: bigint): Uint8Array {
  return commitmentPoint(ctx.secp, ctx.secrets.perCommitmentSeed, commitmentNumber);
}

function delayedScript(
  ctx: EnforcementContext,
  registration: ChannelRegistration,
  owner: CommitmentOwner,
  perCommitmentPoint: Uint8Array,
): Uint8Array {
  const keys = commitmentKeysOf(ctx.secp, { parameters: registration, owner, perCommitmentPoint });
  const delayBlocks = registration[otherParty(owner)].toSelfDelayBlocks;
  return toLocalScript({
    revocationPubkey: keys.revocationPubkey,
    delayedPubkey: keys.broadcasterDelayedPubkey,
    delayBlocks,
  });
}

function htlcScript(
  ctx: EnforcementContext,
  registration: ChannelRegistration,
  owner: CommitmentOwner,
  perCommitmentPoint: Uint8Array,
  htlc: CommitmentHtlc,
): Uint8Array {
  const keys = commitmentKeysOf(ctx.secp, { parameters: registration, owner, perCommitmentPoint });
  const format = commitmentFormat(registration.commitmentFormat);
  return htlcSide(owner, htlc.direction) === 'offered'
    ? format.offeredHtlcScript(keys, htlc.paymentHash)
    : format.receivedHtlcScript(keys, htlc);
}

/** Script and key of the spent output. */
function spentOutput(
  ctx: EnforcementContext,
  registration: ChannelRegistration,
  output: ClaimedOutput,
): Spent {
  const { secp, secrets } = ctx;
  switch (output.type) {
    case 'holder_delayed': {
      const point = holderPoint(ctx, output.commitmentNumber);
      return {
        secretKey: derivePrivateKey(secp, secrets.delayedPaymentBasepointSecret, point),
        witnessScript: delayedScript(ctx, registration, 'holder', point),
      };
    }
    case 'holder_htlc': {
      const point = holderPoint(ctx, output.commitmentNumber);
      return {
        secretKey: derivePrivateKey(secp, secrets.htlcBasepointSecret, point),
        witnessScript: htlcScript(ctx, registration, 'holder', point, output.htlc),
      };
    }
    case 'counterparty_htlc': {
      const point = output.perCommitmentPoint;
      return {
        secretKey: derivePrivateKey(secp, secrets.htlcBasepointSecret, point),
        witnessScript: htlcScript(ctx, registration, 'counterparty', point, output.htlc),
      };
    }
    case 'counterparty_balance':
      return {
        secretKey: secrets.paymentBasepointSecret,
        witnessScript: commitmentFormat(registration.commitmentFormat).toRemote(
          registration.holder.paymentBasepoint,
        ).witnessScript,
      };
    case 'revoked_delayed': {
      const point = secp.publicKeyOf(output.perCommitmentSecret);
      const secretKey = deriveRevocationPrivateKey(
        secp,
        secrets.revocationBasepointSecret,
        output.perCommitmentSecret,
      );
      return { secretKey, witnessScript: delayedScript(ctx, registration, 'counterparty', point) };
    }
    case 'revoked_htlc': {
      const point = secp.publicKeyOf(output.perCommitmentSecret);
      const secretKey = deriveRevocationPrivateKey(
        secp,
        secrets.revocationBasepointSecret,
        output.perCommitmentSecret,
      );
      return { secretKey, witnessScript: htlcScript(ctx, registration, 'counterparty', point, output.htlc) };
    }
    case 'anchor':
      return {
        secretKey: secrets.fundingSecret,
        witnessScript: anchorScript(registration.funding.holderFundingPubkey),
      };
    default:
      return assertNever(output);
  }
}
