/**
 * The actor of one channel: serial, with a bounded mailbox. A turn drains the
 * mailbox through the pure core, commits, asks the signer once, sends; what
 * arrives meanwhile batches into the next turn. The state in memory moves only
 * after the store said that it moved (law 2).
 */
import {
  HTLC_FAIL_BACK_BUFFER_BLOCKS,
  nextDeadlineHeight,
  type ChannelState,
  type EstablishedChannel,
  type HtlcBody,
  type OutboundMessage,
  persistDelta,
  requiredHolderPoints,
  signerProgress,
  type SignerProgress,
  signerWork,
  type SignerWork,
  summary,
  type ChannelContext,
} from '@fulmen/channel';
import { isClosing } from '@fulmen/channel/close/force';
import { equalBytes, InternalError, toHex, utf8Encode } from '@fulmen/codec';
import { encodeMonitorParameters } from '@fulmen/monitor';
import { FAILURE_CODES } from '@fulmen/onion';
import type { SignItem, SignResult, SignSuccess } from '@fulmen/proto/signer/v1/signer';
import { AbortedError, type Logger } from '@fulmen/service';
import {
  type ChannelCommit,
  type ChannelPolicyRow,
  type Fence,
  type FundingStatus,
  type LoadedChannel,
  StoreError,
  type Verdict,
} from '@fulmen/store';
import { make } from '@fulmen/wire';
import { refuseUnknown } from '../payments/receive.ts';
import { patiently } from '../signing/patiently.ts';
import { HolderPoints, materialise, signItemOf } from '../signing/sign-item.ts';
import type { ActorHost } from './actor-host.ts';
import { channelRow } from './channel-row.ts';
import { decideHtlc, ephemeralKeyOf, type HtlcDecision } from './htlc-decision.ts';
import type { Item } from './items.ts';
import { sourceKey } from './source-key.ts';
import { FollowUps } from './follow-ups.ts';
import { forwardPolicyOf, refusalOf } from './forward-terms.ts';
import { type OutgoingLink, Turn, type TurnResult } from './turn.ts';

/** Items waiting for one channel; a peer that outruns it is disconnected by credit long before. */
const MAX_MAILBOX = 20_000;
/** Items of one turn: bounds the time the core holds the event loop. */
const MAX_ITEMS_PER_TURN = 512;
const SIGN_RETRY_MS = 100;
/** Depths above this are no news to a channel: it was announced, or its close is final. */
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
  /** Set once the funding transaction is built, by the shell that asked the wallet for it. */
  fundingTransaction: Uint8Array | undefined;
  readonly #host: ActorHost;
  readonly #logger: Logger;
  readonly #outgoing = new Map<bigint, OutgoingLink>();
  readonly #decisions = new Map<bigint, HtlcDecision>();
  readonly #secrets = new Map<bigint, Uint8Array>();
  readonly #followUps: FollowUps;
  #state: ChannelState;
  #persisted: { state: ChannelState; hot: Uint8Array } | undefined;
  #version: bigint;
  #signer: SignerProgress;
  #generation: bigint | undefined;
  #mailbox: Item[] = [];
  #running = false;
  #stopped = false;
  #idleWaiters: (() => void)[] = [];
  #passiveReason: string | undefined;
  #outboundLiquidityMsat = 0n;
  #lastStatus = '';

  constructor(host: ActorHost, birth: ActorBirth) {
    this.#host = host;
    this.fence = birth.fence;
    this.channelKeysId = birth.channelKeysId;
    this.policy = birth.policy;
    this.#state = birth.state;
    this.points.add(birth.points.first, birth.points.points);
    this.#followUps = new FollowUps(host, this);
    this.#logger = host.ports.logger.child({ channel: toHex(this.channelId), shard: birth.fence.shard });
    const { loaded } = birth;
    this.#version = loaded?.channel.version ?? 0n;
    this.#signer = loaded?.signer ?? { holderCommitmentNumber: -1n, counterpartyRevocations: 0n };
    if (loaded !== undefined) {
      this.#persisted = { state: birth.state, hot: loaded.channel.persisted.hot };
      for (const { htlcId, ...link } of loaded.channel.outgoing) this.#outgoing.set(htlcId, link);
      // What has an intent was decided; the others are taken up again.
      for (const htlcId of loaded.channel.intentsWritten) this.#decided.add(htlcId);
    }
  }

  /** Inbound HTLCs whose intent is written: never written twice. */
  readonly #decided = new Set<bigint>();
  /** Sources of intents that others settled first: not worth another try. */
  readonly #takenByOthers = new Set<string>();

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
    return this.#stopped;
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
      feerates: node.feerates,
      holderPoint: (number) => this.points.get(number),
    };
  }

  /** The connection on which an opening began. */
  adopt(generation: bigint): void {
    this.#generation = generation;
  }

  /** The databases contradict each other: never sign, never broadcast, ask the peer to close. Until a restart. */
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
    return this.#outboundLiquidityMsat;
  }

  /** Whether updates can be sent: the peer is there and reestablished. */
  isConnected(): boolean {
    return this.#state.type === 'established' && this.#state.connection.type === 'connected';
  }

  /** Whether chain-monitor says something of the funding output that this channel has not heard. */
  isNews(status: FundingStatus): boolean {
    const depth = 'depth' in status ? Math.min(status.depth, MAX_NEWS_DEPTH) : 0;
    const key = `${status.type}:${depth}:${'height' in status ? status.height : 0}`;
    if (key === this.#lastStatus) return false;
    this.#lastStatus = key;
    return true;
  }

  /** A block arrived: deadlines are looked at, and intents that nobody took in time are taken back. */
  blockConnected(height: number): void {
    if (this.#state.type !== 'established' || this.#passiveReason !== undefined) return;
    const deadline = nextDeadlineHeight(this.#state);
    if (deadline !== undefined && height >= deadline && !isClosing(this.#state))
      this.post({ kind: 'block', height });
    for (const { body, state: progress } of this.#state.changes.htlcs) {
      if (body.direction !== 'inbound' || progress !== 'committed' || !this.#decided.has(body.id)) continue;
      if (body.cltvExpiryHeight > height + HTLC_FAIL_BACK_BUFFER_BLOCKS) continue;
      const source = { type: 'htlc', channelId: this.channelId, htlcId: body.id } as const;
      if (!this.#takenByOthers.has(sourceKey(source))) this.post({ kind: 'cancel', source });
    }
  }

  /** Queues an item. False when the mailbox is full or the actor has stopped. */
  post(item: Item): boolean {
    if (this.#stopped || this.#mailbox.length >= MAX_MAILBOX) return false;
    if (this.#passiveReason !== undefined) return this.#answerPassively(item, this.#passiveReason);
    this.#mailbox.push(item);
    if (!this.#running) {
      this.#running = true;
      void this.#run();
    }
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
    this.#stopped = true;
    const waiting = this.#mailbox;
    this.#mailbox = [];
    for (const item of waiting) {
      if (item.kind === 'command')
        item.settle({
          ok: false,
          error: { code: 'invalid_command', message: 'the channel moved to another replica: try again' },
        });
    }
    this.#wakeIdle();
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running && !this.#stopped)
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  #wakeIdle(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  async #run(): Promise<void> {
    try {
      while (this.#mailbox.length > 0 && !this.#stopped)
        await this.#turn(this.#mailbox.splice(0, MAX_ITEMS_PER_TURN));
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#running = false;
      this.#wakeIdle();
    }
  }

  /** Nothing sensible can follow: an unknown outcome reloads the shard, a bug takes the channel out of service. */
  #fail(error: unknown): void {
    if (this.#stopped || error instanceof AbortedError) return;
    if (error instanceof StoreError) {
      this.#logger.warn({ err: error }, 'the outcome of a commit is unknown: loading the shard again');
      this.#host.dropShard(this.fence, 'the outcome of a commit is unknown');
      return;
    }
    this.#logger.error({ err: error }, 'a channel is taken out of service');
    this.#host.quarantine(this, error instanceof Error ? error.message : String(error));
  }

  async #turn(drained: readonly Item[]): Promise<void> {
    // Frames and commands of an older connection, and of the future one, must not mix within a core step's order.
    let items = drained.filter(
      (item) => item.kind !== 'message' || item.generation === this.#generationAfter(drained, item),
    );
    for (;;) {
      await this.#prepare(items);
      if (this.#stopped) return;
      const result = this.#execute(items);
      if (result.acceptedWithoutDecision.length > 0) {
        // Rare: committed and decided in one turn. Decide now, and run the turn again from the same state.
        await this.#decide(result.acceptedWithoutDecision);
        if (this.#stopped) return;
        if (result.acceptedWithoutDecision.some(({ id }) => !this.#decisions.has(id)))
          throw new InternalError('an HTLC could not be decided about');
        continue;
      }
      const verdict = await this.#commitAndSend(items, result);
      if (this.#stopped || verdict.type === 'committed') return;
      if (verdict.type === 'intent_lost') {
        // Somebody else settled that intent first; the rest of the turn stands.
        const lost = sourceKey(verdict.source);
        this.#takenByOthers.add(lost);
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
        this.#host.readResolutionsAgain();
        continue;
      }
      if (verdict.type === 'onion_replay') {
        const htlc = this.#established().changes.htlcs.find(
          ({ body }) => body.direction === 'inbound' && body.id === verdict.htlcId,
        );
        this.#logger.warn({ htlcId: verdict.htlcId }, 'an onion was replayed: failing the HTLC');
        this.#decisions.set(verdict.htlcId, {
          type: 'fail_malformed',
          sha256OfOnion: this.#host.sha256(htlc?.body.onionRoutingPacket ?? new Uint8Array(0)),
          failureCode: FAILURE_CODES.invalid_onion_hmac,
        });
        continue;
      }
      this.#host.commitRefused(this, verdict);
      return;
    }
  }

  /** The generation that is current when this item is reached within the drained batch. */
  #generationAfter(drained: readonly Item[], until: Item): bigint | undefined {
    let generation = this.#generation;
    for (const item of drained) {
      if (item === until) break;
      if (item.kind === 'connected') generation = item.generation;
      if (item.kind === 'disconnected' && item.generation === generation) generation = undefined;
    }
    return generation;
  }

  #established(): EstablishedChannel {
    if (this.#state.type !== 'established') throw new InternalError('the channel is not established');
    return this.#state;
  }

  /** Fetches what the core will ask for: points, shared secrets, decisions. */
  async #prepare(items: readonly Item[]): Promise<void> {
    const state = this.#state;
    if (state.type !== 'established') return;
    const missing = new Set<bigint>();
    for (const item of items) {
      if (item.kind !== 'message') continue;
      for (const number of requiredHolderPoints(state, item.input))
        if (this.points.get(number) === undefined) missing.add(number);
    }
    for (const number of missing) {
      const { runtime, signer } = this.#host.ports;
      const request = { channelKeysId: this.channelKeysId, commitmentNumbers: [number] };
      const { points } = await patiently(
        runtime,
        () => this.#stopped,
        () => signer.getPerCommitmentPoints(request),
      );
      const [point] = points;
      if (point !== undefined) this.points.addOld(number, point);
    }
    const undecided = state.changes.htlcs
      .filter(
        ({ body, state: progress }) =>
          body.direction === 'inbound' && (progress === 'add_signed' || progress === 'committed'),
      )
      .map(({ body }) => body)
      .filter((body) => !this.#decisions.has(body.id) && !this.#decided.has(body.id));
    await this.#decide(undecided);
    const failing = items.flatMap((item) => {
      if (item.kind === 'cancel') return [item.source.htlcId];
      const isFailure =
        item.kind === 'resolution' &&
        item.resolution.source.type === 'htlc' &&
        item.resolution.outcome.type !== 'fulfilled';
      return isFailure && item.resolution.source.type === 'htlc' ? [item.resolution.source.htlcId] : [];
    });
    await this.#fetchSecrets(
      state.changes.htlcs
        .map(({ body }) => body)
        .filter((body) => body.direction === 'inbound' && failing.includes(body.id)),
    );
  }

  /** ECDH with the node key for onions whose secret is not in memory (after a restart). */
  async #fetchSecrets(htlcs: HtlcBody[]): Promise<void> {
    const wanted = htlcs
      .filter((body) => !this.#secrets.has(body.id))
      .flatMap((body) => {
        const key = ephemeralKeyOf(this.#host.ports.secp, body);
        return key.ok ? [{ id: body.id, key: key.key }] : [];
      });
    if (wanted.length === 0) return;
    const item = signItemOf({
      channelKeysId: this.channelKeysId,
      fence: this.fence,
      work: { counterpartyRevocations: [] },
      messages: [],
      ecdhKeys: wanted.map(({ key }) => key),
    });
    if (item === undefined) return;
    const signed = await this.#signNow(item);
    signed?.sharedSecrets.forEach((secret, index) => {
      const entry = wanted[index];
      if (entry !== undefined) this.#secrets.set(entry.id, secret);
    });
  }

  async #decide(htlcs: readonly HtlcBody[]): Promise<void> {
    if (htlcs.length === 0) return;
    await this.#fetchSecrets([...htlcs]);
    for (const htlc of htlcs) {
      const key = ephemeralKeyOf(this.#host.ports.secp, htlc);
      if (!key.ok) {
        this.#decisions.set(htlc.id, key.decision);
        continue;
      }
      const secret = this.#secrets.get(htlc.id);
      if (secret === undefined) continue;
      const { ports } = this.#host;
      const context = {
        secp: ports.secp,
        channelId: this.channelId,
        shard: this.fence.shard,
        nowUnixMs: ports.runtime.wallClockMs(),
        shardOfScid: (scid: bigint) => this.#host.shardOfScid(scid),
        refuseUnknown: (body: HtlcBody) => refuseUnknown(ports.store, body, this.#host.node.blockHeight),
      };
      this.#decisions.set(htlc.id, await decideHtlc(context, htlc, secret));
    }
  }

  #execute(items: readonly Item[]): TurnResult {
    const { node, ports } = this.#host;
    const turn = new Turn(
      {
        core: this.context(),
        channelId: this.channelId,
        nowUnixMs: ports.runtime.wallClockMs(),
        decisions: this.#decisions,
        outgoing: this.#outgoing,
        sharedSecretOf: (id) => this.#secrets.get(id),
        refuseForward: (intent) =>
          forwardPolicyOf(this.#state, this.policy, intent, node.blockHeight, ports.runtime.wallClockMs()),
        cannotCarry: (_intent, error) => refusalOf(error),
      },
      this.#state,
    );
    return turn.run(items);
  }

  async #commitAndSend(items: readonly Item[], result: TurnResult): Promise<Verdict> {
    for (const item of items) {
      if (item.kind === 'connected') this.#generation = item.generation;
      if (item.kind === 'disconnected' && item.generation === this.#generation) this.#generation = undefined;
    }
    const generation = this.#generation;
    const commit = this.#commitOf(result);
    const work = this.#workOf(result);
    const newOnions = this.#newOnions(result.state);
    if (result.monitorBirth !== undefined && result.state.type === 'established')
      await this.#host.registerWithSigner(this, result.state);
    else if (result.messages.some((message) => message.kind === 'funding_created'))
      await this.#host.registerOpening(this, result.state, result.messages);
    const item = signItemOf({
      channelKeysId: this.channelKeysId,
      fence: this.fence,
      work,
      messages: result.messages,
      ecdhKeys: newOnions.map(({ key }) => key),
    });
    let signed: Promise<SignResult> | undefined;
    if (commit !== undefined) {
      const outcome = await this.#host.ports.committer.submit({ kind: 'channel', commit }, item);
      if (outcome.verdict.type !== 'committed') return outcome.verdict;
      signed = outcome.signed;
      this.#version += 1n;
      this.#persisted = { state: result.state, hot: commit.delta.hot };
      if (commit.broadcasts.length + commit.watches.length > 0)
        this.#host.ports.bus.publish('fulmen.monitor');
    } else if (item !== undefined) {
      signed = this.#host.ports.signLane.sign([item]).then(([first]) => {
        if (first === undefined) throw new InternalError('the signer answered nothing');
        return first;
      });
    }
    if (this.#stopped) return { type: 'committed' };
    const before = this.#state;
    this.#state = result.state;
    this.#afterCommit(before, items, result);
    const success =
      item === undefined || signed === undefined ? undefined : await this.#signedOrRetry(item, await signed);
    if (this.#stopped) return { type: 'committed' };
    if (item !== undefined && success === undefined) return { type: 'committed' };
    if (success !== undefined) this.#learn(success, newOnions, result);
    await this.#send(result.messages, success, generation);
    for (const effect of result.followUps) this.#followUps.run(effect);
    this.#followUps.afterTurn(this.#state, before);
    return { type: 'committed' };
  }

  /** The commit of a turn; undefined when nothing durable changed. */
  #commitOf(result: TurnResult): ChannelCommit | undefined {
    const { state } = result;
    if (state.type !== 'established') return undefined;
    const previous = this.#persisted;
    const delta = persistDelta(previous?.state, state);
    const { forwarding } = result;
    const unchanged =
      previous !== undefined &&
      delta.cold === undefined &&
      delta.holderSignatures === undefined &&
      delta.newHtlcs.length === 0 &&
      delta.newRemovals.length === 0 &&
      delta.settledHtlcs.length === 0 &&
      delta.secretBuckets.length === 0 &&
      result.monitorUpdates.length === 0 &&
      result.broadcasts.length === 0 &&
      result.watches.length === 0 &&
      Object.values(forwarding).every((rows) => rows.length === 0) &&
      equalBytes(previous.hot, delta.hot);
    if (unchanged) {
      return undefined;
    }
    const summarised = summary(this.context(), state);
    this.#outboundLiquidityMsat = summarised.outboundLiquidityMsat;
    const number = result.frames.reduce((highest, frame) => (frame > highest ? frame : highest), 0n);
    return {
      fence: this.fence,
      channelId: state.channelId,
      expectedVersion: this.#version,
      delta,
      row: channelRow(state, summarised, this.fence.shard),
      ...(result.monitorBirth === undefined
        ? {}
        : { monitorBirth: encodeMonitorParameters(result.monitorBirth) }),
      monitorUpdates: result.monitorUpdates,
      forwarding,
      broadcasts: [...result.broadcasts, ...this.#followUps.fundingBroadcast(result.followUps)],
      watches: result.watches,
      ...(this.#generation === undefined || number === 0n
        ? {}
        : { consumedThrough: { generation: this.#generation, number } }),
    };
  }

  #workOf(result: TurnResult): SignerWork {
    if (result.state.type !== 'established') return { counterpartyRevocations: [] };
    const work = signerWork(result.state, this.#signer);
    if (!work.ok) throw new InternalError(work.error.reason);
    return work.value;
  }

  /** Onions that the counterparty committed to and whose secret is not known: their ECDH rides on this step's call. */
  #newOnions(state: ChannelState): readonly { readonly id: bigint; readonly key: Uint8Array }[] {
    if (state.type !== 'established') return [];
    return state.changes.htlcs.flatMap(({ body, state: progress }) => {
      if (body.direction !== 'inbound' || progress === 'add_pending' || this.#secrets.has(body.id)) return [];
      if (this.#decided.has(body.id) || progress.startsWith('removal')) return [];
      const key = ephemeralKeyOf(this.#host.ports.secp, body);
      return key.ok ? [{ id: body.id, key: key.key }] : [];
    });
  }

  #afterCommit(before: ChannelState, items: readonly Item[], result: TurnResult): void {
    for (const { htlcId, channelId: _channelId, ...link } of result.forwarding.outgoing)
      this.#outgoing.set(htlcId, link);
    for (const id of result.removedOutgoing) this.#outgoing.delete(id);
    for (const id of result.settledInbound) {
      this.#secrets.delete(id);
      this.#decisions.delete(id);
      this.#decided.delete(id);
    }
    for (const { source } of result.forwarding.intents)
      if (source.type === 'htlc') this.#decided.add(source.htlcId);
    // A disconnect may take HTLCs back that were never committed; their ids come again with another onion.
    if (items.some((item) => item.kind === 'disconnected' || item.kind === 'connected'))
      this.#forgetVanished();
    if (before.type === 'opening' && this.#state.type === 'established')
      this.#host.established(this, before.temporaryChannelId);
    this.#host.consumed(this, result.frames);
    for (const settle of result.settlements) settle();
    for (const intent of result.bounced) this.#host.bounced(this, intent);
    this.#host.deliver(result.forwarding);
    this.#host.postponed(result.postponed);
  }

  #forgetVanished(): void {
    if (this.#state.type !== 'established') return;
    const present = new Set(
      this.#state.changes.htlcs.filter(({ body }) => body.direction === 'inbound').map(({ body }) => body.id),
    );
    for (const map of [this.#secrets, this.#decisions])
      for (const id of map.keys()) if (!present.has(id)) map.delete(id);
  }

  /** A refusal to do it now is retried identically; any other is for the host to act on. */
  async #signedOrRetry(item: SignItem, first: SignResult): Promise<SignSuccess | undefined> {
    let result = first;
    for (;;) {
      const { outcome } = result;
      if (outcome?.$case === 'success') return outcome.value;
      const refusal = outcome?.value;
      if (refusal === undefined) throw new InternalError('the signer gave an empty result');
      if (this.#stopped) return undefined;
      if (this.#host.signerRefused(this, refusal) === 'stop') return undefined;
      await this.#host.ports.runtime.sleep(SIGN_RETRY_MS);
      const [again] = await this.#host.ports.signLane.sign([item]);
      if (again === undefined) throw new InternalError('the signer answered nothing');
      result = again;
    }
  }

  async #signNow(item: SignItem): Promise<SignSuccess | undefined> {
    const [first] = await this.#host.ports.signLane.sign([item]);
    if (first === undefined) throw new InternalError('the signer answered nothing');
    return this.#signedOrRetry(item, first);
  }

  #learn(success: SignSuccess, onions: readonly { readonly id: bigint }[], result: TurnResult): void {
    if (success.perCommitmentPoints.length > 0)
      this.points.add(success.firstPointNumber, success.perCommitmentPoints);
    success.sharedSecrets.forEach((secret, index) => {
      const onion = onions[index];
      if (onion !== undefined) this.#secrets.set(onion.id, secret);
    });
    if (result.state.type === 'established') this.#signer = signerProgress(result.state);
  }

  async #send(
    messages: readonly OutboundMessage[],
    signed: SignSuccess | undefined,
    generation: bigint | undefined,
  ): Promise<void> {
    for (const message of messages) {
      const ready = await materialise(message, signed, this.points, this.#host.otherSignatures(this));
      if (this.#stopped) return;
      if (generation !== undefined) this.#host.send(this, ready, generation);
    }
  }
}
