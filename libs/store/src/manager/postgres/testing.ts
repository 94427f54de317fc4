/** A migrated database of its own for tests of the manager's store. */
import { createTestDatabase, type TestDatabase } from '../../testing/postgres.ts';
import type { Database } from '../../pg/database.ts';
import { readStatements } from '../../pg/statements.ts';
import type { ManagerDatabaseUnderTest } from '../compliance/fixtures.ts';
import { MANAGER_MIGRATIONS, MANAGER_SCHEMA, openManagerStore } from './store.ts';

export interface PostgresUnderTest extends ManagerDatabaseUnderTest {
  readonly server: TestDatabase;
  /** A connection pool for looking and meddling. */
  readonly admin: Database;
}

export async function makePostgresManagerDatabase(): Promise<PostgresUnderTest> {
  const server = await createTestDatabase(MANAGER_SCHEMA, MANAGER_MIGRATIONS);
  const admin = server.open();
  const statement = readStatements(new URL('./queries/', import.meta.url));
  return {
    server,
    admin,
    connect: (applicationName) =>
      openManagerStore({ connectionString: server.connectionString, applicationName }),
    expireLease: async (replicaId) => {
      await admin.write(
        `UPDATE replica SET lease_until = lease_until - interval '1 hour' WHERE replica_id = $1`,
        [replicaId],
      );
    },
    reportFundingStatus: async (channelId, status) => {
      const confirmed = status.type === 'confirmed' ? status : undefined;
      const spent = status.type === 'spent' ? status : undefined;
      await admin.write(statement('report_funding_status'), [
        channelId,
        status.type,
        (confirmed ?? spent)?.height ?? null,
        confirmed?.txIndex ?? null,
        (confirmed ?? spent)?.depth ?? null,
        status.type === 'mismatch' || status.type === 'lost' ? status.reason : null,
        spent?.txid ?? null,
      ]);
    },
    decideClose: async (channelId, reason) => {
      await admin.write(
        'UPDATE channel SET closing_decision = coalesce(closing_decision, $2) WHERE channel_id = $1',
        [channelId, reason],
      );
    },
    drop: async () => {
      await admin.close();
      await server.drop();
    },
  };
}
