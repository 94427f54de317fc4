/** One turn of the writer as statements of one transaction, each for all rows of its kind. */
import type { FundingStatus } from '../manager/manager-store.ts';
import { boolArray, byteaArray, int4Array, int8Array, textArray } from '../pg/binary.ts';
import type { Session } from '../pg/database.ts';
import { type ChainTurn, ChainConflictError } from './chain-store.ts';
import { KEPT_BLOCKS } from './memory.ts';
import { writeSettlement } from './write-settlement.ts';

/** Writes everything that the turn names. @throws ChainConflictError when its block does not fit the stored tip. */
export async function writeTurn(session: Session, turn: ChainTurn, managerSchema: string): Promise<void> {
  if (turn.block !== undefined) await moveTip(session, turn.block);
  await writeFundings(session, turn);
  await writeReports(session, turn.reports ?? [], managerSchema);
  await writeBroadcasts(session, turn);
  await writeWallet(session, turn);
  await writeReservations(session, turn);
  await writeSettlement(session, turn, managerSchema);
  if (turn.rescanFrom !== undefined)
    await session.query('UPDATE progress SET rescan_from = $1', [turn.rescanFrom]);
  if (turn.scannedFrom !== undefined)
    await session.query('UPDATE progress SET scanned_from = $1', [turn.scannedFrom]);
}

async function moveTip(session: Session, move: NonNullable<ChainTurn['block']>): Promise<void> {
  if (move.type === 'disconnect') {
    const gone = await session.query<{ height: number }>(
      'DELETE FROM block WHERE hash = $1 AND height = (SELECT max(height) FROM block) RETURNING height',
      [move.hash],
    );
    const [block] = gone;
    if (block === undefined) throw new ChainConflictError('not the stored tip');
    await session.query('UPDATE wallet_transaction SET height = NULL WHERE height = $1', [block.height]);
    return;
  }
  const { height, hash, prevHash, timeUnixSeconds } = move.block;
  const added = await session.query(
    `INSERT INTO block (height, hash, prev_hash, time_unix_seconds) SELECT $1::int4, $2::bytea, $3::bytea, $4::int8
     WHERE NOT EXISTS (SELECT FROM block) OR EXISTS (
       SELECT FROM block WHERE height = (SELECT max(height) FROM block) AND height = $1::int4 - 1 AND hash = $3::bytea)
     RETURNING 1`,
    [height, hash, prevHash, timeUnixSeconds],
  );
  if (added.length === 0) throw new ChainConflictError('not on top of the stored tip');
  await session.query('DELETE FROM block WHERE height <= $1', [height - KEPT_BLOCKS]);
}

async function writeFundings(
  session: Session,
  { fundings = [], forgottenFundings = [] }: ChainTurn,
): Promise<void> {
  if (fundings.length > 0) {
    await session.query(
      `INSERT INTO funding (channel_id, funding_txid, funding_output_index, funding_value_sat, script_pubkey, minimum_depth,
         seen_height, seen_tx_index, seen_fault, spent_txid, spent_height, settled_height, watched_height, holder_is_funder)
       SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int4[], $4::int8[], $5::bytea[], $6::int4[], $7::int4[], $8::int4[], $9::text[], $10::bytea[], $11::int4[],
         $12::int4[], $13::int4[], $14::bool[])
       ON CONFLICT (channel_id) DO UPDATE SET funding_txid = excluded.funding_txid, funding_output_index = excluded.funding_output_index,
         funding_value_sat = excluded.funding_value_sat, script_pubkey = excluded.script_pubkey, minimum_depth = excluded.minimum_depth,
         seen_height = excluded.seen_height, seen_tx_index = excluded.seen_tx_index, seen_fault = excluded.seen_fault,
         spent_txid = excluded.spent_txid, spent_height = excluded.spent_height, settled_height = excluded.settled_height,
         watched_height = excluded.watched_height, holder_is_funder = excluded.holder_is_funder`,
      [
        byteaArray(fundings.map((row) => row.channelId)),
        byteaArray(fundings.map((row) => row.fundingTxid)),
        int4Array(fundings.map((row) => row.fundingOutputIndex)),
        int8Array(fundings.map((row) => row.fundingValueSat)),
        byteaArray(fundings.map((row) => row.scriptPubKey)),
        int4Array(fundings.map((row) => row.minimumDepth)),
        int4Array(fundings.map((row) => row.seen?.height ?? null)),
        int4Array(fundings.map((row) => row.seen?.txIndex ?? null)),
        textArray(fundings.map((row) => row.seen?.fault ?? null)),
        byteaArray(fundings.map((row) => row.spent?.txid ?? null)),
        int4Array(fundings.map((row) => row.spent?.height ?? null)),
        int4Array(fundings.map((row) => row.settledHeight ?? null)),
        int4Array(fundings.map((row) => row.watchedHeight ?? null)),
        boolArray(fundings.map((row) => (row.funder === undefined ? null : row.funder === 'holder'))),
      ],
    );
  }
  if (forgottenFundings.length > 0)
    await session.query('DELETE FROM funding WHERE channel_id = ANY ($1)', [byteaArray(forgottenFundings)]);
}

interface StatusColumns {
  readonly height: bigint | null;
  readonly txIndex: number | null;
  readonly depth: number | null;
  readonly reason: string | null;
  readonly txid: Uint8Array | null;
  readonly settlement: string | null;
}

function statusColumns(status: FundingStatus): StatusColumns {
  const none = { height: null, txIndex: null, depth: null, reason: null, txid: null, settlement: null };
  switch (status.type) {
    case 'unconfirmed':
      return none;
    case 'confirmed':
      return { ...none, height: BigInt(status.height), txIndex: status.txIndex, depth: status.depth };
    case 'mismatch':
    case 'lost':
      return { ...none, reason: status.reason };
    case 'spend_seen':
      return { ...none, txid: status.txid };
    case 'spent':
      return {
        ...none,
        height: BigInt(status.height),
        depth: status.depth,
        txid: status.txid,
        settlement: status.settlement ?? null,
      };
  }
}

async function writeReports(
  session: Session,
  reports: NonNullable<ChainTurn['reports']>,
  managerSchema: string,
): Promise<void> {
  if (reports.length === 0) return;
  const columns = reports.map(({ status }) => statusColumns(status));
  await session.query(
    `UPDATE ${managerSchema}.funding_watch AS w SET status = n.status, height = n.height, tx_index = n.tx_index, depth = n.depth,
       reason = n.reason, spending_txid = n.spending_txid, settlement = n.settlement
     FROM unnest($1::bytea[], $2::bytea[], $3::int4[], $4::text[], $5::int8[], $6::int4[], $7::int4[], $8::text[], $9::bytea[], $10::text[])
       AS n(channel_id, funding_txid, funding_output_index, status, height, tx_index, depth, reason, spending_txid, settlement)
     WHERE w.channel_id = n.channel_id AND w.funding_txid = n.funding_txid AND w.funding_output_index = n.funding_output_index`,
    [
      byteaArray(reports.map(({ channelId }) => channelId)),
      byteaArray(reports.map(({ fundingTxid }) => fundingTxid)),
      int4Array(reports.map(({ fundingOutputIndex }) => fundingOutputIndex)),
      textArray(reports.map(({ status }) => status.type)),
      int8Array(columns.map(({ height }) => height)),
      int4Array(columns.map(({ txIndex }) => txIndex)),
      int4Array(columns.map(({ depth }) => depth)),
      textArray(columns.map(({ reason }) => reason)),
      byteaArray(columns.map(({ txid }) => txid)),
      textArray(columns.map(({ settlement }) => settlement)),
    ],
  );
}

async function writeBroadcasts(
  session: Session,
  { broadcasts = [], finishedBroadcasts = [] }: ChainTurn,
): Promise<void> {
  for (const row of broadcasts) {
    // Few at a time, and arrays of arrays do not unnest.
    await session.query(
      `INSERT INTO broadcast (order_id, kind, channel_id, transactions, confirmed_heights, conflict_height, reject_reason)
       VALUES ($1, $2, $3, $4, $5, $6, $7)
       ON CONFLICT (order_id) DO UPDATE SET transactions = excluded.transactions, confirmed_heights = excluded.confirmed_heights,
         conflict_height = excluded.conflict_height, reject_reason = excluded.reject_reason`,
      [
        row.orderId,
        row.kind,
        row.channelId ?? null,
        byteaArray(row.transactions),
        int4Array(row.confirmedHeights.map((height) => height ?? null)),
        row.conflictHeight ?? null,
        row.rejectReason ?? null,
      ],
    );
  }
  if (finishedBroadcasts.length > 0)
    await session.query('DELETE FROM broadcast WHERE order_id = ANY ($1)', [byteaArray(finishedBroadcasts)]);
}

async function writeWallet(session: Session, turn: ChainTurn): Promise<void> {
  const {
    addresses = [],
    utxos = [],
    forgottenUtxos = [],
    transactions = [],
    forgottenTransactions = [],
  } = turn;
  if (addresses.length > 0) {
    await session.query(
      `INSERT INTO wallet_address (script, kind, chain, index, state) SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::int4[], $5::text[])
       ON CONFLICT (script) DO UPDATE SET state = excluded.state`,
      [
        byteaArray(addresses.map((row) => row.script)),
        textArray(addresses.map((row) => row.kind)),
        textArray(addresses.map((row) => row.chain)),
        int4Array(addresses.map((row) => row.index)),
        textArray(addresses.map((row) => row.state)),
      ],
    );
  }
  if (utxos.length > 0) {
    await session.query(
      `INSERT INTO wallet_utxo (txid, output_index, value_sat, script, origin, height, spent_txid, spent_height)
       SELECT * FROM unnest($1::bytea[], $2::int4[], $3::int8[], $4::bytea[], $5::text[], $6::int4[], $7::bytea[], $8::int4[])
       ON CONFLICT (txid, output_index) DO UPDATE SET origin = excluded.origin, height = excluded.height, spent_txid = excluded.spent_txid,
         spent_height = excluded.spent_height`,
      [
        byteaArray(utxos.map((row) => row.txid)),
        int4Array(utxos.map((row) => row.outputIndex)),
        int8Array(utxos.map((row) => row.valueSat)),
        byteaArray(utxos.map((row) => row.script)),
        textArray(utxos.map((row) => row.origin)),
        int4Array(utxos.map((row) => row.height ?? null)),
        byteaArray(utxos.map((row) => row.spentBy?.txid ?? null)),
        int4Array(utxos.map((row) => row.spentBy?.height ?? null)),
      ],
    );
  }
  if (forgottenUtxos.length > 0) {
    await session.query(
      'DELETE FROM wallet_utxo AS u USING unnest($1::bytea[], $2::int4[]) AS n(txid, output_index) WHERE u.txid = n.txid AND u.output_index = n.output_index',
      [
        byteaArray(forgottenUtxos.map((row) => row.txid)),
        int4Array(forgottenUtxos.map((row) => row.outputIndex)),
      ],
    );
  }
  if (transactions.length > 0) {
    await session.query(
      `INSERT INTO wallet_transaction (txid, amount_sat, fee_sat, height, label)
       SELECT * FROM unnest($1::bytea[], $2::int8[], $3::int8[], $4::int4[], $5::text[])
       ON CONFLICT (txid) DO UPDATE SET amount_sat = excluded.amount_sat, fee_sat = excluded.fee_sat, height = excluded.height, label = excluded.label`,
      [
        byteaArray(transactions.map((row) => row.txid)),
        int8Array(transactions.map((row) => row.amountSat)),
        int8Array(transactions.map((row) => row.feeSat)),
        int4Array(transactions.map((row) => row.height ?? null)),
        textArray(transactions.map((row) => row.label)),
      ],
    );
  }
  if (forgottenTransactions.length > 0)
    await session.query('DELETE FROM wallet_transaction WHERE txid = ANY ($1)', [
      byteaArray(forgottenTransactions),
    ]);
}

async function writeReservations(
  session: Session,
  { reservations = [], releasedReservations = [] }: ChainTurn,
): Promise<void> {
  for (const row of reservations) {
    await session.query(
      `INSERT INTO wallet_reservation (key, purpose, request_digest, input_txids, input_indexes, change_script, psbt, transaction, txid, output_index, fee_sat, created_height)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
       ON CONFLICT (key) DO UPDATE SET transaction = excluded.transaction`,
      [
        row.key,
        row.purpose,
        row.requestDigest,
        byteaArray(row.inputs.map(({ txid }) => txid)),
        int4Array(row.inputs.map(({ outputIndex }) => outputIndex)),
        row.changeScript ?? null,
        row.psbt,
        row.transaction ?? null,
        row.txid,
        row.outputIndex,
        row.feeSat,
        row.createdHeight,
      ],
    );
  }
  if (releasedReservations.length > 0)
    await session.query('DELETE FROM wallet_reservation WHERE key = ANY ($1)', [
      byteaArray(releasedReservations),
    ]);
}
