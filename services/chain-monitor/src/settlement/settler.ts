/**
 * Settles closed channels: finds the facts in blocks and in the mempool, asks
 * the pure `settle` what follows from them, and writes what is new. The manager
 * has no part in it (law 5), and nothing but facts is remembered: a restart or
 * a reorganisation computes the same again.
 */
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import type { ChainBlock } from '@fulmen/chain';
import { fromHex, toHex } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { ChannelMonitor } from '@fulmen/monitor';
import type { Logger, Runtime } from '@fulmen/service';
import {
  type OutPoint,
  type Settlement,
  type SettlementFacts,
  commitmentNumbers,
  settle,
} from '@fulmen/settlement';
import type { SpendRecord } from '@fulmen/store/chain/chain-store';
import { type FeeEstimator, NoFeeEstimateError } from '../fees/estimator.ts';
import type { ChainMetrics } from '../metrics.ts';
import { outPointKey } from '../state/keys.ts';
import type { Draft } from '../state/draft.ts';
import type { Registrar } from '../follower/registered.ts';
import type { ChainView } from '../state/view.ts';
import type { Writer } from '../state/writer.ts';
import { DecodedFacts, type PlacedTx, scanFacts } from './facts.ts';
import type { HolderPoints } from './holder-points.ts';
import type { WatchedOutPoint } from './mempool-spends.ts';
import { MonitorCache } from './monitor-cache.ts';
import { type ChannelTurn, outcomeEvent, writeSettlement } from './settle-channel.ts';
import { type MempoolSource, Unconfirmed } from './unconfirmed.ts';
import { WatchedOutputs } from './watched.ts';

/** Blocks that stay reversible: facts and settled channels are kept as long. */
const KEPT_BLOCKS = 288;
/** A preimage that goes upstream may be what a second closed channel of the same turn waits for. */
const MAX_PASSES = 3;

export interface SettlerPorts {
  readonly source: MempoolSource;
  readonly writer: Writer;
  readonly secp: Secp256k1;
  readonly runtime: Pick<Runtime, 'wallClockMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  /** Absent: what an HTLC's claim costs is reckoned with the least that relays. */
  readonly fees?: Pick<FeeEstimator, 'estimateSatPerKw'>;
  /** Absent, in a tower: without the signer, a commitment that its monitor lost, or was not given yet, stays unknown. */
  readonly holderPoints?: HolderPoints;
}

/** A channel that closes or is closed, as of the last turn: what a sweeper works with. */
export interface Closing {
  readonly channelId: Uint8Array;
  readonly monitor: ChannelMonitor;
  readonly settlement: Settlement;
}

export class Settler {
  readonly #ports: SettlerPorts;
  readonly #watched = new WatchedOutputs();
  readonly #facts = new DecodedFacts();
  readonly #monitors: MonitorCache;
  readonly #unconfirmed: Unconfirmed;
  #view: ChainView | undefined;
  /** What each channel was last settled from. */
  #done = new Map<string, string>();
  #closing = new Map<string, Closing>();
  /** Told in this process of channels whose close is not confirmed: `channel:htlc`, and commitments seen. */
  readonly #toldEarly = new Set<string>();
  readonly #faulty = new Map<string, string>();

  constructor(ports: SettlerPorts) {
    this.#ports = ports;
    this.#monitors = new MonitorCache(ports.writer.store, ports.logger);
    this.#unconfirmed = new Unconfirmed(ports.source);
  }

  /** Channels whose funding output is spent, or about to be, by channel id; replaced at each turn. */
  get closing(): ReadonlyMap<string, Closing> {
    return this.#closing;
  }

  /** A monitor moved, and its new state is stored. Called by whoever has the writer alone, as all that reads monitors does. */
  monitorMoved(channelId: Uint8Array, monitor: ChannelMonitor): void {
    this.#monitors.updated(toHex(channelId), monitor);
  }

  readonly register: Registrar = (_, filter) => this.#watched.register(filter);

  // ---------------------------------------------------------------- blocks

  /** Notes the facts of a block, in its turn. */
  async scan(draft: Draft, block: ChainBlock, height: number): Promise<void> {
    await this.#follow(draft.view);
    await scanFacts(placed(block), height, {
      channelsOf: (key) => this.#channelsOf(draft.view, key),
      put: (record) => draft.settlement.putSpend(record),
      rewatch: (ids) => this.#rewatch(draft, ids),
    });
  }

  #channelsOf(view: ChainView, key: string): Iterable<string> {
    const funded = view.fundingsByOutPoint.get(key);
    const watched = this.#watched.channelsOf(key);
    if (watched === undefined) return funded ?? [];
    return funded === undefined ? watched : new Set([...funded, ...watched]);
  }

  /** Takes back the facts of the block at this height. */
  unscan(draft: Draft, height: number): void {
    for (const [id, spends] of draft.view.spends) {
      const gone = [...spends.values()].filter((record) => record.height === height);
      for (const record of gone) draft.settlement.forgetSpend(record);
      if (gone.length > 0 && gone.length === spends.size) draft.settlement.forgetSettlement(fromHex(id));
    }
  }

  /** After a restart, or when the memory was loaded again: the index is built from the facts. */
  async #follow(view: ChainView): Promise<void> {
    if (this.#view === view) return;
    this.#watched.clear();
    this.#facts.clear();
    this.#monitors.clear();
    this.#done = new Map();
    this.#closing = new Map();
    const monitors = await this.#monitors.get([...view.spends.keys()]);
    for (const [id, monitor] of monitors) {
      const records = [...(view.spends.get(id)?.values() ?? [])];
      await this.#watch(id, monitor, this.#facts.of(id, records));
    }
    this.#view = view;
  }

  async #watch(id: string, monitor: ChannelMonitor, confirmed: SettlementFacts['confirmed']): Promise<void> {
    const bestHeight = confirmed.at(-1)?.height ?? 0;
    const settlement = await this.#settle(id, monitor, {
      confirmed,
      unconfirmed: [],
      bestHeight,
      preimages: new Map(),
    });
    if (settlement !== undefined)
      this.#watched.set(
        id,
        settlement.watched,
        confirmed.map(({ tx }) => tx),
      );
  }

  async #rewatch(draft: Draft, ids: ReadonlySet<string>): Promise<void> {
    for (const [id, monitor] of await this.#monitors.get([...ids]))
      await this.#watch(id, monitor, this.#facts.of(id, draft.settlement.spends(id)));
  }

  /**
   * What the settlement watches given these facts of a channel; by outpoint, and without what they spend.
   * @throws store errors, NotWriterError
   */
  async watchedBy(id: string, facts: readonly SpendRecord[]): Promise<ReadonlyMap<string, OutPoint>> {
    // Alone, as all that reads monitors: what is being read must not outlive the news that it moved.
    const { monitor, bestHeight } = await this.#ports.writer.exclusive(async (view) => ({
      monitor: (await this.#monitors.get([id])).get(id),
      bestHeight: view.tip?.height ?? 0,
    }));
    const confirmed = new DecodedFacts().of(id, facts);
    const settlement =
      monitor === undefined
        ? undefined
        : await this.#settle(id, monitor, { confirmed, unconfirmed: [], bestHeight, preimages: new Map() });
    const spent = new Set(
      confirmed.flatMap(({ tx }) => tx.inputs.map((input) => outPointKey(input.txid, input.vout))),
    );
    return new Map(
      (settlement?.watched ?? [])
        .map((outPoint) => [outPointKey(outPoint.txid, outPoint.outputIndex), outPoint] as const)
        .filter(([key]) => !spent.has(key)),
    );
  }

  // ---------------------------------------------------------------- the mempool

  /** One look for what spends the outputs that channels watch. @throws ChainSourceError */
  async lookIntoMempool(): Promise<void> {
    const { writer } = this.#ports;
    const questions = await writer.exclusive(async (view) => {
      await this.#follow(view);
      return this.#unconfirmed.questions(view, [
        ...this.#openFundings(view),
        ...this.#watchedOutPoints(view.spends.keys()),
      ]);
    });
    await this.#unconfirmed.look(questions, (found) =>
      writer.exclusive(async (view) => {
        const more: WatchedOutPoint[] = [];
        const monitors = await this.#monitors.get([...found.keys()]);
        for (const [channelId, monitor] of monitors) {
          const settlement = await this.#settle(channelId, monitor, {
            confirmed: this.#facts.of(channelId, [...(view.spends.get(channelId)?.values() ?? [])]),
            unconfirmed: [...(found.get(channelId)?.values() ?? [])],
            bestHeight: view.tip?.height ?? 0,
            preimages: new Map(),
          });
          for (const outPoint of settlement?.watched ?? []) more.push({ ...outPoint, channelId });
        }
        return more;
      }),
    );
  }

  *#openFundings(view: ChainView): Iterable<WatchedOutPoint> {
    for (const [channelId, record] of view.fundings)
      if (record.spent === undefined && record.seen?.fault === undefined)
        yield { channelId, txid: record.fundingTxid, outputIndex: record.fundingOutputIndex };
  }

  *#watchedOutPoints(channelIds: Iterable<string>): Iterable<WatchedOutPoint> {
    for (const channelId of channelIds)
      for (const outPoint of this.#watched.unspent(channelId)) yield { ...outPoint, channelId };
  }

  // ---------------------------------------------------------------- the turn

  /** Settles what moved since the last turn. @throws store errors */
  async run(): Promise<void> {
    await this.#learnPoints();
    for (let pass = 0; pass < MAX_PASSES; pass++) if ((await this.#pass()) === 'settled') return;
  }

  async #learnPoints(): Promise<void> {
    const { writer, holderPoints } = this.#ports;
    if (holderPoints === undefined) return;
    const closed = await writer.exclusive(async (view) => {
      await this.#follow(view);
      const monitors = await this.#monitors.get([...view.spends.keys()]);
      return [...monitors].map(([id, monitor]) => ({
        id,
        monitor,
        confirmed: this.#facts.of(id, [...(view.spends.get(id)?.values() ?? [])]),
      }));
    });
    for (const id of await holderPoints.learn(closed)) this.#done.delete(id);
  }

  async #pass(): Promise<'settled' | 'preimages_learnt'> {
    const { writer, metrics } = this.#ports;
    const feerateSatPerKw = await this.#feerateSatPerKw();
    const moved = await writer.turn(async (draft) => {
      const { view } = draft;
      await this.#follow(view);
      const bestHeight = view.tip?.height;
      if (bestHeight === undefined) return undefined;
      const unconfirmed = this.#unconfirmed.of(view);
      const ids = [...new Set([...view.spends.keys(), ...unconfirmed.keys()])].filter(
        (id) => !isHalfKnown(view, id),
      );
      const monitors = await this.#monitors.get(ids);
      const preimages = await this.#preimages(ids);
      const ownPayments = await this.#ownPayments(ids);
      const done = new Map<string, string>();
      const closing = new Map<string, Closing>();
      let learnt = 0;
      const toldEarly: string[] = [];
      const at = { bestHeight, timeUnixMs: this.#ports.runtime.wallClockMs(), feerateSatPerKw };
      const none: ReadonlySet<bigint> = new Set();
      for (const [id, monitor] of monitors) {
        const facts: SettlementFacts = {
          confirmed: this.#facts.of(id, [...(view.spends.get(id)?.values() ?? [])]),
          unconfirmed: [...(unconfirmed.get(id)?.values() ?? [])],
          bestHeight,
          preimages: preimages.get(id) ?? new Map(),
        };
        const fingerprint = fingerprintOf(facts, {
          updateId: monitor.updateId,
          unconfirmedTxids: [...(unconfirmed.get(id)?.keys() ?? [])],
          isResolved: view.settlements.get(id)?.stage === 'resolved',
        });
        done.set(id, fingerprint);
        const before = this.#closing.get(id);
        if (this.#done.get(id) === fingerprint && before !== undefined) {
          closing.set(id, before);
          continue;
        }
        const settlement = await this.#settle(id, monitor, facts);
        if (settlement === undefined) continue;
        closing.set(id, { channelId: fromHex(id), monitor, settlement });
        if (facts.confirmed.length > 0)
          this.#watched.set(
            id,
            settlement.watched,
            facts.confirmed.map(({ tx }) => tx),
          );
        const turn = { channelId: fromHex(id), ownPayments: ownPayments.get(id) ?? none, ...at };
        if (settlement.close === undefined)
          learnt += this.#writeEarly(draft, settlement, { ...turn, told: toldEarly });
        else {
          if (draft.settlement.settlement(id)?.closeType !== settlement.close.type)
            this.#alarm(turn.channelId, settlement.close.type);
          learnt += writeSettlement(draft, settlement, turn);
        }
      }
      this.#forget(draft, bestHeight);
      return { done, closing, learnt, toldEarly };
    });
    if (moved === undefined) return 'settled';
    for (const key of moved.toldEarly) this.#toldEarly.add(key);
    this.#done = moved.done;
    this.#closing = moved.closing;
    metrics.closingChannels.set(
      [...moved.closing.values()].filter(({ settlement }) => settlement.stage === 'closed').length,
    );
    return moved.learnt > 0 ? 'preimages_learnt' : 'settled';
  }

  /** What claims with a deadline pay; the least that relays when nobody knows. */
  async #feerateSatPerKw(): Promise<number> {
    const { fees } = this.#ports;
    if (fees === undefined || this.#closing.size === 0) return FEERATE_FLOOR_SAT_PER_KW;
    try {
      return await fees.estimateSatPerKw('urgent_on_chain_sweep');
    } catch (error) {
      if (error instanceof NoFeeEstimateError) return FEERATE_FLOOR_SAT_PER_KW;
      throw error;
    }
  }

  /** Rows of preimages by channel and HTLC, from whichever commit learnt them. */
  async #preimages(ids: readonly string[]): Promise<ReadonlyMap<string, Map<string, Uint8Array>>> {
    const result = new Map<string, Map<string, Uint8Array>>();
    for (const { channelId, htlcId, preimage } of await this.#ports.writer.store.preimages(
      ids.map(fromHex),
    )) {
      const id = toHex(channelId);
      const ofChannel = result.get(id) ?? new Map<string, Uint8Array>();
      result.set(id, ofChannel.set(`in:${htlcId}`, preimage));
    }
    return result;
  }

  /** By channel: HTLCs that no channel upstream waits for. */
  async #ownPayments(ids: readonly string[]): Promise<ReadonlyMap<string, ReadonlySet<bigint>>> {
    const result = new Map<string, Set<bigint>>();
    for (const { channelId, htlcId } of await this.#ports.writer.store.ownPayments(ids.map(fromHex))) {
      const id = toHex(channelId);
      result.set(id, (result.get(id) ?? new Set<bigint>()).add(htlcId));
    }
    return result;
  }

  /** A fault in one channel's settlement is told, and never stops the others. @throws store errors */
  async #settle(
    id: string,
    monitor: ChannelMonitor,
    facts: SettlementFacts,
  ): Promise<Settlement | undefined> {
    const { secp, logger, metrics, holderPoints } = this.#ports;
    const ready = await this.#monitors.withRevoked(id, monitor, commitmentNumbers(monitor, facts));
    try {
      const holderPoint = (number: bigint): Uint8Array | undefined => holderPoints?.of(id, number);
      const settlement = settle({ secp, holderPoint }, ready, facts);
      this.#faulty.delete(id);
      return settlement;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#faulty.get(id) !== reason)
        logger.error({ channel: id, reason }, 'ALARM: a closed channel cannot be settled');
      this.#faulty.set(id, reason);
      return undefined;
    } finally {
      metrics.faultySettlements.set(this.#faulty.size);
    }
  }

  #alarm(channelId: Uint8Array, type: string): void {
    const { logger, metrics, holderPoints } = this.#ports;
    metrics.closes.inc({ type });
    if (type === 'revoked')
      logger.error({ channelId }, 'ALARM: a revoked commitment confirmed: it is punished');
    else if (type === 'unknown')
      logger.error({ channelId }, 'ALARM: a transaction that nobody can explain spent a funding output');
    else if (type === 'data_loss' && holderPoints === undefined)
      logger.warn(
        { channelId },
        'a commitment confirmed that the monitor does not know yet: the node may tell of it',
      );
    else if (type === 'data_loss')
      logger.error(
        { channelId },
        'ALARM: this node lost state of a channel: only its balance can be claimed',
      );
    else logger.warn({ channelId, type }, 'a channel is closed on-chain');
  }

  /** Before the close confirms: preimages go upstream, and the manager hears that its peer has left. */
  #writeEarly(
    draft: Draft,
    settlement: Settlement,
    /** `told`: what this turn tells; remembered once it is committed. */
    at: ChannelTurn & { readonly told: string[] },
  ): number {
    const id = toHex(at.channelId);
    let learnt = 0;
    for (const outcome of settlement.htlcs) {
      if (outcome.type !== 'fulfilled' || this.#toldEarly.has(`${id}:${outcome.htlc.id}`)) continue;
      at.told.push(`${id}:${outcome.htlc.id}`);
      draft.settlement.tell({
        channelId: at.channelId,
        htlcId: outcome.htlc.id,
        outcome: { type: 'fulfilled', preimage: outcome.preimage },
      });
      draft.settlement.event(outcomeEvent(outcome, at));
      learnt += 1;
    }
    const record = draft.funding(id);
    for (const { owner, txid } of settlement.unconfirmedCommitments) {
      const key = `${id}:${toHex(txid)}`;
      if (owner !== 'counterparty' || record === undefined || this.#toldEarly.has(key)) continue;
      at.told.push(key);
      const { fundingTxid, fundingOutputIndex } = record;
      draft.report({
        channelId: at.channelId,
        fundingTxid,
        fundingOutputIndex,
        status: { type: 'spend_seen', txid },
      });
    }
    return learnt;
  }

  /** Facts of what is settled for good go once no reorganisation can reach them. */
  #forget(draft: Draft, bestHeight: number): void {
    for (const [id, { resolvedHeight }] of draft.view.settlements) {
      if (resolvedHeight === undefined || bestHeight - resolvedHeight < KEPT_BLOCKS) continue;
      for (const record of draft.view.spends.get(id)?.values() ?? []) draft.settlement.forgetSpend(record);
      this.#watched.drop(id);
    }
  }
}

export function placed(block: ChainBlock): PlacedTx[] {
  return block.transactions.map((tx, at) => ({
    tx,
    txid: block.txids[at] as Uint8Array,
    txIndex: block.txIndexes[at] as number,
  }));
}

/**
 * A close that a scan of old blocks found, while it goes on: what followed is in blocks that are still to be read. Half of
 * the facts would claim what was claimed long ago, and fail what was paid. One that is settled already was found when it
 * confirmed, with all that followed.
 */
function isHalfKnown({ fundings, settlements, rescanFrom }: ChainView, id: string): boolean {
  const spent = fundings.get(id)?.spent;
  return rescanFrom !== undefined && spent !== undefined && spent.height < rescanFrom && !settlements.has(id);
}

/** The same facts give the same settlement: nothing is computed twice. A resolved one does not depend on the height. */
function fingerprintOf(
  { confirmed, preimages, bestHeight }: SettlementFacts,
  at: {
    readonly updateId: bigint;
    /** Told by the caller: it costs much to compute them anew. */
    readonly unconfirmedTxids: readonly string[];
    readonly isResolved: boolean;
  },
): string {
  const facts = confirmed.map(({ txid, height }) => `${toHex(txid)}@${height}`);
  const height = at.isResolved ? 'resolved' : bestHeight;
  return [at.updateId, height, preimages.size, ...facts, '|', ...at.unconfirmedTxids].join();
}
