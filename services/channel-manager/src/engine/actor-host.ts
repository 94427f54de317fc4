/** What a channel actor may ask of the replica it lives in. */
import type { ChannelState, EstablishedChannel, OutboundMessage, PeerMessage } from '@fulmen/channel';
import type { Refusal } from '@fulmen/proto/signer/v1/signer';
import type { Fence, HtlcSource, Intent, Verdict } from '@fulmen/store';
import type { OtherSignatures } from '../signing/sign-item.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { EnginePorts, NodeView } from './ports.ts';
import type { GrowingForwarding } from './forwarding.ts';
import type { TowerWatch } from './tower-watch.ts';

export interface ActorHost {
  readonly ports: EnginePorts;
  readonly node: NodeView;
  /** Absent: a monitor update is complete with its commit. */
  readonly towers: TowerWatch | undefined;
  sha256(bytes: Uint8Array): Uint8Array;
  /** The shard of the channel that has this scid. */
  shardOfScid(shortChannelId: bigint): Promise<number | undefined>;
  /** Fixes the channel's parameters with the signer; repeats until it answers. */
  registerWithSigner(actor: ChannelActor, state: EstablishedChannel): Promise<void>;
  registerOpening(
    actor: ChannelActor,
    state: ChannelState,
    messages: readonly OutboundMessage[],
  ): Promise<void>;
  otherSignatures(actor: ChannelActor): OtherSignatures;
  /** Sends if the lease holds and the connection is still that generation; drops otherwise. */
  send(actor: ChannelActor, message: PeerMessage, generation: bigint): void;
  disconnect(actor: ChannelActor, reason: string): void;
  /** Frames were processed: the gateway need not hold their bytes against the peer's credit. */
  consumed(actor: ChannelActor, frames: readonly bigint[]): void;
  /** Rows for other shards: handed over in memory where they live here, hinted elsewhere. */
  deliver(forwarding: GrowingForwarding): void;
  /** Intents that an actor has no more in hand: it left them for the next poll, or others settled them first. */
  letGo(sources: readonly HtlcSource[]): void;
  /** This channel has no room for a forward: another channel with the peer is tried, each once. */
  bounced(actor: ChannelActor, intent: Intent): void;
  /** A resolution changed between its reading and its use. */
  readResolutionAgain(source: HtlcSource): void;
  /** A channel came or went for good: a backup is due. */
  channelsChanged(): void;
  /** The channel got its final id. */
  established(actor: ChannelActor, temporaryChannelId: Uint8Array): void;
  /** The opening came to nothing. */
  abandoned(actor: ChannelActor, reason: string): void;
  commitRefused(actor: ChannelActor, verdict: Verdict): void;
  /** 'retry' the identical request, or 'stop': the host has dealt with the channel. */
  signerRefused(actor: ChannelActor, refusal: Refusal): 'retry' | 'stop';
  dropShard(fence: Fence, reason: string): void;
  /** Starts work that ends quietly when its actor leaves this replica. */
  inBackground(name: string, work: () => Promise<void>): void;
  /** Out of service, with an alarm; the channel's rows stay as they are. */
  quarantine(actor: ChannelActor, reason: string): void;
  /** Funder: have the wallet build the funding transaction. */
  fundChannel(actor: ChannelActor, fundingValueSat: bigint, scriptPubKey: Uint8Array): void;
  /** Sends the peer, or the world, the terms of this channel. */
  publishPolicy(actor: ChannelActor): void;
  publishAnnouncement(
    actor: ChannelActor,
    signatures: { shortChannelId: bigint; nodeSignature: Uint8Array; bitcoinSignature: Uint8Array },
  ): void;
}
