/**
 * One turn of a channel actor, without I/O: mailbox items go through the pure
 * core, and what comes out is gathered into one commit and the messages to send
 * after it. A turn can be run again from the same state with fewer items, when
 * the store refuses an intent that another claimed first.
 */
import {
  type ChannelContext,
  type ChannelEffect,
  type ChannelError,
  type ChannelInput,
  type ChannelState,
  type HtlcBody,
  type OutboundMessage,
  applyReaction,
  channelStep,
  htlcDeadlines,
} from '@fulmen/channel';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { assertNever, InternalError, toHex } from '@fulmen/codec';
import {
  type ChannelMonitorUpdate,
  encodeChannelMonitorUpdate,
  type MonitorParameters,
} from '@fulmen/monitor';
import {
  decodeFailureMessage,
  encodeFailureMessage,
  failureFromMalformed,
  type FailureMessage,
  wrapAgain,
  wrapFailure,
} from '@fulmen/onion';
import type { BroadcastOrder, FundingWatch, HtlcSource, Intent, Resolution, StoreEvent } from '@fulmen/store';
import type { HtlcDecision } from './htlc-decision.ts';
import { mayWait } from './forward-terms.ts';
import type { CommandOutcome, Item } from './items.ts';

/** Depth from which a spend counts as final. */
const ANTI_REORG_DELAY_BLOCKS = 6;

/** Where an outgoing HTLC came from. */
export interface OutgoingLink {
  readonly source: HtlcSource;
  readonly sourceShard: number;
  readonly incomingAmountMsat: bigint;
}

/** What a turn may look at beside the state. */
export interface TurnContext {
  readonly core: ChannelContext;
  readonly channelId: Uint8Array;
  readonly nowUnixMs: number;
  readonly decisions: ReadonlyMap<bigint, HtlcDecision>;
  readonly outgoing: ReadonlyMap<bigint, OutgoingLink>;
  readonly sharedSecretOf: (inboundHtlcId: bigint) => Uint8Array | undefined;
  /** Policy of the outgoing channel; undefined lets the HTLC pass. */
  readonly refuseForward: (intent: Intent) => FailureMessage | undefined;
  /** Forgets an HTLC's failure when the outgoing channel cannot carry it now. */
  readonly cannotCarry: (intent: Intent, error: ChannelError) => FailureMessage;
}

/** The forwarding rows of a commit, growing. */
export interface GrowingForwarding {
  intents: Intent[];
  intentClaims: { source: HtlcSource; outcome: 'taken' | 'cancelled' }[];
  resolutions: Resolution[];
  resolutionsTaken: { source: HtlcSource; outcome: Resolution['outcome']['type'] }[];
  preimages: { channelId: Uint8Array; htlcId: bigint; preimage: Uint8Array }[];
  outgoing: ({ channelId: Uint8Array; htlcId: bigint } & OutgoingLink)[];
  onionReplays: { sharedSecretHash: Uint8Array; channelId: Uint8Array; htlcId: bigint }[];
  events: StoreEvent[];
}

export function emptyForwarding(): GrowingForwarding {
  return {
    intents: [],
    intentClaims: [],
    resolutions: [],
    resolutionsTaken: [],
    preimages: [],
    outgoing: [],
    onionReplays: [],
    events: [],
  };
}

/** Effects that the actor carries out itself after the commit. */
export type FollowUp = Extract<
  ChannelEffect,
  {
    type:
      | 'fund_channel'
      | 'broadcast_funding'
      | 'broadcast_closing'
      | 'announce_channel'
      | 'force_close'
      | 'disconnect';
  }
>;

export interface TurnResult {
  readonly state: ChannelState;
  readonly messages: readonly OutboundMessage[];
  readonly monitorUpdates: readonly { readonly updateId: bigint; readonly payload: Uint8Array }[];
  readonly monitorBirth: MonitorParameters | undefined;
  /** The counterparty's secrets of this turn, for the signer's next call. */
  readonly revocations: readonly { readonly commitmentNumber: bigint; readonly secret: Uint8Array }[];
  readonly forwarding: GrowingForwarding;
  readonly watches: readonly FundingWatch[];
  readonly broadcasts: readonly BroadcastOrder[];
  readonly followUps: readonly FollowUp[];
  readonly settlements: readonly (() => void)[];
  /** Forwards that this channel has no room for now: another channel with the peer may. */
  readonly bounced: readonly Intent[];
  readonly acceptedWithoutDecision: readonly HtlcBody[];
  readonly removedOutgoing: readonly bigint[];
  readonly settledInbound: readonly bigint[];
  readonly frames: readonly bigint[];
  /** Sources of intents that wait for the peer to come back. */
  readonly postponed: readonly HtlcSource[];
}

export class Turn {
  readonly #context: TurnContext;
  #state: ChannelState;
  readonly #messages: OutboundMessage[] = [];
  readonly #monitorUpdates: { updateId: bigint; payload: Uint8Array }[] = [];
  readonly #revocations: { commitmentNumber: bigint; secret: Uint8Array }[] = [];
  readonly #forwarding = emptyForwarding();
  readonly #watches: FundingWatch[] = [];
  readonly #broadcasts: BroadcastOrder[] = [];
  readonly #followUps: FollowUp[] = [];
  readonly #settlements: (() => void)[] = [];
  readonly #bounced: Intent[] = [];
  readonly #withoutDecision: HtlcBody[] = [];
  readonly #removedOutgoing: bigint[] = [];
  readonly #settledInbound: bigint[] = [];
  readonly #frames: bigint[] = [];
  readonly #postponed: HtlcSource[] = [];
  readonly #added = new Map<bigint, OutgoingLink>();
  #monitorBirth: MonitorParameters | undefined;

  constructor(context: TurnContext, state: ChannelState) {
    this.#context = context;
    this.#state = state;
  }

  /** Runs the items, then asks the core to commit what is pending. */
  run(items: readonly Item[]): TurnResult {
    for (const item of items) this.#item(item);
    if (this.#state.type === 'established') this.#input({ type: 'commit' });
    return {
      state: this.#state,
      messages: this.#messages,
      monitorUpdates: this.#monitorUpdates,
      monitorBirth: this.#monitorBirth,
      revocations: this.#revocations,
      forwarding: this.#forwarding,
      watches: this.#watches,
      broadcasts: this.#broadcasts,
      followUps: this.#followUps,
      settlements: this.#settlements,
      bounced: this.#bounced,
      acceptedWithoutDecision: this.#withoutDecision,
      removedOutgoing: this.#removedOutgoing,
      settledInbound: this.#settledInbound,
      frames: this.#frames,
      postponed: this.#postponed,
    };
  }

  #item(item: Item): void {
    switch (item.kind) {
      case 'message':
        this.#frames.push(item.frame);
        this.#input(item.input);
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
        this.#forward(item.intent, item.alternatives);
        return;
      case 'resolution':
        this.#resolve(item.resolution);
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
      case 'cancel':
        this.#cancel(item.source);
        return;
      case 'broadcast':
        this.#broadcasts.push(item.order);
        return;
      case 'resume':
        this.#resume();
        return;
    }
    assertNever(item);
  }

  /** What this turn said on the connection before is not said on the next: reestablish repeats what counts. */
  #forgetConnection(): void {
    this.#messages.length = 0;
    const stays = this.#followUps.filter((effect) => effect.type !== 'disconnect');
    this.#followUps.splice(0, this.#followUps.length, ...stays);
  }

  /** One input through the core; faults are answered as the core says. */
  #input(input: ChannelInput): ChannelError | undefined {
    const result = channelStep(this.#context.core, this.#state, input);
    if (result.ok) {
      this.#apply(result.value);
      return undefined;
    }
    if (result.error.code === 'holder_point_missing')
      throw new InternalError('a holder point was not fetched before the turn');
    this.#apply(applyReaction(this.#state, result.error));
    return result.error;
  }

  #apply(step: { readonly state: ChannelState; readonly effects: readonly ChannelEffect[] }): void {
    this.#state = step.state;
    for (const effect of step.effects) this.#effect(effect);
  }

  #effect(effect: ChannelEffect): void {
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
        this.#accepted(effect.htlc, effect.mustFail);
        return;
      case 'htlc_fulfilled':
        this.#fulfilled(effect.htlc, effect.preimage);
        return;
      case 'htlc_failed':
        this.#downstreamFailed(effect.htlc, effect.removal);
        return;
      case 'htlc_dropped':
        this.#resolveSource(effect.htlc.id, {
          type: 'failed_here',
          failure: encodeFailureMessage({
            kind: 'temporary_channel_failure',
            channelUpdate: new Uint8Array(0),
          }),
        });
        this.#unlink(effect.htlc.id);
        return;
      case 'htlc_settled':
        if (effect.direction === 'outbound') this.#removedOutgoing.push(effect.id);
        else this.#settledInbound.push(effect.id);
        return;
      case 'watch_funding':
        this.#watches.push({ ...effect, channelId: this.#established().channelId });
        return;
      case 'event':
        this.#event(effect.event.type, { ...effect.event, channelId: this.#context.channelId });
        return;
      case 'fund_channel':
      case 'broadcast_funding':
      case 'broadcast_closing':
      case 'announce_channel':
      case 'force_close':
      case 'disconnect':
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

  /** An inbound HTLC is irrevocable: its intent is written in this very transaction. */
  #accepted(htlc: HtlcBody, mustFail: 'dust_exposure' | undefined): void {
    const secret = this.#context.sharedSecretOf(htlc.id);
    if (mustFail !== undefined && secret !== undefined) {
      this.#input({
        type: 'fail_htlc',
        id: htlc.id,
        reason: wrapFailure(secret, { kind: 'temporary_channel_failure', channelUpdate: new Uint8Array(0) }),
      });
      return;
    }
    const decision = this.#context.decisions.get(htlc.id);
    if (decision === undefined) {
      this.#withoutDecision.push(htlc);
      return;
    }
    switch (decision.type) {
      case 'intent':
        this.#forwarding.intents.push(decision.intent);
        this.#forwarding.onionReplays.push({
          sharedSecretHash: decision.sharedSecretHash,
          channelId: this.#context.channelId,
          htlcId: htlc.id,
        });
        return;
      case 'fail':
        this.#input({ type: 'fail_htlc', id: htlc.id, reason: decision.reason });
        return;
      case 'fail_malformed':
        this.#input({
          type: 'fail_malformed_htlc',
          id: htlc.id,
          sha256OfOnion: decision.sha256OfOnion,
          failureCode: decision.failureCode,
        });
        return;
    }
    assertNever(decision);
  }

  #resume(): void {
    if (this.#state.type !== 'established') return;
    for (const htlc of this.#state.changes.htlcs) {
      if (
        htlc.body.direction === 'inbound' &&
        htlc.state === 'committed' &&
        this.#context.decisions.has(htlc.body.id)
      )
        this.#accepted(htlc.body, undefined);
    }
  }

  /** Goes on-chain when an HTLC cannot wait any longer (LDK's deadlines). */
  #block(height: number): void {
    if (this.#state.type !== 'established') return;
    const [deadline] = htlcDeadlines(this.#state, height);
    if (deadline !== undefined)
      this.#input({
        type: 'force_close',
        reason: `${deadline.direction} HTLC ${deadline.id} must be settled on-chain before it is too late`,
      });
  }

  /** An upstream time-out wins `cancelled` before it fails back: whoever adds the HTLC downstream must win `taken`. */
  #cancel(source: HtlcSource & { readonly type: 'htlc' }): void {
    const secret = this.#context.sharedSecretOf(source.htlcId);
    if (secret === undefined) throw new InternalError('a shared secret was not fetched before the turn');
    const failure: FailureMessage = { kind: 'expiry_too_soon', channelUpdate: new Uint8Array(0) };
    const error = this.#input({ type: 'fail_htlc', id: source.htlcId, reason: wrapFailure(secret, failure) });
    if (error === undefined) this.#forwarding.intentClaims.push({ source, outcome: 'cancelled' });
  }

  #forward(intent: Intent, alternatives: 'untried' | 'none'): void {
    const { source, sourceShard } = intent;
    const claim = { source, outcome: 'taken' } as const;
    if (
      this.#state.type === 'established' &&
      this.#state.connection.type !== 'connected' &&
      mayWait(intent, this.#context.nowUnixMs)
    ) {
      this.#postponed.push(source);
      return;
    }
    const refusal = this.#context.refuseForward(intent);
    if (refusal !== undefined) {
      this.#forwarding.intentClaims.push(claim);
      this.#resolution(source, sourceShard, { type: 'failed_here', failure: encodeFailureMessage(refusal) });
      return;
    }
    if (this.#state.type !== 'established') {
      this.#forwarding.intentClaims.push(claim);
      this.#resolution(source, sourceShard, {
        type: 'failed_here',
        failure: encodeFailureMessage({ kind: 'unknown_next_peer' }),
      });
      return;
    }
    const htlcId = this.#state.changes.nextOutboundHtlcId;
    const result = channelStep(this.#context.core, this.#state, {
      type: 'add_htlc',
      amountMsat: intent.outgoingAmountMsat,
      paymentHash: intent.paymentHash,
      cltvExpiryHeight: intent.outgoingCltvExpiryHeight,
      onionRoutingPacket: intent.onion,
    });
    if (!result.ok) {
      if (alternatives === 'untried') {
        this.#bounced.push(intent);
        return;
      }
      this.#forwarding.intentClaims.push(claim);
      this.#resolution(source, sourceShard, {
        type: 'failed_here',
        failure: encodeFailureMessage(this.#context.cannotCarry(intent, result.error)),
      });
      return;
    }
    this.#forwarding.intentClaims.push(claim);
    this.#apply(result.value);
    const link: OutgoingLink = { source, sourceShard, incomingAmountMsat: intent.incomingAmountMsat };
    this.#added.set(htlcId, link);
    this.#forwarding.outgoing.push({ channelId: this.#context.channelId, htlcId, ...link });
  }

  #linkOf(htlcId: bigint): OutgoingLink | undefined {
    return this.#added.get(htlcId) ?? this.#context.outgoing.get(htlcId);
  }

  #fulfilled(htlc: HtlcBody, preimage: Uint8Array): void {
    const link = this.#linkOf(htlc.id);
    if (link === undefined) return;
    const { source, sourceShard, incomingAmountMsat } = link;
    // The transaction that learns a preimage makes it enforceable upstream, whichever shard owns that channel.
    if (source.type === 'htlc') {
      this.#forwarding.preimages.push({ channelId: source.channelId, htlcId: source.htlcId, preimage });
      this.#event('payment_forwarded', {
        inboundChannelId: source.channelId,
        inboundHtlcId: source.htlcId,
        outboundChannelId: this.#context.channelId,
        outboundHtlcId: htlc.id,
        outboundAmountMsat: htlc.amountMsat,
        feeEarnedMsat: incomingAmountMsat - htlc.amountMsat,
      });
    }
    this.#resolution(source, sourceShard, { type: 'fulfilled', preimage });
  }

  /** An HTLC that came and went within this turn leaves no link behind: its id comes again. */
  #unlink(htlcId: bigint): void {
    this.#added.delete(htlcId);
    this.#forwarding.outgoing = this.#forwarding.outgoing.filter((link) => link.htlcId !== htlcId);
  }

  #downstreamFailed(
    htlc: HtlcBody,
    removal: Extract<ChannelEffect, { type: 'htlc_failed' }>['removal'],
  ): void {
    this.#resolveSource(htlc.id, removal);
  }

  #resolveSource(htlcId: bigint, outcome: Resolution['outcome']): void {
    const link = this.#linkOf(htlcId);
    if (link !== undefined) this.#resolution(link.source, link.sourceShard, outcome);
  }

  #resolution(source: HtlcSource, sourceShard: number, outcome: Resolution['outcome']): void {
    this.#forwarding.resolutions.push({ source, sourceShard, outcome });
  }

  /** The end of an inbound HTLC, from whoever took its intent. */
  #resolve(resolution: Resolution): void {
    const { source, outcome } = resolution;
    if (source.type !== 'htlc') throw new InternalError('a payment’s resolution reached a channel');
    const id = source.htlcId;
    const secret = this.#context.sharedSecretOf(id);
    let error: ChannelError | undefined;
    switch (outcome.type) {
      case 'fulfilled':
        error = this.#input({ type: 'fulfil_htlc', id, preimage: outcome.preimage });
        break;
      case 'failed':
      case 'failed_here':
      case 'failed_malformed': {
        if (secret === undefined) throw new InternalError('a shared secret was not fetched before the turn');
        error = this.#input({ type: 'fail_htlc', id, reason: upstreamReason(secret, outcome) });
        break;
      }
    }
    // Already removed (a repetition), or the channel is past caring: either way this resolution has been heard.
    if (error === undefined || error.code === 'htlc_already_removed' || error.code === 'unknown_htlc')
      this.#forwarding.resolutionsTaken.push({ source, outcome: outcome.type });
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
      case 'spent':
        // LDK's ANTI_REORG_DELAY: until then a reorganisation may bring the output back.
        if (status.depth >= ANTI_REORG_DELAY_BLOCKS)
          this.#input({ type: 'closed', reason: 'the funding output is spent' });
        return;
    }
    assertNever(status);
  }

  #event(type: string, body: Readonly<Record<string, unknown>>): void {
    this.#forwarding.events.push({ type, timeUnixMs: this.#context.nowUnixMs, body: eventBody(body) });
  }
}

/** JSON with bytes in hex and 64-bit numbers as strings, as the event log promises. */
export function eventBody(body: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(
    Object.fromEntries(
      Object.entries(body).map(([key, value]) => {
        if (value instanceof Uint8Array) return [key, toHex(value)];
        return [key, typeof value === 'bigint' ? value.toString() : value];
      }),
    ),
  );
}

/** What goes upstream for a downstream failure: a relayed one is wrapped once more, one of ours is encrypted here. */
function upstreamReason(
  secret: Uint8Array,
  outcome: Exclude<Resolution['outcome'], { type: 'fulfilled' }>,
): Uint8Array {
  switch (outcome.type) {
    case 'failed':
      return wrapAgain(secret, outcome.reason);
    case 'failed_here': {
      return wrapFailure(secret, decodeFailureMessage(outcome.failure) ?? { kind: 'temporary_node_failure' });
    }
    case 'failed_malformed':
      // BOLT 2: "MUST return an error in update_fail_htlc to the link that originally sent the HTLC, using the
      // failure_code given and setting the data to sha256_of_onion."
      return wrapFailure(
        secret,
        // A BADONION code that BOLT 4 does not know cannot be relayed as it is.
        failureFromMalformed(outcome.failureCode, outcome.sha256OfOnion) ?? {
          kind: 'temporary_channel_failure',
          channelUpdate: new Uint8Array(0),
        },
      );
  }
}
