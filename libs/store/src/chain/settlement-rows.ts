/** Rows of how closed channels settle, as the port's records. */
import type * as port from './chain-store.ts';
import { bytesArray, type Columns } from './rows.ts';

const optional = <T>(row: Columns, name: string): T | undefined => (row[name] as T | null) ?? undefined;

function outPoints(row: Columns, txids: string, indexes: string): readonly port.WalletOutPoint[] {
  const outputIndexes = row[indexes] as number[];
  return bytesArray(row, txids).map((txid, at) => ({ txid, outputIndex: outputIndexes[at] ?? 0 }));
}

export function readSpend(row: Columns): port.SpendRecord {
  return {
    channelId: row['channel_id'] as Uint8Array,
    txid: row['txid'] as Uint8Array,
    height: row['height'] as number,
    txIndex: row['tx_index'] as number,
    transaction: row['transaction'] as Uint8Array,
  };
}

export function readSettlement(row: Columns): port.SettlementRecord {
  const resolvedHeight = optional<number>(row, 'resolved_height');
  return {
    channelId: row['channel_id'] as Uint8Array,
    stage: row['stage'] as port.SettlementRecord['stage'],
    closeType: row['close_type'] as string,
    closeTxid: row['close_txid'] as Uint8Array,
    closeHeight: row['close_height'] as number,
    summary: row['summary'] as string,
    toldFulfilled: ids(row, 'told_fulfilled'),
    toldFailed: ids(row, 'told_failed'),
    ...(resolvedHeight !== undefined && { resolvedHeight }),
  };
}

/** u64 ids are stored as the signed integer of the same 64 bits; the driver gives elements of arrays as it likes. */
const ids = (row: Columns, name: string): readonly bigint[] =>
  (row[name] as (bigint | string | number)[]).map((id) => BigInt.asUintN(64, BigInt(id)));

export function readClaim(row: Columns): port.ClaimRecord {
  const deadlineHeight = optional<number>(row, 'deadline_height');
  const requestedFeerateSatPerKw = optional<number>(row, 'requested_feerate_sat_per_kw');
  const sweepId = optional<Uint8Array>(row, 'sweep_id');
  return {
    outPoint: { txid: row['txid'] as Uint8Array, outputIndex: row['output_index'] as number },
    channelId: row['channel_id'] as Uint8Array,
    kind: row['kind'] as string,
    valueSat: row['value_sat'] as bigint,
    budgetSat: row['budget_sat'] as bigint,
    feerateSatPerKw: row['feerate_sat_per_kw'] as number,
    attempts: row['attempts'] as number,
    firstHeight: row['first_height'] as number,
    nextAction: row['next_action'] as string,
    ...(deadlineHeight !== undefined && { deadlineHeight }),
    ...(requestedFeerateSatPerKw !== undefined && { requestedFeerateSatPerKw }),
    ...(sweepId !== undefined && { sweepId }),
  };
}

export function readSweep(row: Columns): port.SweepRecord {
  const confirmedHeight = optional<number>(row, 'confirmed_height');
  const rejectReason = optional<string>(row, 'reject_reason');
  return {
    sweepId: row['sweep_id'] as Uint8Array,
    txid: row['txid'] as Uint8Array,
    transaction: row['transaction'] as Uint8Array,
    parents: bytesArray(row, 'parents'),
    claims: outPoints(row, 'claim_txids', 'claim_indexes'),
    walletInputs: outPoints(row, 'wallet_input_txids', 'wallet_input_indexes'),
    feeSat: row['fee_sat'] as bigint,
    feerateSatPerKw: row['feerate_sat_per_kw'] as number,
    createdHeight: row['created_height'] as number,
    ...(confirmedHeight !== undefined && { confirmedHeight }),
    ...(rejectReason !== undefined && { rejectReason }),
  };
}
