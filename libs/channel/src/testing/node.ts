/**
 * A shell for tests: commits each step to in-memory rows, checks that they
 * restore to the same state, asks the test signer for what messages need, and
 * hands messages to a queue. Everything a real shell does, synchronously.
 */
import { InternalError } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { make } from '@fulmen/wire';
import { applyReaction, channelStep } from '../channel.ts';
import { defaultChannelConfig } from '../config.ts';
import type { ChannelConfig } from '../config.ts';
import type { ChannelContext, FeerateEstimates, NegotiatedFeatures } from '../context.ts';
import type { ChannelEffect, OutboundMessage, PeerMessage } from '../effect.ts';
import type { ChannelError } from '../errors.ts';
import { isHeld } from '../freeze.ts';
import type { ChannelInput } from '../input.ts';
import { persistDelta } from '../persist/delta.ts';
import { restore } from '../persist/restore.ts';
import type { PersistedChannel } from '../persist.ts';
import { signerWork } from '../signer-work.ts';
import type { ChannelState, EstablishedChannel, OpeningChannel } from '../state.ts';
import { primaryFunding } from '../state.ts';
import type { Step } from '../step.ts';
import { TestSigner } from './signer.ts';
import type { Registration } from './signer.ts';

export const CHAIN_HASH = new Uint8Array(32).fill(6);

export const FEERATES: FeerateEstimates = {
  minimumAnchorSatPerKw: 253,
  minimumNonAnchorSatPerKw: 253,
  maximumSatPerKw: 5000,
  closeMinimumSatPerKw: 253,
  closeTargetSatPerKw: 1000,
};

export const FEATURES: NegotiatedFeatures = {
  largeChannels: false,
  anchors: true,
  upfrontShutdownScript: true,
  shutdownAnySegwit: true,
  scidAlias: true,
  zeroConf: true,
  dualFund: false,
};

export interface NodeOptions {
  readonly config?: Partial<ChannelConfig>;
  readonly feerates?: Partial<FeerateEstimates>;
  /** Whether every persisted state is read back and compared. */
  readonly restores?: 'checked' | 'unchecked';
}

export class TestNode {
  readonly name: string;
  readonly secp: Secp256k1;
  readonly signer: TestSigner;
  readonly config: ChannelConfig;
  feerates: FeerateEstimates;
  state: ChannelState | undefined;
  /** What a restart finds. */
  persistedState: ChannelState | undefined;
  rows: PersistedChannel | undefined;
  /** Messages on their way to the peer. */
  outbox: PeerMessage[] = [];
  readonly effects: ChannelEffect[] = [];
  /** How monitor updates complete. */
  monitor: 'synchronous' | 'in_progress' = 'synchronous';
  /** Dies after the next commit, before its effects. */
  dies: 'never' | 'after_next_commit' | 'dead' = 'never';
  /** Received less paid, over all settled HTLCs. */
  earnedMsat = 0n;
  readonly #checksRestores: boolean;

  constructor(name: string, secp: Secp256k1, options: NodeOptions = {}) {
    this.name = name;
    this.secp = secp;
    this.signer = new TestSigner(secp, name);
    this.config = { ...defaultChannelConfig(CHAIN_HASH), ...options.config };
    this.feerates = { ...FEERATES, ...options.feerates };
    this.#checksRestores = options.restores !== 'unchecked';
  }

  get ctx(): ChannelContext {
    return {
      secp: this.secp,
      config: this.config,
      feerates: this.feerates,
      holderPoint: (number) => this.signer.point(number),
    };
  }

  get channel(): EstablishedChannel {
    if (this.state?.type !== 'established') throw new InternalError(`${this.name} has no channel`);
    return this.state;
  }

  get registration(): Registration {
    return { parameters: this.channel.parameters, funding: primaryFunding(this.channel) };
  }

  /** Runs an input; a refusal is returned, its reaction not applied. */
  input(input: ChannelInput): ChannelError | undefined {
    if (this.state === undefined) throw new InternalError('no channel');
    const result = channelStep(this.ctx, this.state, input);
    if (!result.ok) return result.error;
    // Updates of the peer need not be durable before its commitment_signed.
    const isUpdate = input.type === 'message' && input.message.type.startsWith('update_');
    this.take(result.value, isUpdate ? 'volatile' : 'durable');
    return undefined;
  }

  /** As `input`, for what must succeed. */
  must(input: ChannelInput): void {
    const error = this.input(input);
    if (error !== undefined)
      throw new InternalError(`${this.name}: ${input.type}: ${error.code}: ${error.message}`);
  }

  react(error: ChannelError): void {
    if (this.state !== undefined) this.take(applyReaction(this.state, error), 'durable');
  }

  take(step: Step, durability: 'durable' | 'volatile'): void {
    const before = this.state;
    this.state = step.state;
    checkUpdateIds(before, step);
    if (durability === 'durable') this.#commit();
    else if (step.effects.some((effect) => effect.type === 'send' || effect.type === 'monitor_update'))
      throw new InternalError('a volatile step sends');
    this.effects.push(...step.effects);
    this.#book(before, step);
    if (this.dies === 'after_next_commit' && durability === 'durable') {
      this.dies = 'dead';
      return;
    }
    const messages = step.effects.flatMap((effect) => (effect.type === 'send' ? [effect.message] : []));
    const freezes =
      this.monitor === 'in_progress' && step.effects.some((effect) => effect.type === 'monitor_update');
    const held = freezes ? messages.filter(isHeld) : [];
    for (const message of messages) if (!held.includes(message)) this.outbox.push(this.toWire(message));
    if (freezes) this.must({ type: 'monitor_update_in_progress', held });
  }

  #book(before: ChannelState | undefined, step: Step): void {
    if (before?.type !== 'established') return;
    for (const effect of step.effects) {
      if (effect.type !== 'htlc_settled' || effect.outcome !== 'fulfilled') continue;
      const htlc = before.changes.htlcs.find(
        ({ body }) => body.direction === effect.direction && body.id === effect.id,
      );
      if (htlc === undefined) throw new InternalError('an unknown HTLC settled');
      this.earnedMsat += effect.direction === 'inbound' ? htlc.body.amountMsat : -htlc.body.amountMsat;
    }
  }

  /** Every monitor update so far is durable everywhere. */
  completeMonitor(): void {
    this.monitor = 'synchronous';
    if (this.state?.type === 'established')
      this.must({ type: 'monitor_update_completed', updateId: this.state.monitor.updateId });
  }

  /** The process dies and comes back with what is committed. */
  restart(): void {
    this.dies = 'never';
    if (this.rows === undefined) throw new InternalError('nothing was committed');
    const restored = restore(this.rows);
    if (!restored.ok) throw new InternalError(`restore: ${restored.error.type}: ${restored.error.reason}`);
    this.state = restored.value;
    this.persistedState = restored.value;
  }

  #commit(): void {
    if (this.state === undefined) return;
    const delta = persistDelta(this.persistedState, this.state);
    const key = (htlc: { readonly direction: string; readonly id: bigint }) => `${htlc.direction}:${htlc.id}`;
    const settled = new Set(delta.settledHtlcs.map(key));
    const htlcs = new Map(
      this.rows?.htlcs.filter((body) => !settled.has(key(body))).map((body) => [key(body), body]),
    );
    const removals = new Map(
      this.rows?.removals.filter((row) => !settled.has(key(row))).map((row) => [key(row), row]),
    );
    for (const body of delta.newHtlcs) {
      if (htlcs.has(key(body))) throw new InternalError(`HTLC row ${key(body)} is written twice`);
      htlcs.set(key(body), body);
    }
    for (const row of delta.newRemovals) removals.set(key(row), row);
    const buckets = new Map(this.rows?.secretBuckets.map((row) => [row.bucket, row]));
    for (const row of delta.secretBuckets) buckets.set(row.bucket, row);
    const cold = delta.cold ?? this.rows?.cold;
    if (cold === undefined) throw new InternalError('the first delta has a cold blob');
    this.rows = {
      hot: delta.hot,
      cold,
      htlcs: [...htlcs.values()],
      removals: [...removals.values()],
      secretBuckets: [...buckets.values()],
      holderSignatures: delta.holderSignatures ?? this.rows?.holderSignatures,
    };
    this.persistedState = this.state;
    if (this.#checksRestores) this.checkRestore();
  }

  /** What is committed restores to the state that was committed. */
  checkRestore(): void {
    if (this.rows === undefined || this.persistedState === undefined) return;
    const restored = restore(this.rows);
    if (!restored.ok) throw new InternalError(`restore: ${restored.error.type}: ${restored.error.reason}`);
    const [a, b] = [canonical(restored.value), canonical(this.persistedState)];
    if (a !== b) throw new InternalError(`restored another state:\n${a}\n${b}`);
  }

  /** A message with what the signer adds to it. */
  toWire(message: OutboundMessage): PeerMessage {
    if (message.kind === 'ready') return message.message;
    if (message.kind === 'funding_created') {
      const registration = openingRegistration(this.state);
      const { signature } = this.signer.signCounterparty(
        registration,
        message.spec,
        message.counterpartyPerCommitmentPoint,
      );
      return make('funding_created', {
        temporaryChannelId: message.temporaryChannelId,
        fundingTxid: message.fundingTxid,
        fundingOutputIndex: message.fundingOutputIndex,
        signature,
      });
    }
    // A point gives nothing away.
    if (message.kind === 'channel_reestablish')
      return {
        ...message.message,
        myCurrentPerCommitmentPoint: this.signer.point(message.holderCommitmentNumber),
      };
    const work = signerWork(this.channel, this.signer.progress);
    if (!work.ok) throw new InternalError(`${this.name}: ${work.error.reason}`);
    this.signer.work(this.registration, work.value);
    const { channelId } = this.channel;
    switch (message.kind) {
      case 'funding_signed':
        return make('funding_signed', {
          channelId,
          signature: this.signer.signCounterparty(
            this.registration,
            message.spec,
            message.counterpartyPerCommitmentPoint,
          ).signature,
        });
      case 'commitment_signed':
        return make('commitment_signed', {
          channelId,
          ...this.signer.signCounterparty(
            this.registration,
            message.spec,
            message.counterpartyPerCommitmentPoint,
          ),
          tlvs: { fundingTxid: primaryFunding(this.channel).fundingTxid },
        });
      case 'revoke_and_ack':
        return make('revoke_and_ack', { channelId, ...this.signer.release(message.revokedNumber) });
      case 'channel_ready':
        return make('channel_ready', {
          channelId,
          secondPerCommitmentPoint: this.signer.point(1n),
          tlvs: message.aliasScid === undefined ? {} : { shortChannelId: message.aliasScid },
        });
      case 'closing_signed':
        return make('closing_signed', {
          channelId,
          feeSatoshis: message.closing.feeSat,
          signature: this.signer.signClosing(this.registration, message.closing),
          tlvs:
            message.feeRange === undefined
              ? {}
              : {
                  feeRange: {
                    minFeeSatoshis: message.feeRange.minFeeSat,
                    maxFeeSatoshis: message.feeRange.maxFeeSat,
                  },
                },
        });
      case 'announcement_signatures':
        return make('announcement_signatures', {
          channelId,
          shortChannelId: message.shortChannelId,
          nodeSignature: new Uint8Array(64).fill(1),
          bitcoinSignature: new Uint8Array(64).fill(2),
        });
    }
  }
}

/** The funder signs before the channel is established. */
function openingRegistration(state: ChannelState | undefined): Registration {
  if (state?.type !== 'opening' || state.phase.type !== 'awaiting_funding_signed')
    throw new InternalError('no funding to sign for');
  const { terms, phase }: OpeningChannel & { readonly phase: typeof state.phase } = {
    ...state,
    phase: state.phase,
  };
  const counterparty = phase.counterparty.parameters;
  return {
    parameters: {
      channelKeysId: terms.channelKeysId,
      counterpartyNodeId: terms.counterpartyNodeId,
      funder: 'holder',
      commitmentFormat: terms.commitmentFormat,
      channelType: terms.channelType,
      announce: terms.announce,
      holder: terms.holder,
      counterparty,
    },
    funding: {
      fundingTxid: phase.fundingTxid,
      fundingOutputIndex: phase.fundingOutputIndex,
      fundingValueSat: terms.fundingSat,
      holderFundingPubkey: terms.holder.fundingPubkey,
      counterpartyFundingPubkey: counterparty.fundingPubkey,
    },
  };
}

/** A step has at most one monitor update, and its id is the next. */
function checkUpdateIds(before: ChannelState | undefined, step: Step): void {
  const ids = step.effects.flatMap((effect) => (effect.type === 'monitor_update' ? [effect.updateId] : []));
  const last = before?.type === 'established' ? before.monitor.updateId : 0n;
  const now = step.state.type === 'established' ? step.state.monitor.updateId : 0n;
  if (ids.length > 1 || now !== last + BigInt(ids.length) || (ids[0] !== undefined && ids[0] !== now))
    throw new InternalError(`monitor updates ${ids.join()} after ${last}, now ${now}`);
}

/** A text by which two states can be compared: keys sorted, bytes in hexadecimal. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === 'bigint') return `${part}n`;
    if (part instanceof Uint8Array) return Buffer.from(part).toString('hex');
    if (typeof part === 'object' && part !== null && !Array.isArray(part))
      return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
    return part;
  });
}
