/**
 * What the store holds of one channel, and the commit that takes it from there
 * to the end of a turn (law 2: the store moves first, the memory after it).
 */
import { type ChannelContext, type ChannelState, persistDelta, summary } from '@fulmen/channel';
import { equalBytes } from '@fulmen/codec';
import { encodeMonitorParameters } from '@fulmen/monitor';
import type { BroadcastOrder, ChannelCommit, Fence, LoadedChannel } from '@fulmen/store';
import { channelRow } from './channel-row.ts';
import type { TurnResult } from './turn-result.ts';

/** What a commit takes from the actor beside the turn's result. */
export interface CommitSurroundings {
  readonly context: ChannelContext;
  /** Of the connection whose frames the turn worked on. */
  readonly generation: bigint | undefined;
  /** Ordered together with the turn's own broadcasts. */
  readonly broadcasts: readonly BroadcastOrder[];
}

export class ChannelLedger {
  readonly #fence: Fence;
  #persisted: { state: ChannelState; hot: Uint8Array } | undefined;
  #version: bigint;
  #outboundLiquidityMsat = 0n;
  #fulfilledLateMsat: bigint;

  /** `loaded` is absent for a channel that is only being opened. */
  constructor(fence: Fence, state: ChannelState, loaded: LoadedChannel | undefined) {
    this.#fence = fence;
    this.#version = loaded?.version ?? 0n;
    this.#fulfilledLateMsat = loaded?.fulfilledLateMsat ?? 0n;
    this.#persisted = loaded === undefined ? undefined : { state, hot: loaded.persisted.hot };
  }

  /** What could be offered in one HTLC, as of the last commit. */
  get outboundLiquidityMsat(): bigint {
    return this.#outboundLiquidityMsat;
  }

  /** Of forwards that were fulfilled past their deadline, and have left the channel. */
  get fulfilledLateMsat(): bigint {
    return this.#fulfilledLateMsat;
  }

  /** The commit of a turn; undefined when nothing durable changed. */
  commitOf(result: TurnResult, surroundings: CommitSurroundings): ChannelCommit | undefined {
    const { state, forwarding } = result;
    if (state.type !== 'established') return undefined;
    const previous = this.#persisted;
    const delta = persistDelta(previous?.state, state);
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
    if (unchanged) return undefined;
    const outgoing = forwarding.outgoing.filter(({ preimage }) => preimage === 'awaited');
    const { context, generation, broadcasts } = surroundings;
    const summarised = summary(context, state);
    this.#outboundLiquidityMsat = summarised.outboundLiquidityMsat;
    const number = result.frames.reduce((highest, frame) => (frame > highest ? frame : highest), 0n);
    return {
      fence: this.#fence,
      channelId: state.channelId,
      expectedVersion: this.#version,
      delta,
      row: channelRow(state, summarised, this.#fence.shard),
      ...(result.monitorBirth === undefined
        ? {}
        : { monitorBirth: encodeMonitorParameters(result.monitorBirth) }),
      monitorUpdates: result.monitorUpdates,
      forwarding: { ...forwarding, outgoing },
      broadcasts: [...result.broadcasts, ...broadcasts],
      watches: result.watches,
      ...(result.fulfilledLateMsat === 0n ? {} : { fulfilledLateMsat: result.fulfilledLateMsat }),
      ...(generation === undefined || number === 0n ? {} : { consumedThrough: { generation, number } }),
    };
  }

  /** The store has taken a commit. */
  committed(state: ChannelState, commit: ChannelCommit): void {
    this.#version += 1n;
    this.#fulfilledLateMsat += commit.fulfilledLateMsat ?? 0n;
    this.#persisted = { state, hot: commit.delta.hot };
  }
}
