/**
 * Refuses a database that can forget what it acknowledged. A commit that a
 * power cut or a fail-over forgets revives a revoked state: the next broadcast
 * of it would cost the whole channel.
 */
import { StoreSetupError } from '../error.ts';
import type { Database } from './database.ts';

/** `single`: one server whose disk is trusted. `high_availability`: fail-over to a synchronous standby. */
export type DurabilityMode = 'single' | 'high_availability';

/** The server's settings that decide whether an acknowledged commit survives. */
export interface DurabilitySettings {
  readonly fsync: string;
  readonly synchronousCommit: string;
  readonly synchronousStandbyNames: string;
  readonly inRecovery: boolean;
}

/** Why these settings are refused; undefined when they are safe. */
export function durabilityFault(settings: DurabilitySettings, mode: DurabilityMode): string | undefined {
  if (settings.inRecovery) return 'this server is a standby: connect to the primary';
  if (settings.fsync !== 'on') return 'fsync is off: a power cut would forget acknowledged commits';
  if (settings.synchronousCommit === 'off')
    return 'synchronous_commit is off: a crash would forget acknowledged commits';
  if (mode === 'single') return undefined;
  if (settings.synchronousStandbyNames.trim() === '')
    return 'synchronous_standby_names is empty: a fail-over would forget acknowledged commits';
  if (settings.synchronousCommit !== 'on' && settings.synchronousCommit !== 'remote_apply') {
    return `synchronous_commit is ${settings.synchronousCommit}: the standby's disk is not waited for`;
  }
  return undefined;
}

/** Reads the settings as this connection's role and database really have them. */
export async function readDurability(database: Database): Promise<DurabilitySettings> {
  const [row] = await database.read<DurabilitySettings>(
    `SELECT current_setting('fsync') AS "fsync", current_setting('synchronous_commit') AS "synchronousCommit",
            current_setting('synchronous_standby_names') AS "synchronousStandbyNames", pg_is_in_recovery() AS "inRecovery"`,
  );
  if (row === undefined) throw new StoreSetupError('the server did not tell its settings');
  return row;
}

/**
 * The start-up check of every service with a database.
 * @throws StoreSetupError that names the setting
 */
export async function requireDurability(database: Database, mode: DurabilityMode): Promise<void> {
  const fault = durabilityFault(await readDurability(database), mode);
  if (fault !== undefined) throw new StoreSetupError(fault);
}
