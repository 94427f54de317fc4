import { FeatureBits, fromHex, toHex } from '@fulmen/codec';
import { decodeMessage, HOLDER_FEATURES, type MessageOf } from '@fulmen/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { SocketAddress } from '../socket/port.ts';
import { routeOf } from './classify.ts';
import { CHAIN_HASHES, checkInit, holderInit } from './init.ts';

const chainHash = fromHex(CHAIN_HASHES.regtest);
const holder = { features: HOLDER_FEATURES, chainHash };

function ours(inboundFrom?: SocketAddress): MessageOf<'init'> {
  const decoded = decodeMessage(holderInit({ ...holder, inboundFrom }));
  if (!decoded.ok || decoded.value.type !== 'init') throw new TypeError('our own init');
  return decoded.value;
}

test('our own init is acceptable to us', () => {
  expect(checkInit(ours(), holder)).toMatchObject({ ok: true });
  expect(HOLDER_FEATURES.missingDependencies()).toEqual([]);
});

test.each([
  ['203.0.113.7', '01cb0071072607'],
  ['2001:db8::1', '0220010db80000000000000000000000012607'],
  ['::', '02000000000000000000000000000000002607'],
  ['2001:db8:1:2:3:4:5:6', '0220010db80001000200030004000500062607'],
])('remote_addr of %s', (host, expected) => {
  expect(toHex(ours({ host, port: 9735 }).tlvs.remoteAddr ?? new Uint8Array(0))).toBe(expected);
});

test.each(['alice', '1.2.3', '1.2.3.256', ':::', '1:2:3', '1::2::3', '12345::', 'fe80::1%eth0', ''])(
  'no remote_addr of "%s"',
  (host) => {
    expect(ours({ host, port: 9735 }).tlvs.remoteAddr).toBeUndefined();
  },
);

test('both feature fields count, and required bits are refused exactly when we do not offer them', () => {
  const even = fc.integer({ min: 0, max: 200 }).map((half) => half * 2);
  fc.assert(
    fc.property(
      fc.uniqueArray(even, { maxLength: 4 }),
      fc.uniqueArray(even, { maxLength: 4 }),
      (global, local) => {
        const init: MessageOf<'init'> = {
          ...ours(),
          globalfeatures: FeatureBits.fromBits(global).encode(),
          features: FeatureBits.fromBits(local).encode(),
        };
        const all = [...global, ...local];
        const offered = all.every((bit) => HOLDER_FEATURES.hasBit(bit) || HOLDER_FEATURES.hasBit(bit + 1));
        // BOLT 9: a feature without those that it depends on is no set of features at all.
        const isWhole = FeatureBits.fromBits(all).missingDependencies().length === 0;
        expect(checkInit(init, holder).ok).toBe(offered && isWhole);
      },
    ),
    { numRuns: 300 },
  );
});

test('networks may be absent, and must have our chain when they are there', () => {
  const init = ours();
  expect(checkInit({ ...init, tlvs: {} }, holder).ok).toBe(true);
  expect(checkInit({ ...init, tlvs: { networks: [new Uint8Array(32), chainHash] } }, holder).ok).toBe(true);
  expect(checkInit({ ...init, tlvs: { networks: [] } }, holder)).toEqual({
    ok: false,
    error: 'no common chain',
  });
});

test('a feature vector of absurd length is refused', () => {
  const features = new Uint8Array(60_000);
  features[0] = 0x80;
  expect(checkInit({ ...ours(), features }, holder).ok).toBe(false);
});

test('every type has a route, and only even ones end the connection', () => {
  for (let type = 0; type <= 0xffff; type += 1) {
    if (routeOf(type) === 'unknown_even') expect(type % 2).toBe(0);
    if (routeOf(type) === 'ignored') expect(type % 2).toBe(1);
  }
  expect([32, 39, 128, 136, 259, 17, 1].map(routeOf)).toEqual(Array.from({ length: 7 }, () => 'manager'));
  expect([256, 257, 258, 261, 265].map(routeOf)).toEqual(Array.from({ length: 5 }, () => 'gossip'));
  expect([64, 80, 40, 260].map(routeOf)).toEqual(Array.from({ length: 4 }, () => 'unknown_even'));
});
