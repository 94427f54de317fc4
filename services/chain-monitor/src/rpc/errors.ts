/** Failures of the service as gRPC's codes. */
import { ChainSourceError } from '@fulmen/chain';
import { RpcError } from '@fulmen/rpc';
import { StoreError } from '@fulmen/store';
import { ChainConflictError, ChainFenceLostError } from '@fulmen/store/chain/chain-store';
import { NoFeeEstimateError } from '../fees/estimator.ts';
import { LookupOverloadError } from '../gossip/utxo-lookup.ts';
import { NotWriterError } from '../state/writer.ts';
import { DescriptorError } from '../wallet/address-book.ts';
import { CoinSelectionError } from '../wallet/coins.ts';
import { WalletError } from '../wallet/wallet-error.ts';

/** Key of the metadata that names the replica to ask instead. */
export const WRITER_ADDRESS_KEY = 'fulmen-writer-address';

const WALLET_CODES = {
  not_ready: 'unavailable',
  conflict: 'already_exists',
  bad_request: 'invalid_argument',
  signer: 'internal',
  cancelled: 'cancelled',
} as const;

/** Runs a call; what can be expected gets its code, the rest stays and becomes `internal`. */
export async function answer<T>(work: () => Promise<T>, writerAddress: () => string | undefined): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asRpc(error, writerAddress());
  }
}

function asRpc(error: unknown, writerAddress: string | undefined): unknown {
  if (error instanceof WalletError) return new RpcError(WALLET_CODES[error.code], error.message);
  if (error instanceof CoinSelectionError)
    return new RpcError(error.code === 'dust' ? 'invalid_argument' : 'failed_precondition', error.message);
  if (error instanceof NotWriterError || error instanceof ChainFenceLostError) {
    return new RpcError(
      'unavailable',
      'another replica is the writer',
      writerAddress === undefined ? {} : { [WRITER_ADDRESS_KEY]: writerAddress },
    );
  }
  if (error instanceof LookupOverloadError) return new RpcError('resource_exhausted', error.message);
  const isForNow =
    error instanceof ChainSourceError ||
    error instanceof StoreError ||
    error instanceof ChainConflictError ||
    error instanceof NoFeeEstimateError ||
    error instanceof DescriptorError;
  return isForNow ? new RpcError('unavailable', error.message) : error;
}
