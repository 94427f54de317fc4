import { readFileSync } from 'node:fs';
import { equalBytes, fromHex, toHex } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ATTRIBUTION_DATA_LENGTH,
  FAILURE_CODES,
  decodeFailureMessage,
  encodeFailureMessage,
  failureCode,
  failureDisposition,
  failureFlags,
  failureFromMalformed,
  onionSharedSecrets,
  unwrapFailure,
  unwrapFulfillAttribution,
  wrapAgain,
  wrapAgainAttributed,
  wrapFailure,
  wrapFailureAttributed,
  wrapFulfillAttribution,
} from './index.ts';
import type { FailureMessage, FailurePacket } from './index.ts';

/** A vector file, parsed; the caller states its shape. */
function vectorFile<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`./vectors/${name}`, import.meta.url), 'utf8')) as T;
}

interface ErrorVector {
  generate: {
    session_key: string;
    failure_message: string;
    hops: { pubkey: string; hop_shared_secret: string }[];
  };
  errorpacket: string;
}
interface AttributionVector {
  sessionKey: string;
  pubkeys: string[];
  holdTimes: number[];
  failureMessage: string;
  hops: {
    node: number;
    sharedSecret: string;
    errorPacket: string;
    attributionData: string;
    successAttributionData: string;
  }[];
}

describe('BOLT 4 onion-error-test.json', () => {
  const vector = vectorFile<ErrorVector>('onion-error-test.json');
  const secrets = onionSharedSecrets(
    secp,
    fromHex(vector.generate.session_key),
    vector.generate.hops.map((hop) => fromHex(hop.pubkey)),
  );

  test('shared secrets', () => {
    expect(secrets.map(toHex)).toEqual(vector.generate.hops.map((hop) => hop.hop_shared_secret));
  });

  test('is wrapped byte for byte, and unwrapped by the origin', () => {
    const failure = decodeFailureMessage(fromHex(vector.generate.failure_message));
    if (failure === undefined) throw new TypeError('no failure');
    let reason = wrapFailure(secrets.at(-1) ?? new Uint8Array(32), failure);
    for (const secret of secrets.slice(0, -1).toReversed()) reason = wrapAgain(secret, reason);
    expect(toHex(reason)).toBe(vector.errorpacket);
    expect(unwrapFailure(secrets, { reason, attributionData: undefined })).toEqual({
      kind: 'failure',
      hopIndex: 4,
      failure: { kind: 'temporary_node_failure' },
      attribution: undefined,
    });
  });
});

describe('BOLT 4 attribution vectors', () => {
  const vector = vectorFile<AttributionVector>('attribution-test.json');
  const secrets = onionSharedSecrets(secp, fromHex(vector.sessionKey), vector.pubkeys.map(fromHex));
  const failure = decodeFailureMessage(fromHex(vector.failureMessage));

  test('the failure message', () => {
    expect(failure).toMatchObject({
      kind: 'incorrect_or_unknown_payment_details',
      htlcMsat: 100n,
      height: 800000,
    });
    if (failure === undefined) throw new TypeError('no failure');
    expect(toHex(encodeFailureMessage(failure))).toBe(vector.failureMessage);
  });

  test('returning errors, node by node', () => {
    let packet: { reason: Uint8Array; attributionData: Uint8Array } | undefined;
    for (const hop of vector.hops) {
      const secret = fromHex(hop.sharedSecret);
      expect(secrets[hop.node]).toEqual(secret);
      const holdTime = vector.holdTimes[hop.node] ?? 0;
      if (failure === undefined) throw new TypeError('no failure');
      packet =
        packet === undefined
          ? wrapFailureAttributed(secret, failure, holdTime, 1024)
          : wrapAgainAttributed(secret, packet, holdTime);
      expect(toHex(packet.reason)).toBe(hop.errorPacket);
      expect(toHex(packet.attributionData)).toBe(hop.attributionData);
    }
    if (packet === undefined) throw new TypeError('no packet');
    expect(unwrapFailure(secrets, packet)).toEqual({
      kind: 'failure',
      hopIndex: 4,
      failure,
      attribution: { holdTimes: [5, 4, 3, 2, 1], invalidHopIndex: undefined },
    });
  });

  test('returning success, node by node', () => {
    let data: Uint8Array | undefined;
    for (const hop of vector.hops) {
      data = wrapFulfillAttribution(fromHex(hop.sharedSecret), data, vector.holdTimes[hop.node] ?? 0);
      expect(toHex(data)).toBe(hop.successAttributionData);
    }
    expect(unwrapFulfillAttribution(secrets, data ?? new Uint8Array(0))).toEqual({
      holdTimes: [5, 4, 3, 2, 1],
      invalidHopIndex: undefined,
    });
  });
});

const SECRETS = Array.from({ length: 20 }, (_, index) => new Uint8Array(32).fill(index + 1));

function returned(hopIndex: number, route: readonly Uint8Array[], tamperAt?: number): FailurePacket {
  const at = (index: number): Uint8Array => route[index] ?? new Uint8Array(32);
  let packet = wrapFailureAttributed(at(hopIndex), { kind: 'mpp_timeout' }, hopIndex);
  for (let i = hopIndex - 1; i >= 0; i--) {
    if (i === tamperAt)
      packet = { ...packet, reason: packet.reason.map((byte, k) => (k === 40 ? byte ^ 1 : byte)) };
    packet = wrapAgainAttributed(at(i), packet, i);
  }
  return packet;
}

describe('return packets', () => {
  test('every hop of routes of every length is told apart, with its hold times', () => {
    for (const length of [1, 2, 5, 19, 20]) {
      const route = SECRETS.slice(0, length);
      for (let hopIndex = 0; hopIndex < length; hopIndex += 3) {
        expect(unwrapFailure(route, returned(hopIndex, route))).toEqual({
          kind: 'failure',
          hopIndex,
          failure: { kind: 'mpp_timeout' },
          attribution: {
            holdTimes: Array.from({ length: hopIndex + 1 }, (_, index) => index),
            invalidHopIndex: undefined,
          },
        });
      }
    }
  });

  test('a hop that tampers is caught between itself and its neighbour', () => {
    const route = SECRETS.slice(0, 6);
    // Node 3 changes what node 4 sent, before it adds its own HMACs over the result.
    expect(unwrapFailure(route, returned(5, route, 3))).toEqual({
      kind: 'undecodable',
      attribution: { holdTimes: [0, 1, 2, 3], invalidHopIndex: 4 },
    });
  });

  test('a hop without attribution ends the chain, not the failure', () => {
    const route = SECRETS.slice(0, 4);
    const at = (index: number): Uint8Array => route[index] ?? new Uint8Array(32);
    const plain = wrapAgain(at(2), wrapFailure(at(3), { kind: 'expiry_too_far' }));
    const first = wrapAgainAttributed(at(1), { reason: plain, attributionData: undefined }, 8);
    expect(unwrapFailure(route, wrapAgainAttributed(at(0), first, 7))).toMatchObject({
      kind: 'failure',
      hopIndex: 3,
      attribution: { holdTimes: [7, 8], invalidHopIndex: 2 },
    });
  });

  test('routes of more than 20 hops are unwrapped, without blame', () => {
    const route = Array.from({ length: 27 }, (_, index) => new Uint8Array(32).fill(index + 1));
    expect(unwrapFailure(route, returned(26, route))).toEqual({
      kind: 'failure',
      hopIndex: 26,
      failure: { kind: 'mpp_timeout' },
      attribution: { holdTimes: [], invalidHopIndex: undefined },
    });
  });

  test('the recommended size: 256 bytes of failure and padding', () => {
    expect(wrapFailure(new Uint8Array(32), { kind: 'mpp_timeout' }).length).toBe(32 + 2 + 256 + 2);
  });

  test('arbitrary packets are undecodable', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.option(fc.uint8Array({ maxLength: 1000 })),
        (reason, data) => {
          const unwrapped = unwrapFailure(SECRETS.slice(0, 3), {
            reason,
            attributionData: data ?? undefined,
          });
          expect(unwrapped.kind).toBe('undecodable');
        },
      ),
      { numRuns: 50 },
    );
    const zeros = new Uint8Array(ATTRIBUTION_DATA_LENGTH);
    expect(unwrapFulfillAttribution(SECRETS.slice(0, 3), zeros).invalidHopIndex).toBe(0);
  });
});

const SAMPLES: readonly FailureMessage[] = [
  { kind: 'temporary_node_failure' },
  { kind: 'permanent_node_failure' },
  { kind: 'required_node_feature_missing' },
  { kind: 'invalid_onion_version', sha256OfOnion: new Uint8Array(32).fill(1) },
  { kind: 'invalid_onion_hmac', sha256OfOnion: new Uint8Array(32).fill(2) },
  { kind: 'invalid_onion_key', sha256OfOnion: new Uint8Array(32).fill(3) },
  { kind: 'temporary_channel_failure', channelUpdate: new Uint8Array(0) },
  { kind: 'permanent_channel_failure' },
  { kind: 'required_channel_feature_missing' },
  { kind: 'unknown_next_peer' },
  { kind: 'amount_below_minimum', htlcMsat: 5n, channelUpdate: Uint8Array.of(1, 2) },
  { kind: 'fee_insufficient', htlcMsat: 6n, channelUpdate: Uint8Array.of(1, 2) },
  { kind: 'incorrect_cltv_expiry', cltvExpiryHeight: 7, channelUpdate: Uint8Array.of(3) },
  { kind: 'expiry_too_soon', channelUpdate: Uint8Array.of(4) },
  { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 8n, height: 9 },
  { kind: 'final_incorrect_cltv_expiry', cltvExpiryHeight: 10 },
  { kind: 'final_incorrect_htlc_amount', incomingHtlcMsat: 11n },
  { kind: 'channel_disabled', disabledFlags: 0, channelUpdate: Uint8Array.of(5) },
  { kind: 'expiry_too_far' },
  { kind: 'invalid_onion_payload', tlvType: 300n, offset: 12 },
  { kind: 'mpp_timeout' },
  { kind: 'invalid_onion_blinding', sha256OfOnion: new Uint8Array(32).fill(4) },
];

describe('failure messages', () => {
  test('every code is encoded and decoded, with trailing bytes kept', () => {
    expect(new Set(SAMPLES.map((sample) => sample.kind))).toEqual(new Set(Object.keys(FAILURE_CODES)));
    for (const sample of SAMPLES) {
      expect(decodeFailureMessage(encodeFailureMessage(sample))).toEqual(sample);
      const longer = { ...sample, trailing: Uint8Array.of(1, 1, 7) };
      expect(decodeFailureMessage(encodeFailureMessage(longer))).toEqual(longer);
    }
    expect(failureCode({ kind: 'invalid_onion_blinding', sha256OfOnion: new Uint8Array(32) })).toBe(0xc018);
  });

  test('arbitrary bytes are kept', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc
        .tuple(fc.constantFrom(...Object.values(FAILURE_CODES)), fc.uint8Array({ maxLength: 60 }))
        .map(([code, data]) => Uint8Array.of(code >> 8, code & 255, ...data)),
    );
    fc.assert(
      fc.property(bytes, (input) => {
        const failure = decodeFailureMessage(input);
        expect(
          failure === undefined ? input.length < 2 : equalBytes(encodeFailureMessage(failure), input),
        ).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test('malformed onions become the BADONION failure that they name', () => {
    const hash = new Uint8Array(32).fill(6);
    expect(failureFromMalformed(0xc005, hash)).toEqual({ kind: 'invalid_onion_hmac', sha256OfOnion: hash });
    expect(failureFromMalformed(0xc0ff, hash)).toEqual({ kind: 'unknown', failureCode: 0xc0ff, data: hash });
    expect(failureFromMalformed(0x4005, hash)).toBeUndefined();
  });

  test('what the origin does next', () => {
    expect(failureFlags(0xf000)).toEqual({ badOnion: true, permanent: true, node: true, update: true });
    const details: FailureMessage = { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1n, height: 1 };
    expect(failureDisposition(details, 'final')).toEqual({ kind: 'fail_payment' });
    expect(failureDisposition(details, 'intermediate')).toEqual({ kind: 'avoid_node', permanent: true });
    expect(failureDisposition({ kind: 'mpp_timeout' }, 'final')).toEqual({ kind: 'retry' });
    expect(failureDisposition({ kind: 'temporary_node_failure' }, 'intermediate')).toEqual({
      kind: 'avoid_node',
      permanent: false,
    });
    const update = Uint8Array.of(1);
    expect(
      failureDisposition({ kind: 'fee_insufficient', htlcMsat: 1n, channelUpdate: update }, 'intermediate'),
    ).toEqual({ kind: 'avoid_channel', permanent: false, channelUpdate: update });
    expect(failureDisposition({ kind: 'unknown_next_peer' }, 'intermediate')).toEqual({
      kind: 'avoid_channel',
      permanent: true,
      channelUpdate: undefined,
    });
    expect(
      failureDisposition({ kind: 'invalid_onion_blinding', sha256OfOnion: new Uint8Array(32) }, 'final'),
    ).toEqual({ kind: 'avoid_blinded_path' });
    expect(
      failureDisposition({ kind: 'unknown', failureCode: 0x6063, data: update }, 'intermediate'),
    ).toEqual({
      kind: 'avoid_node',
      permanent: true,
    });
  });
});
