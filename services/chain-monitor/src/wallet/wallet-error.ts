type WalletErrorCode = 'not_ready' | 'conflict' | 'bad_request' | 'signer' | 'cancelled';

/** The request cannot be served. */
export class WalletError extends Error {
  override readonly name = 'WalletError';
  readonly code: WalletErrorCode;
  constructor(code: WalletErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
