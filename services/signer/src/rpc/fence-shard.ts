/** Raises the epoch below which a shard's owner may not sign any more; durable before the answer. */
import type { FenceShardRequest, FenceShardResponse } from '@fulmen/proto/signer/v1/signer';
import { Writer } from '@fulmen/codec';
import * as decode from '../decode.ts';
import { fenced } from '../enforcement/refuse.ts';
import { orRefuse, runUnary } from '../signer.ts';
import type { Signer } from '../signer.ts';

export async function fenceShard(signer: Signer, request: FenceShardRequest): Promise<FenceShardResponse> {
  const { shard, epoch } = orRefuse(
    signer,
    'fence_shard',
    decode.decoding(() => ({ shard: decode.shard(request.shard), epoch: decode.epoch(request.epoch) })),
  );
  return runUnary<FenceShardResponse>(signer, 'fence_shard', {
    priority: 'claim',
    channelKeysId: undefined,
    evaluate: (view) => {
      const fence = view.fenceOf(shard);
      if (epoch < fence) return fenced(epoch, fence);
      if (epoch === fence) return { ok: true, value: { answer: {} } };
      const detail = new Writer(12).u32(shard).u64(epoch).finish();
      return {
        ok: true,
        value: {
          answer: {},
          fence: { shard, epoch },
          audit: { operation: 'fence_shard', channelKeysId: undefined, detail },
        },
      };
    },
  });
}
