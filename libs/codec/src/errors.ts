// What can be wrong with bytes from outside (DecodeError) and with values that we ask to have
// encoded (EncodeError). The first is a peer's fault and always handled; the second is ours.

/** Why bytes were refused. */
export type DecodeCode =
  | 'truncated'
  | 'trailing_bytes'
  | 'not_minimal'
  | 'tlv_order'
  | 'tlv_unknown_even'
  | 'invalid_point'
  | 'invalid_value'
  | 'unsupported'
  | 'too_long';

/** Bytes from outside do not follow the specification. Carries no bytes of the peer's. */
export class DecodeError extends Error {
  override readonly name: string = 'DecodeError';
  readonly code: DecodeCode;

  constructor(code: DecodeCode, detail: string) {
    super(`${code}: ${detail}`);
    this.code = code;
  }
}

/** Why a value cannot be encoded. */
export type EncodeCode = 'out_of_range' | 'wrong_length' | 'too_long' | 'duplicate_tlv' | 'unknown_name';

/** A value that we made ourselves has no encoding: a misuse of the codec. */
export class EncodeError extends Error {
  override readonly name: string = 'EncodeError';
  readonly code: EncodeCode;

  constructor(code: EncodeCode, detail: string) {
    super(`${code}: ${detail}`);
    this.code = code;
  }
}
