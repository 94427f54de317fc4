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
  union,
} from '@fulmen/chain';
import { equalBytes } from '@fulmen/codec';
import type { Logger } from '@fulmen/service';
import type { StoredBlock } from '@fulmen/store/chain/chain-store';
import type { ChainMetrics } from '../metrics.ts';
import type { Settler } from '../settlement/settler.ts';
import type { Writer } from '../state/writer.ts';
import { finishSweeps, unscanSweeps } from '../sweeper/scan.ts';
import { pruneSpent, unscanWallet } from '../wallet/observe.ts';
import type { BlockIndex } from './block-index.ts';
import type { BlockScanner } from './block-scanner.ts';
import { reportFundings, reportLostFundings, unscanFundings } from './fundings.ts';
import { type ChainHealth, ContradictionError } from './health.ts';
import { finishOrders, unscanOrders } from './orders.ts';
import { unscanOldBlocks } from './rescan.ts';

/**
 * The first start is so many blocks below the best one, so that no reorganisation takes all that is stored: the block
 * that is common to both chains is a stored one. BOLT 5's depth of "irrevocably resolved".
 */
const BEGIN_DEPTH_BLOCKS = 100;

export interface FollowerPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  readonly network: Network;
  readonly health: ChainHealth;
  readonly rescanHeight: number | undefined;
  readonly index: BlockIndex;
  readonly scanner: BlockScanner;
  /** Spends of what closed channels watch. */
  readonly facts: Pick<Settler, 'unscan'>;
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
    if (best.hash === displayHash(tip.hash)) return 'at_tip';
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
      unscanOldBlocks(draft, tip.height);
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

  async #connect(hash: string, tip: StoredBlock): Promise<'moved' | 'waiting'> {
    const { source, writer, index, scanner } = this.#ports;
    const height = tip.height + 1;
    let filter = await scanner.filter();
    for (;;) {
      const block = await scanner.read({ hash, height }, filter);
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
        for (const one of late) await scanner.scan(draft, one.block, one.height);
        draft.block = {
          type: 'connect',
          block: {
            height,
            hash: block.hash,
            prevHash: block.header.prevHash,
            timeUnixSeconds: block.header.time,
          },
        };
        await scanner.scan(draft, block, height);
        reportFundings(draft, height);
        reportLostFundings(draft, height);
        finishOrders(draft, height);
        finishSweeps(draft, height);
        pruneSpent(draft, height);
        if (block.coverage === 'whole') return undefined;
        // What this block brought may wait for more of it: its transactions are asked for before anything is committed.
        const needed = scanner.needed(draft);
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

  /** Earlier blocks of which the source tells something only now: they are read again, or facts would be missing. */
  async #readEarlier(
    { earlier }: ChainBlock,
    filter: ChainFilter,
  ): Promise<readonly { readonly block: ChainBlock; readonly height: number }[] | undefined> {
    if (earlier.length === 0) return [];
    const { scanner, writer } = this.#ports;
    const blocks = await writer.exclusive(async (view) => view.blocks);
    const late: { block: ChainBlock; height: number }[] = [];
    for (const at of earlier.toSorted((a, b) => a.height - b.height)) {
      const ours = blocks.find(({ height }) => height === at.height);
      // Of another chain than ours: a reorg comes.
      if (ours !== undefined && displayHash(ours.hash) !== at.hash) return undefined;
      const block = await scanner.read(at, filter);
      if (block === undefined) return undefined;
      late.push({ block, height: at.height });
      this.#ports.metrics.lateSightings.inc();
      this.#ports.logger.warn({ height: at.height }, 'the source tells of a block’s transactions only now');
    }
    return late;
  }
}
