/** What every RPC of the signer works with, and the few steps that they share. */
import type { Network } from '@fulmen/bitcoin';
import { p2wpkhScript } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { channelSecrets, neuter, walletPublicKey } from '@fulmen/keys';
import type { HolderBasepointSecrets, KeyTree } from '@fulmen/keys';
import { type Denial, RpcError } from '@fulmen/rpc';
import type { Logger, Runtime } from '@fulmen/service';
import type { SignItemContext } from './enforcement/sign-item.ts';
import { fenced, refuse } from './enforcement/refuse.ts';
import type { PolicyLimits, Refusal, SignerChannelState } from './enforcement/types.ts';
import type { InputSums } from './input-sums.ts';
import { LaneUnavailableError, unavailableRefusal } from './lane.ts';
import type { Evaluation, LaneRequest, LaneView, SigningLane } from './lane.ts';
import type { SignerMetrics } from './metrics.ts';
import type { RefusalLog } from './refusal-log.ts';
import type { SignerStore } from './store/port.ts';
import type { TokenBucket } from './token-bucket.ts';

/** Bounds of on-chain payments. */
export interface OnchainLimits {
  /** Highest fee of one transaction. */
  readonly maximumFeeSat: bigint;
  /** To foreign scripts, in one window. */
  readonly velocitySat: bigint;
  readonly velocityWindowMs: number;
}

export interface Signer {
  readonly secp: Secp256k1;
  readonly keys: KeyTree;
  readonly network: Network;
  readonly limits: PolicyLimits;
  readonly onchain: OnchainLimits;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: SignerMetrics;
  readonly store: SignerStore;
  readonly lane: SigningLane;
  readonly refusals: RefusalLog;
  readonly ecdhBucket: TokenBucket;
  readonly health: { state: 'ready' | 'unreconciled' };
  readonly secretsCache: Map<string, HolderBasepointSecrets>;
  readonly inputSums: InputSums;
  /** Justice signers that may have channels' revocation secrets. */
  readonly towerKeys: readonly Uint8Array[];
}

const MAX_CACHED_SECRETS = 20_000;

/** A channel's secrets; kept for a while, because deriving them costs more than a signature. */
export function secretsOf(signer: Signer, channelKeysId: Uint8Array): HolderBasepointSecrets {
  const key = toHex(channelKeysId);
  let secrets = signer.secretsCache.get(key);
  if (secrets === undefined) {
    secrets = channelSecrets(signer.secp, signer.keys, channelKeysId);
    const oldest = signer.secretsCache.keys().next();
    if (signer.secretsCache.size >= MAX_CACHED_SECRETS && oldest.done !== true)
      signer.secretsCache.delete(oldest.value);
    signer.secretsCache.set(key, secrets);
  }
  return secrets;
}

export function contextOf(signer: Signer, channelKeysId: Uint8Array): SignItemContext {
  return {
    secp: signer.secp,
    limits: signer.limits,
    nodeSecret: signer.keys.nodeSecret,
    secrets: secretsOf(signer, channelKeysId),
  };
}

/** Change addresses over which shutdown scripts are spread: a wallet restored from the seed finds them within its gap limit. */
const SHUTDOWN_ADDRESSES = 20;

/** The wallet's P2WPKH script for a channel: m/84'/c'/0'/1/i, i from the key id. */
export function shutdownScript(signer: Pick<Signer, 'secp' | 'keys'>, channelKeysId: Uint8Array): Uint8Array {
  const index = (channelKeysId.at(-1) ?? 0) % SHUTDOWN_ADDRESSES;
  return p2wpkhScript(
    walletPublicKey(signer.secp, neuter(signer.secp, signer.keys.segwitAccount), 'change', index),
  );
}

/** Writes down that somebody asked for what its certificate does not allow. */
export function recordDenial(signer: Signer, { method, reason }: Denial): void {
  // "SignClaim" is the operation sign_claim.
  const operation = method.replace(/(?<!^)[A-Z]/g, '_$&').toLowerCase();
  recordRefusal(signer, operation, { kind: 'policy', policy: 'policy-capability', reason }, undefined);
}

export function recordRefusal(
  signer: Signer,
  operation: string,
  refusal: Refusal,
  channelKeysId: Uint8Array | undefined,
): void {
  signer.refusals.add(operation, refusal, channelKeysId);
  signer.lane.flush();
}

/** Metadata of an RpcError that is a refusal. */
export const REFUSAL_POLICY_KEY = 'fulmen-refusal-policy';
export const REFUSAL_KIND_KEY = 'fulmen-refusal-kind';

/** A refusal of a unary call: `failed_precondition` (definite), `aborted` (fenced) or `unavailable` (retry), with its tag in the metadata. */
export function refusalError(refusal: Refusal): RpcError {
  const code =
    refusal.kind === 'policy' ? 'failed_precondition' : refusal.kind === 'fenced' ? 'aborted' : 'unavailable';
  return new RpcError(code, `${refusal.policy}: ${refusal.reason}`, {
    [REFUSAL_POLICY_KEY]: refusal.policy,
    [REFUSAL_KIND_KEY]: refusal.kind,
  });
}

export const UNRECONCILED: Refusal = {
  kind: 'unavailable',
  policy: 'policy-unreconciled',
  reason:
    'the database was set back, or has no marker that tells: nothing is signed before an operator reconciles it',
};

/** The caller's shard and epoch hold for this channel. */
export function checkShard(
  view: LaneView,
  channel: SignerChannelState,
  caller: { readonly shard: number; readonly epoch: bigint },
): Result<void, Refusal> {
  if (caller.shard !== channel.registration.shard)
    return refuse('policy-channel-shard', `the channel belongs to shard ${channel.registration.shard}`);
  const fence = view.fenceOf(caller.shard);
  return caller.epoch < fence ? fenced(caller.epoch, fence) : { ok: true, value: undefined };
}

/** Runs a request in the lane; whatever goes wrong comes back as a refusal, recorded once. */
export async function runInLane<T>(
  signer: Signer,
  operation: string,
  request: Omit<LaneRequest<unknown>, 'evaluate'> & {
    readonly evaluate: (view: LaneView) => Result<Evaluation<T>, Refusal>;
  },
): Promise<Result<T, Refusal>> {
  const startedMs = signer.runtime.monotonicMs();
  const result = await settle<T>(signer, request);
  signer.metrics.signSeconds.observe({ operation }, (signer.runtime.monotonicMs() - startedMs) / 1000);
  if (result.ok) signer.metrics.signatures.inc({ operation });
  else recordRefusal(signer, operation, result.error, request.channelKeysId);
  return result;
}

async function settle<T>(
  signer: Signer,
  request: Omit<LaneRequest<unknown>, 'evaluate'> & {
    readonly evaluate: (view: LaneView) => Result<Evaluation<T>, Refusal>;
  },
): Promise<Result<T, Refusal>> {
  if (signer.health.state === 'unreconciled') return { ok: false, error: UNRECONCILED };
  try {
    return await signer.lane.submit<Result<T, Refusal>>({
      ...request,
      evaluate: (view) => {
        const evaluated = request.evaluate(view);
        if (!evaluated.ok) return { answer: evaluated };
        return { ...evaluated.value, answer: { ok: true, value: evaluated.value.answer } };
      },
    });
  } catch (error) {
    if (error instanceof LaneUnavailableError) return { ok: false, error: unavailableRefusal(error) };
    throw error;
  }
}

/** As `runInLane`, for a unary call: a refusal is thrown. */
export async function runUnary<T>(
  ...[signer, operation, request]: Parameters<typeof runInLane<T>>
): Promise<T> {
  const result = await runInLane<T>(signer, operation, request);
  if (!result.ok) throw refusalError(result.error);
  return result.value;
}

/** A decoded request, or the refusal thrown. */
export function orRefuse<T>(signer: Signer, operation: string, decoded: Result<T, Refusal>): T {
  if (decoded.ok) return decoded.value;
  recordRefusal(signer, operation, decoded.error, undefined);
  throw refusalError(decoded.error);
}

export function unregistered(): { readonly ok: false; readonly error: Refusal } {
  return refuse('policy-channel-unregistered', 'no such channel is registered');
}
