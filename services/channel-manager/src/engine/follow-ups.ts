/** What a channel does after its turn is committed, beside sending messages. */
import { primaryFunding, type ChannelState } from '@fulmen/channel';
import { encodeTx } from '@fulmen/bitcoin';
import { assembleClosing, buildClosingTransaction } from '@fulmen/channel/commitment/index';
import { assertNever } from '@fulmen/codec';
import type { BroadcastOrder } from '@fulmen/store';
import { isRefusal } from '../signing/patiently.ts';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import { closeByForceInstead } from './sender.ts';
import type { FollowUp } from './turn-result.ts';

export class FollowUps {
  readonly #host: ActorHost;
  readonly #actor: ChannelActor;

  constructor(host: ActorHost, actor: ChannelActor) {
    this.#host = host;
    this.#actor = actor;
  }

  /**
   * The funding transaction is ordered in the commit that makes the channel: a crash cannot come between. The order
   * names the channel as it is from then on.
   */
  fundingBroadcast(state: ChannelState, followUps: readonly FollowUp[]): BroadcastOrder[] {
    const transaction = this.#actor.fundingTransaction;
    const isOrdered = followUps.some((effect) => effect.type === 'broadcast_funding');
    if (transaction === undefined || !isOrdered || state.type !== 'established') return [];
    return [{ kind: 'funding', transactions: [transaction], channelId: state.channelId }];
  }

  run(effect: FollowUp): void {
    switch (effect.type) {
      case 'fund_channel':
        this.#host.fundChannel(this.#actor, effect.fundingValueSat, effect.scriptPubKey);
        return;
      case 'broadcast_funding':
        // Ordered with the commit; see fundingBroadcast.
        return;
      case 'broadcast_closing':
        this.broadcastClosing();
        return;
      case 'announce_channel':
        this.#host.publishAnnouncement(this.#actor, {
          shortChannelId: effect.shortChannelId,
          nodeSignature: effect.counterpartyNodeSignature,
          bitcoinSignature: effect.counterpartyBitcoinSignature,
        });
        return;
      case 'force_close':
        // The monitor log carries it to chain-monitor, which broadcasts; nothing is left to do here.
        return;
      case 'disconnect':
        this.#host.disconnect(this.#actor, effect.reason);
        return;
    }
    assertNever(effect);
  }

  /** Changes of phase or connection that other parts act on. */
  afterTurn(state: ChannelState, before: ChannelState): void {
    if (state.type === 'opening') {
      if (state.phase.type === 'abandoned') this.#host.abandoned(this.#actor, state.phase.reason);
      return;
    }
    const wasClosed = before.type === 'established' && before.phase.type === 'closed';
    if (state.phase.type === 'closed' && !wasClosed) this.#host.channelsChanged();
    const wasUsable =
      before.type === 'established' && before.phase.type === 'open' && before.connection.type === 'connected';
    if (!wasUsable && state.phase.type === 'open' && state.connection.type === 'connected')
      this.#host.publishPolicy(this.#actor);
    const wasOpen = before.type === 'established' && before.phase.type === 'open';
    if (wasOpen && state.phase.type !== 'open') this.#host.publishPolicy(this.#actor);
  }

  /** Signs the agreed mutual close and orders its broadcast; repeated after a restart, identically. */
  broadcastClosing(): void {
    this.#host.inBackground('mutual close', async () => {
      const { state } = this.#actor;
      if (state.type !== 'established' || state.phase.type !== 'closing_mutual') return;
      const { closing, counterpartySignature } = state.phase;
      const funding = primaryFunding(state);
      const built = buildClosingTransaction({
        funding,
        closing,
        dustLimitSat: state.parameters.holder.dustLimitSat,
      });
      if (!built.ok) return this.#host.quarantine(this.#actor, 'the agreed mutual close cannot be built');
      const message = { kind: 'closing_signed', channelId: state.channelId, closing } as const;
      let holderSignature: Uint8Array;
      try {
        holderSignature = await this.#host.otherSignatures(this.#actor).closing(message);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        return closeByForceInstead(this.#host, this.#actor, error.message);
      }
      const transaction = assembleClosing(built.value, funding, { holderSignature, counterpartySignature });
      this.#actor.post({
        kind: 'broadcast',
        order: { kind: 'mutual_close', transactions: [encodeTx(transaction)], channelId: state.channelId },
      });
    });
  }
}
