/** How closed channels settle, and what the manager's rows are told of it: statements of the turn's transaction. */
import { byteaArray, int4Array, int8Array, textArray } from '../pg/binary.ts';
import type { Session } from '../pg/database.ts';
import type { ChainTurn, UpstreamOutcome, WalletOutPoint } from './chain-store.ts';

/** Kinds of the manager's `resolution` rows. */
const KIND_FULFILLED = 1;
const KIND_FAILED_HERE = 4;

const signed = (id: bigint): bigint => BigInt.asIntN(64, id);

export async function writeSettlement(
  session: Session,
  turn: ChainTurn,
  managerSchema: string,
): Promise<void> {
  await writeSpends(session, turn);
  await writeSettlements(session, turn);
  await writeOutcomes(session, turn.outcomes ?? [], managerSchema);
  await writeClaims(session, turn);
  await writeSweeps(session, turn);
  await insertEvents(session, turn.events ?? [], managerSchema);
}

async function writeSpends(
  session: Session,
  { spends = [], forgottenSpends = [] }: ChainTurn,
): Promise<void> {
  if (forgottenSpends.length > 0) {
    await session.query(
      'DELETE FROM spend AS s USING unnest($1::bytea[], $2::bytea[]) AS n(channel_id, txid) WHERE s.channel_id = n.channel_id AND s.txid = n.txid',
      [
        byteaArray(forgottenSpends.map((row) => row.channelId)),
        byteaArray(forgottenSpends.map((row) => row.txid)),
      ],
    );
  }
  if (spends.length > 0) {
    await session.query(
      `INSERT INTO spend (channel_id, txid, height, tx_index, transaction)
       SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::int4[], $4::int4[], $5::bytea[])
       ON CONFLICT (channel_id, txid) DO UPDATE SET height = excluded.height, tx_index = excluded.tx_index, transaction = excluded.transaction`,
      [
        byteaArray(spends.map((row) => row.channelId)),
        byteaArray(spends.map((row) => row.txid)),
        int4Array(spends.map((row) => row.height)),
        int4Array(spends.map((row) => row.txIndex)),
        byteaArray(spends.map((row) => row.transaction)),
      ],
    );
  }
}

async function writeSettlements(
  session: Session,
  { settlements = [], forgottenSettlements = [] }: ChainTurn,
): Promise<void> {
  if (forgottenSettlements.length > 0)
    await session.query('DELETE FROM settlement WHERE channel_id = ANY ($1)', [
      byteaArray(forgottenSettlements),
    ]);
  for (const row of settlements) {
    // Only those that changed, and arrays of arrays do not unnest.
    await session.query(
      `INSERT INTO settlement (channel_id, stage, close_type, close_txid, close_height, summary, told_fulfilled, told_failed, resolved_height)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
       ON CONFLICT (channel_id) DO UPDATE SET stage = excluded.stage, close_type = excluded.close_type, close_txid = excluded.close_txid,
         close_height = excluded.close_height, summary = excluded.summary, told_fulfilled = excluded.told_fulfilled,
         told_failed = excluded.told_failed, resolved_height = excluded.resolved_height`,
      [
        row.channelId,
        row.stage,
        row.closeType,
        row.closeTxid,
        row.closeHeight,
        row.summary,
        int8Array(row.toldFulfilled.map(signed)),
        int8Array(row.toldFailed.map(signed)),
        row.resolvedHeight ?? null,
      ],
    );
  }
}

/**
 * Ends of HTLCs, for their sources. As in the manager's own commits the first stands, but a preimage replaces a failure
 * that nobody consumed, and makes the HTLC that it came from claimable.
 */
async function writeOutcomes(
  session: Session,
  outcomes: readonly UpstreamOutcome[],
  managerSchema: string,
): Promise<void> {
  if (outcomes.length === 0) return;
  const ids = byteaArray(outcomes.map(({ channelId }) => channelId));
  const htlcIds = int8Array(outcomes.map(({ htlcId }) => signed(htlcId)));
  await session.query(
    `INSERT INTO ${managerSchema}.resolution AS r (source, source_shard, kind, body)
     SELECT o.source, o.source_shard, n.kind, n.body
     FROM unnest($1::bytea[], $2::int8[], $3::int4[], $4::bytea[]) AS n(channel_id, htlc_id, kind, body)
     JOIN ${managerSchema}.outgoing AS o ON o.channel_id = n.channel_id AND o.htlc_id = n.htlc_id
     ORDER BY 1
     ON CONFLICT (source) DO UPDATE SET kind = excluded.kind, code = NULL, body = excluded.body
       WHERE excluded.kind = ${KIND_FULFILLED} AND r.kind <> ${KIND_FULFILLED} AND NOT r.taken`,
    [
      ids,
      htlcIds,
      int4Array(
        outcomes.map(({ outcome }) => (outcome.type === 'fulfilled' ? KIND_FULFILLED : KIND_FAILED_HERE)),
      ),
      byteaArray(
        outcomes.map(({ outcome }) => (outcome.type === 'fulfilled' ? outcome.preimage : outcome.failure)),
      ),
    ],
  );
  await session.query(
    `INSERT INTO ${managerSchema}.htlc_preimage (channel_id, htlc_id, preimage)
     SELECT ${managerSchema}.source_channel(o.source), ${managerSchema}.source_htlc(o.source), n.preimage
     FROM unnest($1::bytea[], $2::int8[], $3::bytea[]) AS n(channel_id, htlc_id, preimage)
     JOIN ${managerSchema}.outgoing AS o ON o.channel_id = n.channel_id AND o.htlc_id = n.htlc_id
     WHERE n.preimage IS NOT NULL AND get_byte(o.source, 0) = 0
     ORDER BY 1, 2
     ON CONFLICT (channel_id, htlc_id) DO NOTHING`,
    [
      ids,
      htlcIds,
      byteaArray(outcomes.map(({ outcome }) => (outcome.type === 'fulfilled' ? outcome.preimage : null))),
    ],
  );
}

async function writeClaims(
  session: Session,
  { claims = [], forgottenClaims = [] }: ChainTurn,
): Promise<void> {
  if (forgottenClaims.length > 0) {
    await session.query(
      'DELETE FROM claim AS c USING unnest($1::bytea[], $2::int4[]) AS n(txid, output_index) WHERE c.txid = n.txid AND c.output_index = n.output_index',
      outPointColumns(forgottenClaims),
    );
  }
  if (claims.length === 0) return;
  await session.query(
    `INSERT INTO claim (txid, output_index, channel_id, kind, value_sat, deadline_height, budget_sat, feerate_sat_per_kw,
       requested_feerate_sat_per_kw, attempts, first_height, sweep_id, next_action)
     SELECT * FROM unnest($1::bytea[], $2::int4[], $3::bytea[], $4::text[], $5::int8[], $6::int4[], $7::int8[], $8::int4[], $9::int4[],
       $10::int4[], $11::int4[], $12::bytea[], $13::text[])
     ON CONFLICT (txid, output_index) DO UPDATE SET channel_id = excluded.channel_id, kind = excluded.kind, value_sat = excluded.value_sat,
       deadline_height = excluded.deadline_height, budget_sat = excluded.budget_sat, feerate_sat_per_kw = excluded.feerate_sat_per_kw,
       requested_feerate_sat_per_kw = excluded.requested_feerate_sat_per_kw, attempts = excluded.attempts,
       first_height = excluded.first_height, sweep_id = excluded.sweep_id, next_action = excluded.next_action`,
    [
      ...outPointColumns(claims.map(({ outPoint }) => outPoint)),
      byteaArray(claims.map((row) => row.channelId)),
      textArray(claims.map((row) => row.kind)),
      int8Array(claims.map((row) => row.valueSat)),
      int4Array(claims.map((row) => row.deadlineHeight ?? null)),
      int8Array(claims.map((row) => row.budgetSat)),
      int4Array(claims.map((row) => row.feerateSatPerKw)),
      int4Array(claims.map((row) => row.requestedFeerateSatPerKw ?? null)),
      int4Array(claims.map((row) => row.attempts)),
      int4Array(claims.map((row) => row.firstHeight)),
      byteaArray(claims.map((row) => row.sweepId ?? null)),
      textArray(claims.map((row) => row.nextAction)),
    ],
  );
}

function outPointColumns(outPoints: readonly WalletOutPoint[]): [Buffer, Buffer] {
  return [
    byteaArray(outPoints.map(({ txid }) => txid)),
    int4Array(outPoints.map(({ outputIndex }) => outputIndex)),
  ];
}

async function writeSweeps(
  session: Session,
  { sweeps = [], forgottenSweeps = [] }: ChainTurn,
): Promise<void> {
  if (forgottenSweeps.length > 0)
    await session.query('DELETE FROM sweep WHERE sweep_id = ANY ($1)', [byteaArray(forgottenSweeps)]);
  for (const row of sweeps) {
    await session.query(
      `INSERT INTO sweep (sweep_id, txid, transaction, parents, claim_txids, claim_indexes, wallet_input_txids, wallet_input_indexes,
         fee_sat, feerate_sat_per_kw, created_height, confirmed_height, reject_reason)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
       ON CONFLICT (sweep_id) DO UPDATE SET txid = excluded.txid, transaction = excluded.transaction, parents = excluded.parents,
         claim_txids = excluded.claim_txids, claim_indexes = excluded.claim_indexes, wallet_input_txids = excluded.wallet_input_txids,
         wallet_input_indexes = excluded.wallet_input_indexes, fee_sat = excluded.fee_sat, feerate_sat_per_kw = excluded.feerate_sat_per_kw,
         created_height = excluded.created_height, confirmed_height = excluded.confirmed_height, reject_reason = excluded.reject_reason`,
      [
        row.sweepId,
        row.txid,
        row.transaction,
        byteaArray(row.parents),
        ...outPointColumns(row.claims),
        ...outPointColumns(row.walletInputs),
        row.feeSat,
        row.feerateSatPerKw,
        row.createdHeight,
        row.confirmedHeight ?? null,
        row.rejectReason ?? null,
      ],
    );
  }
}

/** The channel's shard numbers the event; a channel that the manager does not know has shard 0. */
export async function insertEvents(
  session: Session,
  events: NonNullable<ChainTurn['events']>,
  managerSchema: string,
): Promise<void> {
  if (events.length === 0) return;
  await session.query(
    `INSERT INTO ${managerSchema}.event_outbox (shard, type, time_unix_ms, body)
     SELECT coalesce(c.shard, 0), n.type, n.time_unix_ms, n.body
     FROM unnest($1::bytea[], $2::text[], $3::int8[], $4::text[]) WITH ORDINALITY AS n(channel_id, type, time_unix_ms, body, at)
     LEFT JOIN ${managerSchema}.channel AS c ON c.channel_id = n.channel_id ORDER BY n.at`,
    [
      byteaArray(events.map((event) => event.channelId)),
      textArray(events.map((event) => event.type)),
      int8Array(events.map((event) => BigInt(event.timeUnixMs))),
      textArray(events.map((event) => event.body)),
    ],
  );
}
