/** Commands of the operator about peers and channels, as the RPC handlers see them. */
import type { ClosingFeerates, CommitmentFormatName } from '@fulmen/channel';
import type { RpcError } from '@fulmen/rpc';
import type { ZeroConfTrust } from '@fulmen/store';

export interface OpenChannelCommand {
  readonly nodeId: Uint8Array;
  readonly fundingSat: bigint;
  readonly pushMsat: bigint;
  readonly announce: boolean;
  readonly fundingFeerateSatPerKw: number | undefined;
  /** Where a mutual close pays this node; undefined: a script of the wallet's. */
  readonly shutdownScript: Uint8Array | undefined;
  /** undefined: anchors where the peer knows them. */
  readonly commitmentFormat: CommitmentFormatName | undefined;
  readonly scidAlias: 'scid_alias' | 'real_scid';
  readonly confirmations: 'zero_conf' | 'confirmed';
}

export interface OpenedChannel {
  readonly channelId: Uint8Array;
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
}

export interface PolicyChange {
  readonly feeBaseMsat?: number;
  readonly feeProportionalMillionths?: number;
  readonly cltvExpiryDelta?: number;
  readonly htlcMinimumMsat?: bigint;
  readonly htlcMaximumMsat?: bigint;
}

/**
 * Every method rejects with `RpcError`: 'failed_precondition' with the owner's
 * address in the metadata `fulmen-owner-address` when another replica owns the
 * shard, and a sentence that says what to do otherwise.
 */
export interface EngineApi {
  /** Resolves when the peer is connected and accepted. */
  connectPeer(nodeId: Uint8Array, host: string, port: number): Promise<void>;
  disconnectPeer(nodeId: Uint8Array): Promise<void>;
  /** From now on; channels that exist stay as they are. */
  trustPeer(nodeId: Uint8Array, zeroConf: ZeroConfTrust): Promise<void>;
  /** Resolves when the channel is funded (funding_signed received and committed). */
  openChannel(command: OpenChannelCommand): Promise<OpenedChannel>;
  /** Cooperative close: resolves when shutdown is decided and committed; force: when closing is. */
  closeChannel(
    channelId: Uint8Array,
    how:
      | {
          readonly kind: 'cooperative';
          readonly script: Uint8Array | undefined;
          readonly feerates: ClosingFeerates | undefined;
        }
      | { readonly kind: 'force' },
  ): Promise<void>;
  updatePolicy(channelId: Uint8Array, change: PolicyChange): Promise<void>;
  /** Whether the peer of a channel is connected, as this replica knows. */
  isConnected(nodeId: Uint8Array): boolean;
  /** Throws when another replica owns the shard. */
  requireShard(shard: number): void;
  /** Name of the replica that owns a shard, as last read. */
  ownerOf(shard: number): string | undefined;
}

export type { RpcError };
