/**
 * Sending: the pure payment machine of the payment library, made durable. The
 * session keys of all parts and their intents are written in one commit, before
 * any channel can add an HTLC; a restart goes on waiting for their resolutions.
 */
import { equalBytes, InternalError, toHex } from '@fulmen/codec';
import {
  type AttemptFailure,
  missingMsat,
  partsInFlight,
  type PaymentInput,
  type PaymentParameters,
  type PaymentState,
  type Route,
  startPayment,
  stepPayment,
} from '@fulmen/payment';
import { RpcError } from '@fulmen/rpc';
import type { Resolution } from '@fulmen/store';
import { emptyForwarding, eventBody, type GrowingForwarding } from '../engine/forwarding.ts';
import { sourceKey } from '../engine/source-key.ts';
import { failureOf, intentOf, onionOf, withoutNodes } from './outbound-parts.ts';
import type { PaymentActor } from './payment-actor.ts';
import { isFinished, type OutboundRecord, outboundRow, type PartName } from './record.ts';
import { findRoutes, reportFailure, reportSuccess } from './route-query.ts';

/** No channel took a part for so long: its channel is gone or unowned, and another is tried. */
const UNTAKEN_MS = 30_000;
/** Reads of a resolution that changes while it is used: a preimage replaces a failure once. */
const MAX_READS = 3;
const MAX_WAITERS = 256;

interface Waiter {
  readonly resolve: (record: OutboundRecord) => void;
  readonly reject: (error: RpcError) => void;
}

/** How the hub finds the actor of a resolution. */
export interface AttemptIndex {
  add(attemptId: Uint8Array, payment: OutboundPayment): void;
  remove(attemptId: Uint8Array): void;
}

export class OutboundPayment {
  readonly #actor: PaymentActor;
  readonly #attempts: AttemptIndex;
  readonly #waiters = new Set<Waiter>();
  /** Outcomes that wait for their turn, by source and type: the store offers them again until they are taken. */
  readonly #resolving = new Set<string>();
  /** Parts that could not be cancelled: a channel took them, and they are waited for. */
  readonly #taken = new Set<string>();

  constructor(actor: PaymentActor, attempts: AttemptIndex) {
    this.#actor = actor;
    this.#attempts = attempts;
    if (actor.record?.kind === 'outbound') this.#index(undefined, actor.record);
  }

  /**
   * Begins the payment, or returns what became of it when it began before:
   * one invoice is paid once. A failed one is tried anew.
   */
  start(bolt11: string, parameters: PaymentParameters): Promise<OutboundRecord> {
    return this.#actor.run(async () => {
      const { record } = this.#actor;
      if (record?.kind === 'inbound') {
        throw new RpcError(
          'invalid_argument',
          'this invoice is this node’s own; ask the payer to pay it, or cancel it',
        );
      }
      if (record !== undefined) this.#index(undefined, record);
      if (record !== undefined && record.state.type !== 'failed') return record;
      const createdUnixMs = this.#actor.host.ports.runtime.wallClockMs();
      const { state } = startPayment(parameters);
      this.#taken.clear();
      await this.#drive({ kind: 'outbound', bolt11, createdUnixMs, parts: [], state }, emptyForwarding());
      const started = this.#actor.record;
      if (started?.kind !== 'outbound')
        throw new RpcError('unavailable', 'the payment was not begun; try again');
      return started;
    });
  }

  /** Resolves when the payment has succeeded or failed. */
  outcome(signal: AbortSignal | undefined): Promise<OutboundRecord> {
    const { record } = this.#actor;
    if (record?.kind === 'outbound' && isDone(record.state)) return Promise.resolve(record);
    if (this.#waiters.size >= MAX_WAITERS) {
      return Promise.reject(
        new RpcError('resource_exhausted', 'too many callers wait for this payment; look it up instead'),
      );
    }
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { resolve, reject };
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', () => {
        if (this.#waiters.delete(waiter))
          reject(new RpcError('cancelled', 'the caller stopped waiting; the payment goes on'));
      });
    });
  }

  /** Ends all waits: the actor is gone. */
  end(error: RpcError): void {
    const { record } = this.#actor;
    if (record?.kind === 'outbound') this.#index(record, undefined);
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }

  /** Somebody waits for it. */
  get isAwaited(): boolean {
    return this.#waiters.size > 0;
  }

  /** The end of a part; repetitions and ends of earlier ones change nothing. */
  resolve(resolution: Resolution): void {
    const key = `${sourceKey(resolution.source)} ${resolution.outcome.type}`;
    if (this.#resolving.has(key)) return;
    this.#resolving.add(key);
    void this.#actor
      .runDetached('ending a part of a payment', () => this.#resolveAny(resolution))
      .then(() => this.#resolving.delete(key));
  }

  async #resolveAny(resolution: Resolution): Promise<void> {
    let current: Resolution | undefined = resolution;
    for (let reads = 0; current !== undefined && reads < MAX_READS; reads++) {
      if ((await this.#resolved(current)) !== 'changed') return;
      current = await this.#readAgain(current);
    }
  }

  /** Routes that could not be found while the router was away, and parts that nobody takes. */
  tick(): void {
    const { record, host } = this.#actor;
    if (record?.kind !== 'outbound' || this.#actor.queued > 0) return;
    const nowUnixMs = host.ports.runtime.wallClockMs();
    if (missingMsat(record.state) > 0n) {
      void this.#actor.runDetached('finding routes', () => this.#goOn());
    }
    // What no channel took yet is of no use to a payment that is given up.
    const isGivenUp = record.state.type === 'in_flight' && record.state.intent.kind === 'give_up';
    const patienceMs = isGivenUp || record.state.type === 'sent' ? 0 : UNTAKEN_MS;
    for (const part of record.parts) {
      if (this.#taken.has(toHex(part.attemptId)) || nowUnixMs - part.startedUnixMs < patienceMs) continue;
      void this.#actor.runDetached('taking a part back', () => this.#takeBack(part));
    }
  }

  async #goOn(): Promise<void> {
    const { record } = this.#actor;
    if (record?.kind === 'outbound') await this.#drive(record, emptyForwarding());
  }

  async #resolved(resolution: Resolution): Promise<'done' | 'changed'> {
    const { record, host } = this.#actor;
    const { source, outcome } = resolution;
    if (record?.kind !== 'outbound' || source.type !== 'payment') return 'done';
    const part = record.parts.find(({ attemptId }) => equalBytes(attemptId, source.attemptId));
    const attempt = partsInFlight(record.state).find(
      ({ attemptNumber }) => attemptNumber === part?.attemptNumber,
    );
    if (part === undefined || attempt === undefined) return 'done';
    const forwarding = emptyForwarding();
    forwarding.resolutionsTaken.push({ source, outcome: outcome.type });
    if (outcome.type === 'fulfilled') {
      const { preimage } = outcome;
      const ended = this.#ended(record, part, { type: 'htlc_fulfilled', preimage });
      if (ended === undefined) return 'done';
      if ((await this.#drive(ended, forwarding)) === 'changed') return 'changed';
      reportSuccess(host, attempt.route);
      return 'done';
    }
    const failure = failureOf(host.ports.secp, attempt, outcome);
    const ended = this.#ended(record, part, { type: 'htlc_failed', failure });
    if (ended === undefined) return 'done';
    // First: the router is asked for other routes next, and what this failure says of terms and liquidity is for it.
    if (failure.kind === 'failure')
      await reportFailure(host, attempt.route, failure.hopIndex, failure.failure);
    const state = withoutNodes(record.state, ended.state, attempt.route);
    return (await this.#drive({ ...ended, state }, forwarding)) === 'changed' ? 'changed' : 'done';
  }

  /** The record after the end of a part; undefined when that cannot be its end. */
  #ended(
    record: OutboundRecord,
    part: PartName,
    end:
      | { readonly type: 'htlc_fulfilled'; readonly preimage: Uint8Array }
      | { readonly type: 'htlc_failed'; readonly failure: AttemptFailure },
  ): OutboundRecord | undefined {
    const { secp, logger } = this.#actor.host.ports;
    const { attemptNumber } = part;
    const input: PaymentInput =
      end.type === 'htlc_fulfilled'
        ? { ...end, attemptNumber }
        : { ...end, attemptNumber, nowSeconds: this.#nowSeconds() };
    const stepped = stepPayment(secp, record.state, input);
    if (!stepped.ok) {
      // The channel that brought it checks preimages; this cannot be an end of this part.
      logger.error({ reason: stepped.error }, 'the end of a part of a payment does not fit it');
      return undefined;
    }
    const parts = record.parts.filter((open) => open !== part);
    return { ...record, parts, state: stepped.value.state };
  }

  async #readAgain(resolution: Resolution): Promise<Resolution | undefined> {
    const key = sourceKey(resolution.source);
    const { store } = this.#actor.host.ports;
    const pending = await store.pendingResolutions([this.#actor.fence.shard], 1_000);
    return pending.find(({ source }) => sourceKey(source) === key);
  }

  /** An upstream time-out of our own: wins only if no channel took the intent. */
  async #takeBack({ attemptId }: PartName): Promise<void> {
    const { record } = this.#actor;
    if (record?.kind !== 'outbound') return;
    const part = record.parts.find((open) => equalBytes(open.attemptId, attemptId));
    if (part === undefined) return;
    const ended = this.#ended(record, part, { type: 'htlc_failed', failure: { kind: 'not_added' } });
    if (ended === undefined) return;
    const forwarding = emptyForwarding();
    forwarding.intentClaims.push({ source: { type: 'payment', attemptId }, outcome: 'cancelled' });
    // Only its answer says that a channel was first: one that was never given is asked for again at the next tick.
    if ((await this.#drive(ended, forwarding)) === 'changed') this.#taken.add(toHex(attemptId));
  }

  /**
   * Takes a draft as far as it goes without waiting for a channel, and commits
   * it: to the next parts, to the end, or as it is while the router is away.
   */
  async #drive(
    draft: OutboundRecord,
    forwarding: GrowingForwarding,
  ): Promise<'committed' | 'changed' | 'nothing'> {
    const before = this.#actor.record;
    const earlier = before?.kind === 'outbound' ? before : undefined;
    let next = draft;
    while (missingMsat(next.state) > 0n) {
      const routed = await this.#route(next, forwarding);
      if (routed === undefined) break;
      next = routed;
    }
    if (next === before) return 'nothing';
    // A payment succeeds with its first preimage: the ends of its other parts say nothing new.
    const isEnd = isDone(next.state) && earlier?.state.type !== 'sent';
    if (isEnd) this.#finishEvent(next, forwarding);
    const verdict = await this.#actor.commit(next, forwarding);
    if (verdict.type !== 'committed') return 'changed';
    // The shard may have been loaded anew meanwhile: its attempts are those of another object then.
    if (!this.#actor.isGone) this.#index(earlier, next);
    if (isFinished(next)) this.#taken.clear();
    if (isEnd) {
      for (const waiter of this.#waiters) waiter.resolve(next);
      this.#waiters.clear();
    }
    return 'committed';
  }

  /** Routes asked for once; undefined while nobody answers. */
  async #route(draft: OutboundRecord, forwarding: GrowingForwarding): Promise<OutboundRecord | undefined> {
    const { host, fence } = this.#actor;
    const { secp, runtime, logger } = host.ports;
    const { state } = draft;
    const { parameters, lessons } = state;
    const nowSeconds = this.#nowSeconds();
    if (nowSeconds >= parameters.deadlineSeconds) return this.#stepped(draft, { type: 'deadline_passed' });
    const answer = await findRoutes(host, draft);
    if (answer.type === 'unavailable') {
      logger.warn({ err: answer.error }, 'no answer about routes; trying again');
      return undefined;
    }
    if (answer.type === 'not_found')
      return this.#stepped(draft, { type: 'route_not_found', error: answer.error });
    const { routes } = answer;
    const sessionKeys = routes.map(() => this.#sessionKey());
    const onions = routes.map((route, index) =>
      onionOf(secp, parameters, route, sessionKeys[index] ?? new Uint8Array(0)),
    );
    if (onions.includes(undefined)) {
      const error = { kind: 'no_route', exceeded: ['hops'] } as const;
      return this.#stepped(draft, { type: 'route_not_found', error });
    }
    const routed = stepPayment(secp, state, { type: 'routes_found', routes, sessionKeys, nowSeconds });
    if (!routed.ok) {
      logger.error({ reason: routed.error }, 'the router’s routes break the limits of their payment');
      return this.#stepped(draft, {
        type: 'route_not_found',
        error: { kind: 'no_route', exceeded: [] },
      });
    }
    const sent = partsInFlight(routed.value.state).slice(partsInFlight(state).length);
    const targets = await Promise.all(sent.map(({ route }) => this.#shardOf(route)));
    let next: OutboundRecord = { ...draft, state: routed.value.state };
    for (const [index, attempt] of sent.entries()) {
      const [firstHop] = attempt.route.hops;
      const onion = onions[index];
      if (firstHop === undefined || onion === undefined) continue;
      const part = {
        attemptNumber: attempt.attemptNumber,
        attemptId: runtime.randomBytes(32),
        startedUnixMs: runtime.wallClockMs(),
      };
      next = { ...next, parts: [...next.parts, part] };
      const channelShard = targets[index];
      if (channelShard === undefined) {
        // The channel is gone since it was listed.
        next = this.#ended(next, part, { type: 'htlc_failed', failure: { kind: 'not_added' } }) ?? next;
        continue;
      }
      const shards = { payment: fence.shard, channel: channelShard };
      forwarding.intents.push(intentOf(part, firstHop, parameters.paymentHash, onion, shards));
    }
    logger.debug(
      { parts: sent.length, inFlight: partsInFlight(next.state).length, attempts: lessons.attempts },
      'parts of a payment go out',
    );
    return next;
  }

  /** The shard of the channel that a route begins with; undefined when there is no such channel any more. */
  async #shardOf({ hops }: Route): Promise<number | undefined> {
    const [firstHop] = hops;
    if (firstHop === undefined) return undefined;
    return (await this.#actor.host.ports.store.shardOfScid(firstHop.shortChannelId))?.shard;
  }

  #stepped(draft: OutboundRecord, input: PaymentInput): OutboundRecord {
    const stepped = stepPayment(this.#actor.host.ports.secp, draft.state, input);
    if (!stepped.ok) throw new InternalError(`a payment that wants routes refuses ${input.type}`);
    return { ...draft, state: stepped.value.state };
  }

  #finishEvent(record: OutboundRecord, forwarding: GrowingForwarding): void {
    const { paymentHash } = this.#actor;
    const row = outboundRow(record);
    const timeUnixMs = this.#actor.host.ports.runtime.wallClockMs();
    if (record.state.type === 'sent') {
      const body = eventBody({
        paymentHash,
        paymentPreimage: record.state.preimage,
        amountMsat: row.amountMsat,
        feePaidMsat: row.feeMsat,
      });
      forwarding.events.push({ type: 'payment_sent', timeUnixMs, body });
    } else {
      const body = eventBody({ paymentHash, amountMsat: row.amountMsat, reason: row.failureReason });
      forwarding.events.push({ type: 'payment_failed', timeUnixMs, body });
    }
  }

  #index(before: OutboundRecord | undefined, next: OutboundRecord | undefined): void {
    for (const { attemptId } of before?.parts ?? []) this.#attempts.remove(attemptId);
    for (const { attemptId } of next?.parts ?? []) this.#attempts.add(attemptId, this);
  }

  #sessionKey(): Uint8Array {
    const { runtime, secp } = this.#actor.host.ports;
    for (;;) {
      const key = runtime.randomBytes(32);
      if (secp.isSecretKey(key)) return key;
    }
  }

  #nowSeconds(): number {
    return Math.floor(this.#actor.host.ports.runtime.wallClockMs() / 1000);
  }
}

function isDone(state: PaymentState): boolean {
  return state.type === 'sent' || state.type === 'failed';
}
