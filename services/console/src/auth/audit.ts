/**
 * The audit log: one line for every call that could change something, whatever
 * its outcome. What it says of a request is chosen by each method and cut to a
 * bounded length; secrets (preimages, tokens) are never among it.
 */
import type { Logger } from '@fulmen/service';

/** What a method tells of its request and answer. */
export type AuditFields = Readonly<
  Record<string, string | number | bigint | boolean | Uint8Array | undefined>
>;

export interface AuditEntry {
  readonly token: string;
  readonly method: string;
  /** "ok" or the code of the error. */
  readonly outcome: string;
  readonly error?: string;
  readonly durationMs: number;
  readonly fields: AuditFields;
}

const MAX_TEXT_LENGTH = 200;
const MAX_BYTES_LENGTH = 64;

export function auditTo(logger: Logger): (entry: AuditEntry) => void {
  const log = logger.child({ log: 'audit' });
  return ({ token, method, outcome, error, durationMs, fields }) => {
    const bounded = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, bound(value)]));
    log.info(
      {
        by: token,
        method,
        outcome,
        ...(error === undefined ? {} : { error: bound(error) }),
        durationMs: Math.round(durationMs),
        request: bounded,
      },
      'call',
    );
  };
}

function bound(value: AuditFields[string]): string | number | boolean | undefined {
  if (typeof value === 'string')
    return value.length > MAX_TEXT_LENGTH ? `${value.slice(0, MAX_TEXT_LENGTH)}…` : value;
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value.subarray(0, MAX_BYTES_LENGTH)).toString('hex');
  return value;
}
