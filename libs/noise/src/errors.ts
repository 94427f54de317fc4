/** The errors of BOLT 8: what a counterparty's bytes may be refused for, and misuse by a caller. */

/** Why an act of the handshake was refused. The connection ends, without a further message. */
export interface HandshakeError {
  readonly kind: 'bad_length' | 'bad_version' | 'bad_public_key' | 'bad_ciphertext' | 'bad_tag';
  /** The act that was read; 0 for the counterparty's static key that the caller gave. */
  readonly act: 0 | 1 | 2 | 3;
}

/** Why a frame was refused. The stream cannot be resumed: the connection ends. */
export interface TransportError {
  readonly kind: 'bad_length_tag' | 'bad_message_tag';
}

/** Misuse by the caller: a message too long for a frame, keys of a wrong length. */
export class NoiseError extends Error {
  override readonly name = 'NoiseError';
}
