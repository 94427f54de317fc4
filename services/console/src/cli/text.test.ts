import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as format from './format.ts';
import { CliError } from './io.ts';
import { card, json, table } from './output.ts';
import * as parse from './parse.ts';

describe('amounts', () => {
  test.each([
    [0n, '0 sat'],
    [1n, '0.001 sat'],
    [1_500n, '1.500 sat'],
    [1_000n, '1 sat'],
    [1_234_567_000n, '1,234,567 sat'],
    [2_100_000_000_000_000_000n, '2,100,000,000,000,000 sat'],
    [-1_500n, '-1.500 sat'],
  ])('%s msat is %s', (value, shown) => expect(format.msat(value)).toBe(shown));

  test('are read with separators, and only whole', () => {
    expect(parse.amountSat('x', '1_000_000')).toBe(1_000_000n);
    expect(parse.amountSat('x', '1,000,000')).toBe(1_000_000n);
    for (const bad of ['', '-1', '1.5', '1e6', '1,00', ',100', '1__000', '0x10', '2100000000000001', '٣'])
      expect(() => parse.amountSat('x', bad)).toThrow(CliError);
  });

  test('what is shown grouped is read back', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2_100_000_000_000_000n), (value) => {
        expect(parse.amountSat('x', format.grouped(value))).toBe(value);
      }),
    );
  });

  test('a feerate in sat/vB becomes one in sat/kW', () => {
    expect(parse.feerate('1.012')).toBe(253);
    expect(parse.feerate('3.5')).toBe(875);
    for (const bad of ['1', '0', '', 'fast', '1.0121', '-3'])
      expect(() => parse.feerate(bad)).toThrow(CliError);
  });
});

describe('names of things', () => {
  const id = `02${'ab'.repeat(32)}`;

  test('a short channel id is shown as BOLT 7 says, and read back', () => {
    expect(format.scid((700_000n << 40n) | (12n << 16n) | 1n)).toBe('700000x12x1');
    fc.assert(
      fc.property(fc.bigInt(1n, 2n ** 64n - 1n), (scid) => {
        expect(format.parseScid(format.scid(scid))).toBe(scid);
      }),
    );
    for (const bad of ['', '1x2', '1x2x3x4', '16777216x0x0', '1x1x65536', 'axbxc'])
      expect(format.parseScid(bad)).toBeUndefined();
  });

  test('a peer is a node id, a host and a port', () => {
    expect(parse.nodeUri(`${id}@node.example.com:9735`)).toMatchObject({
      host: 'node.example.com',
      port: 9735,
    });
    expect(parse.nodeUri(`${id}@[2001:db8::7]:1`)).toMatchObject({ host: '2001:db8::7', port: 1 });
    for (const bad of [
      id,
      `${id}@host`,
      `${id}@host:0`,
      `${id}@host:65536`,
      `${id}@a:b:1`,
      `04${id.slice(2)}@h:1`,
      '@h:1',
    ])
      expect(() => parse.nodeUri(bad)).toThrow(CliError);
  });

  test('a channel may be named in five ways', () => {
    const hash = 'cd'.repeat(32);
    expect(parse.channelReference(hash).type).toBe('id');
    expect(parse.channelReference('cdcdcd')).toEqual({ type: 'prefix', prefix: 'cdcdcd' });
    expect(parse.channelReference(format.short(hash))).toEqual({ type: 'prefix', prefix: 'cdcdcdcdcd' });
    expect(parse.channelReference(`${hash}:1`)).toEqual({ type: 'outpoint', txid: hash, index: 1 });
    expect(parse.channelReference('1x2x3').type).toBe('scid');
    for (const bad of ['', 'cdcd', 'xyz', `${hash}0`, 'all'])
      expect(() => parse.channelReference(bad)).toThrow(CliError);
  });

  test('an invoice may be pasted with its scheme', () => {
    expect(parse.bolt11(' lightning:lnbc1abc ')).toBe('lnbc1abc');
    expect(() => parse.bolt11('bc1qxyz')).toThrow(/no BOLT 11 invoice/);
  });

  test('every parser ends in a value or a usage error', () => {
    const parsers = [parse.bolt11, parse.channelReference, parse.feerate, parse.nodeId, parse.nodeUri];
    fc.assert(
      fc.property(fc.string(), fc.constantFrom(...parsers), (text, parser) => {
        try {
          parser(text);
        } catch (error) {
          expect(error).toMatchObject({ name: 'CliError', exitCode: 3 });
        }
      }),
    );
  });
});

describe('output', () => {
  test('a table is aligned, and what others wrote cannot steer the terminal', () => {
    const rows = [
      { name: 'ä', value: 5n },
      { name: 'evil\u001b[2J\n', value: 1_000_000n },
    ];
    const shown = table(
      rows,
      [
        { title: 'NAME', value: ({ name }) => name },
        { title: 'VALUE', value: ({ value }) => format.sat(value), align: 'right' },
      ],
      'none',
    );
    expect(shown).toBe(
      'NAME               VALUE\n' +
        'ä                  5 sat\n' +
        'evil\u{fffd}[2J\u{fffd}  1,000,000 sat\n',
    );
    expect(table([], [], 'none')).toBe('none\n');
  });

  test('a card leaves out what is empty', () => {
    expect(
      card([
        ['a', '1'],
        ['long', ''],
        ['bb', '2'],
      ]),
    ).toBe('a   1\nbb  2\n');
  });

  test('JSON has names in snake case, 64-bit numbers as text, bytes as hex, and txids reversed', () => {
    const message = {
      fundingTxid: Uint8Array.of(1, 2, 3),
      txid: Uint8Array.of(4, 5),
      channelId: Uint8Array.of(6, 7),
      capacitySat: 2n ** 64n - 1n,
      feerateSatPerKw: undefined,
      channels: [{ holderIsFunder: true, cltvExpiryDelta: 5 }],
    };
    expect(JSON.parse(json(message))).toEqual({
      funding_txid: '030201',
      txid: '0504',
      channel_id: '0607',
      capacity_sat: '18446744073709551615',
      feerate_sat_per_kw: null,
      channels: [{ holder_is_funder: true, cltv_expiry_delta: 5 }],
    });
  });

  test('times beyond the calendar are empty', () => {
    expect(format.time(1_700_000_000_123n)).toBe('2023-11-14 22:13:20Z');
    expect(format.time(0n)).toBe('');
    expect(format.time(2n ** 63n - 1n)).toBe('');
  });
});
