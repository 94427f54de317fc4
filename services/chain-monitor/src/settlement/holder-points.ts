/**
 * Points of holder commitments that their monitors know nothing of: of channels
 * that came back from a static backup after the node itself had closed them.
 * The signer is asked once for each such close.
 */
import { toHex } from '@fulmen/codec';
import type { ChannelMonitor } from '@fulmen/monitor';
import type { Logger } from '@fulmen/service';
import { type SettlementFacts, lostHolderNumber } from '@fulmen/settlement';
import type { SignerClient } from '../ports.ts';

export interface ClosedChannel {
  readonly id: string;
  readonly monitor: ChannelMonitor;
  readonly confirmed: SettlementFacts['confirmed'];
}

export class HolderPoints {
  readonly #signer: Pick<SignerClient, 'getPerCommitmentPoints'>;
  readonly #logger: Logger;
  /** By channel: the point of the one number that its close has. */
  readonly #known = new Map<string, { readonly number: bigint; readonly point: Uint8Array }>();

  constructor(signer: Pick<SignerClient, 'getPerCommitmentPoints'>, logger: Logger) {
    this.#signer = signer;
    this.#logger = logger;
  }

  of(id: string, number: bigint): Uint8Array | undefined {
    const known = this.#known.get(id);
    return known?.number === number ? known.point : undefined;
  }

  /** Asks for what is missing, and resolves with the channels of which something was learnt. A signer that is away is asked again. */
  async learn(closed: readonly ClosedChannel[]): Promise<readonly string[]> {
    const learnt: string[] = [];
    for (const { id, monitor, confirmed } of closed) {
      const number = lostHolderNumber(monitor, confirmed);
      if (number === undefined || this.of(id, number) !== undefined) continue;
      const { channelKeysId } = monitor.parameters;
      try {
        const { points } = await this.#signer.getPerCommitmentPoints({
          channelKeysId,
          commitmentNumbers: [number],
        });
        const [point] = points;
        if (point === undefined) continue;
        this.#known.set(id, { number, point: Uint8Array.from(point) });
        learnt.push(id);
      } catch (error) {
        this.#logger.warn(
          { err: error, channel: toHex(monitor.parameters.channelId) },
          'the signer could not be asked for the point of a lost commitment',
        );
      }
    }
    return learnt;
  }
}
