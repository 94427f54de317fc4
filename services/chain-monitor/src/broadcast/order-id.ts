/** Names an order by what it broadcasts. */
import { decodeTx, txid } from '@fulmen/bitcoin';
import { concatBytes } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';

/** SHA-256 over the txids; of a transaction that does not decode, over its bytes. */
export function orderIdOf(transactions: readonly Uint8Array[]): Uint8Array {
  return sha256(
    concatBytes(
      ...transactions.map((raw) => {
        const tx = decodeTx(raw);
        return tx.ok ? txid(tx.value) : sha256(raw);
      }),
    ),
  );
}
