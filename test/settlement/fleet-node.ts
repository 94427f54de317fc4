/**
 * The fleet's end of a channel while it lives off-chain: the channel core with
 * the signer's real policy, and each step committed to the manager's tables as
 * channel-manager commits it: channel, HTLCs, monitor's birth and log, rows
 * between channels.
 */
import { persistDelta, summary } from '@fulmen/channel';
import type { ChannelEffect, ChannelState } from '@fulmen/channel';
import type { Step } from '@fulmen/channel/step';
import { TestNode } from '@fulmen/channel/testing/node';
import type { NodeOptions } from '@fulmen/channel/testing/node';
import { channelRow } from '@fulmen/channel-manager/engine/channel-row';
import { InternalError } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { encodeChannelMonitorUpdate, encodeMonitorParameters } from '@fulmen/monitor';
import type { Fence, FundingWatch, HtlcSource, Resolution } from '@fulmen/store';
import type { ForwardingWrites } from '@fulmen/store/manager/manager-store';
import { MemoryManagerState } from '@fulmen/store/manager/memory-state';
import { SHARD, type PolicySigner } from './policy-signer.ts';

export const FENCE: Fence = { shard: SHARD, epoch: 1n, replicaId: 'manager' };
const NOW_UNIX_MS = 1_700_000_000_000;

type Forwarding = { -readonly [K in keyof ForwardingWrites]: ForwardingWrites[K][number][] };

function noForwarding(): Forwarding {
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

export class FleetNode extends TestNode {
  override readonly signer: PolicySigner;
  readonly manager = new MemoryManagerState();
  /** Written with the next step. */
  #forwarding = noForwarding();
  #effects: ChannelEffect[] = [];
  #stored: ChannelState | undefined;
  #version = 0n;
  readonly #sources = new Map<bigint, HtlcSource>();

  constructor(secp: Secp256k1, signer: PolicySigner, options: NodeOptions) {
    super('fleet', secp, options);
    this.signer = signer;
    this.manager.shards.set(SHARD, { epoch: FENCE.epoch, owner: FENCE.replicaId });
  }

  override take(step: Step, durability: 'durable' | 'volatile'): void {
    super.take(step, durability);
    this.#effects.push(...step.effects);
    const isUrgent = step.effects.some(({ type }) => type === 'htlc_fulfilled');
    if (durability === 'durable' || isUrgent) this.#store();
  }

  /** Offers an HTLC that came from elsewhere. */
  forward(
    source: HtlcSource,
    htlc: {
      readonly amountMsat: bigint;
      readonly paymentHash: Uint8Array;
      readonly cltvExpiryHeight: number;
    },
  ): void {
    const htlcId = this.channel.changes.nextOutboundHtlcId;
    const onion = new Uint8Array(1366).fill(7);
    const incomingAmountMsat = htlc.amountMsat + 1_000n;
    this.#sources.set(htlcId, source);
    this.#forwarding.intents.push({
      source,
      target: { type: 'scid', shortChannelId: 1n },
      targetShard: SHARD,
      sourceShard: SHARD,
      paymentHash: htlc.paymentHash,
      incomingAmountMsat,
      incomingCltvExpiryHeight: htlc.cltvExpiryHeight + 40,
      outgoingAmountMsat: htlc.amountMsat,
      outgoingCltvExpiryHeight: htlc.cltvExpiryHeight,
      onion,
      sharedSecret: new Uint8Array(32).fill(5),
      createdUnixMs: NOW_UNIX_MS,
    });
    this.#forwarding.intentClaims.push({ source, outcome: 'taken' });
    this.#forwarding.outgoing.push({
      channelId: this.channel.channelId,
      htlcId,
      source,
      sourceShard: SHARD,
      incomingAmountMsat,
    });
    this.must({ type: 'add_htlc', ...htlc, onionRoutingPacket: onion });
  }

  /** Fulfils an inbound HTLC, as its resolution asks for it: the preimage is a row before anything is sent. */
  fulfil(id: bigint, preimage: Uint8Array): void {
    this.#forwarding.preimages.push({ channelId: this.channel.channelId, htlcId: id, preimage });
    this.must({ type: 'fulfil_htlc', id, preimage });
  }

  #store(): void {
    const { state } = this;
    const effects = this.#effects;
    // An opening channel has no rows.
    if (state?.type !== 'established') return;
    this.#effects = [];
    for (const effect of effects) this.#forward(effect);
    const delta = persistDelta(this.#stored, state);
    const birth = effects.find((effect) => effect.type === 'watch_channel');
    const verdict = this.manager.commit({
      kind: 'channel',
      commit: {
        fence: FENCE,
        channelId: state.channelId,
        expectedVersion: this.#version,
        delta,
        row: channelRow(state, summary(this.ctx, state), SHARD),
        ...(birth === undefined ? {} : { monitorBirth: encodeMonitorParameters(birth.parameters) }),
        monitorUpdates: effects.flatMap((effect) =>
          effect.type === 'monitor_update'
            ? [
                {
                  updateId: effect.updateId,
                  payload: encodeChannelMonitorUpdate({
                    channelId: state.channelId,
                    updateId: effect.updateId,
                    steps: effect.steps,
                  }),
                },
              ]
            : [],
        ),
        forwarding: this.#forwarding,
        broadcasts: [],
        watches: effects.flatMap((effect): readonly FundingWatch[] =>
          effect.type === 'watch_funding' ? [{ ...effect, channelId: state.channelId }] : [],
        ),
      },
    });
    if (verdict.type !== 'committed')
      throw new InternalError(`the manager’s store said ${JSON.stringify(verdict)}`);
    this.#forwarding = noForwarding();
    this.#version += 1n;
    this.#stored = state;
  }

  #forward(effect: ChannelEffect): void {
    const resolve = (htlcId: bigint, outcome: Resolution['outcome']): void => {
      const source = this.#sources.get(htlcId);
      if (source === undefined) return;
      this.#forwarding.resolutions.push({ source, sourceShard: SHARD, outcome });
      if (outcome.type === 'fulfilled' && source.type === 'htlc')
        this.#forwarding.preimages.push({
          channelId: source.channelId,
          htlcId: source.htlcId,
          preimage: outcome.preimage,
        });
    };
    if (effect.type === 'htlc_fulfilled')
      resolve(effect.htlc.id, { type: 'fulfilled', preimage: effect.preimage });
    if (effect.type === 'htlc_failed' && effect.removal.type === 'failed')
      resolve(effect.htlc.id, { type: 'failed', reason: effect.removal.reason });
  }
}
