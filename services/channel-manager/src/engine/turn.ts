/**
 * One turn of a channel actor, without I/O: mailbox items go through the pure
 * core, and what comes out is gathered into one commit and the messages to send
 * after it. A turn can be run again from the same state: with fewer items, when
 * the store refuses an intent that another claimed first, or with the points
 * that it lacked.
 */
import {
  type ChannelContext,
  type ChannelEffect,
  type ChannelError,
  type ChannelInput,
  type ChannelState,
  type OutboundMessage,
  applyReaction,
  channelStep,
  isHeld,
} from '@fulmen/channel';
import { displayHash } from '@fulmen/bitcoin';
import { isClosing } from '@fulmen/channel/close/force';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { assertNever, InternalError } from '@fulmen/codec';
import {
  type ChannelMonitorUpdate,
  encodeChannelMonitorUpdate,
  type MonitorParameters,
} from '@fulmen/monitor';
import type { BroadcastOrder, FundingStatus, FundingWatch } from '@fulmen/store';
import type { CommandOutcome, Item } from './items.ts';
import { PeerOrder } from './peer-order.ts';
import { reasonToClose, unsignedTooLong } from './turn-deadlines.ts';
import { TurnHtlcs } from './turn-htlcs.ts';
import type { FollowUp, TurnContext, TurnResult } from './turn-result.ts';

export class Turn {
  readonly #context: TurnContext;
  #state: ChannelState;
  readonly #messages: OutboundMessage[] = [];
  readonly #monitorUpdates: { updateId: bigint; payload: Uint8Array }[] = [];
  readonly #revocations: { commitmentNumber: bigint; secret: Uint8Array }[] = [];
  readonly #watches: FundingWatch[] = [];
  readonly #broadcasts: BroadcastOrder[] = [];
  readonly #followUps: FollowUp[] = [];
  readonly #settlements: (() => void)[] = [];
  readonly #removedOutgoing: bigint[] = [];
  readonly #settledInbound: bigint[] = [];
  readonly #frames: bigint[] = [];
  readonly #htlcs: TurnHtlcs;
  readonly #order: PeerOrder;
  readonly #core: ChannelContext;
  readonly #missingPoints: bigint[] = [];
  #monitorBirth: MonitorParameters | undefined;
  /** Messages from here on follow a monitor update of this turn. */
  #firstAfterUpdate: number | undefined;

  constructor(context: TurnContext, state: ChannelState) {
    this.#context = context;
    this.#state = state;
    this.#order = new PeerOrder(context.reestablish);
    this.#core = {
      ...context.core,
      holderPoint: (number) => {
        const point = context.core.holderPoint(number);
        if (point === undefined) this.#missingPoints.push(number);
        return point;
      },
    };
    this.#htlcs = new TurnHtlcs(
      {
        state: () => this.#state,
        input: (input) => this.#input(input),
        apply: (step) => this.#apply(step),
      },
      context,
    );
  }

  /** Runs the items, then asks the core to commit what is pending. */
  run(items: readonly Item[]): TurnResult {
    for (const item of items) this.#item(item);
    this.#commit();
    const messages = this.#context.updatesComplete === 'at_towers' ? this.#holdBack() : this.#messages;
    return {
      state: this.#state,
      messages,
      monitorUpdates: this.#monitorUpdates,
      monitorBirth: this.#monitorBirth,
      revocations: this.#revocations,
      forwarding: this.#htlcs.forwarding,
      watches: this.#watches,
      broadcasts: this.#broadcasts,
      followUps: this.#followUps,
      settlements: this.#settlements,
      bounced: this.#htlcs.bounced,
      acceptedWithoutDecision: this.#htlcs.acceptedWithoutDecision,
      removedOutgoing: this.#removedOutgoing,
      settledInbound: this.#settledInbound,
      fulfilledLateMsat: this.#htlcs.fulfilledLateMsat,
      frames: this.#frames,
      postponed: this.#htlcs.postponed,
      reestablish: this.#order.reestablish,
      missingPoints: this.#missingPoints,
    };
  }

  /**
   * Until enough towers have this turn's updates nothing that gives something away may leave: such messages are dropped,
   * and the core owes them. Those before the first update were covered by earlier ones.
   */
  #holdBack(): readonly OutboundMessage[] {
    const from = this.#firstAfterUpdate;
    if (from === undefined) return this.#messages;
    const covered = this.#messages.slice(0, from);
    const following = this.#messages.slice(from);
    this.#input({ type: 'monitor_update_in_progress', held: following.filter(isHeld) });
    return [...covered, ...following.filter((message) => !isHeld(message))];
  }

  /** From here on the core itself holds back. */
  #freezeNow(): void {
    if (this.#context.updatesComplete !== 'at_towers' || this.#firstAfterUpdate === undefined) return;
    this.#messages.splice(0, this.#messages.length, ...this.#holdBack());
    this.#firstAfterUpdate = undefined;
  }

  #item(item: Item): void {
    switch (item.kind) {
      case 'message':
        this.#frames.push(item.frame);
        // What it makes regenerate has an order of its own: held back in part, an update would overtake its commitment.
        if (item.input.type === 'message' && item.input.message.type === 'channel_reestablish')
          this.#freezeNow();
        this.#message(item.input);
        return;
      case 'connected':
        this.#forgetConnection();
        this.#input({ type: 'peer_connected', features: item.features });
        return;
      case 'disconnected':
        this.#forgetConnection();
        this.#input({ type: 'peer_disconnected' });
        return;
      case 'forward':
        this.#htlcs.forward(item.intent, item.alternatives);
        return;
      case 'resolution':
        this.#htlcs.resolve(item.resolution);
        return;
      case 'funding_status':
        this.#fundingStatus(item);
        return;
      case 'command': {
        const error = this.#input(item.input);
        const outcome: CommandOutcome = error === undefined ? { ok: true } : { ok: false, error };
        this.#settlements.push(() => item.settle(outcome));
        return;
      }
      case 'block':
        this.#block(item.height);
        return;
      case 'closing_decided':
        this.#input({ type: 'force_close', reason: item.reason });
        return;
      case 'state_lost':
        this.#input({ type: 'state_lost' });
        return;
      case 'cancel':
        this.#htlcs.cancel(item.source);
        return;
      case 'broadcast':
        this.#broadcasts.push(item.order);
        return;
      case 'monitor_completed':
        this.#input({ type: 'monitor_update_completed', updateId: item.updateId });
        this.#htlcs.resume();
        return;
      case 'resume':
        this.#htlcs.resume();
        return;
    }
    assertNever(item);
  }

  /** What this turn said on the connection before is not said on the next: reestablish repeats what counts. */
  #forgetConnection(): void {
    this.#messages.length = 0;
    this.#order.forgetConnection();
    if (this.#firstAfterUpdate !== undefined) this.#firstAfterUpdate = 0;
    const stays = this.#followUps.filter((effect) => effect.type !== 'disconnect');
    this.#followUps.splice(0, this.#followUps.length, ...stays);
  }

  #message(input: ChannelInput): void {
    const fault = this.#order.check(input, this.#state, this.#messages);
    if (fault === undefined) this.#input(input);
    else this.#apply(applyReaction(this.#state, fault));
  }

  /** One input through the core; faults are answered as the core says. */
  #input(input: ChannelInput): ChannelError | undefined {
    const result = channelStep(this.#core, this.#state, input);
    if (result.ok) {
      this.#apply(result.value);
      return undefined;
    }
    this.#apply(applyReaction(this.#state, result.error));
    return result.error;
  }

  #apply(step: { readonly state: ChannelState; readonly effects: readonly ChannelEffect[] }): void {
    const before = this.#state;
    this.#state = step.state;
    if (step.effects.some((effect) => effect.type === 'monitor_update'))
      this.#firstAfterUpdate ??= this.#messages.length;
    for (const effect of step.effects) this.#effect(effect, before);
  }

  /** @param before the state that the step began from: what it removed is still there. */
  #effect(effect: ChannelEffect, before: ChannelState): void {
    switch (effect.type) {
      case 'send':
        this.#messages.push(effect.message);
        return;
      case 'watch_channel':
        this.#monitorBirth = effect.parameters;
        return;
      case 'monitor_update': {
        const { channelId } = this.#established();
        const update: ChannelMonitorUpdate = { channelId, updateId: effect.updateId, steps: effect.steps };
        this.#monitorUpdates.push({ updateId: effect.updateId, payload: encodeChannelMonitorUpdate(update) });
        for (const step of effect.steps) {
          if (step.type === 'commitment_secret')
            this.#revocations.push({ commitmentNumber: step.commitmentNumber, secret: step.secret });
        }
        return;
      }
      case 'htlc_accepted':
        this.#htlcs.accepted(effect.htlc, effect.mustFail);
        return;
      case 'htlc_fulfilled':
        this.#htlcs.fulfilled(effect.htlc, effect.preimage);
        return;
      case 'htlc_failed':
        this.#htlcs.failed(effect.htlc.id, effect.removal);
        return;
      case 'htlc_dropped':
        this.#htlcs.dropped(effect.htlc);
        return;
      case 'htlc_settled':
        if (effect.direction === 'outbound') {
          this.#removedOutgoing.push(effect.id);
          this.#htlcs.left(before, effect.id);
        } else this.#settledInbound.push(effect.id);
        return;
      case 'watch_funding':
        this.#watches.push({ ...effect, channelId: this.#established().channelId });
        return;
      case 'event':
        this.#htlcs.event(effect.event.type, { ...effect.event, channelId: this.#context.channelId });
        // What the chain settles from here on leaves by no step.
        if (effect.event.type === 'channel_closed') this.#htlcs.left(before, 'all');
        return;
      case 'fund_channel':
      case 'broadcast_funding':
      case 'broadcast_closing':
      case 'announce_channel':
      case 'disconnect':
        this.#followUps.push(effect);
        return;
      case 'force_close':
        if (effect.broadcast === 'passive') this.#htlcs.takeBack(before);
        this.#followUps.push(effect);
        return;
    }
    assertNever(effect);
  }

  #established(): Extract<ChannelState, { type: 'established' }> {
    if (this.#state.type !== 'established')
      throw new InternalError('an effect of an established channel while opening');
    return this.#state;
  }

  /** Signs what is pending, unless the connection is to end first. */
  #commit(): void {
    if (this.#state.type !== 'established') return;
    const late = unsignedTooLong(this.#state, this.#context);
    if (late === undefined) this.#input({ type: 'commit' });
    else this.#apply(applyReaction(this.#state, late));
  }

  /** Goes on-chain when an HTLC cannot wait any longer (LDK's deadlines). */
  #block(height: number): void {
    if (this.#state.type !== 'established') return;
    const lateMsat = this.#context.fulfilledLateMsat + this.#htlcs.fulfilledLateMsat;
    const reason = reasonToClose(this.#state, height, lateMsat, this.#context.core.feerates);
    if (reason !== undefined) this.#input({ type: 'force_close', reason });
  }

  /** A confirmed spend ends the channel at once; its rows live on until chain-monitor has settled the last output. */
  #fundingSpent(status: Extract<FundingStatus, { type: 'spent' }>): void {
    if (this.#state.type !== 'established') return;
    if (status.settlement === 'resolved')
      this.#input({ type: 'closed', reason: `settled on-chain by ${displayHash(status.txid)}` });
    else if (!isClosing(this.#state))
      this.#input({
        type: 'force_close',
        reason: `the funding output was spent by ${displayHash(status.txid)} at height ${status.height}`,
      });
  }

  #fundingStatus(item: Extract<Item, { kind: 'funding_status' }>): void {
    if (this.#state.type !== 'established') return;
    const [funding] = this.#state.fundings;
    if (funding === undefined) return;
    const { fundingTxid, fundingOutputIndex } = funding;
    const { status } = item;
    switch (status.type) {
      case 'confirmed':
        this.#input({
          type: 'funding_confirmed',
          fundingTxid,
          fundingOutputIndex,
          // chain-monitor compared both with what the watch asked for before it said 'confirmed'.
          valueSat: funding.fundingValueSat,
          scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
          depth: status.depth,
          blockHeight: status.height,
          transactionIndex: status.txIndex,
        });
        return;
      case 'unconfirmed':
        if (funding.confirmation.type === 'confirmed')
          this.#input({ type: 'funding_reorganised_out', fundingTxid });
        return;
      case 'mismatch':
        this.#input({ type: 'force_close', reason: `funding output: ${status.reason}` });
        return;
      case 'lost':
        this.#input({ type: 'funding_lost', reason: status.reason });
        return;
      case 'spend_seen':
        // Whoever broadcasts its commitment has left the channel: another update would only put money at risk.
        if (!isClosing(this.#state))
          this.#input({
            type: 'force_close',
            reason: `the counterparty broadcast its commitment ${displayHash(status.txid)}`,
          });
        return;
      case 'spent':
        this.#fundingSpent(status);
        return;
    }
    assertNever(status);
  }
}
