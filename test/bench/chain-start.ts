/** A start of chain-monitor on a real Postgres whose tables have much history. */
import { parseDisplayHash } from '@fulmen/bitcoin';
import { InternalError } from '@fulmen/codec';
import { byteaArray } from '@fulmen/store/pg/binary';
import { CHAIN_MIGRATIONS, CHAIN_SCHEMA, PostgresChainStore } from '@fulmen/store/chain/postgres';
import { MANAGER_MIGRATIONS, MANAGER_SCHEMA } from '@fulmen/store/manager/postgres/store';
import { migrate } from '@fulmen/store/pg/migrate';
import { createTestDatabase } from '@fulmen/store/testing/postgres';
import { type Running, chainWith, cpuMsOf, rows, run } from './chain-fixture.ts';

/** The height that everything happened at long ago. */
const OLD_HEIGHT = 10;
/** No HTLC is pending. */
const NO_DEADLINE = 2_147_483_647;
/** Settled heights are history at this height. */
const CHAIN_BLOCKS = 400;
const POLL_MS = 5;
const MAX_POLLS = 4_000;

export interface StartFigures {
  /** Of chain-monitor alone. */
  readonly cpuMs: number;
  readonly wallMs: number;
}

export async function measurePostgresStart(open: number, resolved: number): Promise<StartFigures> {
  const database = await createTestDatabase(MANAGER_SCHEMA, MANAGER_MIGRATIONS);
  const admin = database.open({ schema: CHAIN_SCHEMA });
  try {
    await migrate(admin, CHAIN_MIGRATIONS);
    const { chain, mineBusyBlock } = chainWith(1, CHAIN_BLOCKS);
    const state = rows({ open, resolved: 0 });
    const fundings = [...state.fundings.values()];
    const monitors = [...state.monitors.values()];
    await admin.transaction(async (session) => {
      await session.query(
        `INSERT INTO funding (channel_id, funding_txid, funding_output_index, funding_value_sat, script_pubkey, minimum_depth, seen_height, seen_tx_index)
         SELECT n.id, n.txid, 0, 10000000, n.script, 6, ${OLD_HEIGHT}, 1 FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS n(id, txid, script)`,
        [
          byteaArray(fundings.map(({ channelId }) => channelId)),
          byteaArray(fundings.map(({ fundingTxid }) => fundingTxid)),
          byteaArray(fundings.map(({ scriptPubKey }) => scriptPubKey)),
        ],
      );
      await session.query(
        `INSERT INTO monitor (channel_id, update_id, close_state, snapshot, next_deadline_height)
         SELECT n.id, 1, 'open', n.snapshot, ${NO_DEADLINE} FROM unnest($1::bytea[], $2::bytea[]) AS n(id, snapshot)`,
        [
          byteaArray(monitors.map(({ channelId }) => channelId)),
          byteaArray(monitors.map(({ snapshot }) => snapshot)),
        ],
      );
      const old = 'SELECT sha256(n::text::bytea) AS id FROM generate_series(1, $1::int4) AS n';
      await session.query(
        `INSERT INTO funding (channel_id, funding_txid, funding_output_index, funding_value_sat, script_pubkey, minimum_depth, seen_height, seen_tx_index, spent_txid, spent_height, settled_height)
         SELECT id, id, 0, 10000000, id, 6, 1, 1, id, 2, 3 FROM (${old}) AS o`,
        [resolved],
      );
      await session.query(
        `INSERT INTO settlement (channel_id, stage, close_type, close_txid, close_height, summary, told_fulfilled, told_failed, resolved_height)
         SELECT id, 'resolved', 'holder', id, 2, '[]', '{}', '{}', 3 FROM (${old}) AS o`,
        [resolved],
      );
      await session.query(
        `INSERT INTO monitor (channel_id, update_id, close_state, snapshot, next_deadline_height)
         SELECT id, 1, 'ordered', $2::bytea, ${NO_DEADLINE} FROM (${old}) AS o`,
        [resolved, monitors[0]?.snapshot ?? new Uint8Array(0)],
      );
      const { header, height, hash } = chain.chain.tip;
      await session.query(
        'INSERT INTO block (height, hash, prev_hash, time_unix_seconds) VALUES ($1::int4, $2::bytea, $3::bytea, $4::int8)',
        [height, parseDisplayHash(hash), header.prevHash, BigInt(header.time)],
      );
    });
    mineBusyBlock();
    const store = new PostgresChainStore(database.open({ schema: CHAIN_SCHEMA }));
    let running: Running | undefined;
    const startedMs = performance.now();
    const cpuMs = await cpuMsOf(async () => {
      running = await run(chain, store, async () => {
        for (let polls = 0; polls < MAX_POLLS; polls++) {
          if ((await store.tip())?.height === chain.chain.tip.height) return;
          await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        }
        throw new InternalError('nothing was followed');
      });
      await running.turn();
    });
    const wallMs = performance.now() - startedMs;
    await running?.stop();
    await store.close();
    return { cpuMs, wallMs };
  } finally {
    await admin.close();
    await database.drop();
  }
}
