import { RpcError } from '@fulmen/rpc';
import { StoreError } from '@fulmen/store';

/** The database's troubles as callers should hear them. */
export async function storeErrors<T>(handle: () => Promise<T>): Promise<T> {
  try {
    return await handle();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    if (error.code === 'unavailable')
      throw new RpcError('unavailable', 'the database is away, and nothing was done; try again in a moment');
    throw new RpcError(
      'unknown',
      'the database was lost in the middle; look up what became of the request before you repeat it',
    );
  }
}
