// Declared messages: one table gives decoder, encoder, static type and the shapes from which tests
// generate values. Every message may end in a TLV extension (BOLT 1, "Lightning Message Format").
import { shapesOf, readFields, writeFields } from './coder.ts';
import type { Fields, Shape, ValueOf } from './coder.ts';
import type { DecodeError } from './errors.ts';
import { decodeWith } from './reader.ts';
import type { Result } from './result.ts';
import { defineTlvStream } from './tlv.ts';
import type { TlvFields, TlvRecord, TlvStream, TlvsOf } from './tlv.ts';
import type { Writer } from './writer.ts';

/** A message's fixed fields, by name. */
export type FieldsOf<F extends Fields> = { readonly [K in keyof F]: ValueOf<F[K]> };

/** A decoded message: flat fields, its name as `type`, known TLVs by name and unknown odd ones raw. */
export type MessageValue<N extends string, F extends Fields, T extends TlvFields> = {
  readonly type: N;
} & FieldsOf<F> & {
    readonly tlvs: TlvsOf<T>;
    readonly unknownTlvs: readonly TlvRecord[];
  };

/** What can be encoded: as decoded, the TLVs being optional. */
export type MessageInput<N extends string, F extends Fields, T extends TlvFields> = {
  readonly type: N;
} & FieldsOf<F> & {
    readonly tlvs?: TlvsOf<T>;
    readonly unknownTlvs?: readonly TlvRecord[];
  };

/** A message's declaration with its derived coders. Payloads exclude the 2-byte type number. */
export interface MessageCodec<N extends string, F extends Fields, T extends TlvFields> {
  readonly name: N;
  readonly type: number;
  readonly fields: F;
  readonly tlvStream: TlvStream<T>;
  /** The shapes of the fixed fields and of the known TLVs, for generators. */
  readonly shapes: {
    readonly fields: Readonly<Record<string, Shape>>;
    readonly tlvs: Readonly<Record<string, Shape>>;
  };
  decodePayload(payload: Uint8Array): Result<MessageValue<N, F, T>, DecodeError>;
  /** Throws EncodeError on values out of range or of wrong length. */
  writePayload(writer: Writer, message: MessageInput<N, F, T>): void;
}

/** Declares a message: `fields` in wire order, `tlvs` by name. */
export function defineMessage<
  const N extends string,
  const F extends Fields,
  const T extends TlvFields = Readonly<Record<never, never>>,
>(declaration: {
  readonly name: N;
  readonly type: number;
  readonly fields: F;
  readonly tlvs?: T;
}): MessageCodec<N, F, T> {
  const { name, type, fields } = declaration;
  // Without a declared table the stream has no known types, which is what the empty table says.
  const tlvStream = defineTlvStream(declaration.tlvs ?? ({} as T));
  return {
    name,
    type,
    fields,
    tlvStream,
    shapes: { fields: shapesOf(fields), tlvs: tlvStream.shapes },
    decodePayload: (payload) =>
      decodeWith(payload, (reader) => {
        const values = readFields(reader, fields);
        const { tlvs, unknownTlvs } = tlvStream.read(reader);
        // The record has exactly the declared fields, each read by its own coder.
        return { type: name, ...values, tlvs, unknownTlvs } as unknown as MessageValue<N, F, T>;
      }),
    writePayload: (writer, message) => {
      writeFields(writer, fields, message);
      tlvStream.write(writer, message.tlvs ?? {}, message.unknownTlvs ?? []);
    },
  };
}

/** The decoded type of a declaration. */
export type ValueOfMessage<C> =
  C extends MessageCodec<infer N, infer F, infer T> ? MessageValue<N, F, T> : never;

/** The encodable type of a declaration. */
export type InputOfMessage<C> =
  C extends MessageCodec<infer N, infer F, infer T> ? MessageInput<N, F, T> : never;
