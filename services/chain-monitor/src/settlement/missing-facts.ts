/**
 * Facts that no scan could find: of a channel whose funding output was spent
 * before anybody watched it (a watch that came late, a release that kept no
 * facts). Its blocks are read again, from the spend to the tip.
 */
import { type Network, displayHash } from '@fulmen/bitcoin';
import { type ChainSource, Registrations, readBlock } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import type { Logger } from '@fulmen/service';
import type { FundingRecord, SpendRecord, StoredBlock } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';
import type { Writer } from '../state/writer.ts';
import { scanFacts } from './facts.ts';
import { type Settler, placed } from './settler.ts';

/** Blocks read in one turn: the follower must not wait for long. */
const BLOCKS_A_TURN = 50;

export interface MissingFactsPorts {
  readonly source: ChainSource;
  readonly network: Network;
  readonly writer: Writer;
  readonly logger: Logger;
  readonly settler: Pick<Settler, 'watchedBy'>;
}

/** One channel's search, as far as it came. */
interface Search {
  readonly record: FundingRecord;
  nextHeight: number;
  /** Of the last block that was read, which the next one must follow: facts of replaced blocks are none. */
  lastHash: string | undefined;
  readonly facts: SpendRecord[];
  /** Keys of outputs whose spend is looked for. */
  watched: ReadonlyMap<string, { readonly txid: Uint8Array; readonly outputIndex: number }>;
}

export class MissingFacts {
  readonly #ports: MissingFactsPorts;
  readonly #searches = new Map<string, Search>();
  /** Searches that came to nothing, with the tip at which: tried again at the next. */
  readonly #vain = new Map<string, string>();

  constructor(ports: MissingFactsPorts) {
    this.#ports = ports;
  }

  /** Goes on with one search. Resolves with whether there is more to do. @throws ChainSourceError, store errors */
  async run(): Promise<'more' | 'done'> {
    const { writer } = this.#ports;
    const found = await writer.exclusive(async (view) => {
      for (const [id, record] of view.fundings) {
        const isMissing =
          record.spent !== undefined && record.settledHeight === undefined && !view.spends.has(id);
        if (!isMissing || view.tip === undefined || this.#vain.get(id) === toHex(view.tip.hash)) continue;
        return { id, record, tip: view.tip };
      }
      return undefined;
    });
    if (found === undefined) {
      this.#searches.clear();
      return 'done';
    }
    await this.#search(found.id, found.record, found.tip);
    return 'more';
  }

  async #search(id: string, record: FundingRecord, tip: StoredBlock): Promise<void> {
    const { spent, fundingTxid: txid, fundingOutputIndex: outputIndex } = record;
    if (spent === undefined) return;
    const known = this.#searches.get(id);
    // A reorganisation moved the spend: from the beginning.
    const search: Search =
      known !== undefined && known.record.spent?.height === spent.height
        ? known
        : {
            record,
            nextHeight: spent.height,
            lastHash: undefined,
            facts: [],
            watched: new Map([[outPointKey(txid, outputIndex), { txid, outputIndex }]]),
          };
    this.#searches.set(id, search);
    const last = Math.min(tip.height, search.nextHeight + BLOCKS_A_TURN - 1);
    for (; search.nextHeight <= last && search.watched.size > 0; search.nextHeight++)
      if ((await this.#read(id, search)) === 'absent') return this.#giveUp(id, tip);
    if (search.nextHeight <= tip.height && search.watched.size > 0) return;
    await this.#store(id, search, tip);
  }

  /** The source has not these blocks, or they not what was seen in them: the next block begins anew. */
  #giveUp(id: string, tip: StoredBlock): void {
    this.#searches.delete(id);
    this.#vain.set(id, toHex(tip.hash));
  }

  async #read(id: string, search: Search): Promise<'read' | 'absent'> {
    const { source, network, settler } = this.#ports;
    const height = search.nextHeight;
    const hash = await source.getBlockHash(height);
    if (hash === undefined) return 'absent';
    for (;;) {
      const filter = new Registrations();
      for (const outPoint of search.watched.values())
        filter.registerOutput(outPoint.txid, outPoint.outputIndex);
      const asked = search.watched;
      const reading = await readBlock(source, network, { hash, height }, () => filter);
      if (reading.kind !== 'block') return 'absent';
      const { block } = reading;
      if (search.lastHash !== undefined && displayHash(block.header.prevHash) !== search.lastHash)
        return 'absent';
      await scanFacts(placed(block), height, {
        channelsOf: (key) => (search.watched.has(key) ? [id] : []),
        put: (fact) => {
          if (!search.facts.some(({ txid }) => equalBytes(txid, fact.txid))) search.facts.push(fact);
        },
        rewatch: async () => {
          search.watched = await settler.watchedBy(id, search.facts);
        },
      });
      const isWider = [...search.watched.keys()].some((key) => !asked.has(key));
      if (block.coverage === 'whole' || !isWider) {
        search.lastHash = hash;
        return 'read';
      }
    }
  }

  async #store(id: string, { facts, nextHeight, lastHash }: Search, tip: StoredBlock): Promise<void> {
    const { source, writer, logger } = this.#ports;
    if (facts.length === 0 || (await source.getBlockHash(nextHeight - 1)) !== lastHash)
      return this.#giveUp(id, tip);
    const isStored = await writer.turn((draft) => {
      const current = draft.view.tip;
      if (current === undefined || !equalBytes(current.hash, tip.hash)) return false;
      for (const fact of facts) draft.settlement.putSpend(fact);
      return true;
    });
    this.#searches.delete(id);
    if (!isStored) return;
    logger.info(
      { channel: id, facts: facts.length, tip: displayHash(tip.hash) },
      'facts of a closed channel were found in old blocks',
    );
  }
}
