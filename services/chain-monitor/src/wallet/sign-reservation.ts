/** The transaction of a reservation, before and after the signer. */
import { encodeTx, txid as txidOf } from '@fulmen/bitcoin';
import { extractPsbt, finalizePsbt, psbtUnsignedTx } from '@fulmen/bitcoin/psbt';
import { equalBytes } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import type { ReservationRecord } from '@fulmen/store/chain/chain-store';
import type { SignerClient } from '../ports.ts';
import { WalletError } from './wallet-error.ts';

/** Signed if it is already. Its txid is final either way: all inputs are segwit. */
export function transactionOf({ psbt, transaction }: ReservationRecord): Uint8Array {
  if (transaction !== undefined) return transaction;
  const unsigned = psbtUnsignedTx(psbt);
  if (!unsigned.ok) throw unsigned.error;
  return encodeTx(unsigned.value);
}

/** Whether the signer refused for good: repeated, the call would be refused again. */
export function isRefusal(error: unknown): error is RpcError {
  return error instanceof RpcError && error.code === 'failed_precondition';
}

/** The whole transaction. @throws RpcError, and WalletError when the signer gives another one. */
export async function signReservation(
  signer: Pick<SignerClient, 'signPsbt'>,
  reservation: ReservationRecord,
): Promise<Uint8Array> {
  const { psbt } = await signer.signPsbt({
    psbt: Buffer.from(reservation.psbt),
    delayedOutputs: [],
    ...(reservation.purpose === 'funding' && { channelKeysId: Buffer.from(reservation.key) }),
  });
  const final = finalizePsbt(Uint8Array.from(psbt));
  const tx = final.ok ? extractPsbt(final.value) : final;
  if (!tx.ok) throw new WalletError('signer', `the signer's PSBT is not complete: ${tx.error.message}`);
  if (!equalBytes(txidOf(tx.value), reservation.txid))
    throw new WalletError('signer', 'the signer signed another transaction');
  return encodeTx(tx.value);
}
