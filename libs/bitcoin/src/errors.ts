/** The errors of this library: bytes from outside that are not what they claim, and misuse by a caller. */

/** Why a decoder refused its input. */
export type BitcoinErrorCode =
  | 'truncated'
  | 'trailing-bytes'
  | 'too-large'
  | 'non-minimal-length'
  | 'count-exceeds-data'
  | 'no-inputs'
  | 'superfluous-witness'
  | 'unknown-flag'
  | 'value-out-of-range'
  | 'bad-hash'
  | 'bad-script'
  | 'bad-signature'
  | 'bad-address'
  | 'wrong-network'
  | 'bad-psbt'
  | 'psbt-incomplete'
  | 'bad-merkle-root'
  | 'bad-descriptor';

/**
 * A value from outside is malformed (`code` says how), or an argument is out
 * of its documented bounds. Decoders return it; functions that take trusted
 * arguments throw it.
 */
export class BitcoinError extends Error {
  override readonly name = 'BitcoinError';
  readonly code: BitcoinErrorCode;

  constructor(code: BitcoinErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
