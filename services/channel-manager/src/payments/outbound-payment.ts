/**
 * Sending: the pure payment machine of the payment library, made durable. An
 * attempt's session key and its intent are written in one commit, before any
 * channel can add the HTLC; a restart goes on waiting for its resolution.
 */
import { assertNever, equalBytes } from '@fulmen/codec';
import {
  buildOnion,
  decodeFailureMessage,
  encodeHopPayload,
  failureFromMalformed,
  type FailureMessage,
  onionSharedSecrets,
  unwrapFailure,
} from '@fulmen/onion';
import {
  type AttemptFailure,
  type PaymentInput,
  type PaymentParameters,
  type PaymentState,
  payloadsOf,
  type Route,
  type RouteHop,
  startPayment,
  stepPayment,
} from '@fulmen/payment';
import { RpcError } from '@fulmen/rpc';
import type { Intent, Resolution } from '@fulmen/store';
import { emptyForwarding, eventBody, type GrowingForwarding } from '../engine/forwarding.ts';
import { sourceKey } from '../engine/source-key.ts';
import type { PaymentActor } from './payment-actor.ts';
import { type OutboundRecord, outboundRow } from './record.ts';
import { findRoute, hasChannelUpdate, type PathOutcome, reportPath } from './route-query.ts';

/** No channel took an attempt for so long: its channel is gone or unowned, and another is tried. */
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
  /** Outcomes that wait for their turn: the store offers them again until they are taken. */
  readonly #resolving = new Set<Resolution['outcome']['type']>();
  /** The attempt that a channel took, or whose cancelling was tried: it is waited for. */
  #taken: Uint8Array | undefined;

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
      await this.#drive(
        { kind: 'outbound', bolt11, createdUnixMs, attempt: undefined, state },
        emptyForwarding(),
      );
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
    if (record?.kind === 'outbound' && record.attempt !== undefined)
      this.#attempts.remove(record.attempt.attemptId);
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }

  /** Somebody waits for it. */
  get isAwaited(): boolean {
    return this.#waiters.size > 0;
  }

  /** The end of an attempt; repetitions and ends of earlier attempts change nothing. */
  resolve(resolution: Resolution): void {
    const { type } = resolution.outcome;
    if (this.#resolving.has(type)) return;
    this.#resolving.add(type);
    void this.#actor
      .runDetached('ending a payment attempt', () => this.#resolveAny(resolution))
      .then(() => this.#resolving.delete(type));
  }

  async #resolveAny(resolution: Resolution): Promise<void> {
    let current: Resolution | undefined = resolution;
    for (let reads = 0; current !== undefined && reads < MAX_READS; reads++) {
      if ((await this.#resolved(current)) !== 'changed') return;
      current = await this.#readAgain(current);
    }
  }

  /** Routes that could not be found while the router was away, and attempts that nobody takes. */
  tick(): void {
    const { record, host } = this.#actor;
    if (record?.kind !== 'outbound' || this.#actor.queued > 0) return;
    const nowUnixMs = host.ports.runtime.wallClockMs();
    if (record.state.type === 'routing') {
      void this.#actor.runDetached('finding a route', () =>
        this.#drive(record, emptyForwarding()).then(() => undefined),
      );
    } else if (
      record.attempt !== undefined &&
      this.#taken !== record.attempt.attemptId &&
      nowUnixMs - record.attempt.startedUnixMs >= UNTAKEN_MS
    ) {
      void this.#actor.runDetached('taking an attempt back', () => this.#takeBack());
    }
  }

  async #resolved(resolution: Resolution): Promise<'done' | 'changed'> {
    const { record } = this.#actor;
    if (record?.kind !== 'outbound' || record.attempt === undefined || record.state.type !== 'in_flight')
      return 'done';
    if (sourceKey(resolution.source) !== sourceKey({ type: 'payment', attemptId: record.attempt.attemptId }))
      return 'done';
    const { outcome } = resolution;
    const { route, sessionKey } = record.state.attempt;
    const { secp, logger } = this.#actor.host.ports;
    const forwarding = emptyForwarding();
    forwarding.resolutionsTaken.push({ source: resolution.source, outcome: outcome.type });
    let input: PaymentInput;
    let report: PathOutcome | undefined;
    if (outcome.type === 'fulfilled') {
      input = { type: 'htlc_fulfilled', preimage: outcome.preimage };
      report = { type: 'success' };
    } else {
      const failure = failureOf(outcome, () =>
        onionSharedSecrets(
          secp,
          sessionKey,
          route.hops.map((hop) => hop.nodeId),
        ),
      );
      input = { type: 'htlc_failed', failure, nowSeconds: this.#nowSeconds() };
      if (failure.kind === 'failure')
        report = { type: 'failure', hopIndex: failure.hopIndex, failure: failure.failure };
    }
    const stepped = stepPayment(secp, record.state, input);
    if (!stepped.ok) {
      // The channel that brought it checks preimages; this cannot be an end of this attempt.
      logger.error({ reason: stepped.error }, 'the end of a payment attempt does not fit it');
      return 'done';
    }
    // Terms that came with the failure are for the very next route: the router must know them when it is asked.
    const correction = report?.type === 'failure' && hasChannelUpdate(report.failure) ? report : undefined;
    if (correction !== undefined) await reportPath(this.#actor.host, route, correction);
    const state = withoutNodes(record.state, stepped.value.state, route);
    const verdict = await this.#drive({ ...record, attempt: undefined, state }, forwarding);
    if (verdict === 'changed') return 'changed';
    if (report !== undefined && correction === undefined) void reportPath(this.#actor.host, route, report);
    return 'done';
  }

  async #readAgain(resolution: Resolution): Promise<Resolution | undefined> {
    const key = sourceKey(resolution.source);
    const { store } = this.#actor.host.ports;
    const pending = await store.pendingResolutions([this.#actor.fence.shard], 1_000);
    return pending.find(({ source }) => sourceKey(source) === key);
  }

  /** An upstream time-out of our own: wins only if no channel took the intent. */
  async #takeBack(): Promise<void> {
    const { record, host } = this.#actor;
    if (record?.kind !== 'outbound' || record.attempt === undefined) return;
    const { attemptId } = record.attempt;
    this.#taken = attemptId;
    const stepped = stepPayment(host.ports.secp, record.state, {
      type: 'htlc_failed',
      failure: { kind: 'not_added' },
      nowSeconds: this.#nowSeconds(),
    });
    if (!stepped.ok) return;
    const forwarding = emptyForwarding();
    forwarding.intentClaims.push({ source: { type: 'payment', attemptId }, outcome: 'cancelled' });
    await this.#drive({ ...record, attempt: undefined, state: stepped.value.state }, forwarding);
  }

  /**
   * Takes a draft as far as it goes without waiting for a channel, and commits
   * it: to the next attempt, to the end, or as it is while the router is away.
   */
  async #drive(
    draft: OutboundRecord,
    forwarding: GrowingForwarding,
  ): Promise<'committed' | 'changed' | 'nothing'> {
    const before = this.#actor.record;
    let next = draft;
    while (next.state.type === 'routing') {
      const routed = await this.#route(next, forwarding);
      if (routed === undefined) break;
      next = routed;
    }
    if (next === before) return 'nothing';
    if (isDone(next.state)) this.#finishEvent(next, forwarding);
    const verdict = await this.#actor.commit(next, forwarding);
    if (verdict.type !== 'committed') return 'changed';
    this.#index(before?.kind === 'outbound' ? before : undefined, next);
    if (isDone(next.state)) {
      for (const waiter of this.#waiters) waiter.resolve(next);
      this.#waiters.clear();
    }
    return 'committed';
  }

  /** One route asked for; undefined while nobody answers. */
  async #route(draft: OutboundRecord, forwarding: GrowingForwarding): Promise<OutboundRecord | undefined> {
    const { host } = this.#actor;
    const { secp, store, runtime, logger } = host.ports;
    const { state } = draft;
    const common = { parameters: state.parameters, lessons: state.lessons, ended: state.ended };
    const failed = (reason: Extract<PaymentState, { type: 'failed' }>['reason']): OutboundRecord => ({
      ...draft,
      state: { ...common, type: 'failed', reason },
    });
    if (this.#nowSeconds() >= state.parameters.deadlineSeconds) return failed({ kind: 'deadline_passed' });
    const answer = await findRoute(host, state);
    if (answer.type === 'unavailable') {
      logger.warn({ err: answer.error }, 'the router does not answer; trying again');
      return undefined;
    }
    if (answer.type === 'not_found') return failed({ kind: 'route_not_found', error: answer.error });
    const sessionKey = this.#sessionKey();
    const routed = stepPayment(secp, state, {
      type: 'route_found',
      route: answer.route,
      sessionKey,
      nowSeconds: this.#nowSeconds(),
    });
    if (!routed.ok) {
      logger.error({ reason: routed.error }, 'the router’s route breaks the limits of its payment');
      return failed({ kind: 'route_not_found', error: { kind: 'no_route', exceeded: [] } });
    }
    const inFlight = routed.value.state;
    if (inFlight.type !== 'in_flight') return { ...draft, state: inFlight };
    const { route } = inFlight.attempt;
    const [firstHop] = route.hops;
    const target = firstHop === undefined ? undefined : await store.shardOfScid(firstHop.shortChannelId);
    if (firstHop === undefined || target === undefined) {
      const stepped = stepPayment(secp, inFlight, {
        type: 'htlc_failed',
        failure: { kind: 'not_added' },
        nowSeconds: this.#nowSeconds(),
      });
      return stepped.ok ? { ...draft, state: stepped.value.state } : failed({ kind: 'retries_exhausted' });
    }
    const payloads = payloadsOf(route, state.parameters.final).map((tlvs) => encodeHopPayload(tlvs));
    const hops = route.hops.map((hop, index) => ({
      nodeId: hop.nodeId,
      payload: payloads[index] ?? new Uint8Array(0),
    }));
    const onion = buildOnion(secp, { sessionKey, hops, associatedData: state.parameters.paymentHash });
    if (!onion.ok)
      return failed({ kind: 'route_not_found', error: { kind: 'no_route', exceeded: ['hops'] } });
    const attemptId = runtime.randomBytes(32);
    const startedUnixMs = runtime.wallClockMs();
    const intent: Intent = {
      source: { type: 'payment', attemptId },
      sourceShard: this.#actor.fence.shard,
      target: { type: 'scid', shortChannelId: firstHop.shortChannelId },
      targetShard: target.shard,
      paymentHash: state.parameters.paymentHash,
      incomingAmountMsat: firstHop.amountMsat,
      incomingCltvExpiryHeight: firstHop.cltvExpiryHeight,
      outgoingAmountMsat: firstHop.amountMsat,
      outgoingCltvExpiryHeight: firstHop.cltvExpiryHeight,
      onion: onion.value.packet,
      sharedSecret: new Uint8Array(0),
      createdUnixMs: startedUnixMs,
    };
    forwarding.intents.push(intent);
    return { ...draft, attempt: { attemptId, startedUnixMs }, state: inFlight };
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

  #index(before: OutboundRecord | undefined, next: OutboundRecord): void {
    if (before?.attempt !== undefined) this.#attempts.remove(before.attempt.attemptId);
    if (next.attempt !== undefined) this.#attempts.add(next.attempt.attemptId, this);
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

function failureOf(
  outcome: Exclude<Resolution['outcome'], { type: 'fulfilled' }>,
  sharedSecrets: () => readonly Uint8Array[],
): AttemptFailure {
  switch (outcome.type) {
    case 'failed': {
      const unwrapped = unwrapFailure(sharedSecrets(), {
        reason: outcome.reason,
        attributionData: undefined,
      });
      return unwrapped.kind === 'failure'
        ? { kind: 'failure', hopIndex: unwrapped.hopIndex, failure: unwrapped.failure }
        : { kind: 'undecodable' };
    }
    case 'failed_here':
      return notAdded(decodeFailureMessage(outcome.failure));
    case 'failed_malformed':
      // Our own counterparty could not read the onion: nothing beyond it is to blame.
      return notAdded(failureFromMalformed(outcome.failureCode, outcome.sha256OfOnion));
  }
  return assertNever(outcome);
}

function notAdded(failure: FailureMessage | undefined): AttemptFailure {
  return failure === undefined ? { kind: 'not_added' } : { kind: 'not_added', failure };
}

/** The router is told channels to avoid, not nodes: those by which this route entered and left a node newly avoided. */
function withoutNodes(before: PaymentState, after: PaymentState, route: Route): PaymentState {
  const added = after.lessons.avoidedNodes.slice(before.lessons.avoidedNodes.length);
  if (added.length === 0) return after;
  const isAdded = (hop: RouteHop | undefined): boolean =>
    hop !== undefined && added.some((node) => equalBytes(node, hop.nodeId));
  const channels = route.hops.filter((hop, index) => isAdded(hop) || isAdded(route.hops[index - 1]));
  const avoided = channels.map(({ shortChannelId, direction }) => ({ shortChannelId, direction }));
  return {
    ...after,
    lessons: { ...after.lessons, avoidedChannels: [...after.lessons.avoidedChannels, ...avoided] },
  };
}
