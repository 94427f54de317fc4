/**
 * How a store fails. Every store of the fleet uses these two codes, because
 * callers must do two different things: retry, or reload before acting.
 */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  /** `unavailable`: nothing happened, retry. `unknown`: it may or may not have happened, reload first. */
  readonly code: 'unavailable' | 'unknown';
  constructor(code: 'unavailable' | 'unknown', message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The database answered, definitively, that it will not do this: a defect of ours or data it refuses. Nothing was written. */
export class StatementError extends Error {
  override readonly name = 'StatementError';
  /** Five characters, see Postgres' appendix "Error Codes". */
  readonly sqlState: string;
  readonly constraint: string | undefined;
  readonly detail: string | undefined;
  constructor(
    sqlState: string,
    place: { readonly constraint?: string | undefined; readonly detail?: string | undefined },
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.sqlState = sqlState;
    this.constraint = place.constraint;
    this.detail = place.detail;
  }
}

/**
 * The database is damaged, and says so: what it would answer from now on is not to be trusted (LDK's
 * UnrecoverableError). The process must stop; an operator decides what is true.
 */
export class UnrecoverableStoreError extends Error {
  override readonly name = 'UnrecoverableStoreError';
}

/** The database must not be used: not durable, a schema that this release does not know, or altered migrations. */
export class StoreSetupError extends Error {
  override readonly name = 'StoreSetupError';
}
