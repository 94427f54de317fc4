// BOLT 7: published query vectors, packed arrays, addresses, scids, signed bytes and checksums.
import { readFileSync } from 'node:fs';
import {
  DecodeError,
  EncodeError,
  InternalError,
  concatBytes,
  crc32c,
  fromHex,
  ok,
  toHex,
} from '@fulmen/codec';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeAddress, encodeAddresses, formatAddress, parseAddress, parseAddresses } from './address.ts';
import type { NodeAddress } from './address.ts';
import { arbitraryMessageOf } from './arbitrary.ts';
import { channelUpdateChecksum, gossipSignedBytes, withGossipSignatures } from './gossip.ts';
import type { GossipMessage } from './gossip.ts';
import { allMessageCodecs, decodeMessage, encodeMessage, make } from './message.ts';
import {
  QUERY_FLAG,
  QUERY_OPTION,
  decodeQueryFlags,
  decodeShortIds,
  decodeTimestamps,
  encodeQueryFlags,
  encodeShortIds,
  encodeTimestamps,
} from './queries.ts';
import { printableData, sanitizeForLog } from './sanitize.ts';
import { shortChannelId } from './short-channel-id.ts';

interface EncodedArray {
  readonly array: readonly string[];
  readonly encoding: string;
}

interface QueryVector {
  readonly hex: string;
  readonly msg: {
    readonly type: string;
    readonly chainHash: string;
    readonly firstBlockNum?: number;
    readonly numberOfBlocks?: number;
    readonly complete?: number;
    readonly shortChannelIds?: EncodedArray;
    readonly timestamps?: {
      readonly encoding: string;
      readonly timestamps: readonly { timestamp1: number; timestamp2: number }[];
    };
    readonly checksums?: { readonly checksums: readonly { checksum1: number; checksum2: number }[] };
    readonly tlvStream?: {
      readonly records: readonly (
        | string
        | { readonly array: readonly number[]; readonly encoding: string }
      )[];
    };
  };
}

const vectors = JSON.parse(
  readFileSync(new URL('./vectors/bolt07-extended-queries.json', import.meta.url), 'utf8'),
) as QueryVector[];

describe('BOLT 7 extended queries', () => {
  test('all 10 vectors are here, 5 of them compressed', () => {
    expect(vectors.length).toBe(10);
    expect(vectors.filter(({ msg }) => JSON.stringify(msg).includes('ZLIB')).length).toBe(5);
  });

  test.each(vectors)('$msg.type $hex', ({ hex, msg }) => {
    const result = decodeMessage(fromHex(hex));
    if (!result.ok) throw result.error;
    const message = result.value;
    expect(toHex(encodeMessage(message))).toBe(hex);
    if (message.type === 'query_channel_range') {
      expect(message).toMatchObject({ firstBlocknum: msg.firstBlockNum, numberOfBlocks: msg.numberOfBlocks });
      expect(toHex(message.chainHash)).toBe(msg.chainHash);
      const wantsBoth = msg.tlvStream?.records.length === 1;
      expect(message.tlvs).toEqual(
        wantsBoth ? { queryOption: QUERY_OPTION.timestamps | QUERY_OPTION.checksums } : {},
      );
    } else if (message.type === 'reply_channel_range') {
      expect(message).toMatchObject({
        firstBlocknum: msg.firstBlockNum,
        numberOfBlocks: msg.numberOfBlocks,
        syncComplete: msg.complete,
      });
      expectShortIds(message.encodedShortIds, msg.shortChannelIds);
      const { timestamps, checksums } = message.tlvs;
      expect(timestamps === undefined).toBe(msg.timestamps === undefined);
      if (timestamps !== undefined) {
        expectArray(
          decodeTimestamps(timestamps),
          msg.timestamps?.encoding,
          msg.timestamps?.timestamps.map((pair) => ({
            timestampNodeId1: pair.timestamp1,
            timestampNodeId2: pair.timestamp2,
          })),
        );
      }
      expect(checksums).toEqual(
        msg.checksums?.checksums.map((pair) => ({
          checksumNodeId1: pair.checksum1,
          checksumNodeId2: pair.checksum2,
        })),
      );
    } else if (message.type === 'query_short_channel_ids') {
      expectShortIds(message.encodedShortIds, msg.shortChannelIds);
      const record = msg.tlvStream?.records[0];
      expect(message.tlvs.queryFlags === undefined).toBe(record === undefined);
      if (message.tlvs.queryFlags !== undefined && typeof record === 'object') {
        expectArray(decodeQueryFlags(message.tlvs.queryFlags), record.encoding, record.array.map(BigInt));
      }
    } else {
      throw new DecodeError('invalid_value', `unexpected message ${message.type}`);
    }
  });
});

function expectShortIds(encoded: Uint8Array, expected: EncodedArray | undefined): void {
  const ids = decodeShortIds(encoded);
  const named = ids.ok ? ok(ids.value.map(shortChannelId.toString)) : ids;
  expectArray(named, expected?.encoding, expected?.array);
}

// BOLT 7: zlib "MUST NOT be used": the vectors that use it are to be refused.
function expectArray(
  actual: { readonly ok: boolean },
  encoding: string | undefined,
  expected: readonly unknown[] | undefined,
): void {
  if (encoding === 'COMPRESSED_ZLIB')
    expect(actual).toMatchObject({ ok: false, error: { code: 'unsupported' } });
  else expect(actual).toEqual({ ok: true, value: expected });
}

describe('packed arrays', () => {
  test('round-trip', () => {
    const u32 = fc.nat({ max: 0xffff_ffff });
    const ids = fc
      .uniqueArray(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
      .map((list) => list.sort((a, b) => (a < b ? -1 : 1)));
    const flags = fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    const pairs = fc.array(
      fc.record({ timestampNodeId1: u32, timestampNodeId2: u32 }, { noNullPrototype: true }),
    );
    fc.assert(
      fc.property(ids, flags, pairs, (scids, queryFlags, timestamps) => {
        expect(decodeShortIds(encodeShortIds(scids))).toEqual({ ok: true, value: scids });
        expect(decodeQueryFlags(encodeQueryFlags(queryFlags))).toEqual({ ok: true, value: queryFlags });
        expect(decodeTimestamps(encodeTimestamps(timestamps))).toEqual({ ok: true, value: timestamps });
      }),
    );
  });

  test('a wrong order, a repetition, a partial id and unknown encodings are refused; nothing at all is empty', () => {
    expect(decodeShortIds(encodeShortIds([2n, 1n]))).toMatchObject({ error: { code: 'invalid_value' } });
    expect(decodeShortIds(encodeShortIds([1n, 1n]))).toMatchObject({ error: { code: 'invalid_value' } });
    expect(decodeShortIds(fromHex('0000'))).toMatchObject({ error: { code: 'truncated' } });
    expect(decodeShortIds(fromHex('02'))).toMatchObject({ error: { code: 'unsupported' } });
    expect(decodeShortIds(new Uint8Array(0))).toEqual({ ok: true, value: [] });
  });

  test('all five flags fit one byte', () => {
    const all = Object.values(QUERY_FLAG).reduce((sum, flag) => sum | flag);
    expect(toHex(encodeQueryFlags([all]).encodedQueryFlags)).toBe('1f');
  });

  test('arbitrary bytes never throw', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 }), fc.uint8Array({ maxLength: 60 }), (encodingType, bytes) => {
        const ids = decodeShortIds(concatBytes(Uint8Array.of(encodingType), bytes));
        if (ids.ok) expect(encodeShortIds(ids.value)).toEqual(concatBytes(Uint8Array.of(0), bytes));
        const flags = decodeQueryFlags({ encodingType, encodedQueryFlags: bytes });
        if (flags.ok) expect(encodeQueryFlags(flags.value).encodedQueryFlags).toEqual(bytes);
        const timestamps = decodeTimestamps({ encodingType, encodedTimestamps: bytes });
        if (timestamps.ok) expect(encodeTimestamps(timestamps.value).encodedTimestamps).toEqual(bytes);
      }),
    );
  });
});

describe('short channel ids', () => {
  test('the example of BOLT 7', () => {
    const scid = shortChannelId.from(539_268, 845, 1);
    expect(shortChannelId.toString(scid)).toBe('539268x845x1');
    expect(shortChannelId.parse('539268x845x1')).toEqual({ ok: true, value: scid });
  });

  test('every 64-bit number round-trips', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (scid) => {
        expect(shortChannelId.parse(shortChannelId.toString(scid))).toEqual({ ok: true, value: scid });
      }),
    );
  });

  test('other texts and parts out of range are refused', () => {
    for (const text of [
      '',
      '1x2',
      '1x2x3x4',
      '01x2x3',
      '-1x2x3',
      '16777216x0x0',
      '0x16777216x0',
      '0x0x65536',
      '1x2x3\n',
      '1:2:3',
    ]) {
      expect(shortChannelId.parse(text).ok).toBe(false);
    }
    expect(() => shortChannelId.from(2 ** 24, 0, 0)).toThrow(EncodeError);
    expect(() => shortChannelId.from(0, 0, -1)).toThrow(EncodeError);
  });
});

describe('signed bytes', () => {
  const signed = allMessageCodecs().filter(({ name }) =>
    ['channel_announcement', 'node_announcement', 'channel_update'].includes(name),
  );

  test.each(signed.map((codec) => ({ name: codec.name, codec })))(
    '$name: all after the signatures, unknown tail included',
    ({ name, codec }) => {
      const offset = name === 'channel_announcement' ? 258 : 66;
      fc.assert(
        fc.property(arbitraryMessageOf(codec), (message) => {
          const gossip = message as GossipMessage;
          const raw = encodeMessage(gossip);
          expect(gossipSignedBytes(raw)).toEqual(raw.slice(offset));
          expect(gossipSignedBytes(gossip)).toEqual(raw.slice(offset));
          const signature = new Uint8Array(64).fill(7);
          const count = (offset - 2) / 64;
          const resigned = withGossipSignatures(
            gossip,
            Array.from({ length: count }, () => signature),
          );
          expect(gossipSignedBytes(resigned)).toEqual(raw.slice(offset));
          expect(resigned.slice(2, 66)).toEqual(signature);
          expect(() => withGossipSignatures(gossip, [])).toThrow(InternalError);
        }),
        { numRuns: 30 },
      );
    },
  );

  test('other bytes are a misuse', () => {
    expect(() => gossipSignedBytes(fromHex('0012'))).toThrow(InternalError);
    expect(() => gossipSignedBytes(fromHex('0102'))).toThrow(InternalError);
    expect(() => channelUpdateChecksum(fromHex('0102'))).toThrow(InternalError);
  });
});

describe('channel_update', () => {
  const update = make('channel_update', {
    signature: new Uint8Array(64).fill(1),
    chainHash: new Uint8Array(32).fill(2),
    shortChannelId: shortChannelId.from(700, 1, 0),
    timestamp: 1_600_000_000,
    messageFlags: 1,
    channelFlags: 0,
    cltvExpiryDelta: 40,
    htlcMinimumMsat: 1n,
    feeBaseMsat: 1000,
    feeProportionalMillionths: 1,
    htlcMaximumMsat: 1_000_000n,
    excessData: new Uint8Array(0),
  });

  test.each([
    ['an unknown odd record (55555, inbound fees)', 'fdd90308000000010000000a'],
    ['an unknown even record', '020107'],
    ['no record at all', '00'],
    ['records out of order', '05000300'],
  ])('keeps %s at its end, in the signed bytes', (_what, tail) => {
    const result = decodeMessage(concatBytes(encodeMessage(update), fromHex(tail)));
    if (!result.ok || result.value.type !== 'channel_update')
      throw new DecodeError('invalid_value', 'no channel_update');
    expect(result.value.excessData).toEqual(fromHex(tail));
    expect(toHex(gossipSignedBytes(result.value)).endsWith(tail)).toBe(true);
  });

  test('the checksum leaves out signature and timestamp, and nothing else', () => {
    const raw = encodeMessage(update);
    const checksum = channelUpdateChecksum(update);
    expect(checksum).toBe(crc32c(raw.slice(66, 106), raw.slice(110)));
    expect(channelUpdateChecksum(raw)).toBe(checksum);
    expect(channelUpdateChecksum({ ...update, timestamp: 5, signature: new Uint8Array(64) })).toBe(checksum);
    expect(channelUpdateChecksum({ ...update, channelFlags: 1 })).not.toBe(checksum);
    expect(channelUpdateChecksum({ ...update, excessData: fromHex('010100') })).not.toBe(checksum);
  });
});

describe('addresses', () => {
  const all: readonly NodeAddress[] = [
    { kind: 'ipv4', address: fromHex('01020304'), port: 9735 },
    { kind: 'ipv6', address: fromHex('20010db8000000000000000000000001'), port: 9736 },
    { kind: 'torv3', address: fromHex('00'.repeat(34) + '03'), port: 9737 },
    { kind: 'dns', hostname: 'node.example.com', port: 9738 },
  ];

  test('every kind round-trips, in ascending order of type', () => {
    expect(parseAddresses(encodeAddresses(all.toReversed()))).toEqual(
      ok({ addresses: all, mayForward: true }),
    );
    for (const address of all)
      expect(parseAddress(encodeAddress(address))).toEqual({ ok: true, value: address });
    expect(toHex(encodeAddress(all[0] ?? { kind: 'dns', hostname: 'x', port: 1 }))).toBe('01010203042607');
  });

  test('human form', () => {
    expect(all.map(formatAddress)).toEqual([
      '1.2.3.4:9735',
      '[2001:db8:0:0:0:0:0:1]:9736',
      `${'a'.repeat(55)}d.onion:9737`,
      'node.example.com:9738',
    ]);
  });

  test('Tor v2, port 0, strange hostnames and what follows an unknown type are left out', () => {
    const bytes = fromHex(
      `03${'00'.repeat(12)}01010203040000` + '0501' + '0a' + '2607' + '01010203042607' + '09aabbcc',
    );
    expect(parseAddresses(bytes)).toEqual(ok({ addresses: all.slice(0, 1), mayForward: true }));
    expect(parseAddress(fromHex('09aabb'))).toEqual({ ok: true, value: undefined });
  });

  test('a second hostname is ignored and forbids forwarding', () => {
    expect(parseAddresses(fromHex('0501610001' + '0501620001'))).toEqual(
      ok({ addresses: [{ kind: 'dns', hostname: 'a', port: 1 }], mayForward: false }),
    );
  });

  test('a descriptor cut short is refused', () => {
    expect(parseAddresses(fromHex('0101020304'))).toMatchObject({ error: { code: 'truncated' } });
    expect(parseAddress(new Uint8Array(0)).ok).toBe(false);
  });

  test('what must not be announced cannot be encoded', () => {
    const dns: NodeAddress = { kind: 'dns', hostname: 'a.example', port: 1 };
    expect(() => encodeAddresses([dns, dns])).toThrow(EncodeError);
    expect(() => encodeAddress({ ...dns, port: 0 })).toThrow(EncodeError);
    expect(() => encodeAddress({ ...dns, hostname: 'ü.example' })).toThrow(EncodeError);
    expect(() => encodeAddress({ kind: 'ipv4', address: fromHex('01'), port: 1 })).toThrow(EncodeError);
  });

  test('arbitrary bytes never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60, max: 6 }), (bytes) => {
        const parsed = parseAddresses(bytes);
        if (parsed.ok) expect(parseAddresses(encodeAddresses(parsed.value.addresses)).ok).toBe(true);
        else expect(parsed.error).toBeInstanceOf(DecodeError);
        parseAddress(bytes);
      }),
      { numRuns: 300 },
    );
  });
});

describe("peers' text", () => {
  test('log injection: control, bidi and line separators do not survive', () => {
    const hostile = 'a\nb\r\u001b[31m\u202e\u2066\u2028\u2029\u0085\u200bz\ud800';
    const clean = sanitizeForLog(hostile);
    expect(clean).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(clean.startsWith('a\ufffdb\ufffd\ufffd[31m')).toBe(true);
    expect(sanitizeForLog('λ ⚡ 日本')).toBe('λ ⚡ 日本');
  });

  test('length is bounded', () => {
    expect(sanitizeForLog('x'.repeat(5000)).length).toBe(1025);
    expect(printableData(new Uint8Array(5000).fill(65), 10)).toBe('AAAAAAAAAA…');
  });

  test('error data is printed as ASCII only', () => {
    expect(printableData(fromHex('4f4b0a1b7f80ff20'))).toBe('OK????? ');
  });
});
