/**
 * The stored form of a payment's record. Versioned and apart from every wire
 * format: a row written by any released version must be readable, which a
 * recorded blob in the tests holds.
 */
import type { Reader } from '@fulmen/codec';
import {
  type DecodeError as DecodeErrorType,
  DecodeError,
  type Result,
  Writer,
  assertNever,
  decodeWith,
  utf8Decode,
  utf8Encode,
} from '@fulmen/codec';
import { decodeFailureMessage, encodeFailureMessage, type FailureMessage } from '@fulmen/onion';
import type {
  Attempt,
  AttemptFailure,
  EndedAttempt,
  FinalDetails,
  Lessons,
  PaymentFailureReason,
  PaymentParameters,
  PaymentState,
  PolicyOverride,
  Route,
  RouteError,
  RouteHint,
  RouteHop,
} from '@fulmen/payment';
import type { InboundRecord, OutboundRecord, PaymentRecord } from './record.ts';

/** Version 1 knew nothing of attempts that are over. */
const VERSION = 2;
/** Inbound records with metadata, or without an invoice, are of a kind of their own. */
const KINDS = ['inbound', 'outbound', 'inbound_with_extras'] as const;
const ORIGINS = ['invoice', 'keysend'] as const;
const INBOUND_STATUSES = ['open', 'paid', 'expired'] as const;
const STATES = ['routing', 'in_flight', 'sent', 'failed'] as const;
const INTENTS = ['retry', 'abandon'] as const;
const ATTEMPT_FAILURES = ['failure', 'undecodable', 'not_added'] as const;
const REASONS = [
  'refused_by_payee',
  'route_not_found',
  'retries_exhausted',
  'deadline_passed',
  'abandoned',
] as const;
const ROUTE_ERRORS = ['payer_is_payee', 'invalid_amount', 'no_first_hop', 'no_route'] as const;
const EXCEEDED = ['fee', 'cltv', 'hops'] as const;

/** Encodes a record. @throws EncodeError for values out of range. */
export function encodePaymentRecord(record: PaymentRecord): Uint8Array {
  const withExtras = record.kind === 'inbound' && hasExtras(record);
  const writer = new Writer(512).u8(VERSION);
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
    if (version !== 1 && version !== VERSION)
      throw new DecodeError('invalid_value', `payment record of version ${version}`);
    const kind = readName(reader, KINDS);
    switch (kind) {
      case 'inbound':
        return readInbound(reader);
      case 'outbound':
        return readOutbound(reader, version);
      case 'inbound_with_extras':
        return { ...readInbound(reader), ...readInboundExtras(reader) };
    }
    return assertNever(kind);
  });
}

// --- inbound ---------------------------------------------------------------------

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

// --- outbound --------------------------------------------------------------------

function writeOutbound(writer: Writer, record: OutboundRecord): void {
  writeText(writer, record.bolt11);
  writeTime(writer, record.createdUnixMs);
  writeOptional(writer, record.attempt, ({ attemptId, startedUnixMs }) => {
    writer.bytes(attemptId);
    writeTime(writer, startedUnixMs);
  });
  const { state } = record;
  writeName(writer, STATES, state.type);
  writeParameters(writer, state.parameters);
  writeLessons(writer, state.lessons);
  writeList(writer, state.ended, (ended) => writeEnded(writer, ended));
  switch (state.type) {
    case 'routing':
      return;
    case 'in_flight':
      writeAttempt(writer, state.attempt);
      writeName(writer, INTENTS, state.intent);
      return;
    case 'sent':
      writer.bytes(state.preimage).u64(state.feeMsat);
      return;
    case 'failed':
      writeReason(writer, state.reason);
      return;
  }
  assertNever(state);
}

function readOutbound(reader: Reader, version: 1 | 2): OutboundRecord {
  return {
    kind: 'outbound',
    bolt11: readText(reader),
    createdUnixMs: readTime(reader),
    attempt: readOptional(reader, () => ({ attemptId: reader.bytes(32), startedUnixMs: readTime(reader) })),
    state: readState(reader, version),
  };
}

function readState(reader: Reader, version: 1 | 2): PaymentState {
  const type = readName(reader, STATES);
  const common = {
    parameters: readParameters(reader),
    lessons: readLessons(reader),
    ended: version === 1 ? [] : readList(reader, () => readEnded(reader)),
  };
  switch (type) {
    case 'routing':
      return { type, ...common };
    case 'in_flight':
      return { type, ...common, attempt: readAttempt(reader), intent: readName(reader, INTENTS) };
    case 'sent':
      return { type, ...common, preimage: reader.bytes(32), feeMsat: reader.u64() };
    case 'failed':
      return { type, ...common, reason: readReason(reader) };
  }
  return assertNever(type);
}

function writeParameters(writer: Writer, parameters: PaymentParameters): void {
  writer.bytes(parameters.paymentHash).bytes(parameters.payee).u64(parameters.amountMsat);
  writer.u32(parameters.finalCltvDelta).u32(parameters.shadowCltvDelta);
  const { paymentData, paymentMetadata, keysendPreimage } = parameters.final;
  writeOptional(writer, paymentData, (data) => writer.bytes(data.paymentSecret).u64(data.totalMsat));
  writeOptional(writer, paymentMetadata, (metadata) => writeBytes(writer, metadata));
  writeOptional(writer, keysendPreimage, (preimage) => writer.bytes(preimage));
  writeList(writer, parameters.hints, (path) =>
    writeList(writer, path, (hint) => {
      writer.bytes(hint.nodeId).u64(hint.shortChannelId).u32(hint.feeBaseMsat);
      writer.u32(hint.feeProportionalMillionths).u32(hint.cltvExpiryDelta);
    }),
  );
  writer.u64(parameters.maxFeeMsat).u32(parameters.maxCltvDelta).u32(parameters.maxAttempts);
  writeTime(writer, parameters.deadlineSeconds);
}

function readParameters(reader: Reader): PaymentParameters {
  return {
    paymentHash: reader.bytes(32),
    payee: reader.bytes(33),
    amountMsat: reader.u64(),
    finalCltvDelta: reader.u32(),
    shadowCltvDelta: reader.u32(),
    final: readFinal(reader),
    hints: readList(reader, () => readList(reader, () => readHint(reader))),
    maxFeeMsat: reader.u64(),
    maxCltvDelta: reader.u32(),
    maxAttempts: reader.u32(),
    deadlineSeconds: readTime(reader),
  };
}

function readFinal(reader: Reader): FinalDetails {
  const paymentData = readOptional(reader, () => ({
    paymentSecret: reader.bytes(32),
    totalMsat: reader.u64(),
  }));
  const paymentMetadata = readOptional(reader, () => readBytes(reader));
  const keysendPreimage = readOptional(reader, () => reader.bytes(32));
  return {
    ...(paymentData === undefined ? {} : { paymentData }),
    ...(paymentMetadata === undefined ? {} : { paymentMetadata }),
    ...(keysendPreimage === undefined ? {} : { keysendPreimage }),
  };
}

function readHint(reader: Reader): RouteHint {
  return {
    nodeId: reader.bytes(33),
    shortChannelId: reader.u64(),
    feeBaseMsat: reader.u32(),
    feeProportionalMillionths: reader.u32(),
    cltvExpiryDelta: reader.u32(),
  };
}

function writeLessons(writer: Writer, lessons: Lessons): void {
  writer.u32(lessons.attempts);
  writeList(writer, lessons.avoidedChannels, (channel) =>
    writer.u64(channel.shortChannelId).u8(channel.direction),
  );
  writeList(writer, lessons.avoidedNodes, (node) => writer.bytes(node));
  writeList(writer, lessons.overrides, ({ shortChannelId, direction, policy }) => {
    writer.u64(shortChannelId).u8(direction).u32(policy.timestamp).u32(policy.cltvExpiryDelta);
    writer.u64(policy.htlcMinimumMsat).u64(policy.htlcMaximumMsat).u32(policy.feeBaseMsat);
    writer.u32(policy.feeProportionalMillionths).u8(policy.disabled ? 1 : 0);
  });
  writeOptional(writer, lessons.lastFailure, (failure) => writeAttemptFailure(writer, failure));
}

/** What our own channel said of an attempt that was not added goes with ended attempts alone. */
function writeAttemptFailure(writer: Writer, failure: AttemptFailure): void {
  writeName(writer, ATTEMPT_FAILURES, failure.kind);
  if (failure.kind !== 'failure') return;
  writer.u8(failure.hopIndex);
  writeBytes(writer, encodeFailureMessage(failure.failure));
}

function readLessons(reader: Reader): Lessons {
  return {
    attempts: reader.u32(),
    avoidedChannels: readList(reader, () => ({
      shortChannelId: reader.u64(),
      direction: readDirection(reader),
    })),
    avoidedNodes: readList(reader, () => reader.bytes(33)),
    overrides: readList(reader, () => readOverride(reader)),
    lastFailure: readOptional(reader, () => readAttemptFailure(reader)),
  };
}

function readOverride(reader: Reader): PolicyOverride {
  return {
    shortChannelId: reader.u64(),
    direction: readDirection(reader),
    policy: {
      timestamp: reader.u32(),
      cltvExpiryDelta: reader.u32(),
      htlcMinimumMsat: reader.u64(),
      htlcMaximumMsat: reader.u64(),
      feeBaseMsat: reader.u32(),
      feeProportionalMillionths: reader.u32(),
      disabled: readFlag(reader),
    },
  };
}

function readAttemptFailure(reader: Reader): AttemptFailure {
  const kind = readName(reader, ATTEMPT_FAILURES);
  if (kind !== 'failure') return { kind };
  return { kind, hopIndex: reader.u8(), failure: readFailure(reader) };
}

function writeAttempt(writer: Writer, attempt: Attempt): void {
  writer.u32(attempt.attemptNumber).bytes(attempt.sessionKey);
  writeRoute(writer, attempt.route);
}

function writeRoute(writer: Writer, route: Route): void {
  writer.u64(route.amountMsat).u64(route.feeMsat);
  writeList(writer, route.hops, (hop) => {
    writer.bytes(hop.nodeId).u64(hop.shortChannelId).u8(hop.direction).u64(hop.amountMsat);
    writer.u32(hop.cltvExpiryHeight).u64(hop.capacityMsat).u32(hop.policyTimestamp);
  });
}

function readAttempt(reader: Reader): Attempt {
  return { attemptNumber: reader.u32(), sessionKey: reader.bytes(32), route: readRoute(reader) };
}

function readRoute(reader: Reader): Route {
  return {
    amountMsat: reader.u64(),
    feeMsat: reader.u64(),
    hops: readList(reader, () => readHop(reader)),
  };
}

function writeEnded(writer: Writer, { attemptNumber, route, failure }: EndedAttempt): void {
  writer.u32(attemptNumber);
  writeRoute(writer, route);
  writeOptional(writer, failure, (why) => {
    writeAttemptFailure(writer, why);
    if (why.kind === 'not_added')
      writeOptional(writer, why.failure, (own) => writeBytes(writer, encodeFailureMessage(own)));
  });
}

function readEnded(reader: Reader): EndedAttempt {
  return {
    attemptNumber: reader.u32(),
    route: readRoute(reader),
    failure: readOptional(reader, () => {
      const failure = readAttemptFailure(reader);
      const own = failure.kind === 'not_added' ? readOptional(reader, () => readFailure(reader)) : undefined;
      return own === undefined ? failure : { kind: 'not_added', failure: own };
    }),
  };
}

function readHop(reader: Reader): RouteHop {
  return {
    nodeId: reader.bytes(33),
    shortChannelId: reader.u64(),
    direction: readDirection(reader),
    amountMsat: reader.u64(),
    cltvExpiryHeight: reader.u32(),
    capacityMsat: reader.u64(),
    policyTimestamp: reader.u32(),
  };
}

function writeReason(writer: Writer, reason: PaymentFailureReason): void {
  writeName(writer, REASONS, reason.kind);
  switch (reason.kind) {
    case 'refused_by_payee':
      writeBytes(writer, encodeFailureMessage(reason.failure));
      return;
    case 'route_not_found':
      writeName(writer, ROUTE_ERRORS, reason.error.kind);
      if (reason.error.kind === 'no_route')
        writeList(writer, reason.error.exceeded, (limit) => writeName(writer, EXCEEDED, limit));
      return;
    case 'retries_exhausted':
    case 'deadline_passed':
    case 'abandoned':
      return;
  }
  assertNever(reason);
}

function readReason(reader: Reader): PaymentFailureReason {
  const kind = readName(reader, REASONS);
  switch (kind) {
    case 'refused_by_payee':
      return { kind, failure: readFailure(reader) };
    case 'route_not_found':
      return { kind, error: readRouteError(reader) };
    case 'retries_exhausted':
    case 'deadline_passed':
    case 'abandoned':
      return { kind };
  }
  return assertNever(kind);
}

function readRouteError(reader: Reader): RouteError {
  const kind = readName(reader, ROUTE_ERRORS);
  return kind === 'no_route'
    ? { kind, exceeded: readList(reader, () => readName(reader, EXCEEDED)) }
    : { kind };
}

function readFailure(reader: Reader): FailureMessage {
  const failure = decodeFailureMessage(readBytes(reader));
  if (failure === undefined) throw new DecodeError('invalid_value', 'a failure without a code');
  return failure;
}

// --- parts -----------------------------------------------------------------------

function writeName<N extends string>(writer: Writer, names: readonly N[], name: N): void {
  writer.u8(names.indexOf(name));
}

function readName<N extends string>(reader: Reader, names: readonly N[]): N {
  const index = reader.u8();
  const name = names[index];
  if (name === undefined) throw new DecodeError('invalid_value', `variant ${index} of ${names.length}`);
  return name;
}

function writeOptional<T>(writer: Writer, value: T | undefined, write: (value: T) => unknown): void {
  writer.u8(value === undefined ? 0 : 1);
  if (value !== undefined) write(value);
}

function readOptional<T>(reader: Reader, read: () => T): T | undefined {
  return readFlag(reader) ? read() : undefined;
}

function readFlag(reader: Reader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw new DecodeError('invalid_value', `flag ${flag}`);
  return flag === 1;
}

function readDirection(reader: Reader): 0 | 1 {
  return readFlag(reader) ? 1 : 0;
}

function writeList<T>(writer: Writer, items: readonly T[], write: (item: T) => unknown): void {
  writer.bigsize(items.length);
  for (const item of items) write(item);
}

/** Every item takes a byte at least, so that the count is bounded by the input. */
function readList<T>(reader: Reader, read: () => T): T[] {
  const count = reader.bigsizeLength();
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(read());
  return items;
}

function writeBytes(writer: Writer, bytes: Uint8Array): void {
  writer.bigsize(bytes.length).bytes(bytes);
}

function readBytes(reader: Reader): Uint8Array {
  return reader.bytes(reader.bigsizeLength());
}

function writeText(writer: Writer, text: string): void {
  writeBytes(writer, utf8Encode(text));
}

function readText(reader: Reader): string {
  const text = utf8Decode(readBytes(reader));
  if (!text.ok) throw text.error;
  return text.value;
}

/** Times and deadlines: whole numbers below 2^53. */
function writeTime(writer: Writer, time: number): void {
  writer.u64(BigInt(time));
}

function readTime(reader: Reader): number {
  const time = reader.u64();
  if (time > BigInt(Number.MAX_SAFE_INTEGER)) throw new DecodeError('invalid_value', `time ${time}`);
  return Number(time);
}
