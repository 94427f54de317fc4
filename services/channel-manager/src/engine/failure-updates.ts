/**
 * The channel_updates that go with failures of forwards, so that the sender can
 * do better: signed when the first failure wants one, kept until the terms
 * change, under the name that the sender's onion used for the channel. A channel
 * that carries for another with the same peer tells nothing: its terms are not
 * those of the name.
 */
import type { FailureMessage } from '@fulmen/onion';
import type { Intent } from '@fulmen/store';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import { isNamed } from './forward-terms.ts';
import type { Item } from './items.ts';
import { channelUpdateUnder } from './own-gossip.ts';

const NONE = new Uint8Array(0);
/** Names of one channel that are remembered: the alias, and the real one, which a reorganisation changes. */
const MAX_NAMES = 16;

/** The name by which a forward was sent to its channel. */
export function outgoingScid(intent: Intent): bigint | undefined {
  return intent.target.type === 'scid' ? intent.target.shortChannelId : undefined;
}

export class FailureUpdates {
  readonly #host: Pick<ActorHost, 'ports' | 'node'>;
  readonly #actor: ChannelActor;
  readonly #signed = new Map<bigint, Uint8Array>();
  /** Of the terms that were signed. */
  #policyUnixMs = 0;

  constructor(host: Pick<ActorHost, 'ports' | 'node'>, actor: ChannelActor) {
    this.#host = host;
    this.#actor = actor;
  }

  /** Empty until a failure has wanted it. */
  of(shortChannelId: bigint | undefined): Uint8Array {
    this.#forgetOldTerms();
    return (shortChannelId === undefined ? undefined : this.#signed.get(shortChannelId)) ?? NONE;
  }

  /** Signs what the forwards of a turn will be refused with. */
  async prepare(
    items: readonly Item[],
    refuse: (intent: Intent, channelUpdate: Uint8Array) => FailureMessage | undefined,
  ): Promise<void> {
    for (const item of items) {
      if (item.kind !== 'forward') continue;
      const name = outgoingScid(item.intent);
      if (name === undefined || !isNamed(this.#actor.state, name) || this.of(name).length > 0) continue;
      const refusal = refuse(item.intent, NONE);
      if (refusal === undefined || !('channelUpdate' in refusal)) continue;
      const signed = await channelUpdateUnder(this.#host.ports, this.#host.node, this.#actor, name);
      if (signed === undefined) continue;
      if (this.#signed.size >= MAX_NAMES) this.#signed.clear();
      this.#signed.set(name, signed);
    }
  }

  #forgetOldTerms(): void {
    const { updatedUnixMs } = this.#actor.policy;
    if (updatedUnixMs === this.#policyUnixMs) return;
    this.#policyUnixMs = updatedUnixMs;
    this.#signed.clear();
  }
}
