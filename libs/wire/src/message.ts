// Encoding and decoding of whole messages: the 2-byte type number, then the payload. The caller decides
// what an unknown type means (BOLT 1: even closes the connection, odd is ignored).
import { EncodeError, Writer, err, ok } from '@fulmen/codec';
import type {
  DecodeCode,
  DecodeError,
  InputOfMessage,
  MessageCodec,
  Result,
  TlvFields,
  Fields,
  ValueOfMessage,
} from '@fulmen/codec';
import { MESSAGES } from './declarations.ts';

/** BOLT 8 frames carry at most this many bytes, the type number included. */
export const MAX_MESSAGE_LENGTH = 65_535;

type Declarations = typeof MESSAGES;

/** The BOLT name of a message. */
export type MessageName = keyof Declarations;

/** The decoded message of that name. */
export type MessageOf<N extends MessageName> = N extends MessageName
  ? ValueOfMessage<Declarations[N]>
  : never;

/** Any message that this node knows. */
export type Message = MessageOf<MessageName>;

/** As MessageOf, with tlvs and unknownTlvs optional: what encodeMessage takes. */
export type MessageInputOf<N extends MessageName> = N extends MessageName
  ? InputOfMessage<Declarations[N]>
  : never;

/** A message of a type this node has no declaration for, such as a custom (bLIP) one. */
export interface UnknownMessage {
  readonly type: 'unknown';
  /** The type number, 0 to 65535. */
  readonly messageType: number;
  /** What follows the type number. */
  readonly payload: Uint8Array;
  /** The type number is even: "MUST close the connection" unless an extension of ours knows it. */
  readonly isRequired: boolean;
}

/** Why a message was refused; `messageType` is null when not even that could be read. */
export class WireError extends Error {
  override readonly name = 'WireError';
  readonly code: DecodeCode;
  readonly messageType: number | null;

  constructor(code: DecodeCode, detail: string, messageType: number | null) {
    super(messageType === null ? detail : `message ${messageType}: ${detail}`);
    this.code = code;
    this.messageType = messageType;
  }
}

/** The codec's view of any declaration, for code that handles all alike. */
export type AnyMessageCodec = MessageCodec<string, Fields, TlvFields>;

// Coders are invariant in their values; the table is only used with the message whose name selected the entry.
const CODEC_BY_NAME = new Map<string, AnyMessageCodec>(
  Object.entries(MESSAGES).map(([name, codec]) => [name, codec as unknown as AnyMessageCodec]),
);
const CODEC_BY_TYPE = new Map<number, AnyMessageCodec>(
  [...CODEC_BY_NAME.values()].map((codec) => [codec.type, codec]),
);

/** The type number of a message, by its BOLT name. */
export function messageType(name: MessageName): number {
  return MESSAGES[name].type;
}

/** The BOLT name of a type number, if this node knows it. */
export function messageName(type: number): MessageName | undefined {
  // The map is made from the keys of MESSAGES.
  return CODEC_BY_TYPE.get(type)?.name as MessageName | undefined;
}

/** All declarations, for tables and generators. */
export function allMessageCodecs(): readonly AnyMessageCodec[] {
  return [...CODEC_BY_NAME.values()];
}

/** Completes a message: adds its name and, where absent, empty TLVs. */
export function make<N extends MessageName>(name: N, fields: Omit<MessageInputOf<N>, 'type'>): MessageOf<N> {
  // The input has every fixed field; name and TLVs complete the value.
  return { tlvs: {}, unknownTlvs: [], ...fields, type: name } as unknown as MessageOf<N>;
}

/**
 * The bytes of a message, with its type number. Throws EncodeError on a value that does not fit its field,
 * and when the whole exceeds 65535 bytes.
 */
export function encodeMessage(message: MessageInputOf<MessageName> | UnknownMessage): Uint8Array {
  const writer = new Writer();
  if (message.type === 'unknown') {
    writer.u16(message.messageType).bytes(message.payload);
  } else {
    const codec = CODEC_BY_NAME.get(message.type);
    if (codec === undefined) throw new EncodeError('unknown_name', String(message.type));
    writer.u16(codec.type);
    // The name selected the codec of this very message.
    codec.writePayload(writer, message as unknown as Parameters<AnyMessageCodec['writePayload']>[1]);
  }
  if (writer.length > MAX_MESSAGE_LENGTH)
    throw new EncodeError('too_long', `${message.type}: ${writer.length} bytes`);
  return writer.finish();
}

/** Decodes a whole message, type number included. Never throws; the value shares no memory with the input. */
export function decodeMessage(bytes: Uint8Array): Result<Message | UnknownMessage, WireError> {
  const [high, low] = bytes;
  if (high === undefined || low === undefined)
    return err(new WireError('truncated', 'no message type', null));
  const type = (high << 8) | low;
  if (bytes.length > MAX_MESSAGE_LENGTH) return err(new WireError('too_long', `${bytes.length} bytes`, type));
  const codec = CODEC_BY_TYPE.get(type);
  if (codec === undefined) {
    const payload = new Uint8Array(bytes.length - 2);
    payload.set(bytes.subarray(2));
    return ok({ type: 'unknown', messageType: type, payload, isRequired: type % 2 === 0 });
  }
  const decoded = codec.decodePayload(bytes.subarray(2));
  if (!decoded.ok) return err(toWireError(decoded.error, type));
  // The codec is the one declared under the decoded name.
  return ok(decoded.value as unknown as Message);
}

function toWireError(error: DecodeError, type: number): WireError {
  return new WireError(error.code, error.message, type);
}
