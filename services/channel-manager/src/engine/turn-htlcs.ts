/**
 * The HTLC half of a turn, without I/O: between the channel's core and the rows
 * that tell other channels and payments of its HTLCs. Intents go out for inbound
 * HTLCs and come in for outbound ones; resolutions travel the other way.
 */
import {
  type ChannelEffect,
  type ChannelError,
  type ChannelInput,
  type ChannelState,
  type HtlcBody,
  channelStep,
  isPastDeadline,
} from '@fulmen/channel';
import { isClosing } from '@fulmen/channel/close/force';
import { isFrozen } from '@fulmen/channel/updates/ready';
import { isFulfilled } from '@fulmen/channel/updates/transitions';
import { assertNever, InternalError } from '@fulmen/codec';
import { encodeFailureMessage, wrapFailure } from '@fulmen/onion';
import type { HtlcSource, Intent, Resolution } from '@fulmen/store';
import { mayWait } from './forward-terms.ts';
import { emptyForwarding, eventBody, type OutgoingLink } from './forwarding.ts';
import { sourceKey } from './source-key.ts';
import type { TurnContext } from './turn-result.ts';
import { TEMPORARY_CHANNEL_FAILURE, upstreamReason } from './upstream-failure.ts';

/** The turn's way into the core. */
export interface TurnCore {
  /** As of the last input. */
  state(): ChannelState;
  /** One input through the core; faults are answered as the core says. */
  input(input: ChannelInput): ChannelError | undefined;
  /** Takes over a step that the core was asked for directly. */
  apply(step: { readonly state: ChannelState; readonly effects: readonly ChannelEffect[] }): void;
}

export class TurnHtlcs {
  readonly forwarding = emptyForwarding();
  readonly bounced: Intent[] = [];
  readonly acceptedWithoutDecision: HtlcBody[] = [];
  readonly postponed: HtlcSource[] = [];
  /** Of forwards that left the channel, fulfilled past the deadline from which on chain-monitor may fail them upstream. */
  fulfilledLateMsat = 0n;
  readonly #core: TurnCore;
  readonly #context: TurnContext;
  /** Links that this turn made, or changed. */
  readonly #links = new Map<bigint, OutgoingLink>();
  /** Inbound HTLCs whose intent this turn writes. */
  readonly #takenUp = new Set<bigint>();
  /** Places in `forwarding.resolutions`, by source. */
  readonly #resolved = new Map<string, number>();
  /** Sources whose resolution this turn acted on. */
  readonly #taken = new Set<string>();

  constructor(core: TurnCore, context: TurnContext) {
    this.#core = core;
    this.#context = context;
  }

  /** An inbound HTLC is irrevocable: its intent is written in this very transaction. */
  accepted(htlc: HtlcBody, mustFail: 'dust_exposure' | undefined): void {
    // The revocation that made it irrevocable is not with the towers yet: `resume` takes the HTLC up when it is.
    if (mustFail === undefined && this.#context.updatesComplete === 'at_towers') return;
    this.#takeUp(htlc, mustFail);
  }

  #takeUp(htlc: HtlcBody, mustFail: 'dust_exposure' | undefined): void {
    const secret = this.#context.sharedSecretOf(htlc.id);
    if (mustFail !== undefined && secret !== undefined) {
      this.#core.input({
        type: 'fail_htlc',
        id: htlc.id,
        reason: wrapFailure(secret, { kind: 'temporary_channel_failure', channelUpdate: new Uint8Array(0) }),
      });
      return;
    }
    const decision = this.#context.decisions.get(htlc.id);
    if (decision === undefined) {
      this.acceptedWithoutDecision.push(htlc);
      return;
    }
    switch (decision.type) {
      case 'intent':
        this.#takenUp.add(htlc.id);
        this.forwarding.intents.push(decision.intent);
        this.forwarding.onionReplays.push({
          sharedSecretHash: decision.sharedSecretHash,
          channelId: this.#context.channelId,
          htlcId: htlc.id,
        });
        return;
      case 'fail':
        this.#core.input({ type: 'fail_htlc', id: htlc.id, reason: decision.reason });
        return;
      case 'fail_malformed':
        this.#core.input({
          type: 'fail_malformed_htlc',
          id: htlc.id,
          sha256OfOnion: decision.sha256OfOnion,
          failureCode: decision.failureCode,
        });
        return;
    }
    assertNever(decision);
  }

  /** Inbound HTLCs that were committed before a restart, or while the channel was frozen, are taken up. */
  resume(): void {
    const state = this.#core.state();
    if (state.type !== 'established' || isFrozen(state)) return;
    // An HTLC of a state that is old may be long over: whoever forwarded it now would pay it alone.
    if (state.phase.type === 'passive') return;
    for (const htlc of state.changes.htlcs) {
      if (
        htlc.body.direction === 'inbound' &&
        htlc.state === 'committed' &&
        this.#context.decisions.has(htlc.body.id) &&
        !this.#context.isTakenUp(htlc.body.id) &&
        !this.#takenUp.has(htlc.body.id)
      )
        this.#takeUp(htlc.body, undefined);
    }
  }

  /** An upstream time-out wins `cancelled` before it fails back: whoever adds the HTLC downstream must win `taken`. */
  cancel(source: HtlcSource & { readonly type: 'htlc' }): void {
    if (!this.#isHere(source.htlcId)) return;
    const secret = this.#secretOf(source.htlcId);
    // Nothing is wrong with the expiry that the sender chose: the outgoing channel was not there in time.
    const error = this.#core.input({
      type: 'fail_htlc',
      id: source.htlcId,
      reason: wrapFailure(secret, TEMPORARY_CHANNEL_FAILURE),
    });
    if (error === undefined) this.forwarding.intentClaims.push({ source, outcome: 'cancelled' });
  }

  /**
   * The state is old: what it handed over and nobody has taken yet is not for this node to pay, for the channel that brought
   * it cannot be claimed from by what is known here. Nothing is failed: the chain decides about the HTLC.
   */
  takeBack(before: ChannelState): void {
    if (before.type !== 'established') return;
    const { channelId } = this.#context;
    for (const { body, state } of before.changes.htlcs) {
      if (body.direction !== 'inbound' || state !== 'committed') continue;
      if (!this.#context.isTakenUp(body.id) || this.#context.isTakenByOthers(body.id)) continue;
      const source = { type: 'htlc', channelId, htlcId: body.id } as const;
      this.forwarding.intentClaims.push({ source, outcome: 'cancelled' });
    }
  }

  /** Adds an HTLC for an intent, or says why not to whoever it came from. */
  forward(intent: Intent, alternatives: 'untried' | 'none'): void {
    const state = this.#core.state();
    const { source, sourceShard } = intent;
    const claim = { source, outcome: 'taken' } as const;
    if (
      state.type === 'established' &&
      (state.connection.type !== 'connected' || isFrozen(state) || this.#context.newHtlcs === 'held') &&
      mayWait(intent, this.#context.nowUnixMs)
    ) {
      this.postponed.push(source);
      return;
    }
    const refusal = this.#context.refuseForward(intent);
    if (refusal !== undefined) {
      this.forwarding.intentClaims.push(claim);
      this.#resolution(source, sourceShard, { type: 'failed_here', failure: encodeFailureMessage(refusal) });
      return;
    }
    if (state.type !== 'established') {
      this.forwarding.intentClaims.push(claim);
      this.#resolution(source, sourceShard, {
        type: 'failed_here',
        failure: encodeFailureMessage({ kind: 'unknown_next_peer' }),
      });
      return;
    }
    const htlcId = state.changes.nextOutboundHtlcId;
    const result = channelStep(this.#context.core, state, {
      type: 'add_htlc',
      amountMsat: intent.outgoingAmountMsat,
      paymentHash: intent.paymentHash,
      cltvExpiryHeight: intent.outgoingCltvExpiryHeight,
      onionRoutingPacket: intent.onion,
    });
    if (!result.ok) {
      if (alternatives === 'untried') {
        this.bounced.push(intent);
        return;
      }
      this.forwarding.intentClaims.push(claim);
      this.#resolution(source, sourceShard, {
        type: 'failed_here',
        failure: encodeFailureMessage(this.#context.cannotCarry(intent, result.error)),
      });
      return;
    }
    this.forwarding.intentClaims.push(claim);
    this.#core.apply(result.value);
    const { incomingAmountMsat } = intent;
    this.#link(htlcId, { source, sourceShard, incomingAmountMsat, preimage: 'awaited' });
  }

  #link(htlcId: bigint, link: OutgoingLink): void {
    this.#links.set(htlcId, link);
    this.forwarding.outgoing.push({ channelId: this.#context.channelId, htlcId, ...link });
  }

  #linkOf(htlcId: bigint): OutgoingLink | undefined {
    return this.#links.get(htlcId) ?? this.#context.outgoing.get(htlcId);
  }

  /** A preimage came from downstream. */
  fulfilled(htlc: HtlcBody, preimage: Uint8Array): void {
    const link = this.#linkOf(htlc.id);
    if (link === undefined) return;
    const { source, sourceShard } = link;
    // The transaction that learns a preimage makes it enforceable upstream, whichever shard owns that channel.
    if (source.type === 'htlc') {
      this.forwarding.preimages.push({ channelId: source.channelId, htlcId: source.htlcId, preimage });
      if (link.preimage === 'awaited') this.#link(htlc.id, { ...link, preimage: 'heard' });
    }
    this.#resolution(source, sourceShard, { type: 'fulfilled', preimage });
  }

  /**
   * Outbound HTLCs leave the channel: a forward that was fulfilled is an event now. Its preimage was heard before, and would
   * be again after each loss of the connection that took the removal back. Where all leave, the channel is closed, and one
   * whose removal is taken back is not told again.
   */
  left(before: ChannelState, which: bigint | 'all'): void {
    if (before.type !== 'established') return;
    for (const htlc of before.changes.htlcs) {
      const { body } = htlc;
      if (body.direction !== 'outbound' || (which !== 'all' && body.id !== which)) continue;
      const link = this.#linkOf(body.id);
      if (link?.source.type !== 'htlc') continue;
      if (!isFulfilled(htlc) && (which !== 'all' || link.preimage === 'awaited')) continue;
      if (which !== 'all' && isPastDeadline(body.cltvExpiryHeight, this.#context.blockHeight))
        this.fulfilledLateMsat += body.amountMsat;
      this.event('payment_forwarded', {
        inboundChannelId: link.source.channelId,
        inboundHtlcId: link.source.htlcId,
        outboundChannelId: this.#context.channelId,
        outboundHtlcId: body.id,
        outboundAmountMsat: body.amountMsat,
        feeEarnedMsat: link.incomingAmountMsat - body.amountMsat,
      });
    }
  }

  /** An HTLC that came and went within this turn leaves no link behind: its id comes again. */
  dropped(htlc: HtlcBody): void {
    this.failed(htlc.id, {
      type: 'failed_here',
      failure: encodeFailureMessage(TEMPORARY_CHANNEL_FAILURE),
    });
    this.#links.delete(htlc.id);
    this.forwarding.outgoing = this.forwarding.outgoing.filter((link) => link.htlcId !== htlc.id);
  }

  /** The downstream end of an HTLC, for whoever it came from. */
  failed(htlcId: bigint, outcome: Resolution['outcome']): void {
    const link = this.#linkOf(htlcId);
    if (link !== undefined) this.#resolution(link.source, link.sourceShard, outcome);
  }

  /**
   * Where a turn sees two connections the peer may end an HTLC on each of them. One end of a source goes into a commit: the
   * first, as the store has it, but for a preimage after a failure.
   */
  #resolution(source: HtlcSource, sourceShard: number, outcome: Resolution['outcome']): void {
    const { resolutions } = this.forwarding;
    const key = sourceKey(source);
    const index = this.#resolved.get(key) ?? resolutions.length;
    const earlier = resolutions[index]?.outcome.type;
    if (earlier === 'fulfilled' || (earlier !== undefined && outcome.type !== 'fulfilled')) return;
    this.#resolved.set(key, index);
    resolutions[index] = { source, sourceShard, outcome };
  }

  /** The end of an inbound HTLC, from whoever took its intent. */
  resolve(resolution: Resolution): void {
    const { source, outcome } = resolution;
    if (source.type !== 'htlc') throw new InternalError('a payment’s resolution reached a channel');
    if (this.#isHere(source.htlcId) && !this.#end(source.htlcId, outcome)) return;
    // Of several ends in one turn the first was carried out, and the store must hear which that was.
    const key = sourceKey(source);
    if (!this.#taken.has(key)) this.forwarding.resolutionsTaken.push({ source, outcome: outcome.type });
    this.#taken.add(key);
  }

  /** Whether an inbound HTLC has its end, from this resolution or another. */
  #end(id: bigint, outcome: Resolution['outcome']): boolean {
    const error =
      outcome.type === 'fulfilled'
        ? this.#core.input({ type: 'fulfil_htlc', id, preimage: outcome.preimage })
        : this.#fail(id, outcome);
    // Already removed (a repetition), or the chain settles the channel's HTLCs: either way this resolution has been
    // heard. A preimage that comes later is a row of its own, which chain-monitor reads.
    const state = this.#core.state();
    return (
      error === undefined ||
      error.code === 'htlc_already_removed' ||
      (error.code === 'channel_not_open' && state.type === 'established' && isClosing(state))
    );
  }

  /** A failure that cannot be passed on (it is too long) is replaced: whatever came from downstream, the HTLC ends. */
  #fail(
    id: bigint,
    outcome: Exclude<Resolution['outcome'], { type: 'fulfilled' }>,
  ): ChannelError | undefined {
    const secret = this.#secretOf(id);
    const error = this.#core.input({ type: 'fail_htlc', id, reason: upstreamReason(secret, outcome) });
    if (error?.code !== 'bad_failure') return error;
    const reason = wrapFailure(secret, TEMPORARY_CHANNEL_FAILURE);
    return this.#core.input({ type: 'fail_htlc', id, reason });
  }

  /** Whether the channel still has an inbound HTLC: one that is gone has been heard of, and has no onion to answer. */
  #isHere(id: bigint): boolean {
    const state = this.#core.state();
    return (
      state.type === 'established' &&
      state.changes.htlcs.some(({ body }) => body.direction === 'inbound' && body.id === id)
    );
  }

  #secretOf(id: bigint): Uint8Array {
    const secret = this.#context.sharedSecretOf(id);
    if (secret === undefined) throw new InternalError('a shared secret was not fetched before the turn');
    return secret;
  }

  /** A row for the event log. */
  event(type: string, body: Readonly<Record<string, unknown>>): void {
    this.forwarding.events.push({ type, timeUnixMs: this.#context.nowUnixMs, body: eventBody(body) });
  }
}
