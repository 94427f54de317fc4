import type { ListForwardsRequest, ListForwardsResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { forwardMessage } from './messages.ts';
import { requireLimit } from './validate.ts';

/** HTLCs that this node forwards or has forwarded, newest first. */
export async function listForwards(
  { store }: ManagerDeps,
  request: ListForwardsRequest,
): Promise<ListForwardsResponse> {
  const rows = await store.listForwards(requireLimit(request.limit));
  return { forwards: rows.map(forwardMessage) };
}
