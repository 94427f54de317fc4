/** Refusals as results. */
import { err } from '@fulmen/codec';
import type { PolicyTag, Refusal } from './types.ts';

/** A definite no. */
export function refuse(policy: PolicyTag, reason: string): { readonly ok: false; readonly error: Refusal } {
  return err({ kind: 'policy', policy, reason });
}

/** The caller's epoch is older than the fence of its shard. */
export function fenced(epoch: bigint, fence: bigint): { readonly ok: false; readonly error: Refusal } {
  return err({
    kind: 'fenced',
    policy: 'policy-epoch-fenced',
    reason: `epoch ${epoch} is fenced by ${fence}`,
  });
}
