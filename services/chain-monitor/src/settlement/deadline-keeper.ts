/**
 * Closes channels whose HTLCs cannot wait, when their manager does not: the
 * manager has the same deadlines and acts first while it lives.
 *
 * A close is worth its cost or it is not made. What is not worth it is given
 * up: the HTLC is failed upstream, so that a small one never costs a second channel. Its peer may fulfil it all the same,
 * which an honest one that was away will do: that closes nothing by itself, and counts with whatever is past its deadline
 * next. A payment of the node's own has no channel upstream, and its HTLC is still the peer's to take: it waits for its end.
 */
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import { weighClosing } from '@fulmen/channel';
import { fromHex, toHex } from '@fulmen/codec';
import { encodeFailureMessage } from '@fulmen/onion';
import type { ChannelMonitor } from '@fulmen/monitor';
import type { Logger, Runtime } from '@fulmen/service';
import type { CloseState, LoadedMonitor } from '@fulmen/store/chain/chain-store';
import { eachMonitor } from '@fulmen/store/chain/chain-store';
import { type FeeEstimator, NoFeeEstimateError } from '../fees/estimator.ts';
import type { ChainMetrics } from '../metrics.ts';
import { MonitorFaultError, monitorOf } from '../monitors/drain.ts';
import type { ChainView } from '../state/view.ts';
import type { Writer } from '../state/writer.ts';
import { type DueHtlc, dueHtlcs, nextDeadlineOf, nextLookOf } from './deadlines.ts';
import { chainEvent } from './events.ts';

/**
 * Blocks that the manager has for itself. It acts within seconds of the block of its deadline; two blocks are enough for
 * a restart or a takeover, and cost 2 of the 36 blocks of an inbound HTLC, and 2 of the blocks that lie between the
 * expiries of the two halves of a forward (48 at least, of which a time-out on-chain takes 39).
 */
export const MANAGER_GRACE_BLOCKS = 2;
/** Monitors looked at in one turn. */
const BATCH = 64;
const PAGE = 1_000;

const FAILURE = encodeFailureMessage({ kind: 'permanent_channel_failure' });

export interface DeadlineKeeperPorts {
  readonly writer: Writer;
  readonly fees: Pick<FeeEstimator, 'estimateSatPerKw'>;
  readonly runtime: Pick<Runtime, 'wallClockMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
}

export class DeadlineKeeper {
  readonly #ports: DeadlineKeeperPorts;
  /** By channel id: the next height at which it is looked at. */
  readonly #deadlines = new Map<string, number>();
  /** HTLCs given up in this process: `channel:id`. */
  readonly #abandoned = new Set<string>();
  #view: ChainView | undefined;

  constructor(ports: DeadlineKeeperPorts) {
    this.#ports = ports;
  }

  /** The log moved a monitor. */
  monitorMoved(channelId: Uint8Array, monitor: ChannelMonitor, closeState: CloseState): void {
    const id = toHex(channelId);
    const deadline = closeState === 'open' ? nextDeadlineOf(monitor) : undefined;
    if (deadline === undefined) this.#deadlines.delete(id);
    else this.#deadlines.set(id, deadline);
  }

  /**
   * To be called with every block of the source processed. Resolves with how many channels it closed.
   * @throws store errors
   */
  async run(): Promise<number> {
    const { writer } = this.#ports;
    const now = await writer.exclusive(async (view) => {
      if (this.#view !== view) await this.#load(view);
      const height = view.tip?.height;
      if (height === undefined) return undefined;
      const ids = [...this.#deadlines]
        .filter(([, deadline]) => deadline + MANAGER_GRACE_BLOCKS <= height)
        .map(([id]) => id)
        // What is spent already is the settler's.
        .filter((id) => view.fundings.get(id)?.spent === undefined);
      return { height, ids };
    });
    if (now === undefined || now.ids.length === 0) return 0;
    const feerateSatPerKw = await this.#feerateSatPerKw();
    let closed = 0;
    for (let start = 0; start < now.ids.length; start += BATCH) {
      const ids = now.ids.slice(start, start + BATCH).map(fromHex);
      const preimages = new Set(
        (await writer.store.preimages(ids)).map(({ channelId, htlcId }) => `${toHex(channelId)}:${htlcId}`),
      );
      const fulfilledLate = new Map(
        (await writer.store.fulfilledLate(ids)).map((late) => [toHex(late.channelId), late]),
      );
      for await (const loaded of eachMonitor(writer.store, ids)) {
        const id = toHex(loaded.channelId);
        const monitor = readable(loaded);
        if (monitor === undefined || loaded.closeState !== 'open') {
          this.#deadlines.delete(id);
          continue;
        }
        const due = dueHtlcs(monitor, now.height - MANAGER_GRACE_BLOCKS, (htlcId) =>
          preimages.has(`${id}:${htlcId}`),
        );
        const late = fulfilledLate.get(id) ?? { amountMsat: 0n, updateId: 0n };
        // What has just left would count twice, until the log has brought it.
        const fulfilledLateMsat = loaded.updateId < late.updateId ? undefined : late.amountMsat;
        const at = { height: now.height, feerateSatPerKw, fulfilledLateMsat };
        const done = await this.#act(loaded.channelId, due, at);
        if (done === 'undecided') continue;
        if (done === 'closed') {
          this.#deadlines.delete(id);
          closed += 1;
          continue;
        }
        const next = nextLookOf(monitor, now.height - MANAGER_GRACE_BLOCKS);
        if (next === undefined) this.#deadlines.delete(id);
        else this.#deadlines.set(id, next);
      }
    }
    return closed;
  }

  /** Without an estimate a close is cheap: rather one too many than an HTLC lost. */
  async #feerateSatPerKw(): Promise<number> {
    try {
      return await this.#ports.fees.estimateSatPerKw('non_anchor_channel_fee');
    } catch (error) {
      if (error instanceof NoFeeEstimateError) return FEERATE_FLOOR_SAT_PER_KW;
      throw error;
    }
  }

  /** Once for each memory: those with a deadline, and those that nobody looked at yet. */
  async #load(view: ChainView): Promise<void> {
    const { store } = this.#ports.writer;
    this.#deadlines.clear();
    let after: Uint8Array | undefined;
    for (;;) {
      const page = await store.monitorDeadlines(after, PAGE);
      const unknown: Uint8Array[] = [];
      for (const { channelId, height } of page) {
        if (height === 'unknown') unknown.push(channelId);
        else this.#deadlines.set(toHex(channelId), height);
      }
      for await (const loaded of eachMonitor(store, unknown)) {
        const monitor = readable(loaded);
        if (monitor !== undefined) this.monitorMoved(loaded.channelId, monitor, loaded.closeState);
      }
      after = page.at(-1)?.channelId;
      if (page.length < PAGE) break;
    }
    this.#view = view;
  }

  async #act(
    channelId: Uint8Array,
    due: readonly DueHtlc[],
    {
      height,
      feerateSatPerKw,
      fulfilledLateMsat,
    }: {
      readonly height: number;
      readonly feerateSatPerKw: number;
      readonly fulfilledLateMsat: bigint | undefined;
    },
  ): Promise<'closed' | 'left' | 'undecided'> {
    const [first] = due;
    if (first === undefined) return 'left';
    const { writer, runtime, logger, metrics } = this.#ports;
    const { verdict, atStakeSat, costSat, summary } = weighClosing(
      due.map(({ htlc }) => htlc),
      fulfilledLateMsat ?? 0n,
      feerateSatPerKw,
    );
    const at = { channelId, timeUnixMs: runtime.wallClockMs() };
    const weighed = { atStakeSat, costSat, htlcs: due.length, height };
    if (verdict === 'not_worth_it') {
      if (fulfilledLateMsat === undefined) return 'undecided';
      await this.#abandon(at, due, weighed);
      return 'left';
    }
    const reason =
      `${first.htlc.direction} HTLC ${first.htlc.id} (${first.reason}) cannot wait and the manager did not act: ` +
      summary;
    const outcome = await writer.exclusive((_, lease) =>
      writer.store.decideClose(
        lease,
        channelId,
        reason,
        chainEvent('channel_closing', at, { reason, decidedBy: 'chain-monitor', ...weighed }),
      ),
    );
    if (outcome === 'decided') {
      metrics.closesDecided.inc();
      logger.warn({ channelId, reason }, 'a channel is closed without its manager');
    }
    return 'closed';
  }

  /** Outbound ones are failed upstream, before the channel that they came from must close for them. */
  async #abandon(
    at: { readonly channelId: Uint8Array; readonly timeUnixMs: number },
    due: readonly DueHtlc[],
    weighed: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { writer, logger, metrics } = this.#ports;
    const keyOf = ({ htlc }: DueHtlc): string => `${toHex(at.channelId)}:${htlc.direction}:${htlc.id}`;
    const fresh = due.filter((one) => !this.#abandoned.has(keyOf(one)));
    if (fresh.length === 0) return;
    const ownPayments = new Set((await writer.store.ownPayments([at.channelId])).map(({ htlcId }) => htlcId));
    await writer.turn((draft) => {
      for (const { htlc, reason } of fresh) {
        if (htlc.direction === 'outbound' && !ownPayments.has(htlc.id))
          draft.settlement.tell({
            channelId: at.channelId,
            htlcId: htlc.id,
            outcome: { type: 'failed', failure: FAILURE },
          });
        draft.settlement.event(
          chainEvent('htlc_abandoned', at, {
            htlcDirection: htlc.direction,
            htlcId: htlc.id,
            amountMsat: htlc.amountMsat,
            reason: `${reason}, and worth less than closing the channel for it`,
            ...weighed,
          }),
        );
      }
    });
    for (const one of fresh) {
      this.#abandoned.add(keyOf(one));
      metrics.htlcsAbandoned.inc();
    }
    logger.warn(
      { channelId: at.channelId, htlcs: fresh.length },
      'HTLCs are worth less than closing for them',
    );
  }
}

/** One that cannot be read is the drain's alarm. */
function readable(loaded: LoadedMonitor): ChannelMonitor | undefined {
  try {
    return monitorOf(loaded);
  } catch (error) {
    if (error instanceof MonitorFaultError) return undefined;
    throw error;
  }
}
