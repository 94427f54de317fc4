/**
 * to_remote of a counterparty commitment, of any number: the holder's balance, paid to its payment basepoint, which never
 * changes. With anchors it waits one block (BOLT 3: `<remotepubkey> OP_CHECKSIGVERIFY 1 OP_CHECKSEQUENCEVERIFY`).
 */
import { equalBytes } from '@fulmen/codec';
import { SEQUENCE_REPLACEABLE, claimOf, spenderOf, spentStatus, whenMature } from '../scope.ts';
import type { CloseScope } from '../scope.ts';
import type { OutputStatus, SettlementOutput } from '../types.ts';

/** Every output of the closing transaction that pays the holder's payment key; a commitment has at most one. */
export function resolveToRemote(scope: CloseScope): SettlementOutput[] {
  const { tx, txid, height } = scope.close;
  const { scriptPubKey, witnessScript } = scope.format.toRemote(
    scope.monitor.parameters.holder.paymentBasepoint,
  );
  return tx.outputs.flatMap(({ script, valueSat }, outputIndex): SettlementOutput[] => {
    if (!equalBytes(script, scriptPubKey)) return [];
    const outPoint = { txid, outputIndex };
    const spender = spenderOf(scope, outPoint);
    const status: OutputStatus =
      spender === undefined
        ? whenMature(
            scope,
            witnessScript === undefined ? height : height + 1,
            claimOf(
              { outPoint, valueSat, scriptPubKey, witnessScript },
              {
                kind: { type: 'counterparty_balance' },
                sequence: witnessScript === undefined ? SEQUENCE_REPLACEABLE : 1,
                locktimeHeight: 0,
              },
            ),
          )
        : spentStatus(scope, spender, 'holder', 'claim');
    return [{ outPoint, valueSat, kind: 'to_remote', status }];
  });
}
