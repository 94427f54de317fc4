/** Opening channels, both ways: keys from the signer, caps, funding by the node's wallet. */
import {
  acceptChannel,
  type ChannelState,
  type CommitmentFormatName,
  type FeerateEstimates,
  type HolderKeys,
  type NegotiatedFeatures,
  type OpeningChannel,
  openChannel,
  type OutboundMessage,
  primaryFunding,
} from '@fulmen/channel';
import { toHex } from '@fulmen/codec';
import type { NewChannelKeysResponse } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import type { MessageOf } from '@fulmen/wire';
import { isAllChannels, type Peer } from '../peers/peer.ts';
import type { ActorHost } from './actor-host.ts';
import type { OpenChannelCommand, OpenedChannel } from './api.ts';
import { ChannelActor } from './channel-actor.ts';
import type { PolicyDefaults } from './policy.ts';

export interface OpeningLimits {
  /** Channels a peer may have that are not funded or not confirmed (LDK: 4). */
  readonly maxPendingPerPeer: number;
  /** The same over all peers of this replica. */
  readonly maxPendingTotal: number;
}

/** BOLT 2, `channel_flags`: announce_channel. */
const ANNOUNCE_CHANNEL_FLAG = 1;
/** Neither a commitment's feerate nor the counterparty's bounds could be judged. */
const NO_ESTIMATE = 'no channel can be opened before there is a fee estimate';
/** A peer waits for the answer. */
const RESERVE_DEADLINE_MS = 5_000;
/** How long an opening may take until funding_signed. */
const OPENING_TIMEOUT_MS = 60_000;

export class Openings {
  readonly #host: ActorHost;
  readonly #limits: OpeningLimits;
  readonly #policy: PolicyDefaults;
  readonly #pending: () => { ofPeer: (peer: Peer) => number; total: number };
  readonly #waiting = new Map<
    ChannelActor,
    {
      readonly fundingFeerateSatPerKw: number | undefined;
      readonly resolve: (opened: OpenedChannel) => void;
      readonly reject: (error: Error) => void;
    }
  >();

  constructor(
    host: ActorHost,
    limits: OpeningLimits,
    policy: PolicyDefaults,
    pending: () => { ofPeer: (peer: Peer) => number; total: number },
  ) {
    this.#host = host;
    this.#limits = limits;
    this.#policy = policy;
    this.#pending = pending;
  }

  /** A peer's open_channel. */
  async received(peer: Peer, message: MessageOf<'open_channel'>, generation: bigint): Promise<void> {
    const { temporaryChannelId } = message;
    const key = toHex(temporaryChannelId);
    const refuse = (text: string): void => peer.complain(temporaryChannelId, text, generation);
    // An opening could not be failed alone by a name that means every channel.
    if (isAllChannels(temporaryChannelId) || peer.hasChannel(temporaryChannelId))
      return refuse('open_channel: this temporary_channel_id names something else');
    if (peer.beginning.has(key)) return peer.disconnect('the same temporary_channel_id twice at once');
    const { feerates } = this.#host.node;
    if (feerates === undefined) return refuse(`${NO_ESTIMATE}: try again later`);
    const pending = this.#pending();
    if (pending.ofPeer(peer) >= this.#limits.maxPendingPerPeer)
      return refuse('too many channels of yours are not confirmed yet');
    if (pending.total >= this.#limits.maxPendingTotal)
      return refuse('too many channels are being opened: try again later');
    const inUse = peer.openings.get(key);
    if (inUse !== undefined) {
      // An error by this name is about the first: who sends one fails what it is about.
      const reason = 'this temporary_channel_id is in use';
      inUse.post({ kind: 'command', input: { type: 'abandon_opening', reason }, settle: () => undefined });
      return;
    }
    peer.beginning.add(key);
    try {
      await this.#begin(peer, message, generation, feerates);
    } finally {
      peer.beginning.delete(key);
    }
  }

  async #begin(
    peer: Peer,
    message: MessageOf<'open_channel'>,
    generation: bigint,
    feerates: FeerateEstimates,
  ): Promise<void> {
    const refuse = (text: string): void => peer.complain(message.temporaryChannelId, text, generation);
    const reserve = peer.connection?.features.anchors === true ? await this.#anchorReserve() : undefined;
    const zeroConf = await this.#host.ports.store.zeroConfTrust(peer.nodeId);
    const { keys, points, shutdownScript, channelKeysId, aliasScid } = await this.#newKeys();
    const { connection } = peer;
    if (connection === undefined || connection.generation !== generation) return;
    const context = this.#context(points, feerates);
    const accepted = acceptChannel(
      context,
      {
        counterpartyNodeId: peer.nodeId,
        keys,
        features: connection.features,
        shutdownScript,
        aliasScid,
        zeroConf,
      },
      message,
    );
    if (!accepted.ok) return refuse(accepted.error.message);
    if (accepted.value.state.terms.commitmentFormat === 'anchors' && reserve !== undefined)
      return refuse(reserve);
    this.#start(
      peer,
      accepted.value.state,
      channelKeysId,
      points,
      (message.channelFlags & ANNOUNCE_CHANNEL_FLAG) !== 0,
      accepted.value.effects,
      generation,
    );
  }

  /**
   * Why no further channel with anchors can be accepted; undefined: the wallet keeps enough back to close one more by
   * force. The wallet looks to the channels that the node opens itself when it funds them.
   */
  async #anchorReserve(): Promise<string | undefined> {
    const { wallet, logger } = this.#host.ports;
    try {
      const { missingSat } = await wallet.getAnchorReserve({}, { deadlineMs: RESERVE_DEADLINE_MS });
      if (missingSat === 0n) return undefined;
      logger.warn({ missingSat }, 'a channel is refused: the wallet lacks the reserve for its fees');
      return 'no channels with anchors can be accepted now: the on-chain reserve for their fees is missing';
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      logger.warn({ reason: error.message }, 'a channel is refused: the wallet did not tell its reserve');
      return 'no channels with anchors can be accepted now: try again later';
    }
  }

  /** The operator's wish; resolves when the channel is funded. */
  async open(peer: Peer, command: OpenChannelCommand, feerateSatPerKw: number): Promise<OpenedChannel> {
    const { connection } = peer;
    if (connection === undefined)
      throw new RpcError('failed_precondition', 'the peer is not connected: connect it first');
    const { feerates } = this.#host.node;
    if (feerates === undefined) throw new RpcError('unavailable', NO_ESTIMATE);
    const { keys, points, shutdownScript, channelKeysId, aliasScid } = await this.#newKeys(
      command.shutdownScript,
    );
    // Nobody would tell an opening that begins on a connection which is gone.
    if (peer.connection?.generation !== connection.generation) {
      throw new RpcError('failed_precondition', 'the peer disconnected: connect it again');
    }
    const { features } = connection;
    if (command.shutdownScript !== undefined && !features.upfrontShutdownScript)
      throw new RpcError('failed_precondition', 'the peer does not know option_upfront_shutdown_script');
    const commitmentFormat = formatOf(command, features);
    const opening = openChannel(this.#context(points, feerates), {
      temporaryChannelId: this.#host.ports.runtime.randomBytes(32),
      counterpartyNodeId: peer.nodeId,
      keys,
      features,
      fundingSat: command.fundingSat,
      pushMsat: command.pushMsat,
      feerateSatPerKw,
      announce: command.announce,
      channelType: {
        commitmentFormat,
        scidAlias: command.scidAlias,
        confirmations: command.confirmations,
      },
      shutdownScript,
      aliasScid,
    });
    if (!opening.ok) throw new RpcError('invalid_argument', opening.error.message);
    const actor = this.#start(
      peer,
      opening.value.state,
      channelKeysId,
      points,
      command.announce,
      opening.value.effects,
      connection.generation,
    );
    const { fundingFeerateSatPerKw } = command;
    const outcome = new Promise<OpenedChannel>((resolve, reject) =>
      this.#waiting.set(actor, { fundingFeerateSatPerKw, resolve, reject }),
    );
    const timeout = new AbortController();
    const timer = this.#host.ports.runtime.sleep(OPENING_TIMEOUT_MS, timeout.signal).then(
      () =>
        actor.post({
          kind: 'command',
          input: { type: 'abandon_opening', reason: 'the opening took too long' },
          settle: () => undefined,
        }),
      () => undefined,
    );
    try {
      return await outcome;
    } finally {
      timeout.abort();
      await timer;
      this.#waiting.delete(actor);
    }
  }

  /**
   * The funder's shell: the wallet plans. It is signed, and broadcast, by order of the commit that makes the channel. What
   * the opening does not take, because it ended or left meanwhile, the wallet has back: no funding_created names it.
   */
  fund(actor: ChannelActor, fundingValueSat: bigint, scriptPubKey: Uint8Array): void {
    const { ports } = this.#host;
    ports.runtime.spawn('fund channel', async () => {
      try {
        const funded = await ports.wallet.fundChannel(
          {
            channelKeysId: actor.channelKeysId,
            scriptPubkey: scriptPubKey,
            valueSat: fundingValueSat,
            feerateSatPerKw: this.#waiting.get(actor)?.fundingFeerateSatPerKw,
          },
          { deadlineMs: 30_000 },
        );
        actor.fundingTransaction = funded.transaction;
        const isPosted = actor.post({
          kind: 'command',
          input: {
            type: 'funding_transaction_created',
            fundingTxid: funded.txid,
            fundingOutputIndex: funded.outputIndex,
          },
          settle: ({ ok }) => {
            if (!ok) this.#release(actor);
          },
        });
        if (!isPosted) this.#release(actor);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        actor.post({
          kind: 'command',
          input: { type: 'abandon_opening', reason: `the wallet cannot fund the channel: ${reason}` },
          settle: () => undefined,
        });
        // Only the answer may have been lost. Where nothing is reserved this does nothing.
        this.#releaseInputs(actor.channelKeysId);
      }
    });
  }

  /** The channel exists: whoever waits for it hears so. */
  established(actor: ChannelActor): void {
    const { state } = actor;
    if (state.type !== 'established') return;
    const [funding] = state.fundings;
    if (funding === undefined) return;
    this.#waiting.get(actor)?.resolve({
      channelId: state.channelId,
      fundingTxid: funding.fundingTxid,
      fundingOutputIndex: funding.fundingOutputIndex,
    });
  }

  /**
   * The actor is gone, and nobody here knows how its opening ends. Where it had taken the funding transaction the inputs
   * stay reserved: the broadcast may be ordered.
   */
  lost(actor: ChannelActor): void {
    this.#waiting
      .get(actor)
      ?.reject(new RpcError('unknown', 'the channel moved while it was opened: see the list of channels'));
  }

  abandoned(actor: ChannelActor, reason: string): void {
    this.#waiting
      .get(actor)
      ?.reject(new RpcError('failed_precondition', `the channel was not opened: ${reason}`));
    this.#release(actor);
  }

  /** Gives the wallet back what it built for an opening that comes to nothing; once. */
  #release(actor: ChannelActor): void {
    if (actor.fundingTransaction === undefined) return;
    actor.fundingTransaction = undefined;
    this.#releaseInputs(actor.channelKeysId);
  }

  #releaseInputs(channelKeysId: Uint8Array): void {
    const { wallet, logger } = this.#host.ports;
    void wallet.releaseFunding({ channelKeysId }).catch((error: unknown) => {
      // The wallet frees reservations of channels that never came to be by itself, later.
      logger.warn({ err: error }, 'a funding reservation could not be released');
    });
  }

  #context(points: readonly Uint8Array[], feerates: FeerateEstimates) {
    const { node, ports } = this.#host;
    return {
      secp: ports.secp,
      config: node.channelConfig,
      feerates,
      holderPoint: (number: bigint): Uint8Array | undefined => points[Number(number)],
    };
  }

  /** @throws RpcError 'failed_precondition' when the signer does not allow the script. */
  async #newKeys(asked?: Uint8Array): Promise<{
    keys: HolderKeys;
    points: readonly Uint8Array[];
    shutdownScript: Uint8Array;
    channelKeysId: Uint8Array;
    aliasScid: bigint;
  }> {
    const { runtime, signer } = this.#host.ports;
    const channelKeysId = runtime.randomBytes(32);
    const answer: NewChannelKeysResponse = await signer.newChannelKeys({
      channelKeysId,
      ...(asked === undefined ? {} : { shutdownScript: asked }),
    });
    const keys: HolderKeys = {
      channelKeysId,
      fundingPubkey: answer.fundingPubkey,
      revocationBasepoint: answer.revocationBasepoint,
      paymentBasepoint: answer.paymentBasepoint,
      delayedPaymentBasepoint: answer.delayedPaymentBasepoint,
      htlcBasepoint: answer.htlcBasepoint,
    };
    return {
      keys,
      points: answer.perCommitmentPoints,
      shutdownScript: answer.shutdownScript,
      channelKeysId,
      aliasScid: aliasFrom(runtime.randomBytes(8)),
    };
  }

  #start(
    peer: Peer,
    state: OpeningChannel,
    channelKeysId: Uint8Array,
    points: readonly Uint8Array[],
    announce: boolean,
    effects: readonly { readonly type: string; readonly message?: OutboundMessage }[],
    generation: bigint,
  ): ChannelActor {
    const actor = new ChannelActor(this.#host, {
      fence: peer.fence,
      channelKeysId,
      state,
      policy: this.#policy.initial(state.terms.fundingSat, announce, this.#host.ports.runtime.wallClockMs()),
      points: { first: 0n, points },
    });
    actor.adopt(generation);
    peer.openings.set(toHex(state.temporaryChannelId), actor);
    for (const effect of effects) {
      if (effect.type === 'send' && effect.message?.kind === 'ready')
        peer.send(effect.message.message, generation);
    }
    return actor;
  }
}

/**
 * An alias looks like the scid of a block from 4,194,304 on, which cannot exist
 * yet: it never collides with a real one, and fits a signed 64-bit column.
 */
function aliasFrom(random: Uint8Array): bigint {
  const value = random.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return (value & ((1n << 62n) - 1n)) | (1n << 62n);
}

/** The format of a channel's commitments: the one that was asked for, or the best that the peer knows. */
export function formatOf(
  { commitmentFormat }: Pick<OpenChannelCommand, 'commitmentFormat'>,
  features: Pick<NegotiatedFeatures, 'anchors'> | undefined,
): CommitmentFormatName {
  return commitmentFormat ?? (features?.anchors === true ? 'anchors' : 'static_remotekey');
}

/**
 * Whether a state counts against the caps on pending channels. A peer's channel that fails before any block has its
 * funding counts on: with an `error` after each opening a peer would have any number of rows, watches and broadcasts
 * for nothing.
 */
export function isPending(state: ChannelState): boolean {
  if (state.type === 'opening') return true;
  switch (state.phase.type) {
    case 'awaiting_funding_confirmations':
    case 'awaiting_channel_ready':
      return true;
    case 'shutting_down':
    case 'negotiating_closing':
    case 'closing_mutual':
    case 'closing_force':
      return (
        state.parameters.funder === 'counterparty' &&
        primaryFunding(state).confirmation.type === 'unconfirmed'
      );
    case 'open':
    case 'closed':
    // Of a channel from a backup nobody knows whether it confirmed.
    case 'passive':
      return false;
  }
}
