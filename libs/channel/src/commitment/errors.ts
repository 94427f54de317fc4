/** Misuse of the builder: inputs that no channel of ours can have. */

export type CommitmentErrorCode =
  /** Balances and HTLCs do not add up to the funding's value. */
  | 'value_mismatch'
  /** Anchors that the funder could not pay for would make the outputs exceed the funding. */
  | 'outputs_exceed_funding';

/** The inputs of a commitment contradict each other; a signer must never sign for them. */
export class CommitmentError extends Error {
  override readonly name = 'CommitmentError';
  readonly code: CommitmentErrorCode;

  constructor(code: CommitmentErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
