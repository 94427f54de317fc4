/**
 * The stored form of a payment's record. Versioned and apart from every wire
 * format: a row written by any released version must be readable, which a
 * recorded blob in the tests holds.
 */
import {
  assertNever,
  type DecodeError as DecodeErrorType,
  DecodeError,
  decodeWith,
  type Reader,
  type Result,
  Writer,
} from '@fulmen/codec';
import { readEarlierOutbound, readOutbound, writeOutbound } from './codec-outbound.ts';
import {
  readBytes,
  readList,
  readName,
  readOptional,
  readText,
  readTime,
  writeBytes,
  writeList,
  writeName,
  writeOptional,
  writeText,
  writeTime,
} from './codec-primitives.ts';
import type { InboundRecord, PaymentRecord } from './record.ts';

/** Version 1 knew nothing of attempts that are over. */
const VERSION = 2;
/** Outbound records know of several attempts in flight since. */
const VERSION_OF_PARTS = 3;
/** Inbound records with metadata, or without an invoice, are of a kind of their own. */
const KINDS = ['inbound', 'outbound', 'inbound_with_extras'] as const;
const ORIGINS = ['invoice', 'keysend'] as const;
const INBOUND_STATUSES = ['open', 'paid', 'expired'] as const;

/** Encodes a record. @throws EncodeError for values out of range. */
export function encodePaymentRecord(record: PaymentRecord): Uint8Array {
  const withExtras = record.kind === 'inbound' && hasExtras(record);
  const writer = new Writer(512).u8(record.kind === 'inbound' ? VERSION : VERSION_OF_PARTS);
  writeName(writer, KINDS, withExtras ? 'inbound_with_extras' : record.kind);
  if (record.kind === 'inbound') writeInbound(writer, record);
  else writeOutbound(writer, record);
  if (withExtras) writeInboundExtras(writer, record);
  return writer.finish();
}

/** Reads what any version of `encodePaymentRecord` wrote. */
export function decodePaymentRecord(bytes: Uint8Array): Result<PaymentRecord, DecodeErrorType> {
  return decodeWith(bytes, (reader) => {
    const version = reader.u8();
    if (version !== 1 && version !== VERSION && version !== VERSION_OF_PARTS)
      throw new DecodeError('invalid_value', `payment record of version ${version}`);
    const kind = readName(reader, KINDS);
    switch (kind) {
      case 'inbound':
        return readInbound(reader);
      case 'outbound':
        return version === VERSION_OF_PARTS ? readOutbound(reader) : readEarlierOutbound(reader, version);
      case 'inbound_with_extras':
        return { ...readInbound(reader), ...readInboundExtras(reader) };
    }
    return assertNever(kind);
  });
}

function writeInbound(writer: Writer, record: InboundRecord): void {
  writer.bytes(record.preimage).bytes(record.paymentSecret);
  writeOptional(writer, record.amountMsat, (amount) => writer.u64(amount));
  writer.u32(record.minFinalCltvExpiryDelta);
  writeTime(writer, record.createdUnixMs);
  writeTime(writer, record.expiresUnixMs);
  writeText(writer, record.bolt11);
  writeText(writer, record.description);
  writeName(writer, INBOUND_STATUSES, record.status);
  writer.u64(record.receivedMsat);
  writeOptional(writer, record.paidUnixMs, (time) => writeTime(writer, time));
}

function readInbound(reader: Reader): InboundRecord {
  return {
    kind: 'inbound',
    preimage: reader.bytes(32),
    paymentSecret: reader.bytes(32),
    amountMsat: readOptional(reader, () => reader.u64()),
    minFinalCltvExpiryDelta: reader.u32(),
    createdUnixMs: readTime(reader),
    expiresUnixMs: readTime(reader),
    bolt11: readText(reader),
    description: readText(reader),
    status: readName(reader, INBOUND_STATUSES),
    receivedMsat: reader.u64(),
    paidUnixMs: readOptional(reader, () => readTime(reader)),
    paymentMetadata: undefined,
    origin: 'invoice',
    customRecords: [],
  };
}

function hasExtras(record: InboundRecord): boolean {
  return (
    record.paymentMetadata !== undefined || record.origin !== 'invoice' || record.customRecords.length > 0
  );
}

function writeInboundExtras(writer: Writer, record: InboundRecord): void {
  writeOptional(writer, record.paymentMetadata, (metadata) => writeBytes(writer, metadata));
  writeName(writer, ORIGINS, record.origin);
  writeList(writer, record.customRecords, ({ type, value }) => {
    writer.u64(type);
    writeBytes(writer, value);
  });
}

function readInboundExtras(
  reader: Reader,
): Pick<InboundRecord, 'paymentMetadata' | 'origin' | 'customRecords'> {
  return {
    paymentMetadata: readOptional(reader, () => readBytes(reader)),
    origin: readName(reader, ORIGINS),
    customRecords: readList(reader, () => ({ type: reader.u64(), value: readBytes(reader) })),
  };
}
