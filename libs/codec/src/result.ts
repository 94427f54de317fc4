/** The outcome of an operation whose failure the caller must decide about. */
export type Result<T, E> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E };

/** A success. */
export function ok<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

/** A failure, with its typed reason. */
export function err<E>(error: E): { readonly ok: false; readonly error: E } {
  return { ok: false, error };
}

/** An invariant of ours does not hold: a bug, never a peer's or a user's fault. */
export class InternalError extends Error {
  override readonly name = 'InternalError';
}

/** Makes a switch over a union exhaustive at compile time, and loud at run time. */
export function assertNever(value: never): never {
  throw new InternalError(`unexpected variant: ${JSON.stringify(value)}`);
}
