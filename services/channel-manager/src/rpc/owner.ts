/** Commands about payments go to the replica that owns the payment's shard. */
import { RpcError } from '@fulmen/rpc';
import type { EngineApi } from '../engine/api.ts';
import { ShardElsewhereError } from '../payments/payment-hub.ts';

/** Runs a command; when its shard lives elsewhere, the caller hears where. */
export async function atOwner<T>(
  engine: Pick<EngineApi, 'requireShard'>,
  command: () => Promise<T>,
): Promise<T> {
  try {
    return await command();
  } catch (error) {
    if (!(error instanceof ShardElsewhereError)) throw error;
    engine.requireShard(error.shard);
    throw new RpcError('unavailable', 'the shard of this payment is changing hands; try again in a moment');
  }
}
