/**
 * Whether the tower's database has still what the node was told that it has. A
 * database that was restored, failed over with a loss, or is a new one counts
 * less: the node hears of it, and sends everything again.
 */
import type { Logger } from '@fulmen/service';
import type { TowerInbox } from '@fulmen/store/tower/tower-store';
import type { FeedClient } from './monitor-fetcher.ts';

export interface SetBackPorts {
  readonly towerId: string;
  readonly inbox: Pick<TowerInbox, 'mark' | 'raiseMark'>;
  readonly logger: Logger;
}

export class SetBackWatch {
  readonly #ports: SetBackPorts;
  #known = 0n;

  constructor(ports: SetBackPorts) {
    this.#ports = ports;
  }

  /** The highest mark that the database is known to have had: nothing is stored in one that shows less. */
  get known(): bigint {
    return this.#known;
  }

  /** The database showed this. */
  saw(mark: bigint): void {
    if (mark > this.#known) this.#known = mark;
  }

  /**
   * Whether something was lost; the node is told, and the answer that it gave before is of no use.
   * @param nodeMark what the node knows; 0: it does not know of marks
   */
  async found(nodeMark: bigint, feed: FeedClient): Promise<boolean> {
    const { towerId, inbox, logger } = this.#ports;
    this.saw(nodeMark);
    const known = this.#known;
    // Anew: what came whole while the node answered was counted, too.
    const mark = await inbox.mark();
    if (nodeMark === 0n) this.#known = mark;
    this.saw(mark);
    if (nodeMark === 0n || mark >= known) return false;
    logger.error(
      { mark, known },
      'ALARM: this database was set back, or is another one: everything is fetched again',
    );
    const { mark: next } = await feed.reportSetBack({ towerId, lostMark: this.#known });
    // 0: the node knows of a higher one still, and says so in its next answer.
    if (next > 0n) {
      await inbox.raiseMark(next);
      this.saw(next);
    }
    return true;
  }
}
