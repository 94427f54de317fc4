/** The store of backups on Postgres, in the manager's schema. */
import { byteaArray } from '../../pg/binary.ts';
import { Database, type Parameter, type Session } from '../../pg/database.ts';
import type { Fence } from '../manager-store.ts';
import { MANAGER_SCHEMA } from '../postgres/store.ts';
import { OLDER_BACKUPS_KEPT, type BackupStore, type StoredBackup } from './backup-store.ts';

/** Opens a small pool; the schema must have been migrated. */
export function openBackupStore(options: {
  readonly connectionString: string;
  readonly applicationName: string;
}): BackupStore {
  return new PostgresBackupStore(
    new Database({
      connectionString: options.connectionString,
      applicationName: `${options.applicationName} backups`,
      schema: MANAGER_SCHEMA,
      maxConnections: 2,
    }),
  );
}

class PostgresBackupStore implements BackupStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async backupChannels(): Promise<readonly { channelId: Uint8Array; cold: Uint8Array }[]> {
    const rows = await this.#database.read<{ channel_id: Uint8Array; cold: Uint8Array }>(
      `SELECT c.channel_id, cold.cold FROM channel AS c JOIN channel_cold AS cold USING (channel_id)
       WHERE c.phase <> 'closed' ORDER BY c.channel_id`,
      [],
    );
    return rows.map(({ channel_id: channelId, cold }) => ({ channelId, cold }));
  }

  async closedChannels(channelIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
    const rows = await this.#database.read<{ channel_id: Uint8Array }>(
      `SELECT channel_id FROM channel WHERE channel_id = ANY ($1::bytea[]) AND phase = 'closed'`,
      [byteaArray(channelIds)],
    );
    return rows.map(({ channel_id: channelId }) => channelId);
  }

  async latestBackup(): Promise<StoredBackup | undefined> {
    const [row] = await this.#database.read<{ sequence: bigint; sealed: Uint8Array }>(
      'SELECT sequence, sealed FROM backup ORDER BY sequence DESC LIMIT 1',
      [],
    );
    return row;
  }

  async latestSequence(): Promise<bigint> {
    const [row] = await this.#database.read<{ sequence: bigint }>(
      'SELECT coalesce(max(sequence), 0)::int8 AS sequence FROM backup',
      [],
    );
    return row?.sequence ?? 0n;
  }

  putBackup(
    fence: Fence,
    previousSequence: bigint,
    { sequence, sealed }: StoredBackup,
  ): Promise<'ok' | 'fence_lost' | 'conflict'> {
    return this.#fenced(fence, async (session) => {
      const written = await session.query(
        `INSERT INTO backup (sequence, sealed)
         SELECT $2, $3 WHERE (SELECT coalesce(max(sequence), 0) FROM backup) = $1
         ON CONFLICT (sequence) DO NOTHING RETURNING sequence`,
        [previousSequence, sequence, sealed],
      );
      if (written.length === 0) return 'conflict';
      await session.query('DELETE FROM backup WHERE sequence < $1', [sequence - OLDER_BACKUPS_KEPT]);
      return 'ok';
    });
  }

  putPeerStorage(
    fence: Fence,
    peerNodeId: Uint8Array,
    blob: Uint8Array,
    blockHeight: number,
  ): Promise<'ok' | 'fence_lost'> {
    return this.#put(
      fence,
      `INSERT INTO peer_storage (peer_node_id, blob, channel_height) VALUES ($1, $2, $3)
       ON CONFLICT (peer_node_id) DO UPDATE SET blob = excluded.blob,
         channel_height = greatest(peer_storage.channel_height, excluded.channel_height)`,
      [peerNodeId, blob, blockHeight],
    );
  }

  async peerStorage(peerNodeId: Uint8Array): Promise<Uint8Array | undefined> {
    const [row] = await this.#database.read<{ blob: Uint8Array }>(
      'SELECT blob FROM peer_storage WHERE peer_node_id = $1',
      [peerNodeId],
    );
    return row?.blob;
  }

  async prunePeerStorage(blockHeight: number, keepBlocks: number): Promise<number> {
    await this.#database.write(
      `UPDATE peer_storage AS p SET channel_height = $1 WHERE channel_height < $1
         AND EXISTS (SELECT FROM channel AS c WHERE c.counterparty_node_id = p.peer_node_id AND c.phase <> 'closed')`,
      [blockHeight],
    );
    const gone = await this.#database.write(
      'DELETE FROM peer_storage WHERE channel_height < $1 RETURNING peer_node_id',
      [blockHeight - keepBlocks],
    );
    return gone.length;
  }

  putReturnedBackup(fence: Fence, peerNodeId: Uint8Array, sealed: Uint8Array): Promise<'ok' | 'fence_lost'> {
    return this.#put(
      fence,
      `INSERT INTO returned_backup (peer_node_id, sealed) VALUES ($1, $2)
       ON CONFLICT (peer_node_id) DO UPDATE SET sealed = excluded.sealed, created_at = now()`,
      [peerNodeId, sealed],
    );
  }

  async returnedBackups(limit: number): Promise<readonly { peerNodeId: Uint8Array; sealed: Uint8Array }[]> {
    const rows = await this.#database.read<{ peer_node_id: Uint8Array; sealed: Uint8Array }>(
      'SELECT peer_node_id, sealed FROM returned_backup ORDER BY created_at DESC, peer_node_id LIMIT $1',
      [limit],
    );
    return rows.map(({ peer_node_id: peerNodeId, sealed }) => ({ peerNodeId, sealed }));
  }

  putFundingSearch(fence: Fence, channelId: Uint8Array, fromHeight: number): Promise<'ok' | 'fence_lost'> {
    return this.#put(
      fence,
      `INSERT INTO funding_search (channel_id, from_height) VALUES ($1, $2)
       ON CONFLICT (channel_id) DO UPDATE SET from_height = excluded.from_height`,
      [channelId, fromHeight],
    );
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  #put(fence: Fence, sql: string, values: readonly Parameter[]): Promise<'ok' | 'fence_lost'> {
    return this.#fenced<'ok'>(fence, async (session) => {
      await session.query(sql, values);
      return 'ok';
    });
  }

  /** A takeover waits for it, or is seen by it. */
  #fenced<T>(fence: Fence, write: (session: Session) => Promise<T>): Promise<T | 'fence_lost'> {
    return this.#database.transaction(async (session) => {
      const [held] = await session.query<{ holds: boolean }>('SELECT fence_holds($1, $2, $3) AS holds', [
        fence.shard,
        fence.epoch,
        fence.replicaId,
      ]);
      return held?.holds === true ? write(session) : 'fence_lost';
    });
  }
}
