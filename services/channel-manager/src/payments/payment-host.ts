/** What payment actors may ask of the replica they live in. */
import type { Fence } from '@fulmen/store';
import type { EnginePorts, NodeView } from '../engine/ports.ts';
import type { GrowingForwarding } from '../engine/forwarding.ts';

export interface PaymentHost {
  readonly ports: EnginePorts;
  readonly node: NodeView;
  /** The right to write a payment's shard (see `shardOfPaymentHash`), while this replica owns it. */
  fenceOf(shard: number): Fence | undefined;
  /** After a commit: rows for other shards are handed over in memory where they live here, hinted elsewhere. */
  deliver(forwarding: GrowingForwarding): void;
  /** Lose the shard and load it again: fence lost, second writer, or unknown outcome. */
  dropShard(fence: Fence, reason: string): void;
}
