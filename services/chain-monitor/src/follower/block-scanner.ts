/** Reads blocks of the source, whole or filtered, and notes in a turn what they say about every record. */
import type { Network } from '@fulmen/bitcoin';
import { type ChainBlock, type ChainFilter, type ChainSource, readBlock } from '@fulmen/chain';
import type { Settler } from '../settlement/settler.ts';
import { Draft } from '../state/draft.ts';
import type { Writer } from '../state/writer.ts';
import { scanSweeps } from '../sweeper/scan.ts';
import { type AddressBook, observeTransactions } from '../wallet/address-book.ts';
import { scanFundings } from './fundings.ts';
import { ContradictionError } from './health.ts';
import { scanOrders } from './orders.ts';
import { type Registrar, registered } from './registered.ts';

/** How often a block that does not decode is fetched before the source is not believed. */
const FETCHES = 3;

export interface BlockScannerPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly network: Network;
  readonly book: () => AddressBook | undefined;
  /** What the records wait for, told to sources that show only that. */
  readonly registrars: readonly Registrar[];
  /** Spends of what closed channels watch. */
  readonly facts: Pick<Settler, 'scan'>;
}

export class BlockScanner {
  readonly #ports: BlockScannerPorts;

  constructor(ports: BlockScannerPorts) {
    this.#ports = ports;
  }

  /** What the records wait for; of no use to a source of whole blocks, and not gathered for one. */
  async filter(): Promise<ChainFilter> {
    const { source, writer, registrars } = this.#ports;
    const needed = 'getFilteredBlock' in source ? registrars : [];
    return writer.exclusive(async (view) => registered(new Draft(view), needed));
  }

  /** What the records wait for as the turn leaves them. */
  needed(draft: Draft): ChainFilter {
    return registered(draft, this.#ports.registrars);
  }

  /**
   * The block, or what is registered of it; undefined when the source does not have it.
   * @throws ContradictionError when it is not what it should be; ChainSourceError
   */
  async read(
    at: { readonly hash: string; readonly height: number },
    filter: ChainFilter,
  ): Promise<ChainBlock | undefined> {
    const { source, network } = this.#ports;
    let fault = '';
    for (let attempt = 0; attempt < FETCHES; attempt++) {
      const reading = await readBlock(source, network, at, () => filter);
      if (reading.kind === 'block') return reading.block;
      if (reading.kind === 'absent') return undefined;
      fault = reading.reason;
    }
    throw new ContradictionError(`block ${at.hash} is not what it should be: ${fault}`);
  }

  async scan(draft: Draft, block: ChainBlock, height: number): Promise<void> {
    scanFundings(draft, block, height);
    scanOrders(draft, block, height);
    scanSweeps(draft, block, height);
    observeTransactions(
      draft,
      block.transactions.map((tx, at) => ({
        tx,
        txid: block.txids[at] as Uint8Array,
        sighting: { type: 'block', height, isCoinbase: block.txIndexes[at] === 0 },
      })),
      this.#ports.book(),
    );
    await this.#ports.facts.scan(draft, block, height);
  }
}
