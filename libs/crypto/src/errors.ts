/**
 * The error of this library: bytes that are not a scalar, a point, or of the
 * length an operation needs. Nothing secret is ever put into the message.
 */
export class CryptoError extends Error {
  override readonly name = 'CryptoError';
}

/** Runs `operation`; whatever a backend throws becomes a `CryptoError`, without the backend's own text. */
export function orCryptoError<T>(what: string, operation: () => T): T {
  try {
    return operation();
  } catch {
    throw new CryptoError(what);
  }
}

/** Throws `CryptoError` unless `bytes` has exactly `length` bytes. */
export function assertLength(what: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length)
    throw new CryptoError(`${what} must have ${length} bytes, has ${bytes.length}`);
}
