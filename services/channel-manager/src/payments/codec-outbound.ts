/** The stored form of a payment of ours: version 3, and the earlier ones as they were. */
import { assertNever, DecodeError, type Reader, type Writer } from '@fulmen/codec';
import { decodeFailureMessage, encodeFailureMessage, type FailureMessage } from '@fulmen/onion';
import type {
  Attempt,
  AttemptFailure,
  EndedAttempt,
  FinalDetails,
  Lessons,
  PaymentFailureReason,
  PaymentIntent,
  PaymentParameters,
  PaymentState,
  PolicyOverride,
  Route,
  RouteError,
  RouteHint,
  RouteHop,
} from '@fulmen/payment';
import {
  readBytes,
  readDirection,
  readFlag,
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
import type { OutboundRecord } from './record.ts';

const STATES = ['routing', 'in_flight', 'sent', 'failed'] as const;
const INTENTS = ['retry', 'give_up'] as const;
const EARLIER_INTENTS = ['retry', 'abandon'] as const;
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

export function writeOutbound(writer: Writer, record: OutboundRecord): void {
  writeText(writer, record.bolt11);
  writeTime(writer, record.createdUnixMs);
  writeList(writer, record.parts, ({ attemptNumber, attemptId, startedUnixMs }) => {
    writer.u32(attemptNumber).bytes(attemptId);
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
      writeList(writer, state.parts, (attempt) => writeAttempt(writer, attempt));
      writeName(writer, INTENTS, state.intent.kind);
      if (state.intent.kind === 'give_up') writeReason(writer, state.intent.reason);
      return;
    case 'sent':
      writer.bytes(state.preimage).u64(state.feeMsat);
      writeList(writer, state.parts, (attempt) => writeAttempt(writer, attempt));
      return;
    case 'failed':
      writeReason(writer, state.reason);
      return;
  }
  assertNever(state);
}

export function readOutbound(reader: Reader): OutboundRecord {
  return {
    kind: 'outbound',
    bolt11: readText(reader),
    createdUnixMs: readTime(reader),
    parts: readList(reader, () => ({
      attemptNumber: reader.u32(),
      attemptId: reader.bytes(32),
      startedUnixMs: readTime(reader),
    })),
    state: readState(reader),
  };
}

function readState(reader: Reader): PaymentState {
  const type = readName(reader, STATES);
  const common = {
    parameters: {
      ...readEarlierParameters(reader),
      maxParts: reader.u32(),
      minPartMsat: reader.u64(),
    },
    lessons: {
      ...readEarlierLessons(reader),
      failures: reader.u32(),
      limits: readList(reader, () => ({
        shortChannelId: reader.u64(),
        direction: readDirection(reader),
        maximumMsat: reader.u64(),
      })),
    },
    ended: readList(reader, () => readEnded(reader)),
  };
  switch (type) {
    case 'routing':
      return { type, ...common };
    case 'in_flight':
      return { type, ...common, parts: readAttempts(reader), intent: readIntent(reader) };
    case 'sent':
      return {
        type,
        ...common,
        preimage: reader.bytes(32),
        feeMsat: reader.u64(),
        parts: readAttempts(reader),
      };
    case 'failed':
      return { type, ...common, reason: readReason(reader) };
  }
  return assertNever(type);
}

function readAttempts(reader: Reader): Attempt[] {
  return readList(reader, () => readAttempt(reader));
}

function readIntent(reader: Reader): PaymentIntent {
  const kind = readName(reader, INTENTS);
  return kind === 'retry' ? { kind } : { kind, reason: readReason(reader) };
}

/** What versions 1 and 2 wrote: a payment of one HTLC at a time. It is not split now either. */
export function readEarlierOutbound(reader: Reader, version: 1 | 2): OutboundRecord {
  const bolt11 = readText(reader);
  const createdUnixMs = readTime(reader);
  const named = readOptional(reader, () => ({
    attemptId: reader.bytes(32),
    startedUnixMs: readTime(reader),
  }));
  const state = readEarlierState(reader, version);
  const parts =
    named === undefined || state.type !== 'in_flight'
      ? []
      : state.parts.map(({ attemptNumber }) => ({ attemptNumber, ...named }));
  return { kind: 'outbound', bolt11, createdUnixMs, parts, state };
}

function readEarlierState(reader: Reader, version: 1 | 2): PaymentState {
  const type = readName(reader, STATES);
  const parameters = { ...readEarlierParameters(reader), maxParts: 1, minPartMsat: 1n };
  const known = readEarlierLessons(reader);
  const failures = known.attempts - (type === 'in_flight' || type === 'sent' ? 1 : 0);
  if (failures < 0) throw new DecodeError('invalid_value', 'an HTLC of no attempt');
  const lessons = { ...known, failures, limits: [] };
  const ended = version === 1 ? [] : readList(reader, () => readEnded(reader));
  const common = { parameters, lessons, ended };
  switch (type) {
    case 'routing':
      return { type, ...common };
    case 'in_flight': {
      const parts = [readAttempt(reader)];
      const isRetried = readName(reader, EARLIER_INTENTS) === 'retry';
      const intent: PaymentIntent = isRetried
        ? { kind: 'retry' }
        : { kind: 'give_up', reason: { kind: 'abandoned' } };
      return { type, ...common, parts, intent };
    }
    case 'sent':
      return { type, ...common, preimage: reader.bytes(32), feeMsat: reader.u64(), parts: [] };
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
  writer.u32(parameters.maxParts).u64(parameters.minPartMsat);
}

function readEarlierParameters(reader: Reader): Omit<PaymentParameters, 'maxParts' | 'minPartMsat'> {
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
  writer.u32(lessons.failures);
  writeList(writer, lessons.limits, ({ shortChannelId, direction, maximumMsat }) =>
    writer.u64(shortChannelId).u8(direction).u64(maximumMsat),
  );
}

/** What our own channel said of an attempt that was not added goes with ended attempts alone. */
function writeAttemptFailure(writer: Writer, failure: AttemptFailure): void {
  writeName(writer, ATTEMPT_FAILURES, failure.kind);
  if (failure.kind !== 'failure') return;
  writer.u8(failure.hopIndex);
  writeBytes(writer, encodeFailureMessage(failure.failure));
}

function readEarlierLessons(reader: Reader): Omit<Lessons, 'failures' | 'limits'> {
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
