/**
 * Force closes: the signer locks the channel and signs the latest holder
 * commitment, and its broadcast is ordered in the same transaction that marks
 * the close as ordered. Whatever dies in between, the same is done again, and
 * gives the same transaction.
 */
import { toHex } from '@fulmen/codec';
import { type ChannelMonitor, htlcKey } from '@fulmen/monitor';
import type { CommitmentSpec, HolderCommitment } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import type { Logger, Runtime } from '@fulmen/service';
import type { LoadedMonitor } from '@fulmen/store/chain/chain-store';
import { orderIdOf } from '../broadcast/order-id.ts';
import type { ChainMetrics } from '../metrics.ts';
import type { SignerClient } from '../ports.ts';
import type { Writer } from '../state/writer.ts';
import { monitorOf } from './drain.ts';

/** Closes looked at in one turn, and the pause before one that failed is tried again. */
const BATCH = 32;
const RETRY_MS = 10_000;

export interface CloserPorts {
  readonly writer: Writer;
  readonly signer: Pick<SignerClient, 'signHolderCommitment'>;
  readonly runtime: Pick<Runtime, 'monotonicMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
}

export class Closer {
  readonly #ports: CloserPorts;
  readonly #retryAtMs = new Map<string, number>();

  constructor(ports: CloserPorts) {
    this.#ports = ports;
  }

  /** Orders the broadcast of what is pending; resolves with how many. */
  async run(): Promise<number> {
    const { writer, runtime } = this.#ports;
    const pending = await writer.store.pendingCloses(BATCH);
    const ids = new Set(pending.map(({ channelId }) => toHex(channelId)));
    for (const id of this.#retryAtMs.keys()) if (!ids.has(id)) this.#retryAtMs.delete(id);
    let ordered = 0;
    for (const loaded of pending) {
      const id = toHex(loaded.channelId);
      if ((this.#retryAtMs.get(id) ?? Number.NEGATIVE_INFINITY) > runtime.monotonicMs()) continue;
      const transaction = await this.#sign(loaded);
      if (transaction === undefined) {
        this.#retryAtMs.set(id, runtime.monotonicMs() + RETRY_MS);
        continue;
      }
      await writer.exclusive(async (view, lease) => {
        const record = { orderId: orderIdOf([transaction]), kind: 'force_close' as const, channelId: loaded.channelId, transactions: [transaction], confirmedHeights: [undefined] };
        await writer.store.commitClose(lease, loaded.channelId, 'ordered', record);
        if (!view.broadcasts.has(toHex(record.orderId))) view.putBroadcast(record);
      });
      this.#ports.logger.warn({ channelId: loaded.channelId }, 'force close: the holder commitment is broadcast');
      ordered += 1;
    }
    return ordered;
  }

  async #sign(loaded: LoadedMonitor): Promise<Uint8Array | undefined> {
    const { signer, logger, metrics } = this.#ports;
    const monitor = monitorOf(loaded);
    const holderCommitment = holderCommitmentOf(monitor);
    if (holderCommitment === undefined) {
      logger.error({ channelId: loaded.channelId }, 'force close without a holder commitment');
      metrics.closeFailures.inc();
      return undefined;
    }
    try {
      const { transaction } = await signer.signHolderCommitment({ channelKeysId: Buffer.from(monitor.parameters.channelKeysId), holderCommitment });
      return Uint8Array.from(transaction);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      logger.error({ channelId: loaded.channelId, code: error.code, reason: error.message }, 'the signer did not sign a holder commitment; tried again');
      metrics.closeFailures.inc();
      return undefined;
    }
  }
}

/** The latest holder commitment as the signer's contract spells it; undefined when there is none, or its HTLCs are not all known. */
export function holderCommitmentOf({ holderCommitment, htlcs }: ChannelMonitor): HolderCommitment | undefined {
  if (holderCommitment === undefined) return undefined;
  const { content, signatures } = holderCommitment;
  const spec: CommitmentSpec = {
    commitmentNumber: content.commitmentNumber,
    feerateSatPerKw: content.feerateSatPerKw,
    toHolderMsat: content.toHolderMsat,
    toCounterpartyMsat: content.toCounterpartyMsat,
    htlcs: content.htlcs.flatMap((ref) => {
      const live = htlcs.get(htlcKey(ref));
      if (live === undefined) return [];
      const { direction, id, amountMsat, paymentHash, cltvExpiryHeight } = live.htlc;
      return [{ outbound: direction === 'outbound', id, amountMsat, paymentHash: Buffer.from(paymentHash), cltvExpiryHeight }];
    }),
  };
  if (spec.htlcs.length !== content.htlcs.length) return undefined;
  return {
    spec,
    signatures: signatures.map(({ fundingTxid, signature, htlcSignatures }) => ({
      fundingTxid: Buffer.from(fundingTxid),
      signature: Buffer.from(signature),
      htlcSignatures: htlcSignatures.map((bytes) => Buffer.from(bytes)),
    })),
  };
}
