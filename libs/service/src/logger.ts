/** Structured logs. Bytes print as hex; anything named like a secret is cut out before it is written. */
import { pino, type DestinationStream } from 'pino';

export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

const SECRET_FIELDS = [
  'seed',
  'mnemonic',
  'secret',
  'secretKey',
  'preimage',
  'token',
  'password',
  'sessionKey',
  'sharedSecret',
  'privateKey',
];

export function createLogger(service: string, level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: { service },
    redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: '[redacted]' },
    formatters: { log: printable },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** Says nothing; for tests and simulations. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger,
};

function printable(fields: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value instanceof Uint8Array) result[key] = Buffer.from(value).toString('hex');
    else if (typeof value === 'bigint') result[key] = value.toString();
    else result[key] = value;
  }
  return result;
}
