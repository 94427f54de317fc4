/** ChainService: the chain for the other services. */
import { displayHash } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { FeeTarget, type ChainServiceService } from '@fulmen/proto/chain/v1/chain';
import { type Handlers, RpcError } from '@fulmen/rpc';
import type { FeeEstimator, FeerateTarget } from '../fees/estimator.ts';
import type { ChainHealth } from '../follower/health.ts';
import type { UtxoLookup } from '../gossip/utxo-lookup.ts';
import type { ChainMetrics } from '../metrics.ts';
import type { Writer } from '../state/writer.ts';
import type { Leader } from '../worker.ts';
import { answer } from './errors.ts';

export interface ChainServiceParts {
  readonly network: string;
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly health: ChainHealth;
  readonly fees: FeeEstimator;
  readonly lookup: UtxoLookup;
  readonly metrics: ChainMetrics;
  /** The writer, when it is another replica. */
  readonly leader: () => Leader | undefined;
}

/** Transactions of one package (Bitcoin Core's limit). */
const MAX_PACKAGE = 25;

const TARGETS: ReadonlyMap<FeeTarget, FeerateTarget> = new Map([
  [FeeTarget.FEE_TARGET_MAXIMUM_FEE_ESTIMATE, 'maximum_fee_estimate'],
  [FeeTarget.FEE_TARGET_URGENT_ON_CHAIN_SWEEP, 'urgent_on_chain_sweep'],
  [FeeTarget.FEE_TARGET_MIN_ALLOWED_ANCHOR_CHANNEL_REMOTE_FEE, 'min_allowed_anchor_channel_remote_fee'],
  [
    FeeTarget.FEE_TARGET_MIN_ALLOWED_NON_ANCHOR_CHANNEL_REMOTE_FEE,
    'min_allowed_non_anchor_channel_remote_fee',
  ],
  [FeeTarget.FEE_TARGET_ANCHOR_CHANNEL_FEE, 'anchor_channel_fee'],
  [FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE, 'non_anchor_channel_fee'],
  [FeeTarget.FEE_TARGET_CHANNEL_CLOSE_MINIMUM, 'channel_close_minimum'],
  [FeeTarget.FEE_TARGET_OUTPUT_SPENDING_FEE, 'output_spending_fee'],
]);

/**
 * Why the best block is not to be relied on. The replica that writes knows; a standby has the writer's word, which is
 * younger than a lease.
 */
function doubtOf({ writer, health, leader }: ChainServiceParts): string | undefined {
  if (writer.lease !== undefined) return health.doubt;
  const other = leader();
  if (other !== undefined) return other.doubt;
  return health.halt?.reason ?? 'no replica follows the chain';
}

export function chainHandlers(parts: ChainServiceParts): Handlers<ChainServiceService> {
  const { source, writer, health, fees, lookup, metrics } = parts;
  const leaderAddress = (): string | undefined => parts.leader()?.address;
  return {
    getBestBlock: () =>
      answer(async () => {
        const doubt = doubtOf(parts);
        const tip = writer.view?.tip ?? (await writer.store.tip());
        if (tip === undefined && health.halt !== undefined)
          throw new RpcError('failed_precondition', `halted: ${health.halt.reason}`);
        if (tip === undefined) throw new RpcError('unavailable', 'no block was processed yet');
        return {
          blockHash: displayHash(tip.hash),
          height: tip.height,
          timeUnixSeconds: tip.timeUnixSeconds,
          network: parts.network,
          halted: doubt !== undefined,
          haltReason: doubt ?? '',
        };
      }, leaderAddress),
    getUtxo: ({ shortChannelId }) =>
      answer(async () => {
        const found = await lookup.find(shortChannelId);
        metrics.utxoLookups.inc({ outcome: found === undefined ? 'missing' : 'found' });
        if (found === undefined)
          return { found: false, valueSat: 0n, scriptPubkey: Buffer.alloc(0), confirmations: 0 };
        return {
          found: true,
          valueSat: found.valueSat,
          scriptPubkey: Buffer.from(found.script),
          confirmations: found.confirmations,
        };
      }, leaderAddress),
    estimateFee: ({ target }) =>
      answer(async () => {
        const known = TARGETS.get(target);
        if (known === undefined) throw new RpcError('invalid_argument', 'which target?');
        return { feerateSatPerKw: await fees.estimateSatPerKw(known) };
      }, leaderAddress),
    broadcast: ({ transactions }) =>
      answer(async () => {
        if (transactions.length === 0 || transactions.length > MAX_PACKAGE)
          throw new RpcError('invalid_argument', `1 to ${MAX_PACKAGE} transactions`);
        const outcome = await source.broadcastPackage(transactions.map((raw) => Uint8Array.from(raw)));
        metrics.broadcasts.inc({ outcome: outcome.kind });
        return {
          accepted: outcome.kind === 'accepted',
          rejectReason: outcome.kind === 'rejected' ? outcome.reason : '',
        };
      }, leaderAddress),
  };
}
