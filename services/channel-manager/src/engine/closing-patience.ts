/** How long the negotiation of a closing fee may take. */
import type { ChannelState } from '@fulmen/channel';
import { isFrozen } from '@fulmen/channel/updates/ready';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';

/**
 * BOLT 2: "if it doesn't receive a closing_signed response after a reasonable amount of time: MUST fail the channel", and
 * "MUST fail the channel if it doesn't receive a satisfying fee_range after a reasonable amount of time". A lost connection
 * begins the negotiation, and the time for it, anew; of a frozen channel the peer has heard nothing that it could answer.
 */
const CLOSING_PATIENCE_MS = 120_000;

export class ClosingPatience {
  readonly #host: ActorHost;
  readonly #actor: ChannelActor;
  #timer: AbortController | undefined;

  constructor(host: ActorHost, actor: ChannelActor) {
    this.#host = host;
    this.#actor = actor;
  }

  /** To be told after each turn. */
  follow(state: ChannelState): void {
    const negotiates =
      state.type === 'established' &&
      state.phase.type === 'negotiating_closing' &&
      state.connection.type === 'connected' &&
      !isFrozen(state);
    if (negotiates) this.#timer ??= this.#start();
    else this.stop();
  }

  stop(): void {
    this.#timer?.abort();
    this.#timer = undefined;
  }

  #start(): AbortController {
    const timer = new AbortController();
    void this.#host.ports.runtime.sleep(CLOSING_PATIENCE_MS, timer.signal).then(
      () => {
        this.#actor.post({
          kind: 'command',
          input: { type: 'force_close', reason: 'the closing fee was not agreed on in time' },
          settle: () => undefined,
        });
      },
      () => undefined,
    );
    return timer;
  }
}
