import { readFileSync } from 'node:fs';
import { concatBytes, encodeBigsize, fromHex, toHex } from '@fulmen/codec';
import { hmacSha256, sha256 } from '@fulmen/crypto';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  blindedEphemeralKey,
  buildOnion,
  decodeHopPayload,
  encodeHopPayload,
  joinPacket,
  onionEphemeralKey,
  onionSharedSecrets,
  peelOnion,
} from './index.ts';
import type { BuiltOnion, PeeledOnion } from './index.ts';
import { deriveKey, deriveStream, xorInto } from './keys.ts';

/** A vector file, parsed; the caller states its shape. */
function vectorFile<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`./vectors/${name}`, import.meta.url), 'utf8')) as T;
}

interface OnionVector {
  generate: { session_key: string; associated_data: string; hops: { pubkey: string; payload: string }[] };
  onion: string;
  decode: string[];
}
interface BlindedPaymentVector {
  generate: {
    session_key: string;
    associated_data: string;
    full_route: { hops: { pubkey: string; payload: string }[]; onion?: string };
    onion: string;
  };
  decrypt: { hops: { alias: string; onion: string; node_privkey: string; next_path_key?: string }[] };
}

/** Payloads in the vectors carry their length prefix. */
function withoutPrefix(payload: string): Uint8Array {
  const bytes = fromHex(payload);
  return bytes.slice(bytes[0] === 0xfd ? 3 : 1);
}

function built(result: ReturnType<typeof buildOnion>): BuiltOnion {
  if (!result.ok) throw new TypeError(result.error.kind);
  return result.value;
}

function peel(
  packet: Uint8Array,
  key: Uint8Array,
  data: Uint8Array,
  blindingSecret?: Uint8Array,
): PeeledOnion {
  const ephemeral = onionEphemeralKey(secp, packet);
  if (!ephemeral.ok) throw new TypeError(ephemeral.error.kind);
  const point =
    blindingSecret === undefined
      ? ephemeral.value
      : blindedEphemeralKey(secp, ephemeral.value, blindingSecret);
  const result = peelOnion(secp, packet, secp.ecdh(point, key), data);
  if (!result.ok) throw new TypeError(result.error.kind);
  return result.value;
}

describe('BOLT 4 onion-test.json', () => {
  const vector = vectorFile<OnionVector>('onion-test.json');
  const associatedData = fromHex(vector.generate.associated_data);
  const hops = vector.generate.hops.map((hop) => ({
    nodeId: fromHex(hop.pubkey),
    payload: withoutPrefix(hop.payload),
  }));
  const sessionKey = fromHex(vector.generate.session_key);

  test('is built byte for byte', () => {
    expect(toHex(built(buildOnion(secp, { sessionKey, hops, associatedData })).packet)).toBe(vector.onion);
  });

  test('is peeled by each hop to its payload', () => {
    const secrets = onionSharedSecrets(
      secp,
      sessionKey,
      hops.map((hop) => hop.nodeId),
    );
    let packet: Uint8Array | undefined = fromHex(vector.onion);
    for (const [index, privkey] of vector.decode.entries()) {
      if (packet === undefined) throw new TypeError('the route ended early');
      const peeled = peel(packet, fromHex(privkey), associatedData);
      const hop = vector.generate.hops[index];
      expect(toHex(concatBytes(encodeBigsize(peeled.payload.length), peeled.payload))).toBe(hop?.payload);
      expect(peeled.sharedSecret).toEqual(secrets[index]);
      packet = peeled.next?.packet;
    }
    expect(packet).toBeUndefined();
  });
});

describe('BOLT 4 blinded-payment-onion-test.json', () => {
  const vector = vectorFile<BlindedPaymentVector>('blinded-payment-onion-test.json');
  const associatedData = fromHex(vector.generate.associated_data);

  test('is built byte for byte', () => {
    const hops = vector.generate.full_route.hops.map((hop) => ({
      nodeId: fromHex(hop.pubkey),
      payload: withoutPrefix(hop.payload),
    }));
    const onion = built(
      buildOnion(secp, { sessionKey: fromHex(vector.generate.session_key), hops, associatedData }),
    );
    expect(toHex(onion.packet)).toBe(vector.generate.onion);
  });

  test('payloads decode and encode to the same bytes', () => {
    for (const hop of vector.generate.full_route.hops) {
      const payload = withoutPrefix(hop.payload);
      const decoded = decodeHopPayload(payload);
      if (!decoded.ok) throw decoded.error;
      expect(encodeHopPayload(decoded.value.tlvs, decoded.value.unknownTlvs)).toEqual(payload);
    }
  });
});

describe('refusals', () => {
  const keys = [1, 2, 3].map((byte) => new Uint8Array(32).fill(byte));
  const associatedData = new Uint8Array(32).fill(9);
  const hops = keys.map((key, index) => ({
    nodeId: secp.publicKeyOf(key),
    payload: encodeHopPayload({ amtToForwardMsat: BigInt(index), outgoingCltvHeight: 100 }),
  }));
  const onion = built(buildOnion(secp, { sessionKey: new Uint8Array(32).fill(7), hops, associatedData }));
  const firstKey = keys[0] ?? new Uint8Array(32);

  function refusal(packet: Uint8Array, data = associatedData): string {
    const secret = secp.ecdh(onion.packet.slice(1, 34), firstKey);
    const result = peelOnion(secp, packet, secret, data);
    if (result.ok) return 'accepted';
    if (result.error.kind !== 'invalid_onion_payload')
      expect(result.error.sha256OfOnion).toEqual(sha256(packet));
    return result.error.kind;
  }

  test('version, key, HMAC and associated data', () => {
    expect(refusal(onion.packet)).toBe('accepted');
    expect(refusal(onion.packet.map((byte, i) => (i === 0 ? 1 : byte)))).toBe('invalid_onion_version');
    expect(refusal(onion.packet.map((byte, i) => (i === 1 ? 5 : byte)))).toBe('invalid_onion_key');
    expect(refusal(onion.packet.map((byte, i) => (i === 500 ? byte ^ 1 : byte)))).toBe('invalid_onion_hmac');
    expect(refusal(onion.packet.map((byte, i) => (i === 1365 ? byte ^ 1 : byte)))).toBe('invalid_onion_hmac');
    expect(refusal(onion.packet, new Uint8Array(32))).toBe('invalid_onion_hmac');
    expect(refusal(onion.packet.slice(0, 60))).toBe('invalid_onion_hmac');
    expect(refusal(new Uint8Array(0))).toBe('invalid_onion_version');
  });

  test('routes that do not fit, and payloads of reserved lengths', () => {
    const hop = { nodeId: hops[0]?.nodeId ?? new Uint8Array(33), payload: new Uint8Array(650) };
    const sessionKey = new Uint8Array(32).fill(7);
    expect(buildOnion(secp, { sessionKey, hops: [hop, hop], associatedData })).toEqual({
      ok: false,
      error: { kind: 'payloads_too_long', neededBytes: 1370, availableBytes: 1300 },
    });
    expect(buildOnion(secp, { sessionKey, hops: [], associatedData })).toMatchObject({
      error: { kind: 'no_hops' },
    });
    expect(
      buildOnion(secp, { sessionKey, hops: [{ ...hop, payload: new Uint8Array(1) }], associatedData }),
    ).toMatchObject({ error: { kind: 'payload_too_short', hopIndex: 0 } });
  });

  test('payload lengths out of bounds, in a packet whose HMAC is right', () => {
    const sharedSecret = new Uint8Array(32).fill(5);
    const lengthPrefix = (front: readonly number[]): string => {
      const payloads = deriveStream('rho', sharedSecret, 1300);
      xorInto(payloads, Uint8Array.from(front));
      const hmac = hmacSha256(deriveKey('mu', sharedSecret), concatBytes(payloads, associatedData));
      const packet = joinPacket({ ephemeralKey: secp.publicKeyOf(firstKey), payloads, hmac });
      const result = peelOnion(secp, packet, sharedSecret, associatedData);
      return result.ok ? `${result.value.payload.length} bytes` : result.error.kind;
    };
    expect(lengthPrefix([2])).toBe('2 bytes');
    // 3 bytes of length, 1265 of payload and 32 of HMAC fill the packet.
    expect(lengthPrefix([0xfd, 0x04, 0xf1])).toBe('1265 bytes');
    for (const front of [
      [0],
      [1],
      [0xfd, 0x04, 0xf2],
      [0xfd, 0, 5],
      [0xfe, 0xff, 0xff, 0xff, 0xff],
      Array.from({ length: 9 }, () => 0xff),
    ]) {
      expect(lengthPrefix(front)).toBe('invalid_onion_payload');
    }
  });
});

test('any route that fits comes out as it went in, at any packet size', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 2, maxLength: 300 }), { minLength: 1, maxLength: 8 }),
      fc.constantFrom(1300, 2600, 3000),
      (payloads, payloadsLength) => {
        const keys = payloads.map((_, index) => new Uint8Array(32).fill(index + 1));
        const hops = payloads.map((payload, index) => ({
          nodeId: secp.publicKeyOf(keys[index] ?? new Uint8Array(32)),
          payload,
        }));
        const data = new Uint8Array(0);
        const plan = { sessionKey: new Uint8Array(32).fill(99), hops, associatedData: data, payloadsLength };
        const result = buildOnion(secp, plan);
        if (!result.ok) {
          expect(result.error.kind).toBe('payloads_too_long');
          return;
        }
        let packet: Uint8Array | undefined = result.value.packet;
        for (const [index, payload] of payloads.entries()) {
          if (packet === undefined) throw new TypeError('the route ended early');
          expect(packet.length).toBe(payloadsLength + 66);
          const peeled = peel(packet, keys[index] ?? new Uint8Array(32), data);
          expect(peeled.payload).toEqual(payload);
          packet = peeled.next?.packet;
        }
        expect(packet).toBeUndefined();
      },
    ),
    { numRuns: 30 },
  );
});

test('arbitrary packets and payloads fail with a type', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 1500 }),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      (packet, secret) => {
        expect(peelOnion(secp, packet, secret, secret).ok).toBe(false);
      },
    ),
    { numRuns: 200 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      const decoded = decodeHopPayload(bytes);
      if (decoded.ok) expect(encodeHopPayload(decoded.value.tlvs, decoded.value.unknownTlvs)).toEqual(bytes);
    }),
    { numRuns: 2000 },
  );
});
