/**
 * Receiving: parts of a payment arrive as intents from any shard, are held in
 * memory, and are claimed together by one commit. Until then nothing of them
 * is stored here: after a crash they are still pending intents and come again.
 */
import { toHex } from '@fulmen/codec';
import { encodeFailureMessage, type FailureMessage } from '@fulmen/onion';
import { earliestExpiryHeight, HTLC_FAIL_BACK_BUFFER, isComplete, isTimedOut } from '@fulmen/payment';
import type { HtlcSource, Intent } from '@fulmen/store';
import { mayWait } from '../engine/forward-terms.ts';
import { sourceKey } from '../engine/source-key.ts';
import { emptyForwarding, eventBody, type GrowingForwarding } from '../engine/forwarding.ts';
import type { PaymentActor } from './payment-actor.ts';
import {
  type PartSet,
  receivePart,
  receiveSpontaneous,
  type Spontaneous,
  unknownDetails,
} from './receive.ts';
import type { InboundRecord, PaymentRecord } from './record.ts';

/** Intents waiting to be looked at; more come again from the store. */
const MAX_WAITING = 1_024;
/** Sources remembered as settled, so that a late repetition costs no commit. */
const MAX_REMEMBERED = 2_048;

interface Refusal {
  readonly intent: Intent;
  readonly failure: FailureMessage;
}

export class InboundPayment {
  readonly #actor: PaymentActor;
  /** By source: waiting, held or being settled. */
  readonly #known = new Set<string>();
  readonly #settled = new Set<string>();
  #waiting: Intent[] = [];
  #set: PartSet | undefined;

  constructor(actor: PaymentActor) {
    this.#actor = actor;
  }

  /** Parts are held, or about to be looked at. */
  get isHolding(): boolean {
    return this.#known.size > 0;
  }

  /** Takes an intent for this hash; repetitions are recognised by their source. */
  offer(intent: Intent): void {
    const key = sourceKey(intent.source);
    if (this.#known.has(key) || this.#settled.has(key) || this.#waiting.length >= MAX_WAITING) return;
    this.#known.add(key);
    this.#waiting.push(intent);
    if (this.#waiting.length > 1) return;
    this.#actor.run(() => this.#receive()).catch((error: unknown) => this.#leaveForLater(error));
  }

  /** Time-outs of parts and of the invoice. */
  tick(): void {
    const { record } = this.#actor;
    if (record?.kind !== 'inbound') return;
    if (this.#set !== undefined ? this.#timeOutOf(this.#set) !== undefined : this.#expires(record)) {
      void this.#actor.runDetached('ending an invoice', () => this.#expire());
    }
  }

  /** The store could not be read: what waits comes again from there. */
  #leaveForLater(error: unknown): void {
    for (const intent of this.#waiting) this.#known.delete(sourceKey(intent.source));
    this.#waiting = [];
    if (!this.#actor.isGone)
      this.#actor.host.ports.logger.warn(
        { err: error },
        'an HTLC could not be looked at; it will be offered again',
      );
  }

  async #receive(): Promise<void> {
    const { ports, node } = this.#actor.host;
    if (node.chainDoubt() !== undefined) return this.#holdOff();
    const context = {
      blockHeight: node.blockHeight,
      nowUnixMs: ports.runtime.wallClockMs(),
      monotonicMs: ports.runtime.monotonicMs(),
    };
    if (this.#actor.record === undefined) {
      const [first] = this.#waiting;
      const spontaneous = first && receiveSpontaneous(first, node.keysend, context);
      if (first !== undefined && spontaneous?.ok === true) {
        this.#waiting.shift();
        await this.#takeSpontaneous(first, spontaneous.value);
      }
    }
    const { record } = this.#actor;
    const intents = this.#waiting;
    this.#waiting = [];
    if (record === undefined) {
      // The incoming channel fails an unknown hash itself. One that slipped through is left to its time-out there.
      for (const intent of intents) this.#known.delete(sourceKey(intent.source));
      if (intents.length > 0)
        this.#actor.host.ports.logger.warn(
          { paymentHash: toHex(this.#actor.paymentHash) },
          'an HTLC came for a payment hash without a record',
        );
      return;
    }
    const refusals: Refusal[] = [];
    for (const intent of intents) {
      const added = receivePart(record.kind === 'inbound' ? record : undefined, this.#set, intent, context);
      if (added.ok) this.#set = added.value;
      else refusals.push({ intent, failure: added.error });
    }
    await this.#settle(record, refusals);
  }

  /**
   * While the chain is in doubt: by a height that is old, an HTLC that has expired would be claimed and not be paid. As
   * forwards do, HTLCs wait for the doubt to end (the next poll offers them again), and fail when they have waited long
   * enough. No set becomes complete meanwhile.
   */
  async #holdOff(): Promise<void> {
    const nowUnixMs = this.#actor.host.ports.runtime.wallClockMs();
    const intents = this.#waiting;
    this.#waiting = [];
    const refusals: Refusal[] = [];
    for (const intent of intents) {
      if (mayWait(intent, nowUnixMs)) this.#known.delete(sourceKey(intent.source));
      else refusals.push({ intent, failure: { kind: 'temporary_node_failure' } });
    }
    await this.#settle(this.#actor.record, refusals);
  }

  /** Stored and claimed by one commit: whoever comes later under this hash finds it paid. */
  async #takeSpontaneous(intent: Intent, { preimage, customRecords }: Spontaneous): Promise<void> {
    const nowUnixMs = this.#actor.host.ports.runtime.wallClockMs();
    const forwarding = emptyForwarding();
    const record: InboundRecord = {
      kind: 'inbound',
      preimage,
      paymentSecret: new Uint8Array(32),
      amountMsat: undefined,
      minFinalCltvExpiryDelta: 0,
      createdUnixMs: nowUnixMs,
      expiresUnixMs: nowUnixMs,
      bolt11: '',
      description: '',
      status: 'open',
      receivedMsat: 0n,
      paidUnixMs: undefined,
      paymentMetadata: undefined,
      origin: 'keysend',
      customRecords,
    };
    const verdict = await this.#actor.commit(this.#claim(record, [intent], forwarding), forwarding);
    // Its channel timed it out first otherwise: it is no payment any more.
    if (verdict.type === 'committed' || verdict.type === 'intent_lost') this.#forget(intent.source);
  }

  async #expire(): Promise<void> {
    const { record } = this.#actor;
    if (record?.kind !== 'inbound') return;
    const set = this.#set;
    const failure = set === undefined ? undefined : this.#timeOutOf(set);
    if (set !== undefined && failure !== undefined) {
      this.#set = undefined;
      await this.#settle(record, refusalsOf(set, failure));
    } else if (set === undefined && this.#expires(record)) {
      await this.#actor.commit({ ...record, status: 'expired' });
    }
  }

  #expires(record: InboundRecord): boolean {
    return (
      record.status === 'open' &&
      !this.isHolding &&
      this.#actor.host.ports.runtime.wallClockMs() >= record.expiresUnixMs
    );
  }

  /** Why a set can no longer be held. */
  #timeOutOf(set: PartSet): ((intent: Intent) => FailureMessage) | undefined {
    const { node, ports } = this.#actor.host;
    // A claim this near to a part's expiry might lose the race on-chain.
    if (earliestExpiryHeight(set) <= node.blockHeight + HTLC_FAIL_BACK_BUFFER) {
      return (intent) => unknownDetails(intent.incomingAmountMsat, node.blockHeight);
    }
    // BOLT 4: "MUST fail all HTLCs in the HTLC set after some reasonable timeout […] with mpp_timeout".
    return isTimedOut(set, Math.floor(ports.runtime.monotonicMs() / 1000))
      ? () => ({ kind: 'mpp_timeout' })
      : undefined;
  }

  /** Commits what is decided: the claim of a complete set, and refusals. Repeats without the intents that others claimed first. */
  async #settle(record: PaymentRecord | undefined, toRefuse: readonly Refusal[]): Promise<void> {
    let refusals = toRefuse;
    for (;;) {
      let complete = this.#set !== undefined && isComplete(this.#set) ? this.#set : undefined;
      const tooLate = complete === undefined ? undefined : this.#timeOutOf(complete);
      if (complete !== undefined && tooLate !== undefined) {
        refusals = [...refusals, ...refusalsOf(complete, tooLate)];
        complete = undefined;
        this.#set = undefined;
      }
      if (complete === undefined && refusals.length === 0) return;
      const forwarding = emptyForwarding();
      for (const refusal of refusals) refuse(forwarding, refusal);
      const next =
        complete !== undefined && record?.kind === 'inbound'
          ? this.#claim(
              record,
              complete.parts.map(({ part }) => part),
              forwarding,
            )
          : record;
      const verdict = await this.#actor.commit(next, forwarding);
      if (verdict.type === 'committed') {
        for (const { source } of forwarding.intentClaims) this.#forget(source);
        if (complete !== undefined) this.#set = undefined;
        return;
      }
      // Its channel timed it out first, or it was settled before: it is no part of this payment any more.
      this.#forget(verdict.source);
      const lost = sourceKey(verdict.source);
      refusals = refusals.filter(({ intent }) => sourceKey(intent.source) !== lost);
      this.#set = without(this.#set, lost);
    }
  }

  /** Every part's preimage row and resolution, in the commit that makes the invoice paid. */
  #claim(record: InboundRecord, parts: readonly Intent[], forwarding: GrowingForwarding): InboundRecord {
    const { preimage } = record;
    const nowUnixMs = this.#actor.host.ports.runtime.wallClockMs();
    let receivedMsat = 0n;
    for (const part of parts) {
      const { source, sourceShard } = part;
      receivedMsat += part.incomingAmountMsat;
      forwarding.intentClaims.push({ source, outcome: 'taken' });
      forwarding.resolutions.push({ source, sourceShard, outcome: { type: 'fulfilled', preimage } });
      if (source.type === 'htlc')
        forwarding.preimages.push({ channelId: source.channelId, htlcId: source.htlcId, preimage });
    }
    const { paymentHash } = this.#actor;
    const body = eventBody({
      paymentHash,
      amountMsat: receivedMsat,
      parts: parts.length,
      ...(record.origin === 'keysend' && { origin: record.origin }),
      ...(record.customRecords.length > 0 && {
        customRecords: record.customRecords.map(({ type, value }) => ({
          type: type.toString(),
          value: toHex(value),
        })),
      }),
    });
    forwarding.events.push({ type: 'payment_claimed', timeUnixMs: nowUnixMs, body });
    return { ...record, status: 'paid', receivedMsat, paidUnixMs: nowUnixMs };
  }

  #forget(source: HtlcSource): void {
    const key = sourceKey(source);
    this.#known.delete(key);
    this.#settled.add(key);
    if (this.#settled.size <= MAX_REMEMBERED) return;
    for (const oldest of this.#settled) {
      this.#settled.delete(oldest);
      return;
    }
  }
}

function refusalsOf(set: PartSet, failure: (intent: Intent) => FailureMessage): Refusal[] {
  return set.parts.map(({ part }) => ({ intent: part, failure: failure(part) }));
}

function refuse(forwarding: GrowingForwarding, { intent, failure }: Refusal): void {
  const { source, sourceShard } = intent;
  forwarding.intentClaims.push({ source, outcome: 'taken' });
  forwarding.resolutions.push({
    source,
    sourceShard,
    outcome: { type: 'failed_here', failure: encodeFailureMessage(failure) },
  });
}

function without(set: PartSet | undefined, key: string): PartSet | undefined {
  if (set === undefined) return undefined;
  const parts = set.parts.filter(({ part }) => sourceKey(part.source) !== key);
  return parts.length === 0 ? undefined : { ...set, parts };
}
