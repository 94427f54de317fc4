/** The errors of this library. No message carries a secret. */

export type KeysErrorCode =
  /** An argument has a wrong length or is out of its range. */
  | 'bad_argument'
  /** A derived scalar is zero or not below n (probability below 2^-127). */
  | 'invalid_child'
  /** Bytes of a secret store that are not what they claim. */
  | 'bad_encoding';

/** Misuse by a caller, or bytes that do not decode. */
export class KeysError extends Error {
  override readonly name = 'KeysError';
  readonly code: KeysErrorCode;

  constructor(code: KeysErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Throws `bad_argument` unless `bytes` has exactly `length` bytes. */
export function assertLength(what: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length)
    throw new KeysError('bad_argument', `${what} must have ${length} bytes, has ${bytes.length}`);
}
