/**
 * Follows the best chain, one block after another, and never skips one. A
 * source that contradicts itself or the stored chain is not believed: the
 * follower halts, says why, and touches nothing until somebody looks. A wrong
 * block would be worse than none: channels are settled by what is in it.
 */
import { NETWORKS, type Network, displayHash, parseDisplayHash } from '@fulmen/bitcoin';
import {
  type ChainBlock,
  type ChainFilter,
  type ChainSource,
  type ChainTip,
  isWithin,
  readBlock,
  union,
} from '@fulmen/chain';
import { equalBytes } from '@fulmen/codec';
import type { Logger } from '@fulmen/service';
import type { StoredBlock } from '@fulmen/store/chain/chain-store';
import type { ChainMetrics } from '../metrics.ts';
import type { Writer } from '../state/writer.ts';
import { Draft } from '../state/draft.ts';
import type { AddressBook } from '../wallet/address-book.ts';
import { pruneSpent, unscanWallet } from '../wallet/observe.ts';
import type { BlockIndex } from './block-index.ts';
import { reportFundings, reportLostFundings, scanFundings, unscanFundings } from './fundings.ts';
import { type ChainHealth, ContradictionError } from './health.ts';
import { finishSweeps, scanSweeps, unscanSweeps } from '../sweeper/scan.ts';
import { finishOrders, scanOrders, unscanOrders } from './orders.ts';
import { type Registrar, registered } from './registered.ts';
import type { Settler } from '../settlement/settler.ts';

/**
 * The first start is so many blocks below the best one, so that no reorganisation takes all that is stored: the block
 * that is common to both chains is a stored one. BOLT 5's depth of "irrevocably resolved".
 */
const BEGIN_DEPTH_BLOCKS = 100;
/** How often a block that does not decode is fetched before the source is not believed. */
const FETCHES = 3;

export interface FollowerPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  readonly network: Network;
  readonly health: ChainHealth;
  readonly rescanHeight: number | undefined;
  readonly index: BlockIndex;
  readonly book: () => AddressBook | undefined;
  /** What the records wait for, told to sources that show only that. */
  readonly registrars: readonly Registrar[];
  /** Spends of what closed channels watch. */
  readonly facts: Pick<Settler, 'scan' | 'unscan'>;
  /** Before a block is acted on: the monitors must know everything that was committed. */
  readonly drainMonitors: () => Promise<void>;
  readonly onBlock: () => void;
}

export class Follower {
  readonly #ports: FollowerPorts;
  #behindReason: string | undefined;
  #identified = false;

  constructor(ports: FollowerPorts) {
    this.#ports = ports;
  }

  /** Moves by at most `limit` blocks. @throws ChainSourceError, store errors */
  async catchUp(limit: number): Promise<'at_tip' | 'more' | 'waiting'> {
    const { health } = this.#ports;
    if (health.halt?.type === 'source_contradicts') return 'waiting';
    try {
      await this.#identify();
      for (let moved = 0; moved < limit; moved++) {
        const outcome = await this.#step();
        await this.#note(outcome);
        if (outcome !== 'moved') return outcome;
      }
      return 'more';
    } catch (error) {
      if (!health.failed(error)) throw error;
      return 'waiting';
    }
  }

  async #note(outcome: 'moved' | 'at_tip' | 'waiting'): Promise<void> {
    const { health, writer } = this.#ports;
    if (outcome === 'moved') health.moved();
    else if (outcome === 'waiting')
      health.waited(
        this.#behindReason ?? 'the source announces a block that it does not give; it may be pruned',
      );
    else {
      const tip = await writer.exclusive(async (view) => view.tip);
      if (tip !== undefined) health.atTip(tip);
    }
  }

  /** Once a process: the source is of our network, by its name and its first block. */
  async #identify(): Promise<void> {
    if (this.#identified) return;
    const { source, network } = this.#ports;
    const name = await source.networkName();
    if (name !== network.name)
      throw new ContradictionError(`the source is of ${name}, not of ${network.name}`);
    const genesis = await source.getBlockHash(0);
    if (genesis !== displayHash(NETWORKS[network.name].chainHash))
      throw new ContradictionError(`the source has another first block: ${genesis ?? 'none'}`);
    this.#identified = true;
  }

  async #step(): Promise<'moved' | 'at_tip' | 'waiting'> {
    const { source, writer } = this.#ports;
    const tip = await writer.exclusive(async (view) => view.tip);
    const best = await source.getBestBlock();
    this.#ports.health.heard(Math.max(0, best.height - (tip?.height ?? best.height)));
    if (tip === undefined) return this.#begin(best);
    this.#ports.metrics.height.set(tip.height);
    // For a while that may be: the source restarts, or is in the middle of a reorg.
    this.#behindReason =
      best.height < tip.height
        ? `the source went back to height ${best.height}, below ${tip.height}, without another chain`
        : undefined;
    if (best.height < tip.height) return 'waiting';
    if (best.hash === displayHash(tip.hash)) return (await this.#rescan(tip)) === 'more' ? 'moved' : 'at_tip';
    const sameHeight = await source.getBlockHash(tip.height);
    // The source moved while it was asked.
    if (sameHeight === undefined) return 'waiting';
    if (sameHeight !== displayHash(tip.hash)) return this.#disconnect(tip);
    const next = await source.getBlockHash(tip.height + 1);
    return next === undefined ? 'waiting' : this.#connect(next, tip);
  }

  /** The first start: from a block that stays, or from where the wallet's first payment may be. */
  async #begin(best: ChainTip): Promise<'moved' | 'waiting'> {
    const { source, writer, rescanHeight } = this.#ports;
    const firstOfWallet = rescanHeight ?? best.height;
    const height = Math.max(0, Math.min(best.height - BEGIN_DEPTH_BLOCKS, firstOfWallet - 1));
    const hash = await source.getBlockHash(height);
    const header = hash === undefined ? undefined : await source.getBlockHeader(hash);
    if (header === undefined) return 'waiting';
    if (header.height !== height || header.hash !== hash)
      throw new ContradictionError(`the header of block ${height} is of another block`);
    const block: StoredBlock = {
      height,
      hash: parseDisplayHash(header.hash),
      prevHash: header.prevHash === undefined ? new Uint8Array(32) : parseDisplayHash(header.prevHash),
      timeUnixSeconds: header.time,
    };
    await writer.turn((draft) => {
      draft.block = { type: 'connect', block };
      draft.scannedFrom = height + 1;
      this.#ports.book()?.extend(draft);
    });
    this.#ports.logger.info({ height }, 'following the chain from here');
    this.#ports.onBlock();
    return 'moved';
  }

  /** The best chain does not have our tip: takes it back, provided that it has one of our blocks. */
  async #disconnect(tip: StoredBlock): Promise<'moved' | 'waiting'> {
    const { source, writer } = this.#ports;
    const blocks = await writer.exclusive(async (view) => view.blocks);
    if ((await source.getBlockHash(tip.height)) === displayHash(tip.hash)) return 'waiting';
    // Below the fork every block is common, above none: halving finds it, and the lowest must be common.
    let [common, other] = [-1, blocks.length - 1];
    for (let at = 0; at < other; at = Math.floor((common + other) / 2)) {
      const block = blocks[at] as StoredBlock;
      const hash = await source.getBlockHash(block.height);
      if (hash === undefined) return 'waiting';
      if (hash === displayHash(block.hash)) common = at;
      else other = at;
      if (common + 1 >= other) break;
    }
    const fork = blocks[common];
    if (fork === undefined)
      throw new ContradictionError(`none of the last ${blocks.length} blocks is in the source's chain`);
    this.#ports.health.replaced(tip.height - fork.height, tip.height);
    await writer.turn((draft) => {
      draft.block = { type: 'disconnect', hash: tip.hash };
      unscanFundings(draft, tip.height);
      unscanOrders(draft, tip.height);
      unscanWallet(draft, tip.height);
      unscanSweeps(draft, tip.height);
      this.#ports.facts.unscan(draft, tip.height);
      reportFundings(draft, tip.height - 1);
    });
    this.#ports.metrics.disconnected.inc();
    this.#ports.logger.warn({ height: tip.height, fork: fork.height }, 'block taken back by a reorg');
    this.#ports.onBlock();
    return 'moved';
  }

  /** The block, or what is registered of it; undefined when the source does not have it. */
  async #read(
    at: { readonly hash: string; readonly height: number },
    filter: ChainFilter,
  ): Promise<ChainBlock | undefined> {
    let fault = '';
    for (let attempt = 0; attempt < FETCHES; attempt++) {
      const reading = await readBlock(this.#ports.source, this.#ports.network, at, () => filter);
      if (reading.kind === 'block') return reading.block;
      if (reading.kind === 'absent') return undefined;
      fault = reading.reason;
    }
    throw new ContradictionError(`block ${at.hash} is not what it should be: ${fault}`);
  }

  /** What the records wait for; of no use to a source of whole blocks, and not gathered for one. */
  async #filter(registrars: readonly Registrar[]): Promise<ChainFilter> {
    const { source, writer } = this.#ports;
    const needed = 'getFilteredBlock' in source ? registrars : [];
    return writer.exclusive(async (view) => registered(new Draft(view), needed));
  }

  async #connect(hash: string, tip: StoredBlock): Promise<'moved' | 'waiting'> {
    const { source, writer, index, registrars } = this.#ports;
    const height = tip.height + 1;
    let filter = await this.#filter(registrars);
    for (;;) {
      const block = await this.#read({ hash, height }, filter);
      if (block === undefined) return 'waiting';
      if (!equalBytes(block.header.prevHash, tip.hash)) {
        // Either a reorg came between two questions, or the source lies.
        if (
          (await source.getBlockHash(tip.height)) === displayHash(tip.hash) &&
          (await source.getBlockHash(height)) === hash
        )
          throw new ContradictionError(
            `block ${hash} at height ${height} does not follow the block before it`,
          );
        return 'waiting';
      }
      const late = await this.#readEarlier(block, filter);
      if (late === undefined) return 'waiting';
      await this.#ports.drainMonitors();
      const wider = await writer.turn(async (draft) => {
        for (const one of late) await this.#scan(draft, one.block, one.height);
        draft.block = {
          type: 'connect',
          block: {
            height,
            hash: block.hash,
            prevHash: block.header.prevHash,
            timeUnixSeconds: block.header.time,
          },
        };
        await this.#scan(draft, block, height);
        reportFundings(draft, height);
        reportLostFundings(draft, height);
        finishOrders(draft, height);
        finishSweeps(draft, height);
        pruneSpent(draft, height);
        if (block.coverage === 'whole') return undefined;
        // What this block brought may wait for more of it: its transactions are asked for before anything is committed.
        const needed = registered(draft, registrars);
        if (isWithin(needed, filter)) return undefined;
        draft.abandon();
        return union(filter, needed);
      });
      if (wider !== undefined) {
        filter = wider;
        continue;
      }
      index.add(block);
      this.#ports.metrics.height.set(height);
      this.#ports.logger.debug({ height, hash, transactions: block.transactions.length }, 'block connected');
      this.#ports.onBlock();
      return 'moved';
    }
  }

  async #scan(draft: Draft, block: ChainBlock, height: number): Promise<void> {
    scanFundings(draft, block, height);
    scanOrders(draft, block, height);
    scanSweeps(draft, block, height);
    scanWallet(draft, this.#ports.book(), block, height);
    await this.#ports.facts.scan(draft, block, height);
  }

  /** Earlier blocks of which the source tells something only now: they are read again, or facts would be missing. */
  async #readEarlier(
    { earlier }: ChainBlock,
    filter: ChainFilter,
  ): Promise<readonly { readonly block: ChainBlock; readonly height: number }[] | undefined> {
    if (earlier.length === 0) return [];
    const blocks = await this.#ports.writer.exclusive(async (view) => view.blocks);
    const late: { block: ChainBlock; height: number }[] = [];
    for (const at of earlier.toSorted((a, b) => a.height - b.height)) {
      const ours = blocks.find(({ height }) => height === at.height);
      // Of another chain than ours: a reorg comes.
      if (ours !== undefined && displayHash(ours.hash) !== at.hash) return undefined;
      const block = await this.#read(at, filter);
      if (block === undefined) return undefined;
      late.push({ block, height: at.height });
      this.#ports.metrics.lateSightings.inc();
      this.#ports.logger.warn({ height: at.height }, 'the source tells of a block’s transactions only now');
    }
    return late;
  }

  /**
   * Scans one old block: the operator asked for blocks before the first start, or a channel came from a backup whose
   * funding output may have been spent there. What is found again is what is known.
   */
  async #rescan(tip: StoredBlock): Promise<'more' | 'done'> {
    const { source, writer, registrars, rescanHeight } = this.#ports;
    if (this.#ports.book() === undefined) return 'done';
    const from = await writer.turn((draft) => {
      const { scannedFrom, rescanFrom } = draft.view;
      if (rescanHeight === undefined || scannedFrom === undefined || rescanHeight >= scannedFrom)
        return rescanFrom;
      draft.rescanFrom = rescanHeight;
      draft.scannedFrom = rescanHeight;
      return rescanHeight;
    });
    if (from === undefined) return 'done';
    const hash = from > tip.height ? undefined : await source.getBlockHash(from);
    let filter = await this.#filter(registrars);
    for (;;) {
      const block = hash === undefined ? undefined : await this.#read({ hash, height: from }, filter);
      const wider = await writer.turn(async (draft) => {
        if (block !== undefined) {
          await this.#scan(draft, block, from);
          reportFundings(draft, tip.height);
        }
        draft.rescanFrom = block === undefined || from >= tip.height ? null : from + 1;
        const needed = block?.coverage === 'registered' ? registered(draft, registrars) : filter;
        if (isWithin(needed, filter)) return undefined;
        draft.abandon();
        return union(filter, needed);
      });
      if (wider === undefined) return 'more';
      filter = wider;
    }
  }
}

function scanWallet(draft: Draft, book: AddressBook | undefined, block: ChainBlock, height: number): void {
  book?.observe(
    draft,
    block.transactions.map((tx, at) => ({
      tx,
      txid: block.txids[at] as Uint8Array,
      sighting: { type: 'block', height, isCoinbase: block.txIndexes[at] === 0 },
    })),
  );
}
