/**
 * Scans old blocks: the operator asked for blocks before the first start, or a
 * channel came from a backup whose funding output may have been spent there.
 * What is found again is what is known. It can take hours, and nothing waits
 * for it but what it finds: a few blocks at the end of a turn. Until it is done
 * that is half the truth, for a block that is still to come may have spent it:
 * coins are not spent (`isMature`) and closes are not settled (`Settler`).
 */
import { isWithin, union, type ChainSource } from '@fulmen/chain';
import type { Logger, Runtime } from '@fulmen/service';
import type { ChainMetrics } from '../metrics.ts';
import type { Draft } from '../state/draft.ts';
import type { Writer } from '../state/writer.ts';
import type { AddressBook } from '../wallet/address-book.ts';
import type { BlockScanner } from './block-scanner.ts';
import { reportFundings } from './fundings.ts';
import { type ChainHealth, ContradictionError } from './health.ts';

/** Old blocks scanned in one turn. */
const BLOCKS_A_TURN = 20;

/** Takes back a disconnected block: what comes in its place comes as new blocks do, and the scan has passed none of it. */
export function unscanOldBlocks(draft: Draft, height: number): void {
  const { rescanFrom } = draft.view;
  if (rescanFrom !== undefined && rescanFrom > height) draft.rescanFrom = height;
}

/** Where nothing scans old blocks, in a tower: closes must not wait for a scan that rows of another release tell of. */
export async function dropScan(writer: Writer): Promise<void> {
  await writer.turn((draft) => {
    if (draft.view.rescanFrom !== undefined) draft.rescanFrom = null;
  });
}

export interface RescanPorts {
  readonly runtime: Pick<Runtime, 'monotonicMs'>;
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  readonly health: ChainHealth;
  readonly scanner: BlockScanner;
  /** From which height on the operator wants the wallet to know its payments. */
  readonly rescanHeight: number | undefined;
  /** How long a source may be without a block. */
  readonly behindGraceMs: number;
  readonly book: () => AddressBook | undefined;
}

export class Rescan {
  readonly #ports: RescanPorts;
  #absentSinceMs: number | undefined;

  constructor(ports: RescanPorts) {
    this.#ports = ports;
  }

  /**
   * Goes on with the scan; only while the stored tip is the source's. more: it goes on, or something was found that is
   * to be acted on now.
   *
   * @throws ChainSourceError, store errors
   */
  async run(): Promise<'more' | 'done'> {
    if (this.#ports.book() === undefined) return 'done';
    try {
      for (let blocks = 0; blocks < BLOCKS_A_TURN; blocks++)
        if ((await this.#step()) === 'done') return blocks > 0 ? 'more' : 'done';
      return 'more';
    } catch (error) {
      // A source that lies about the past is not believed about the present; one that is silent is asked again.
      if (!(error instanceof ContradictionError)) throw error;
      this.#ports.health.failed(error);
      return 'done';
    }
  }

  async #step(): Promise<'more' | 'done'> {
    const { source, writer, scanner, metrics } = this.#ports;
    const at = await this.#next();
    metrics.rescanBlocks.set(at === undefined ? 0 : at.tipHeight - at.height + 1);
    if (at === undefined) return 'done';
    const { height, tipHeight } = at;
    const hash = await source.getBlockHash(height);
    let filter = await scanner.filter();
    for (;;) {
      const block = hash === undefined ? undefined : await scanner.read({ hash, height }, filter);
      if (block === undefined) return this.#absent(at);
      this.#absentSinceMs = undefined;
      const wider = await writer.turn(async (draft) => {
        await scanner.scan(draft, block, height);
        reportFundings(draft, tipHeight);
        draft.rescanFrom = height >= tipHeight ? null : height + 1;
        const needed = block.coverage === 'registered' ? scanner.needed(draft) : filter;
        if (isWithin(needed, filter)) return undefined;
        draft.abandon();
        return union(filter, needed);
      });
      if (wider === undefined) return 'more';
      filter = wider;
    }
  }

  /** A source that is between two states gives it later; one that is pruned never does. */
  async #absent({ height }: { readonly height: number }): Promise<'done'> {
    const { runtime, behindGraceMs, writer, logger } = this.#ports;
    const nowMs = runtime.monotonicMs();
    this.#absentSinceMs ??= nowMs;
    if (nowMs - this.#absentSinceMs < behindGraceMs) return 'done';
    this.#absentSinceMs = undefined;
    logger.error(
      { height },
      'ALARM: the source does not give an old block: nothing from there on is scanned',
    );
    await writer.turn((draft) => void (draft.rescanFrom = null));
    return 'done';
  }

  /** Where the scan stands; begun now, if the operator asks for earlier blocks than were ever scanned. */
  #next(): Promise<{ readonly height: number; readonly tipHeight: number } | undefined> {
    const { writer, rescanHeight } = this.#ports;
    return writer.turn((draft) => {
      const { scannedFrom, rescanFrom, tip } = draft.view;
      if (tip === undefined) return undefined;
      const isAsked = rescanHeight !== undefined && scannedFrom !== undefined && rescanHeight < scannedFrom;
      const from = isAsked ? Math.min(rescanHeight, rescanFrom ?? rescanHeight) : rescanFrom;
      if (isAsked) {
        draft.rescanFrom = from;
        draft.scannedFrom = rescanHeight;
      }
      // A reorganisation took the rest away: it comes again as new blocks.
      if (from !== undefined && from > tip.height) draft.rescanFrom = null;
      return from === undefined || from > tip.height ? undefined : { height: from, tipHeight: tip.height };
    });
  }
}
