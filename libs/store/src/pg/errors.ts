/**
 * Maps what the `pg` driver throws to the store's errors.
 *
 * An answer after which the session goes on is a promise that the statement's
 * transaction was rolled back: severity ERROR. Anything else after the statement
 * was handed to the socket (FATAL, PANIC, a closed or silent connection) leaves a
 * write's outcome open: Postgres may have committed and lost the connection before
 * saying so. The severity itself comes in the server's language, and one code comes
 * with several; only the session's going on tells them apart everywhere.
 */
import pg from 'pg';
import { StatementError, StoreError, UnrecoverableStoreError } from '../error.ts';

/** SQLSTATEs (or their first two characters) that say "not now" rather than "never". */
const RETRYABLE: ReadonlySet<string> = new Set([
  '08', // connection exceptions
  '40', // serialization failure, deadlock
  '53', // insufficient resources: disk full, out of memory, too many connections
  '58', // system errors outside Postgres
  '55P03', // lock_not_available
  '55006', // object_in_use
  '57014', // query_canceled: statement_timeout
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
  '25006', // read_only_sql_transaction: this server became a standby
]);

/** SQLSTATEs of a database that found itself damaged. */
const DAMAGED: ReadonlySet<string> = new Set([
  'XX001', // data_corrupted
  'XX002', // index_corrupted
]);

/** When the failure happened. */
export type FailurePhase =
  /** Before anything that could commit was sent. */
  | 'before_commit'
  /** After a statement that commits by itself, or COMMIT, was handed to the driver. */
  | 'may_have_committed';

/** Whether the connection of a failed statement was answered again afterwards. */
export type SessionAfterwards = 'goes_on' | 'ended';

/** Turns any failure of the driver into one of the store's. */
export function mapError(
  error: unknown,
  phase: FailurePhase,
  session: SessionAfterwards,
): StoreError | StatementError | UnrecoverableStoreError {
  if (
    error instanceof StoreError ||
    error instanceof StatementError ||
    error instanceof UnrecoverableStoreError
  )
    return error;
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof pg.DatabaseError && session === 'goes_on') {
    const sqlState = error.code ?? 'XX000';
    if (DAMAGED.has(sqlState)) return new UnrecoverableStoreError(message, { cause: error });
    if (RETRYABLE.has(sqlState) || RETRYABLE.has(sqlState.slice(0, 2))) {
      return new StoreError('unavailable', message, { cause: error });
    }
    return new StatementError(sqlState, { constraint: error.constraint, detail: error.detail }, message, {
      cause: error,
    });
  }
  return new StoreError(phase === 'may_have_committed' ? 'unknown' : 'unavailable', message, {
    cause: error,
  });
}
