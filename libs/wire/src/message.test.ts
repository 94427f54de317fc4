// Whole messages: layouts by hand, BOLT 1's init vectors, bounds, and every declaration fuzzed.
import { DecodeError, EncodeError, fromHex, toHex } from '@fulmen/codec';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { arbitraryMessage, arbitraryMessageOf } from './arbitrary.ts';
import {
  allMessageCodecs,
  decodeMessage,
  encodeMessage,
  make,
  messageName,
  messageType,
  WireError,
} from './message.ts';
import type { Message, MessageName, UnknownMessage } from './message.ts';

const CHANNEL_ID = '11'.repeat(32);
const POINT = `02${'22'.repeat(32)}`;
const SIGNATURE = '33'.repeat(64);
const HASH = '44'.repeat(32);

function decoded(hex: string): Message | UnknownMessage {
  const result = decodeMessage(fromHex(hex));
  if (!result.ok) throw result.error;
  return result.value;
}

function refused(hex: string): string {
  const result = decodeMessage(fromHex(hex));
  if (result.ok) throw new DecodeError('invalid_value', 'was accepted');
  return result.error.code;
}

describe('BOLT 1 appendix C, extensions of init', () => {
  test('the base message, and unknown odd records', () => {
    expect(decoded('001000000000')).toEqual(
      make('init', { globalfeatures: new Uint8Array(0), features: new Uint8Array(0) }),
    );
    const extended = decoded('001000000000c9012acb0104');
    expect(extended).toMatchObject({
      tlvs: {},
      unknownTlvs: [
        { type: 0xc9n, value: fromHex('2a') },
        { type: 0xcbn, value: fromHex('04') },
      ],
    });
    expect(toHex(encodeMessage(extended))).toBe('001000000000c9012acb0104');
  });

  test('a truncated, an unknown even and a repeated record are refused', () => {
    expect(refused('00100000000001')).toBe('truncated');
    expect(refused('001000000000ca012a')).toBe('tlv_unknown_even');
    expect(refused('001000000000c90101c90102')).toBe('tlv_order');
  });
});

describe('layouts', () => {
  const onion = '55'.repeat(1366);
  const layouts: readonly (readonly [Message, string])[] = [
    [
      make('init', {
        globalfeatures: fromHex('02'),
        features: fromHex('0100'),
        tlvs: { networks: [fromHex(HASH)], remoteAddr: fromHex('010102030426') },
      }),
      `0010000102000201000120${HASH}0306010102030426`,
    ],
    [make('ping', { numPongBytes: 3, ignored: fromHex('0000') }), '0012000300020000'],
    [
      make('update_add_htlc', {
        channelId: fromHex(CHANNEL_ID),
        id: 1n,
        amountMsat: 100_000_000n,
        paymentHash: fromHex(HASH),
        cltvExpiry: 500,
        onionRoutingPacket: fromHex(onion),
        tlvs: { pathKey: fromHex(POINT) },
      }),
      `0080${CHANNEL_ID}00000000000000010000000005f5e100${HASH}000001f4${onion}0021${POINT}`,
    ],
    [
      make('commitment_signed', {
        channelId: fromHex(CHANNEL_ID),
        signature: fromHex(SIGNATURE),
        htlcSignatures: [fromHex(SIGNATURE), fromHex(SIGNATURE)],
        tlvs: { fundingTxid: fromHex(HASH) },
      }),
      `0084${CHANNEL_ID}${SIGNATURE}0002${SIGNATURE}${SIGNATURE}0120${HASH}`,
    ],
    [
      make('channel_reestablish', {
        channelId: fromHex(CHANNEL_ID),
        nextCommitmentNumber: 1n,
        nextRevocationNumber: 0n,
        yourLastPerCommitmentSecret: new Uint8Array(32),
        myCurrentPerCommitmentPoint: fromHex(POINT),
        tlvs: {
          nextFunding: { nextFundingTxid: fromHex(HASH), retransmitFlags: 1 },
          myCurrentFundingLocked: { myCurrentFundingLockedTxid: fromHex(HASH), retransmitFlags: 0 },
        },
      }),
      `0088${CHANNEL_ID}00000000000000010000000000000000${'00'.repeat(32)}${POINT}0121${HASH}010521${HASH}00`,
    ],
    [
      make('closing_signed', {
        channelId: fromHex(CHANNEL_ID),
        feeSatoshis: 258n,
        signature: fromHex(SIGNATURE),
        tlvs: { feeRange: { minFeeSatoshis: 1n, maxFeeSatoshis: 2n } },
      }),
      `0027${CHANNEL_ID}0000000000000102${SIGNATURE}011000000000000000010000000000000002`,
    ],
    [
      make('update_fail_htlc', {
        channelId: fromHex(CHANNEL_ID),
        id: 7n,
        reason: fromHex('abcd'),
        tlvs: {
          attributionData: {
            htlcHoldTimes: Array.from({ length: 20 }, () => 1),
            truncatedHmacs: new Uint8Array(840),
          },
        },
      }),
      `0083${CHANNEL_ID}00000000000000070002abcd01fd0398${'00000001'.repeat(20)}${'00'.repeat(840)}`,
    ],
    [
      make('channel_ready', {
        channelId: fromHex(CHANNEL_ID),
        secondPerCommitmentPoint: fromHex(POINT),
        tlvs: { shortChannelId: 0x0a0b0c0d0e0f1011n },
      }),
      `0024${CHANNEL_ID}${POINT}01080a0b0c0d0e0f1011`,
    ],
    [
      make('start_batch', { channelId: fromHex(CHANNEL_ID), batchSize: 2, tlvs: { messageType: 132 } }),
      `007f${CHANNEL_ID}000201020084`,
    ],
  ];

  test.each(layouts.map(([message, hex]) => ({ name: message.type, message, hex })))(
    '$name',
    ({ message, hex }) => {
      expect(toHex(encodeMessage(message))).toBe(hex);
      expect(decoded(hex)).toEqual(message);
    },
  );

  test('every declared type number, as the BOLTs give them', () => {
    const numbers = Object.fromEntries(allMessageCodecs().map(({ name, type }) => [name, type]));
    expect(numbers).toEqual({
      warning: 1,
      stfu: 2,
      peer_storage: 7,
      peer_storage_retrieval: 9,
      init: 16,
      error: 17,
      ping: 18,
      pong: 19,
      open_channel: 32,
      accept_channel: 33,
      funding_created: 34,
      funding_signed: 35,
      channel_ready: 36,
      shutdown: 38,
      closing_signed: 39,
      closing_complete: 40,
      closing_sig: 41,
      start_batch: 127,
      update_add_htlc: 128,
      update_fulfill_htlc: 130,
      update_fail_htlc: 131,
      commitment_signed: 132,
      revoke_and_ack: 133,
      update_fee: 134,
      update_fail_malformed_htlc: 135,
      channel_reestablish: 136,
      channel_announcement: 256,
      node_announcement: 257,
      channel_update: 258,
      announcement_signatures: 259,
      query_short_channel_ids: 261,
      reply_short_channel_ids_end: 262,
      query_channel_range: 263,
      reply_channel_range: 264,
      gossip_timestamp_filter: 265,
      onion_message: 513,
    });
    for (const [name, type] of Object.entries(numbers)) {
      expect(messageType(name as MessageName)).toBe(type);
      expect(messageName(type)).toBe(name);
    }
  });

  test('tlvs may be left out, and a decoded message without them has empty ones', () => {
    const bytes = encodeMessage({ type: 'update_fee', channelId: fromHex(CHANNEL_ID), feeratePerKw: 253 });
    expect(decoded(toHex(bytes))).toEqual({
      type: 'update_fee',
      channelId: fromHex(CHANNEL_ID),
      feeratePerKw: 253,
      tlvs: {},
      unknownTlvs: [],
    });
  });
});

describe('refusals', () => {
  test('no type, short messages, bad points and even records name their message', () => {
    expect(decodeMessage(fromHex('00'))).toMatchObject({ error: { code: 'truncated', messageType: null } });
    expect(decodeMessage(fromHex('0012000300'))).toMatchObject({
      error: { code: 'truncated', messageType: 18 },
    });
    expect(refused(`0024${CHANNEL_ID}04${'22'.repeat(32)}`)).toBe('invalid_point');
    expect(refused(`0024${CHANNEL_ID}${POINT}0200`)).toBe('tlv_unknown_even');
  });

  test('an onion, an attribution or a count of a wrong length', () => {
    expect(refused(`0083${CHANNEL_ID}00000000000000070000` + `0103aabbcc`)).toBe('truncated');
    expect(refused(`0083${CHANNEL_ID}00000000000000070000` + `01fd0399${'00'.repeat(0x399)}`)).toBe(
      'trailing_bytes',
    );
    expect(refused(`0084${CHANNEL_ID}${SIGNATURE}ffff${SIGNATURE}`)).toBe('truncated');
  });

  test('more than 65535 bytes can be neither encoded nor decoded', () => {
    const largest = encodeMessage({ type: 'peer_storage', blob: new Uint8Array(65_531) });
    expect(largest.length).toBe(65_535);
    expect(decodeMessage(largest).ok).toBe(true);
    expect(() => encodeMessage({ type: 'peer_storage', blob: new Uint8Array(65_532) })).toThrow(EncodeError);
    expect(decodeMessage(new Uint8Array(65_536))).toMatchObject({ error: { code: 'too_long' } });
  });

  test('values that do not fit are refused, not truncated', () => {
    const channelId = fromHex(CHANNEL_ID);
    expect(() => encodeMessage({ type: 'update_fee', channelId, feeratePerKw: 2 ** 32 })).toThrow(
      EncodeError,
    );
    expect(() =>
      encodeMessage({ type: 'update_fee', channelId: channelId.subarray(1), feeratePerKw: 1 }),
    ).toThrow(EncodeError);
  });
});

describe('unknown messages', () => {
  test('are handed over with their number, and an even one is required', () => {
    expect(decoded('9419aabb')).toEqual({
      type: 'unknown',
      messageType: 37_913,
      payload: fromHex('aabb'),
      isRequired: false,
    });
    expect(decoded('0040')).toMatchObject({ type: 'unknown', messageType: 64, isRequired: true });
    expect(toHex(encodeMessage(decoded('9419aabb')))).toBe('9419aabb');
  });
});

describe('fuzz', () => {
  test.each(allMessageCodecs().map((codec) => ({ name: codec.name, codec })))(
    '$name round-trips',
    ({ codec }) => {
      fc.assert(
        fc.property(arbitraryMessageOf(codec), (message) => {
          const bytes = encodeMessage(message);
          expect(decodeMessage(bytes)).toEqual({ ok: true, value: message });
        }),
        { numRuns: 25 },
      );
    },
  );

  test('arbitrary payloads give a typed error or a value that encodes to the same bytes', () => {
    const types = fc.oneof(
      fc.constantFrom(...allMessageCodecs().map(({ type }) => type)),
      fc.integer({ min: 0, max: 65_535 }),
    );
    fc.assert(
      fc.property(types, fc.uint8Array({ maxLength: 500 }), (type, payload) => {
        expectTotal(new Uint8Array([type >> 8, type & 0xff, ...payload]));
      }),
      { numRuns: 600 },
    );
  });

  test('damaged messages do too', () => {
    const damage = fc.record({
      message: arbitraryMessage(),
      cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
      flip: fc.option(
        fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), mask: fc.integer({ min: 1, max: 255 }) }),
      ),
      tail: fc.uint8Array({ maxLength: 12 }),
    });
    fc.assert(
      fc.property(damage, ({ message, cut, flip, tail }) => {
        const bytes = encodeMessage(message);
        const kept = bytes.subarray(0, cut === null ? bytes.length : Math.floor(cut * bytes.length));
        const damaged = new Uint8Array([...kept, ...tail]);
        if (flip !== null && damaged.length > 0) {
          const at = Math.min(damaged.length - 1, Math.floor(flip.at * damaged.length));
          damaged[at] = (damaged[at] ?? 0) ^ flip.mask;
        }
        expectTotal(damaged);
      }),
      { numRuns: 600 },
    );
  });

  test('a decoded message shares no memory with its input', () => {
    const bytes = Buffer.from(
      encodeMessage({ type: 'error', channelId: fromHex(CHANNEL_ID), data: fromHex('aa') }),
    );
    const result = decodeMessage(bytes);
    bytes.fill(0);
    expect(result).toMatchObject({ value: { channelId: fromHex(CHANNEL_ID), data: fromHex('aa') } });
  });
});

function expectTotal(bytes: Uint8Array): void {
  const result = decodeMessage(bytes);
  if (result.ok) expect(toHex(encodeMessage(result.value))).toBe(toHex(bytes));
  else expect(result.error).toBeInstanceOf(WireError);
}
