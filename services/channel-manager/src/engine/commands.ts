/** The operator's commands about peers and channels. */
import { toHex } from '@fulmen/codec';
import { FeeTarget } from '@fulmen/proto/chain/v1/chain';
import { RpcError } from '@fulmen/rpc';
import type { EngineApi, OpenChannelCommand, OpenedChannel, PolicyChange } from './api.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { Engine } from './engine.ts';
import type { CommandOutcome } from './items.ts';
import type { Fence, ZeroConfTrust } from '@fulmen/store';
import { eventBody } from './forwarding.ts';
import { formatOf } from './openings.ts';
import { changedPolicy } from './policy.ts';
import type { ChannelInput } from '@fulmen/channel';

export class EngineCommands implements EngineApi {
  readonly #engine: Engine;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async connectPeer(nodeId: Uint8Array, host: string, port: number): Promise<void> {
    this.#engine.requirePeer(nodeId);
    await this.#engine.ports.store.upsertPeerAddress(nodeId, host, port, 'wanted');
    await this.#engine.peers.connect(nodeId, host, port);
  }

  async disconnectPeer(nodeId: Uint8Array): Promise<void> {
    this.#engine.requirePeer(nodeId);
    const presence = (await this.#engine.ports.store.listPeers()).find(
      (peer) => Buffer.compare(peer.peerNodeId, nodeId) === 0,
    );
    if (presence?.host !== undefined && presence.port !== undefined) {
      await this.#engine.ports.store.upsertPeerAddress(nodeId, presence.host, presence.port, 'not_wanted');
    }
    this.#engine.peers.forget(nodeId);
  }

  async trustPeer(nodeId: Uint8Array, zeroConf: ZeroConfTrust): Promise<void> {
    await this.#engine.ports.store.setZeroConfTrust(nodeId, zeroConf);
  }

  async openChannel(command: OpenChannelCommand): Promise<OpenedChannel> {
    const peer = this.#engine.requirePeer(command.nodeId);
    // The gateway, and the peer, know of a connection before this replica has stored that it accepts it.
    await peer.accepting;
    const target =
      formatOf(command, peer.connection?.features) === 'anchors'
        ? FeeTarget.FEE_TARGET_ANCHOR_CHANNEL_FEE
        : FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE;
    const { feerateSatPerKw } = await this.#engine.ports.chain.estimateFee({ target });
    return this.#engine.openings.open(peer, command, feerateSatPerKw);
  }

  async closeChannel(channelId: Uint8Array, how: Parameters<EngineApi['closeChannel']>[1]): Promise<void> {
    switch (how.kind) {
      case 'cooperative': {
        const actor = await this.#requireChannel(channelId);
        if (how.script !== undefined) await this.#requireAllowed(actor, how.script);
        return command(actor, {
          type: 'shutdown',
          ...(how.script === undefined ? {} : { script: how.script }),
          ...(how.feerates === undefined ? {} : { feerates: how.feerates }),
        });
      }
      case 'force':
        return this.#forceClose(channelId, 'the operator asked for it');
    }
  }

  /**
   * A shutdown cannot be taken back, and the signer signs no close to a script that it does not know.
   * @throws RpcError 'failed_precondition' when it would not
   */
  async #requireAllowed({ state, channelKeysId }: ChannelActor, shutdownScript: Uint8Array): Promise<void> {
    // One that the channel committed to when it was opened was looked at then, and is held against that by the core.
    if (state.type !== 'established' || state.parameters.holder.upfrontShutdownScript !== undefined) return;
    await this.#engine.ports.signer.newChannelKeys({ channelKeysId, shutdownScript });
  }

  /** A channel that is out of service commits nothing: its close is decided on its row, and chain-monitor does the rest. */
  async #forceClose(channelId: Uint8Array, reason: string): Promise<void> {
    const actor = this.#engine.channel(channelId);
    if (actor !== undefined && !actor.stopped) return command(actor, { type: 'force_close', reason });
    if (actor?.passiveReason !== undefined) throw passive(actor.passiveReason);
    const fence = actor?.fence ?? (await this.#requireFence(channelId));
    const { store, runtime, bus, logger } = this.#engine.ports;
    const type = 'channel_closing';
    const outcome = await store.decideClose(fence, channelId, reason, {
      type,
      timeUnixMs: runtime.wallClockMs(),
      body: eventBody({ type, channelId, reason, decidedBy: 'the operator' }),
    });
    switch (outcome) {
      case 'decided':
        logger.warn({ channel: toHex(channelId) }, 'a channel that is out of service is closed by force');
        bus.publish('fulmen.monitor');
        return;
      case 'closing':
        return;
      case 'passive':
        throw passive('its state is old');
      case 'fence_lost':
        throw this.#engine.notOwner(fence.shard);
    }
  }

  async updatePolicy(channelId: Uint8Array, change: PolicyChange): Promise<void> {
    const actor = await this.#requireChannel(channelId);
    const { store, runtime } = this.#engine.ports;
    const policy = changedPolicy(actor.policy, change, runtime.wallClockMs());
    const outcome = await store.setPolicy(actor.fence, actor.channelId, policy);
    if (outcome === 'fence_lost') throw this.#engine.notOwner(actor.fence.shard);
    actor.policy = policy;
    this.#engine.publishPolicy(actor);
  }

  isConnected(nodeId: Uint8Array): boolean {
    return this.#engine.peers.find(nodeId)?.connection !== undefined;
  }

  requireShard(shard: number): void {
    if (this.#engine.fenceOf(shard) === undefined) throw this.#engine.notOwner(shard);
  }

  ownerOf(shard: number): string | undefined {
    return this.#engine.ownerOf(shard);
  }

  async #requireChannel(channelId: Uint8Array): Promise<ChannelActor> {
    const actor = this.#engine.channel(channelId);
    if (actor !== undefined) return actor;
    await this.#requireFence(channelId);
    // Its shard is here, so no other replica has it, and asking again changes nothing.
    throw new RpcError('failed_precondition', 'the channel is out of service on this replica: see its log');
  }

  /** Of a channel that has no actor here. */
  async #requireFence(channelId: Uint8Array): Promise<Fence> {
    const row = (await this.#engine.ports.store.listChannels({ closed: 'include' })).find(
      (channel) => Buffer.compare(channel.channelId, channelId) === 0,
    );
    if (row === undefined)
      throw new RpcError('not_found', 'there is no channel with this id: see the list of channels');
    if (row.phase === 'closed') throw new RpcError('failed_precondition', 'the channel is closed');
    const fence = this.#engine.fenceOf(row.shard);
    if (fence === undefined) throw this.#engine.notOwner(row.shard);
    return fence;
  }
}

function passive(reason: string): RpcError {
  return new RpcError('failed_precondition', `the channel is passive: ${reason}`);
}

/** Posts a command and waits for its commit. */
async function command(actor: ChannelActor, input: ChannelInput): Promise<void> {
  const outcome = await new Promise<CommandOutcome>((resolve) => {
    if (!actor.post({ kind: 'command', input, settle: resolve })) {
      resolve({
        ok: false,
        error: {
          code: 'invalid_command',
          message: 'the channel is busy, or out of service: try again, or close it by force',
        },
      });
    }
  });
  if (!outcome.ok) throw new RpcError('failed_precondition', outcome.error.message);
}
