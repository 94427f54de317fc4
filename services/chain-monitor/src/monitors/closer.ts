/**
 * Force closes: the signer locks the channel and signs the latest holder
 * commitment, and its broadcast is ordered in the same transaction that marks
 * the close as ordered. Whatever dies in between, the same is done again, and
 * gives the same transaction.
 */
import { decodeTx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import { type ChannelMonitor, htlcKey } from '@fulmen/monitor';
import type { CommitmentSpec, HolderCommitment } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import type { Logger, Runtime } from '@fulmen/service';
import type { BroadcastRecord, ChainEvent, PendingClose } from '@fulmen/store/chain/chain-store';
import { orderIdOf } from '../broadcast/order-id.ts';
import { BURIAL_DEPTH } from '../follower/orders.ts';
import type { ChainMetrics } from '../metrics.ts';
import type { SignerClient } from '../ports.ts';
import { chainEvent } from '../settlement/events.ts';
import type { Writer } from '../state/writer.ts';
import { MonitorFaultError, monitorOf } from './drain.ts';

/** Closes read at once. */
const PAGE = 64;
/** Pause before one that failed is tried again. */
const RETRY_MS = 10_000;

export interface CloserPorts {
  readonly writer: Writer;
  readonly signer: Pick<SignerClient, 'signHolderCommitment'>;
  readonly runtime: Pick<Runtime, 'monotonicMs' | 'wallClockMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
}

/** A holder commitment, and the monitor that it is of. */
interface SignedClose {
  readonly monitor: ChannelMonitor;
  readonly transaction: Uint8Array;
}

export class Closer {
  readonly #ports: CloserPorts;
  readonly #retryAtMs = new Map<string, number>();

  constructor(ports: CloserPorts) {
    this.#ports = ports;
  }

  /** Orders the broadcast of what is pending; resolves with how many. */
  async run(): Promise<number> {
    let ordered = 0;
    let after: Uint8Array | undefined;
    for (;;) {
      const page = await this.#ports.writer.store.pendingCloses(after, PAGE);
      for (const loaded of page) if ((await this.#close(loaded)) === 'ordered') ordered += 1;
      after = page.at(-1)?.channelId;
      if (page.length < PAGE) return ordered;
    }
  }

  async #close(loaded: PendingClose): Promise<'ordered' | 'later'> {
    const { writer, runtime, logger } = this.#ports;
    const id = toHex(loaded.channelId);
    const { managerUpdateId } = loaded;
    if (managerUpdateId !== undefined && managerUpdateId !== loaded.updateId)
      return this.#goPassive(loaded, managerUpdateId);
    if ((this.#retryAtMs.get(id) ?? Number.NEGATIVE_INFINITY) > runtime.monotonicMs()) return 'later';
    const spentDepth = await writer.exclusive(async (view) => {
      const height = view.fundings.get(id)?.spent?.height;
      return height === undefined ? 0 : (view.tip?.height ?? height) - height + 1;
    });
    // Somebody's transaction spent the funding output already; only a reorg would make ours useful.
    if (spentDepth > 0 && spentDepth < BURIAL_DEPTH) return 'later';
    const signed = spentDepth > 0 ? undefined : await this.#sign(loaded.channelId);
    if (spentDepth === 0 && signed === undefined) {
      this.#retryAtMs.set(id, runtime.monotonicMs() + RETRY_MS);
      return 'later';
    }
    await writer.exclusive(async (view, lease) => {
      const record = signed === undefined ? undefined : recordOf(loaded.channelId, signed.transaction);
      const event = signed === undefined ? undefined : this.#broadcastEvent(loaded, signed);
      await writer.store.commitClose(lease, loaded.channelId, 'ordered', record, event);
      if (record !== undefined && !view.broadcasts.has(toHex(record.orderId))) view.putBroadcast(record);
    });
    this.#retryAtMs.delete(id);
    logger.warn({ channelId: loaded.channelId, broadcast: signed !== undefined }, 'force close ordered');
    return 'ordered';
  }

  /**
   * The channel and its monitor are written by one transaction: apart they are only when one of them was restored
   * without the other. Then nobody knows which commitment is the latest, and none is broadcast.
   */
  async #goPassive(loaded: PendingClose, managerUpdateId: bigint): Promise<'later'> {
    const { writer, runtime, logger, metrics } = this.#ports;
    const { channelId, updateId } = loaded;
    logger.error(
      { channelId, monitorUpdateId: updateId, managerUpdateId },
      'ALARM: a channel and its monitor disagree: one of them was set back, and nothing is broadcast',
    );
    metrics.closeFailures.inc();
    const reason = `the monitor is at update ${updateId}, the channel at ${managerUpdateId}: one was set back`;
    const event = chainEvent(
      'channel_passive',
      { channelId, timeUnixMs: runtime.wallClockMs() },
      { reason, monitorUpdateId: updateId, managerUpdateId },
    );
    await writer.exclusive((_, lease) =>
      writer.store.commitClose(lease, channelId, 'passive', undefined, event),
    );
    return 'later';
  }

  /** Undefined: it cannot be read. */
  async #monitor(channelId: Uint8Array): Promise<ChannelMonitor | undefined> {
    const { writer, logger, metrics } = this.#ports;
    const [loaded] = await writer.store.loadMonitors([channelId]);
    try {
      return loaded === undefined ? undefined : monitorOf(loaded);
    } catch (error) {
      if (!(error instanceof MonitorFaultError)) throw error;
      logger.error(
        { channelId, reason: error.message },
        'ALARM: the monitor of a channel cannot be read: it is not closed',
      );
      metrics.closeFailures.inc();
      return undefined;
    }
  }

  #broadcastEvent(
    loaded: PendingClose,
    { monitor: { forceClose, holderCommitment }, transaction }: SignedClose,
  ): ChainEvent {
    const tx = decodeTx(transaction);
    return chainEvent(
      'commitment_broadcast',
      { channelId: loaded.channelId, timeUnixMs: this.#ports.runtime.wallClockMs() },
      {
        txid: tx.ok ? displayHash(txidOf(tx.value)) : undefined,
        commitmentNumber: holderCommitment?.content.commitmentNumber,
        reason: loaded.decision ?? forceClose?.reason,
      },
    );
  }

  async #sign(channelId: Uint8Array): Promise<SignedClose | undefined> {
    const { signer, logger, metrics } = this.#ports;
    const monitor = await this.#monitor(channelId);
    if (monitor === undefined) return undefined;
    const holderCommitment = holderCommitmentOf(monitor);
    if (holderCommitment === undefined) {
      logger.error({ channelId }, 'force close without a holder commitment');
      metrics.closeFailures.inc();
      return undefined;
    }
    try {
      const { transaction } = await signer.signHolderCommitment({
        channelKeysId: Buffer.from(monitor.parameters.channelKeysId),
        holderCommitment,
      });
      return { monitor, transaction: Uint8Array.from(transaction) };
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      logger.error(
        { channelId, code: error.code, reason: error.message },
        'the signer did not sign a holder commitment; tried again',
      );
      metrics.closeFailures.inc();
      return undefined;
    }
  }
}

function recordOf(channelId: Uint8Array, transaction: Uint8Array): BroadcastRecord {
  return {
    orderId: orderIdOf([transaction]),
    kind: 'force_close',
    channelId,
    transactions: [transaction],
    confirmedHeights: [undefined],
  };
}

/** The latest holder commitment as the signer's contract spells it; undefined when there is none, or its HTLCs are not all known. */
export function holderCommitmentOf({
  holderCommitment,
  htlcs,
}: ChannelMonitor): HolderCommitment | undefined {
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
      return [
        {
          outbound: direction === 'outbound',
          id,
          amountMsat,
          paymentHash: Buffer.from(paymentHash),
          cltvExpiryHeight,
        },
      ];
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
