/**
 * The actor of one channel: serial, with a bounded mailbox. A turn drains the
 * mailbox through the pure core, commits, asks the signer once, sends; what
 * arrives meanwhile batches into the next turn. The state in memory moves only
 * after the store said that it moved (law 2).
 */
import {
  nextDeadlineHeight,
  type ChannelState,
  FEERATES_WITHOUT_ESTIMATES,
  type EstablishedChannel,
  type SignerProgress,
  type ChannelContext,
} from '@fulmen/channel';
import { isClosing } from '@fulmen/channel/close/force';
import { isFrozen } from '@fulmen/channel/updates/ready';
import { InternalError, toHex, utf8Encode } from '@fulmen/codec';
import type { FailureMessage } from '@fulmen/onion';
import type { SignResult } from '@fulmen/proto/signer/v1/signer';
import { AbortedError, type Logger } from '@fulmen/service';
import {
  type ChannelPolicyRow,
  type Fence,
  type FundingStatus,
  type Intent,
  type LoadedChannel,
  StoreError,
  UnrecoverableStoreError,
  type Verdict,
} from '@fulmen/store';
import { make } from '@fulmen/wire';
import { HolderPoints } from '../signing/sign-item.ts';
import type { ActorHost } from './actor-host.ts';
import { ChannelLedger } from './channel-ledger.ts';
import { ChannelSigner } from './channel-signer.ts';
import { ClosingPatience } from './closing-patience.ts';
import { FollowUps } from './follow-ups.ts';
import { FailureUpdates, outgoingScid } from './failure-updates.ts';
import { forwardPolicyOf, refusalOf } from './forward-terms.ts';
import type { GrowingForwarding, OutgoingLink } from './forwarding.ts';
import { InboundHtlcs } from './inbound-htlcs.ts';
import type { Item } from './items.ts';
import { generationAfter, Mailbox, withoutStaleMessages } from './mailbox.ts';
import type { Reestablish } from './peer-order.ts';
import { RevocationPatience } from './revocation-patience.ts';
import { Sender } from './sender.ts';
import { sourceKey } from './source-key.ts';
import { Turn } from './turn.ts';
import type { TurnResult } from './turn-result.ts';

/** Depths above this are no news to a channel that is ready: it was announced, or its close is final. */
const MAX_NEWS_DEPTH = 10;

export interface ActorBirth {
  readonly fence: Fence;
  readonly channelKeysId: Uint8Array;
  readonly state: ChannelState;
  readonly policy: ChannelPolicyRow;
  readonly points: { readonly first: bigint; readonly points: readonly Uint8Array[] };
  /** Absent for a channel that is only being opened. */
  readonly loaded?: { readonly channel: LoadedChannel; readonly signer: SignerProgress };
}

export class ChannelActor {
  readonly fence: Fence;
  readonly channelKeysId: Uint8Array;
  readonly points = new HolderPoints();
  policy: ChannelPolicyRow;
  /** Of the last channel_update that was made for this channel here, in seconds. */
  lastUpdateTimestamp = 0;
  /** Whether the world was last told that the channel is not available; undefined: not told by this replica. */
  toldDisabled: boolean | undefined;
  /** Since when the peer was seen to be away, by the monotonic clock. */
  awaySinceMs: number | undefined;
  /** Set once the funding transaction is built, by the shell that asked the wallet for it. */
  fundingTransaction: Uint8Array | undefined;
  readonly #host: ActorHost;
  readonly #logger: Logger;
  readonly #outgoing = new Map<bigint, OutgoingLink>();
  readonly #mailbox: Mailbox;
  readonly #ledger: ChannelLedger;
  readonly #signer: ChannelSigner;
  readonly #inbound: InboundHtlcs;
  readonly #followUps: FollowUps;
  readonly #closingPatience: ClosingPatience;
  readonly #revocationPatience: RevocationPatience;
  readonly #sender: Sender;
  readonly #failureUpdates: FailureUpdates;
  #state: ChannelState;
  #generation: bigint | undefined;
  #reestablish: Reestablish = 'awaited';
  #passiveReason: string | undefined;
  /** Of the last status that was posted. */
  #lastStatus = '';
  #hasHeardOfClosing = false;
  /** Where work waits for this channel's towers. */
  readonly #shardsToTell = new Set<number>();

  constructor(host: ActorHost, birth: ActorBirth) {
    this.#host = host;
    this.fence = birth.fence;
    this.channelKeysId = birth.channelKeysId;
    this.policy = birth.policy;
    this.#state = birth.state;
    this.points.add(birth.points.first, birth.points.points);
    this.#logger = host.ports.logger.child({ channel: toHex(this.channelId), shard: birth.fence.shard });
    const loaded = birth.loaded?.channel;
    this.#mailbox = new Mailbox(
      (items) => this.#turn(items),
      (error) => this.#fail(error),
    );
    this.#ledger = new ChannelLedger(birth.fence, birth.state, loaded);
    this.#signer = new ChannelSigner(host, this, birth.loaded?.signer);
    this.#inbound = new InboundHtlcs(host, this, this.#signer, loaded?.intentsWritten ?? []);
    this.#followUps = new FollowUps(host, this);
    this.#closingPatience = new ClosingPatience(host, this);
    this.#revocationPatience = new RevocationPatience(host, this);
    this.#sender = new Sender(host, this);
    this.#failureUpdates = new FailureUpdates(host, this);
    for (const { htlcId, ...link } of loaded?.outgoing ?? []) this.#outgoing.set(htlcId, link);
  }

  get state(): ChannelState {
    return this.#state;
  }

  get channelId(): Uint8Array {
    return this.#state.type === 'established' ? this.#state.channelId : this.#state.temporaryChannelId;
  }

  get counterpartyNodeId(): Uint8Array {
    return this.#state.type === 'established'
      ? this.#state.parameters.counterpartyNodeId
      : this.#state.terms.counterpartyNodeId;
  }

  get stopped(): boolean {
    return this.#mailbox.stopped;
  }

  /** Neither quarantined nor passive: it does what it is given. */
  get isInService(): boolean {
    return !this.stopped && this.#passiveReason === undefined;
  }

  /** Of the connection that the channel knows of; messages of an older one are dropped. */
  get generation(): bigint | undefined {
    return this.#generation;
  }

  context(): ChannelContext {
    const { node, ports } = this.#host;
    return {
      secp: ports.secp,
      config: node.channelConfig,
      feerates: node.feerates ?? FEERATES_WITHOUT_ESTIMATES,
      holderPoint: (number) => this.points.get(number),
    };
  }

  /** The connection on which an opening began. */
  adopt(generation: bigint): void {
    this.#generation = generation;
  }

  /** The signer is behind the rows: never sign, never broadcast, ask the peer to close. In memory alone, until a restart. */
  makePassive(reason: string): void {
    this.#passiveReason = reason;
  }

  get passiveReason(): string | undefined {
    return this.#passiveReason;
  }

  /** The agreed mutual close is signed and ordered again, identically. */
  rebroadcastClosing(): void {
    this.#followUps.broadcastClosing();
  }

  /** What could be offered in one HTLC, as of the last commit. */
  outboundLiquidityMsat(): bigint {
    return this.#ledger.outboundLiquidityMsat;
  }

  /** Whether updates can be sent: the peer is there and reestablished. */
  isConnected(): boolean {
    return this.#state.type === 'established' && this.#state.connection.type === 'connected';
  }

  /** Whether chain-monitor says something of the funding output that was not posted to this channel yet. */
  isNews(status: FundingStatus): boolean {
    return this.#newsOf(status) !== this.#lastStatus;
  }

  /** What of a status a channel hears about, as a key. */
  #newsOf(status: FundingStatus): string {
    // A peer may ask for more confirmations than an announcement needs: each of them brings channel_ready nearer.
    const awaited = this.#state.type === 'established' ? this.#state.minimumDepth : 0;
    const depth = 'depth' in status ? Math.min(status.depth, Math.max(awaited, MAX_NEWS_DEPTH)) : 0;
    const settlement = status.type === 'spent' ? (status.settlement ?? 'settling') : '';
    return `${status.type}:${depth}:${'height' in status ? status.height : 0}:${settlement}`;
  }

  /** A block arrived: deadlines are looked at, and intents that nobody took in time are taken back. */
  blockConnected(height: number): void {
    if (this.#state.type !== 'established' || this.#passiveReason !== undefined) return;
    const deadline = nextDeadlineHeight(this.#state);
    if (deadline !== undefined && height >= deadline && !isClosing(this.#state))
      this.post({ kind: 'block', height });
    for (const source of this.#inbound.overdue(this.#state, height)) this.post({ kind: 'cancel', source });
  }

  /** The chain's side decided to close this channel: follow it, if that is not done yet. */
  closingDecided(reason: string): void {
    if (this.#hasHeardOfClosing || this.#state.type !== 'established' || isClosing(this.#state)) return;
    this.#hasHeardOfClosing = this.post({ kind: 'closing_decided', reason });
  }

  /** Queues an item. False when the mailbox is full or the actor has stopped. */
  post(item: Item): boolean {
    if (this.#mailbox.isClosed()) return false;
    if (item.kind === 'funding_status') this.#lastStatus = this.#newsOf(item.status);
    // A passive channel ends as every other does, once the chain has settled it.
    const isEnd =
      item.kind === 'funding_status' && item.status.type === 'spent' && item.status.settlement === 'resolved';
    if (this.#passiveReason !== undefined && !isEnd) return this.#answerPassively(item, this.#passiveReason);
    this.#mailbox.push(item);
    return true;
  }

  #answerPassively(item: Item, reason: string): boolean {
    if (item.kind === 'connected') {
      this.#generation = item.generation;
      const data = utf8Encode('this node lost state of the channel: please close it');
      this.#host.send(this, make('error', { channelId: this.channelId, data }), item.generation);
    }
    if (item.kind === 'command')
      item.settle({
        ok: false,
        error: { code: 'invalid_command', message: `the channel is passive: ${reason}` },
      });
    // Read and left unanswered: the connection stays, for the peer's other channels.
    if (item.kind === 'message') this.#host.consumed(this, [item.frame]);
    return true;
  }

  /** Forgets everything: nothing more leaves. Commands waiting hear that the shard moved. */
  stop(): void {
    this.#closingPatience.stop();
    this.#revocationPatience.stop();
    // A frame that stays open holds up every channel of its peer once the peer's credit is used up.
    this.#host.consumed(this, this.#mailbox.stop());
  }

  /** Before the shard is given away: begins nothing more. Resolves when the turn under way has ended. */
  drain(): Promise<void> {
    this.#mailbox.drain();
    return this.#mailbox.idle();
  }

  /** Resolves when nothing is under way. */
  idle(): Promise<void> {
    return this.#mailbox.idle();
  }

  /** Nothing sensible can follow: an unknown outcome reloads the shard, a bug takes the channel out of service. */
  #fail(error: unknown): void {
    if (this.stopped || error instanceof AbortedError) return;
    if (error instanceof StoreError || error instanceof UnrecoverableStoreError) {
      this.#logger.warn({ err: error }, 'the outcome of a commit is unknown: loading the shard again');
      this.#host.dropShard(this.fence, 'the outcome of a commit is unknown');
      return;
    }
    this.#logger.error({ err: error }, 'a channel is taken out of service');
    this.#host.quarantine(this, error instanceof Error ? error.message : String(error));
  }

  async #turn(drained: readonly Item[]): Promise<void> {
    this.#revocationPatience.turnBegins();
    let items = withoutStaleMessages(drained, this.#generation);
    // Points that the core asks for and that no step brings, such as those of old commitments: for this turn alone.
    const points = new Map<bigint, Uint8Array>();
    for (;;) {
      await this.#prepare(items);
      if (this.stopped) return;
      const result = this.#execute(items, points);
      if (result.missingPoints.length > 0) {
        await this.#signer.fetchPoints(result.missingPoints, points);
        if (this.stopped) return;
        continue;
      }
      if (result.acceptedWithoutDecision.length > 0) {
        // Rare: committed and decided in one turn. Decide now, and run the turn again from the same state.
        await this.#inbound.decide(result.acceptedWithoutDecision);
        if (this.stopped) return;
        if (result.acceptedWithoutDecision.some(({ id }) => !this.#inbound.decisions.has(id)))
          throw new InternalError('an HTLC could not be decided about');
        continue;
      }
      const verdict = await this.#commitAndSend(items, result);
      if (this.stopped || verdict.type === 'committed') return;
      if (verdict.type === 'intent_lost') {
        // Somebody else settled that intent first; the rest of the turn stands.
        const lost = sourceKey(verdict.source);
        this.#inbound.takenByOther(verdict.source);
        this.#host.letGo([verdict.source]);
        items = items.filter(
          (item) =>
            !(item.kind === 'forward' && sourceKey(item.intent.source) === lost) &&
            !(item.kind === 'cancel' && sourceKey(item.source) === lost),
        );
        continue;
      }
      if (verdict.type === 'resolution_changed') {
        // A preimage replaced the failure this turn would have passed on: the next poll brings what is true now.
        items = items.filter(
          (item) =>
            item.kind !== 'resolution' || sourceKey(item.resolution.source) !== sourceKey(verdict.source),
        );
        this.#host.readResolutionAgain(verdict.source);
        continue;
      }
      if (verdict.type === 'closing_decided') {
        // Closing is one decision, and it was made elsewhere: leave first, then see what the rest still means.
        this.#logger.warn({ reason: verdict.reason }, 'the channel was closed by the chain’s side');
        items = [{ kind: 'closing_decided', reason: verdict.reason }, ...items];
        continue;
      }
      if (verdict.type === 'onion_replay') {
        this.#logger.warn({ htlcId: verdict.htlcId }, 'an onion was replayed: failing the HTLC');
        this.#inbound.refuseReplayed(this.#established(), verdict.htlcId);
        continue;
      }
      if (verdict.type === 'version_mismatch' && this.#state.type === 'opening') {
        // The peer named the outpoint of a channel that exists, perhaps another peer's: no other writer is to blame.
        this.#host.consumed(this, result.frames);
        const reason = 'the funding outpoint is that of another channel';
        items = [
          { kind: 'command', input: { type: 'abandon_opening', reason }, settle: () => undefined },
          ...items.filter((item) => item.kind !== 'message'),
        ];
        continue;
      }
      this.#host.commitRefused(this, verdict);
      return;
    }
  }

  #established(): EstablishedChannel {
    if (this.#state.type !== 'established') throw new InternalError('the channel is not established');
    return this.#state;
  }

  /** Fetches what the core will ask for: shared secrets, decisions. */
  async #prepare(items: readonly Item[]): Promise<void> {
    const state = this.#state;
    if (state.type !== 'established') return;
    await this.#inbound.prepare(state, items);
    await this.#failureUpdates.prepare(items, (intent, channelUpdate) =>
      this.#refuseForward(intent, channelUpdate),
    );
  }

  #refuseForward(intent: Intent, channelUpdate: Uint8Array): FailureMessage | undefined {
    const { node, ports } = this.#host;
    if (node.chainDoubt() !== undefined) return { kind: 'temporary_node_failure' };
    return forwardPolicyOf(this.#state, this.policy, intent, {
      blockHeight: node.blockHeight,
      nowUnixMs: ports.runtime.wallClockMs(),
      channelUpdate,
    });
  }

  #execute(items: readonly Item[], points: ReadonlyMap<bigint, Uint8Array>): TurnResult {
    const { node, ports } = this.#host;
    const core = this.context();
    const turn = new Turn(
      {
        core: { ...core, holderPoint: (number) => core.holderPoint(number) ?? points.get(number) },
        channelId: this.channelId,
        nowUnixMs: ports.runtime.wallClockMs(),
        blockHeight: node.blockHeight,
        greatestHeight: node.blockHeight + node.blocksUnseen(),
        decisions: this.#inbound.decisions,
        outgoing: this.#outgoing,
        fulfilledLateMsat: this.#ledger.fulfilledLateMsat,
        newHtlcs: node.chainDoubt() === undefined ? 'taken' : 'held',
        reestablish: this.#reestablish,
        updatesComplete: this.#host.towers === undefined ? 'at_commit' : 'at_towers',
        isTakenUp: (id) => this.#inbound.isTakenUp(id),
        isTakenByOthers: (id) => this.#inbound.isTakenByOthers(id),
        sharedSecretOf: (id) => this.#inbound.sharedSecretOf(id),
        refuseForward: (intent) => this.#refuseForward(intent, this.#failureUpdates.of(outgoingScid(intent))),
        cannotCarry: (intent, error) => refusalOf(error, intent),
      },
      this.#state,
    );
    return turn.run(items);
  }

  async #commitAndSend(items: readonly Item[], result: TurnResult): Promise<Verdict> {
    const generation = generationAfter(items, this.#generation);
    this.#generation = generation;
    const commit = this.#ledger.commitOf(result, {
      context: this.context(),
      generation,
      broadcasts: this.#followUps.fundingBroadcast(result.state, result.followUps),
    });
    const work = this.#signer.workOf(result.state);
    const newOnions = this.#inbound.newOnions(result.state);
    if (result.monitorBirth !== undefined && result.state.type === 'established')
      await this.#host.registerWithSigner(this, result.state);
    else if (result.messages.some((message) => message.kind === 'funding_created'))
      await this.#host.registerOpening(this, result.state, result.messages);
    const item = this.#signer.itemOf({
      work,
      messages: result.messages,
      ecdhKeys: newOnions.map(({ key }) => key),
    });
    let signed: Promise<SignResult> | undefined;
    if (commit !== undefined) {
      const outcome = await this.#host.ports.committer.submit({ kind: 'channel', commit }, item);
      if (outcome.verdict.type !== 'committed') return outcome.verdict;
      signed = outcome.signed;
      this.#ledger.committed(result.state, commit);
      if (commit.broadcasts.length + commit.watches.length > 0)
        this.#host.ports.bus.publish('fulmen.monitor');
      if (commit.monitorUpdates.length > 0) this.#host.towers?.updated();
    } else if (item !== undefined) {
      signed = this.#signer.ask(item);
    }
    if (this.stopped) return { type: 'committed' };
    const before = this.#state;
    this.#state = result.state;
    this.#reestablish = result.reestablish;
    this.#afterCommit(before, items, result);
    const success =
      item === undefined || signed === undefined
        ? undefined
        : await this.#signer.signedOrRetry(item, await signed);
    if (this.stopped) return { type: 'committed' };
    if (item !== undefined && success === undefined) return { type: 'committed' };
    if (success !== undefined) {
      this.#signer.learn(success, result.state);
      this.#inbound.learn(success, newOnions);
    }
    await this.#sender.send(result.messages, success, generation);
    for (const effect of result.followUps) this.#followUps.run(effect);
    this.#followUps.afterTurn(this.#state, before);
    this.#closingPatience.follow(this.#state);
    this.#revocationPatience.follow(this.#state);
    return { type: 'committed' };
  }

  #afterCommit(before: ChannelState, items: readonly Item[], result: TurnResult): void {
    for (const { htlcId, channelId: _channelId, ...link } of result.forwarding.outgoing)
      this.#outgoing.set(htlcId, link);
    for (const id of result.removedOutgoing) this.#outgoing.delete(id);
    this.#inbound.committed(result);
    if (items.some((item) => item.kind === 'disconnected' || item.kind === 'connected'))
      this.#inbound.forgetVanished(this.#state);
    if (before.type === 'opening' && this.#state.type === 'established')
      this.#host.established(this, before.temporaryChannelId);
    this.#followTowers(before);
    this.#host.consumed(this, result.frames);
    for (const settle of result.settlements) settle();
    for (const intent of result.bounced) this.#host.bounced(this, intent);
    this.#deliver(result.forwarding);
    this.#host.letGo(result.postponed);
    // Forwards that came while the channel was frozen are found again when it thaws.
    if (result.postponed.length > 0) this.#shardsToTell.add(this.fence.shard);
  }

  /** Freezing and thawing, as the towers follow. */
  #followTowers(before: ChannelState): void {
    const { towers } = this.#host;
    const state = this.#state;
    if (towers === undefined || state.type !== 'established') return;
    if (isFrozen(state)) towers.wait(this, state.monitor.updateId);
    else if (before.type === 'established' && isFrozen(before)) {
      for (const shard of this.#shardsToTell) this.#host.ports.bus.publish(`fulmen.shard.${shard}`);
      this.#shardsToTell.clear();
    }
  }

  /** A failure goes upstream once the towers know the revocation behind it; a preimage at once. The store holds to it too. */
  #deliver(forwarding: GrowingForwarding): void {
    const waits = this.#state.type === 'established' && isFrozen(this.#state);
    if (!waits) return this.#host.deliver(forwarding);
    const { resolutions } = forwarding;
    this.#host.deliver({
      ...forwarding,
      resolutions: resolutions.filter(({ outcome }) => outcome.type === 'fulfilled'),
    });
    for (const { outcome, sourceShard } of resolutions)
      if (outcome.type !== 'fulfilled') this.#shardsToTell.add(sourceShard);
  }
}
