/**
 * A pool of Postgres connections with the time limits that leases need.
 *
 * Every wait has an end: connecting, a statement, a lock, an idle transaction, a
 * dead peer at the TCP level. They must all be shorter than the lease of the
 * replica that uses the pool, so that a write which hangs ends before another
 * owner takes the shard. Failures come out as StoreError (`unavailable`: nothing
 * happened; `unknown`: it may have) or StatementError (a definite no).
 */
import pg from 'pg';
import { StoreError } from '../error.ts';
import { mapError, type FailurePhase, type SessionAfterwards } from './errors.ts';

export interface DatabaseOptions {
  /** `postgres://user:password@host:port/database` */
  readonly connectionString: string;
  /** Shown in pg_stat_activity; takeovers find a dead owner's sessions by it. At most 63 bytes are kept. */
  readonly applicationName: string;
  /** Schema that unqualified names resolve to. */
  readonly schema: string;
  /** Default 8. */
  readonly maxConnections?: number;
  /** Longest run of one statement, on the server; the client gives up a little later. Default 5 000 ms. */
  readonly statementTimeoutMs?: number;
  /** Longest wait for a lock. Default 2 000 ms. */
  readonly lockTimeoutMs?: number;
  /** Longest pause inside an open transaction. Default 3 000 ms. */
  readonly idleInTransactionTimeoutMs?: number;
  /** Longest wait for a connection, from the pool or of the network. Default 5 000 ms. */
  readonly connectTimeoutMs?: number;
  /** More server settings of these connections, such as `{ plan_cache_mode: 'force_generic_plan' }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Unacknowledged TCP data ends the connection after this, on the server's side. Default 5 000 ms. */
  readonly tcpUserTimeoutMs?: number;
}

/** A statement kept in a file of its own; `name` prepares it once per connection. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** What a parameter may be. A Buffer goes as binary: `binary.ts` makes whole arrays of it. */
export type Parameter = string | number | bigint | boolean | Uint8Array | Date | null;

/** One row as the driver reads it: int8 is a bigint, bytea a Uint8Array. */
export type Row = Record<string, unknown>;

/** What runs inside a transaction. */
export interface Session {
  query<R extends object = Row>(statement: Statement | string, values?: readonly Parameter[]): Promise<R[]>;
}

const OID_INT8 = 20;
const OID_BYTEA = 17;

const types = {
  getTypeParser(oid: number, format?: 'text' | 'binary'): (value: never) => unknown {
    if (oid === OID_INT8 && format !== 'binary') return (value: string) => BigInt(value);
    if (oid === OID_BYTEA && format !== 'binary') return parseBytea;
    return pg.types.getTypeParser(oid, format as 'text') as (value: never) => unknown;
  },
};

/** `\\x…`; its own memory, not a slice of Node's shared slab. */
function parseBytea(value: string): Uint8Array {
  const bytes = new Uint8Array((value.length - 2) / 2);
  Buffer.from(bytes.buffer).write(value.slice(2), 'hex');
  return bytes;
}

/** A pool of connections to one schema. */
export class Database {
  readonly schema: string;
  readonly #pool: pg.Pool;
  /** Connections whose last commit was acknowledged although a standby never confirmed it. */
  readonly #unreplicated = new Set<pg.PoolClient>();

  constructor(options: DatabaseOptions) {
    const statementTimeoutMs = options.statementTimeoutMs ?? 5_000;
    const tcpUserTimeoutMs = options.tcpUserTimeoutMs ?? 5_000;
    if (!/^[a-z_][a-z0-9_]{0,62}$/.test(options.schema))
      throw new StoreError('unavailable', `schema name "${options.schema}"`);
    this.schema = options.schema;
    this.#pool = new pg.Pool({
      connectionString: options.connectionString,
      application_name: options.applicationName,
      max: options.maxConnections ?? 8,
      connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
      idleTimeoutMillis: 30_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 2_000,
      statement_timeout: statementTimeoutMs,
      // The server's own limit answers cleanly; this one is for a server that is silent.
      query_timeout: statementTimeoutMs + 1_000,
      lock_timeout: options.lockTimeoutMs ?? 2_000,
      idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs ?? 3_000,
      options: `-c search_path=${options.schema} -c tcp_user_timeout=${tcpUserTimeoutMs} -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3 -c jit=off${Object.entries(
        options.settings ?? {},
      )
        .map(([name, value]) => ` -c ${name}=${value}`)
        .join('')}`,
      types,
    });
    // A connection that dies while idle is simply not used again; one that dies in use fails its statement as well.
    this.#pool.on('error', () => undefined);
    this.#pool.on('connect', (client) => {
      client.on('error', () => undefined);
      client.on('notice', (notice) => {
        // "canceling wait for synchronous replication": committed here, and acknowledged, but a fail-over would forget it.
        // By the code alone: the severity comes in the server's language.
        if (notice.code === '57014' || notice.code === '57P01') this.#unreplicated.add(client);
      });
    });
  }

  /** Runs one statement that changes nothing; any lost connection is `unavailable`. */
  async read<R extends object = Row>(
    statement: Statement | string,
    values: readonly Parameter[] = [],
  ): Promise<R[]> {
    const client = await this.#acquire();
    return this.#finish(client, 'before_commit', () => run<R>(client, statement, values));
  }

  /** Runs one statement (often a call of a function) that commits by itself; a lost connection is `unknown`. */
  async write<R extends object = Row>(
    statement: Statement | string,
    values: readonly Parameter[] = [],
  ): Promise<R[]> {
    const client = await this.#acquire();
    return this.#finish(client, 'may_have_committed', () => run<R>(client, statement, values));
  }

  /** Runs `work` in one transaction, READ COMMITTED; a connection lost before COMMIT was sent is `unavailable`. */
  async transaction<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const client = await this.#acquire();
    let result: T;
    try {
      await client.query('BEGIN');
      result = await work({ query: (statement, values = []) => run(client, statement, values) });
    } catch (error) {
      const session = await afterwards(client, 'ROLLBACK');
      this.#release(client, session === 'goes_on' ? undefined : error);
      throw isOurs(error) ? error : mapError(error, 'before_commit', session);
    }
    await this.#finish(client, 'may_have_committed', () => client.query('COMMIT'));
    return result;
  }

  /** Waits for running statements and closes every connection. */
  async close(): Promise<void> {
    await this.#pool.end();
  }

  async #acquire(): Promise<pg.PoolClient> {
    try {
      return await this.#pool.connect();
    } catch (error) {
      // Not even connected: whatever was wanted did not happen.
      throw new StoreError('unavailable', error instanceof Error ? error.message : String(error), {
        cause: error,
      });
    }
  }

  async #finish<T>(client: pg.PoolClient, phase: FailurePhase, work: () => Promise<T>): Promise<T> {
    let result: T;
    try {
      result = await work();
    } catch (error) {
      const session = error instanceof pg.DatabaseError ? await afterwards(client, 'SELECT 1') : 'ended';
      this.#release(client, session === 'goes_on' ? undefined : error);
      throw mapError(error, phase, session);
    }
    if (this.#unreplicated.has(client)) {
      this.#release(client, new StoreError('unknown', 'not replicated'));
      throw new StoreError('unknown', 'the commit was not confirmed by the synchronous standby');
    }
    this.#release(client, undefined);
    return result;
  }

  #release(client: pg.PoolClient, error: unknown): void {
    this.#unreplicated.delete(client);
    client.release(error === undefined ? undefined : error instanceof Error ? error : true);
  }
}

/** Asks once more, after a failure: an answer shows that the server goes on with this session. */
async function afterwards(
  client: pg.PoolClient,
  question: 'ROLLBACK' | 'SELECT 1',
): Promise<SessionAfterwards> {
  return client.query(question).then(
    () => 'goes_on',
    () => 'ended',
  );
}

/** Errors thrown by the caller's own code inside a transaction pass through as they are. */
function isOurs(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return false;
  return (
    error instanceof Error &&
    error.name !== 'Error' &&
    !('code' in error && typeof error.code === 'string' && error.code.startsWith('E'))
  );
}

async function run<R extends object>(
  client: pg.PoolClient,
  statement: Statement | string,
  values: readonly Parameter[],
): Promise<R[]> {
  // pg sends a Buffer as binary, and only a Buffer.
  const converted = values.map((value) =>
    value instanceof Uint8Array && !Buffer.isBuffer(value)
      ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
      : value,
  );
  const config =
    typeof statement === 'string'
      ? { text: statement, values: converted }
      : { ...statement, values: converted };
  const result = await client.query<R>(config);
  return result.rows;
}
