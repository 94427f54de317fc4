/**
 * The message phase of BOLT 8: each Lightning message is a frame of two AEAD
 * ciphertexts, its length (2 bytes + tag) and its body (n bytes + tag).
 *
 * Both directions keep a key, a nonce and a chaining key of their own. A
 * `Transport` is a mutable object, for its state is the position in two byte
 * streams and has no meaning apart from them; it performs no I/O.
 *
 * Memory: at most one incomplete frame (65,551 bytes) is held. The length that
 * sizes it is authenticated before it is believed.
 */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { AEAD_TAG_LENGTH, chacha20poly1305Decrypt, chacha20poly1305Encrypt } from '@fulmen/crypto';
import { NoiseError } from './errors.ts';
import type { TransportError } from './errors.ts';
import type { SessionKeys } from './handshake.ts';
import { hkdfTwo } from './symmetric.ts';

/** "The maximum size of any Lightning message MUST NOT exceed 65535 bytes." */
export const MAX_MESSAGE_LENGTH = 65_535;

/** Bytes of the encrypted length before each message. */
export const LENGTH_HEADER_LENGTH = 2 + AEAD_TAG_LENGTH;

/** "rotating the key once the nonce dedicated to it reaches 1000" */
const ROTATION_NONCE = 1000;

/** One direction's key, nonce and chaining key. */
class CipherState {
  readonly #nonce = new Uint8Array(12);
  #counter = 0;
  #key: Uint8Array;
  #chainingKey: Uint8Array;

  constructor(key: Uint8Array, chainingKey: Uint8Array) {
    if (key.length !== 32 || chainingKey.length !== 32)
      throw new NoiseError('session keys must have 32 bytes');
    this.#key = key;
    this.#chainingKey = chainingKey;
  }

  encrypt(plaintext: Uint8Array): Uint8Array {
    const ciphertext = chacha20poly1305Encrypt(this.#key, this.#nonce, plaintext);
    this.#advance();
    return ciphertext;
  }

  decrypt(ciphertext: Uint8Array): Uint8Array | undefined {
    const plaintext = chacha20poly1305Decrypt(this.#key, this.#nonce, ciphertext);
    if (plaintext) this.#advance();
    return plaintext;
  }

  #advance(): void {
    this.#counter += 1;
    if (this.#counter === ROTATION_NONCE) {
      [this.#chainingKey, this.#key] = hkdfTwo(this.#chainingKey, this.#key);
      this.#counter = 0;
    }
    // 32 zero bits, then a little-endian u64 of which two bytes suffice.
    this.#nonce[4] = this.#counter & 0xff;
    this.#nonce[5] = this.#counter >> 8;
  }
}

/** Both directions of an established session. */
export class Transport {
  readonly #sending: CipherState;
  readonly #receiving: CipherState;
  /** Collects a length header or a body that came in pieces. */
  #pending = new Uint8Array(LENGTH_HEADER_LENGTH);
  #pendingLength = 0;
  /** Length of the body that is awaited; undefined while its header is. */
  #bodyLength: number | undefined;
  #failure: TransportError | undefined;

  constructor(keys: SessionKeys) {
    this.#sending = new CipherState(keys.sendingKey, keys.chainingKey);
    this.#receiving = new CipherState(keys.receivingKey, keys.chainingKey);
  }

  /**
   * The frame of a message. Frames must be sent in the order in which they were made.
   *
   * @throws NoiseError for a message of more than 65,535 bytes.
   */
  encrypt(message: Uint8Array): Uint8Array {
    if (message.length > MAX_MESSAGE_LENGTH)
      throw new NoiseError(`message of ${message.length} bytes is too long`);
    const frame = new Uint8Array(LENGTH_HEADER_LENGTH + message.length + AEAD_TAG_LENGTH);
    frame.set(this.#sending.encrypt(Uint8Array.of(message.length >> 8, message.length & 0xff)), 0);
    frame.set(this.#sending.encrypt(message), LENGTH_HEADER_LENGTH);
    return frame;
  }

  /**
   * Takes the next bytes of the stream, in any pieces, and gives the messages
   * they complete. After an error the session is dead: the same error is
   * given for ever, and messages of the same piece are lost with the
   * connection, as they might have been on the wire.
   */
  feed(bytes: Uint8Array): Result<readonly Uint8Array[], TransportError> {
    if (this.#failure) return err(this.#failure);
    const messages: Uint8Array[] = [];
    let offset = 0;
    for (;;) {
      const needed =
        this.#bodyLength === undefined ? LENGTH_HEADER_LENGTH : this.#bodyLength + AEAD_TAG_LENGTH;
      const take = Math.min(needed - this.#pendingLength, bytes.length - offset);
      const piece = bytes.subarray(offset, offset + take);
      offset += take;
      if (this.#pendingLength + take < needed) {
        this.#keep(piece, needed);
        return ok(messages);
      }
      let complete = piece;
      if (this.#pendingLength > 0) {
        this.#keep(piece, needed);
        complete = this.#pending.subarray(0, needed);
      }
      this.#pendingLength = 0;
      const plaintext = this.#receiving.decrypt(complete);
      if (!plaintext) {
        this.#failure = { kind: this.#bodyLength === undefined ? 'bad_length_tag' : 'bad_message_tag' };
        this.#pending = new Uint8Array(0);
        return err(this.#failure);
      }
      if (this.#bodyLength === undefined) {
        this.#bodyLength = ((plaintext[0] ?? 0) << 8) | (plaintext[1] ?? 0);
      } else {
        this.#bodyLength = undefined;
        messages.push(plaintext);
        if (this.#pending.length > LENGTH_HEADER_LENGTH) this.#pending = new Uint8Array(LENGTH_HEADER_LENGTH);
      }
    }
  }

  /** Copies a piece behind what is pending; the buffer grows with what really came, to `needed` at most. */
  #keep(piece: Uint8Array, needed: number): void {
    const length = this.#pendingLength + piece.length;
    if (length > this.#pending.length) {
      const grown = new Uint8Array(Math.min(needed, Math.max(length, this.#pending.length * 2)));
      grown.set(this.#pending.subarray(0, this.#pendingLength), 0);
      this.#pending = grown;
    }
    this.#pending.set(piece, this.#pendingLength);
    this.#pendingLength = length;
  }
}
