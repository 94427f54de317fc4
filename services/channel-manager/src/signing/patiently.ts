/**
 * Unary calls that a channel cannot go on without: repeated while the other
 * side is away, so that its restart costs time and nothing else. Every such call
 * may be repeated identically.
 */
import { RpcError } from '@fulmen/rpc';
import { AbortedError, type Runtime } from '@fulmen/service';

const RETRY_MS = 100;

/** Whether the signer refused for good: repeated, the call would be refused again. */
export function isRefusal(error: unknown): error is RpcError {
  return error instanceof RpcError && error.code === 'failed_precondition';
}

/** @throws AbortedError once nobody waits for it any more; RpcError for a definitive no. */
export async function patiently<T>(
  runtime: Runtime,
  isOver: () => boolean,
  call: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const isAway =
        error instanceof RpcError && (error.code === 'unavailable' || error.code === 'deadline_exceeded');
      if (!isAway) throw error;
    }
    await runtime.sleep(RETRY_MS);
    if (isOver()) throw new AbortedError('nobody waits for this call any more');
  }
}
