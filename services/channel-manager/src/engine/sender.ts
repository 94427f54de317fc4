/** What a channel says after its turn is committed: each message with the signatures that it needs. */
import type { OutboundMessage, PeerMessage } from '@fulmen/channel';
import type { SignSuccess } from '@fulmen/proto/signer/v1/signer';
import { isRefusal } from '../signing/patiently.ts';
import { materialise } from '../signing/sign-item.ts';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';

export class Sender {
  readonly #host: ActorHost;
  readonly #actor: ChannelActor;

  constructor(host: ActorHost, actor: ChannelActor) {
    this.#host = host;
    this.#actor = actor;
  }

  /** `signed`: the signer's answer to the step; `generation`: of the connection, undefined while there is none. */
  async send(
    messages: readonly OutboundMessage[],
    signed: SignSuccess | undefined,
    generation: bigint | undefined,
  ): Promise<void> {
    for (const message of messages) {
      const ready = await this.#ready(message, signed);
      if (this.#actor.stopped) return;
      if (ready !== undefined && generation !== undefined) this.#host.send(this.#actor, ready, generation);
    }
  }

  /** Undefined for a mutual close that the signer refuses: there is none. */
  async #ready(message: OutboundMessage, signed: SignSuccess | undefined): Promise<PeerMessage | undefined> {
    const others = this.#host.otherSignatures(this.#actor);
    try {
      return await materialise(message, signed, this.#actor.points, others);
    } catch (error) {
      if (message.kind !== 'closing_signed' || !isRefusal(error)) throw error;
      closeByForceInstead(this.#host, this.#actor, error.message);
      return undefined;
    }
  }
}

/** The signer refuses a mutual close, and would again: what is left is the holder's own commitment. */
export function closeByForceInstead(host: ActorHost, actor: ChannelActor, refusal: string): void {
  const reason = `the signer refused a mutual close: ${refusal}`;
  host.ports.logger.error({ channel: actor.channelId, reason }, 'ALARM: a channel is closed by force');
  actor.post({ kind: 'command', input: { type: 'force_close', reason }, settle: () => undefined });
}
