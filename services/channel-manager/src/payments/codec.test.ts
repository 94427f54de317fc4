import { fromHex, toHex } from '@fulmen/codec';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodePaymentRecord, encodePaymentRecord } from './codec.ts';
import type { Attempt } from '@fulmen/payment';
import type { InboundRecord, OutboundRecord, PaymentRecord } from './record.ts';

const bytes = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

const inbound: InboundRecord = {
  kind: 'inbound',
  preimage: bytes(32, 1),
  paymentSecret: bytes(32, 2),
  amountMsat: 10_000n,
  minFinalCltvExpiryDelta: 42,
  createdUnixMs: 1_700_000_000_000,
  expiresUnixMs: 1_700_003_600_000,
  bolt11: 'lnbcrt1',
  description: 'tëa',
  status: 'paid',
  receivedMsat: 10_001n,
  paidUnixMs: 1_700_000_000_001,
  paymentMetadata: undefined,
  origin: 'invoice',
  customRecords: [],
};

const common: Pick<OutboundRecord['state'], 'parameters' | 'lessons' | 'ended'> = {
  ended: [],
  parameters: {
    paymentHash: bytes(32, 3),
    payee: bytes(33, 4),
    amountMsat: 50_000n,
    finalCltvDelta: 21,
    shadowCltvDelta: 0,
    final: { paymentData: { paymentSecret: bytes(32, 5), totalMsat: 50_000n }, paymentMetadata: bytes(3, 6) },
    hints: [
      [
        {
          nodeId: bytes(33, 7),
          shortChannelId: 2n ** 63n,
          feeBaseMsat: 1,
          feeProportionalMillionths: 2,
          cltvExpiryDelta: 40,
        },
      ],
    ],
    maxFeeMsat: 10_000n,
    maxCltvDelta: 1008,
    maxAttempts: 10,
    deadlineSeconds: 1_700_000_060,
    maxParts: 16,
    minPartMsat: 10_000_000n,
  },
  lessons: {
    attempts: 2,
    failures: 1,
    limits: [{ shortChannelId: 11n, direction: 1, maximumMsat: 25_000n }],
    avoidedChannels: [{ shortChannelId: 9n, direction: 1 }],
    avoidedNodes: [bytes(33, 8)],
    overrides: [
      {
        shortChannelId: 10n,
        direction: 0,
        policy: {
          timestamp: 1_700_000_000,
          cltvExpiryDelta: 40,
          htlcMinimumMsat: 1n,
          htlcMaximumMsat: 2n ** 40n,
          feeBaseMsat: 3,
          feeProportionalMillionths: 4,
          disabled: false,
        },
      },
    ],
    lastFailure: {
      kind: 'failure',
      hopIndex: 1,
      failure: { kind: 'fee_insufficient', htlcMsat: 5n, channelUpdate: bytes(4, 9) },
    },
  },
};

const ATTEMPT: Attempt = {
  attemptNumber: 2,
  sessionKey: bytes(32, 11),
  route: {
    amountMsat: 50_000n,
    feeMsat: 1_000n,
    hops: [
      {
        nodeId: bytes(33, 12),
        shortChannelId: 13n,
        direction: 0,
        amountMsat: 51_000n,
        cltvExpiryHeight: 800_061,
        capacityMsat: 0n,
        policyTimestamp: 0,
      },
      {
        nodeId: bytes(33, 4),
        shortChannelId: 14n,
        direction: 1,
        amountMsat: 50_000n,
        cltvExpiryHeight: 800_021,
        capacityMsat: 0n,
        policyTimestamp: 0,
      },
    ],
  },
};

const inFlight: OutboundRecord = {
  kind: 'outbound',
  bolt11: 'lnbcrt2',
  createdUnixMs: 1_700_000_000_002,
  parts: [{ attemptNumber: 2, attemptId: bytes(32, 10), startedUnixMs: 1_700_000_000_003 }],
  state: {
    type: 'in_flight',
    ...common,
    parts: [ATTEMPT],
    intent: { kind: 'retry' },
  },
};

const withState = (state: OutboundRecord['state']): OutboundRecord => ({
  ...inFlight,
  parts: [],
  state,
});
const failed = (reason: Extract<OutboundRecord['state'], { type: 'failed' }>['reason']): OutboundRecord =>
  withState({ type: 'failed', ...common, reason });

const { route } = ATTEMPT;
const ended: OutboundRecord = withState({
  type: 'failed',
  ...common,
  ended: [
    { attemptNumber: 1, route, failure: { kind: 'undecodable' } },
    { attemptNumber: 2, route, failure: { kind: 'not_added' } },
    {
      attemptNumber: 3,
      route,
      failure: {
        kind: 'not_added',
        failure: { kind: 'temporary_channel_failure', channelUpdate: bytes(0, 0) },
      },
    },
    {
      attemptNumber: 4,
      route,
      failure: { kind: 'failure', hopIndex: 1, failure: { kind: 'mpp_timeout' } },
    },
    { attemptNumber: 5, route, failure: undefined },
  ],
  reason: { kind: 'abandoned' },
});

const several: OutboundRecord = {
  ...inFlight,
  parts: [2, 3].map((attemptNumber) => ({
    attemptNumber,
    attemptId: bytes(32, attemptNumber),
    startedUnixMs: 1_700_000_000_003,
  })),
  state: {
    type: 'in_flight',
    ...common,
    ended: [{ attemptNumber: 1, route, failure: { kind: 'undecodable' } }],
    parts: [ATTEMPT, { ...ATTEMPT, attemptNumber: 3 }],
    intent: { kind: 'give_up', reason: { kind: 'deadline_passed' } },
  },
};

const records: readonly PaymentRecord[] = [
  ended,
  inbound,
  { ...inbound, amountMsat: undefined, paidUnixMs: undefined, status: 'open' },
  { ...inbound, paymentMetadata: bytes(3, 16) },
  { ...inbound, origin: 'keysend', customRecords: [{ type: 65_537n, value: bytes(2, 17) }] },
  inFlight,
  withState({ type: 'routing', ...common }),
  several,
  withState({ type: 'sent', ...common, preimage: bytes(32, 15), feeMsat: 1_000n, parts: [] }),
  withState({ type: 'sent', ...common, preimage: bytes(32, 15), feeMsat: 1_000n, parts: [ATTEMPT] }),
  failed({
    kind: 'refused_by_payee',
    failure: { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1n, height: 2 },
  }),
  failed({ kind: 'route_not_found', error: { kind: 'no_route', exceeded: ['fee', 'hops'] } }),
  failed({ kind: 'route_not_found', error: { kind: 'no_first_hop' } }),
  failed({ kind: 'deadline_passed' }),
  failed({ kind: 'retries_exhausted' }),
  failed({ kind: 'abandoned' }),
];

test('every record comes back as it was', () => {
  for (const record of records)
    expect(decodePaymentRecord(encodePaymentRecord(record))).toEqual({ ok: true, value: record });
});

/** As version 1 wrote them: they must be readable for ever. */
const RECORDED = {
  inbound:
    '010001010101010101010101010101010101010101010101010101010101010101010202020202020202020202020202020202020202020202020202' +
    '0202020202020100000000000027100000002a0000018bcfe568000000018bd01c5680076c6e62637274310474c3ab61010000000000002711010000' +
    '018bcfe56801',
  outbound:
    '0101076c6e62637274320000018bcfe56802010a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0000018bcfe5680301' +
    '030303030303030303030303030303030303030303030303030303030303030304040404040404040404040404040404040404040404040404040404' +
    '0404040404000000000000c3500000001500000000010505050505050505050505050505050505050505050505050505050505050505000000000000' +
    'c35001030606060001010707070707070707070707070707070707070707070707070707070707070707078000000000000000000000010000000200' +
    '0000280000000000002710000003f00000000a000000006553f13c000000020100000000000000090101080808080808080808080808080808080808' +
    '08080808080808080808080808080801000000000000000a006553f10000000028000000000000000100000100000000000000000300000004000100' +
    '0110100c0000000000000005000409090909000000020b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b000000000000' +
    'c35000000000000003e8020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000d00000000000000c7' +
    '38000c353d000000000000000000000000040404040404040404040404040404040404040404040404040404040404040404000000000000000e0100' +
    '0000000000c350000c351500000000000000000000000000',
};

/** A record as earlier versions knew it: of a payment that is never split. */
function earlier(record: OutboundRecord, failures: number): OutboundRecord {
  const { state } = record;
  const parameters = { ...state.parameters, maxParts: 1, minPartMsat: 1n };
  return { ...record, state: { ...state, parameters, lessons: { ...state.lessons, failures, limits: [] } } };
}

test('records of version 1 are still read', () => {
  expect(decodePaymentRecord(fromHex(RECORDED.inbound))).toEqual({ ok: true, value: inbound });
  expect(decodePaymentRecord(fromHex(RECORDED.outbound))).toEqual({ ok: true, value: earlier(inFlight, 1) });
});

/** As version 2 wrote it: the record of ended attempts above. */
const RECORDED_ENDED =
  '0201076c6e62637274320000018bcfe56802000303030303030303030303030303030303030303030303030303030303030303030404040404040404' +
  '04040404040404040404040404040404040404040404040404000000000000c350000000150000000001050505050505050505050505050505050505' +
  '0505050505050505050505050505000000000000c3500103060606000101070707070707070707070707070707070707070707070707070707070707' +
  '07070780000000000000000000000100000002000000280000000000002710000003f00000000a000000006553f13c00000002010000000000000009' +
  '010108080808080808080808080808080808080808080808080808080808080808080801000000000000000a006553f1000000002800000000000000' +
  '01000001000000000000000003000000040001000110100c00000000000000050004090909090500000001000000000000c35000000000000003e802' +
  '0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000d00000000000000c738000c353d000000000000' +
  '000000000000040404040404040404040404040404040404040404040404040404040404040404000000000000000e01000000000000c350000c3515' +
  '000000000000000000000000010100000002000000000000c35000000000000003e8020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c' +
  '0c0c0c0c0c0c0c0c000000000000000d00000000000000c738000c353d00000000000000000000000004040404040404040404040404040404040404' +
  '0404040404040404040404040404000000000000000e01000000000000c350000c351500000000000000000000000001020000000003000000000000' +
  'c35000000000000003e8020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000d00000000000000c7' +
  '38000c353d000000000000000000000000040404040404040404040404040404040404040404040404040404040404040404000000000000000e0100' +
  '0000000000c350000c3515000000000000000000000000010201041007000000000004000000000000c35000000000000003e8020c0c0c0c0c0c0c0c' +
  '0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000d00000000000000c738000c353d0000000000000000000000000404' +
  '04040404040404040404040404040404040404040404040404040404040404000000000000000e01000000000000c350000c35150000000000000000' +
  '0000000001000102001700000005000000000000c35000000000000003e8020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c' +
  '0c0c0c0c000000000000000d00000000000000c738000c353d0000000000000000000000000404040404040404040404040404040404040404040404' +
  '04040404040404040404000000000000000e01000000000000c350000c35150000000000000000000000000004';

test('outbound records of version 2 are still read', () => {
  expect(decodePaymentRecord(fromHex(RECORDED_ENDED))).toEqual({ ok: true, value: earlier(ended, 2) });
});

/** As version 3 writes it: the record of several parts above. */
const RECORDED_SEVERAL =
  '0301076c6e62637274320000018bcfe56802020000000202020202020202020202020202020202020202020202020202020202020202020000018bcf' +
  'e568030000000303030303030303030303030303030303030303030303030303030303030303030000018bcfe5680301030303030303030303030303' +
  '0303030303030303030303030303030303030303040404040404040404040404040404040404040404040404040404040404040404000000000000c3' +
  '500000001500000000010505050505050505050505050505050505050505050505050505050505050505000000000000c35001030606060001010707' +
  '070707070707070707070707070707070707070707070707070707070707078000000000000000000000010000000200000028000000000000271000' +
  '0003f00000000a000000006553f13c000000100000000000989680000000020100000000000000090101080808080808080808080808080808080808' +
  '08080808080808080808080808080801000000000000000a006553f10000000028000000000000000100000100000000000000000300000004000100' +
  '0110100c00000000000000050004090909090000000101000000000000000b0100000000000061a80100000001000000000000c35000000000000003' +
  'e8020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000d00000000000000c738000c353d00000000' +
  '0000000000000000040404040404040404040404040404040404040404040404040404040404040404000000000000000e01000000000000c350000c' +
  '3515000000000000000000000000010102000000020b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b000000000000c3' +
  '5000000000000003e8020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000d00000000000000c738' +
  '000c353d000000000000000000000000040404040404040404040404040404040404040404040404040404040404040404000000000000000e010000' +
  '00000000c350000c3515000000000000000000000000000000030b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0000' +
  '00000000c35000000000000003e8020c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c000000000000000d00000000' +
  '000000c738000c353d000000000000000000000000040404040404040404040404040404040404040404040404040404040404040404000000000000' +
  '000e01000000000000c350000c35150000000000000000000000000103';

test('records of version 3 are read, and written so', () => {
  expect(decodePaymentRecord(fromHex(RECORDED_SEVERAL))).toEqual({ ok: true, value: several });
  expect(toHex(encodePaymentRecord(several))).toBe(RECORDED_SEVERAL);
});

test('an inbound record with extras is of a kind of its own', () => {
  const record: InboundRecord = {
    ...inbound,
    paymentMetadata: bytes(3, 16),
    origin: 'keysend',
    customRecords: [{ type: 65_537n, value: bytes(2, 17) }],
  };
  const written = `0202${RECORDED.inbound.slice(4)}010310101001010000000000010001021111`;
  expect(toHex(encodePaymentRecord(record))).toBe(written);
  expect(decodePaymentRecord(fromHex(written))).toEqual({ ok: true, value: record });
});

test('arbitrary bytes give a typed error, or a record that encodes to them again', () => {
  const mutated = fc
    .tuple(fc.constantFrom(...records.map(encodePaymentRecord)), fc.nat(), fc.integer({ min: 0, max: 255 }))
    .map(([encoded, at, value]) =>
      encoded.map((byte, index) => (index === at % encoded.length ? value : byte)),
    );
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 300 })), (input) => {
      const decoded = decodePaymentRecord(input);
      if (!decoded.ok) expect(decoded.error.name).toBe('DecodeError');
      else expect(decodePaymentRecord(encodePaymentRecord(decoded.value))).toEqual(decoded);
    }),
    { numRuns: 500 },
  );
});
