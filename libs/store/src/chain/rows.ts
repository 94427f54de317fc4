/** Rows of the chain schema as the port's records. */
import type * as port from './chain-store.ts';

export type Columns = Record<string, unknown>;

const bytes = (row: Columns, name: string): Uint8Array => row[name] as Uint8Array;
const number = (row: Columns, name: string): number => row[name] as number;
/** The driver reads elements of arrays as Buffers. */
export const bytesArray = (row: Columns, name: string): Uint8Array[] =>
  (row[name] as Uint8Array[]).map((element) => Uint8Array.from(element));
const optional = <T>(row: Columns, name: string): T | undefined => (row[name] as T | null) ?? undefined;

export function readBlock(row: Columns): port.StoredBlock {
  return {
    height: number(row, 'height'),
    hash: bytes(row, 'hash'),
    prevHash: bytes(row, 'prev_hash'),
    timeUnixSeconds: Number(row['time_unix_seconds']),
  };
}

export function readFunding(row: Columns): port.FundingRecord {
  const height = optional<number>(row, 'seen_height');
  const fault = optional<string>(row, 'seen_fault');
  const spentTxid = optional<Uint8Array>(row, 'spent_txid');
  const settledHeight = optional<number>(row, 'settled_height');
  const watchedHeight = optional<number>(row, 'watched_height');
  const holderIsFunder = optional<boolean>(row, 'holder_is_funder');
  return {
    channelId: bytes(row, 'channel_id'),
    fundingTxid: bytes(row, 'funding_txid'),
    fundingOutputIndex: number(row, 'funding_output_index'),
    fundingValueSat: row['funding_value_sat'] as bigint,
    scriptPubKey: bytes(row, 'script_pubkey'),
    minimumDepth: number(row, 'minimum_depth'),
    ...(height !== undefined && {
      seen: { height, txIndex: number(row, 'seen_tx_index'), ...(fault !== undefined && { fault }) },
    }),
    ...(spentTxid !== undefined && { spent: { txid: spentTxid, height: number(row, 'spent_height') } }),
    ...(settledHeight !== undefined && { settledHeight }),
    ...(watchedHeight !== undefined && { watchedHeight }),
    ...(holderIsFunder !== undefined && { funder: holderIsFunder ? 'holder' : 'counterparty' }),
  };
}

export function readBroadcast(row: Columns): port.BroadcastRecord {
  const channelId = optional<Uint8Array>(row, 'channel_id');
  const conflictHeight = optional<number>(row, 'conflict_height');
  const rejectReason = optional<string>(row, 'reject_reason');
  return {
    orderId: bytes(row, 'order_id'),
    kind: row['kind'] as port.BroadcastKind,
    transactions: bytesArray(row, 'transactions'),
    confirmedHeights: (row['confirmed_heights'] as (number | null)[]).map((height) => height ?? undefined),
    ...(channelId !== undefined && { channelId }),
    ...(conflictHeight !== undefined && { conflictHeight }),
    ...(rejectReason !== undefined && { rejectReason }),
  };
}

export function readAddress(row: Columns): port.AddressRecord {
  return {
    script: bytes(row, 'script'),
    kind: row['kind'] as port.AddressKind,
    chain: row['chain'] as port.AddressChain,
    index: number(row, 'index'),
    state: row['state'] as port.AddressRecord['state'],
  };
}

export function readUtxo(row: Columns): port.UtxoRecord {
  const height = optional<number>(row, 'height');
  const spentTxid = optional<Uint8Array>(row, 'spent_txid');
  const spentHeight = optional<number>(row, 'spent_height');
  return {
    txid: bytes(row, 'txid'),
    outputIndex: number(row, 'output_index'),
    valueSat: row['value_sat'] as bigint,
    script: bytes(row, 'script'),
    origin: row['origin'] as port.UtxoRecord['origin'],
    ...(height !== undefined && { height }),
    ...(spentTxid !== undefined && {
      spentBy: { txid: spentTxid, ...(spentHeight !== undefined && { height: spentHeight }) },
    }),
  };
}

export function readReservation(row: Columns): port.ReservationRecord {
  const indexes = row['input_indexes'] as number[];
  const changeScript = optional<Uint8Array>(row, 'change_script');
  const transaction = optional<Uint8Array>(row, 'transaction');
  return {
    key: bytes(row, 'key'),
    purpose: row['purpose'] as port.ReservationRecord['purpose'],
    requestDigest: bytes(row, 'request_digest'),
    inputs: bytesArray(row, 'input_txids').map((txid, at) => ({ txid, outputIndex: indexes[at] ?? 0 })),
    psbt: bytes(row, 'psbt'),
    txid: bytes(row, 'txid'),
    outputIndex: number(row, 'output_index'),
    feeSat: row['fee_sat'] as bigint,
    createdHeight: number(row, 'created_height'),
    ...(changeScript !== undefined && { changeScript }),
    ...(transaction !== undefined && { transaction }),
  };
}

export function readTransaction(row: Columns): port.WalletTransactionRecord {
  const height = optional<number>(row, 'height');
  return {
    txid: bytes(row, 'txid'),
    amountSat: row['amount_sat'] as bigint,
    feeSat: row['fee_sat'] as bigint,
    label: row['label'] as string,
    ...(height !== undefined && { height }),
  };
}
