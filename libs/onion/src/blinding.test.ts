import { readFileSync } from 'node:fs';
import { DecodeError, concatBytes, decodeWith, equalBytes, fromHex, toHex, Writer } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  aggregateBlindedFees,
  blindPath,
  blindedEphemeralKey,
  blindedNodeIdTweak,
  blindedPathCoder,
  buildOnionMessage,
  decodeHopPayload,
  decodeOnionMessagePayload,
  decodeRecipientData,
  encodeOnionMessagePayload,
  encodeRecipientData,
  encodeRecipientDataPadded,
  hopInstruction,
  onionEphemeralKey,
  pathKeyOfHop,
  peelOnion,
  unblindHop,
} from './index.ts';
import type {
  HopInstruction,
  HopPayload,
  IncomingHtlc,
  PeeledOnion,
  RecipientData,
  UnblindedHop,
} from './index.ts';

/** A vector file, parsed; the caller states its shape. */
function vectorFile<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`./vectors/${name}`, import.meta.url), 'utf8')) as T;
}

interface RouteVector {
  generate: {
    hops: {
      session_key?: string;
      node_id: string;
      encoded_tlvs: string;
      encrypted_data: string;
      blinded_node_id: string;
      shared_secret: string;
    }[];
  };
  route: {
    first_node_id: string;
    first_path_key: string;
    hops: { blinded_node_id: string; encrypted_data: string }[];
  };
  unblind: {
    hops: {
      node_privkey: string;
      path_key: string;
      blinded_privkey: string;
      decrypted_data: string;
      next_path_key: string;
      next_path_key_override?: string;
    }[];
  };
}
interface MessageVector {
  generate: {
    session_key: string;
    hops: { path_key_secret: string; encrypted_data_tlv: string; blinded_node_id: string; E: string }[];
  };
  route: {
    first_node_id: string;
    first_path_key: string;
    hops: { blinded_node_id: string; encrypted_recipient_data: string }[];
  };
  onionmessage: { unknown_tag_1: string; onion_message_packet: string };
  decrypt: { hops: { privkey: string; onion_message: string; next_node_id?: string }[] };
}
interface PaymentVector {
  generate: { associated_data: string };
  decrypt: { hops: { onion: string; node_privkey: string; next_path_key?: string }[] };
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

function unblinded(pathKey: Uint8Array, encryptedRecipientData: Uint8Array, key: Uint8Array): UnblindedHop {
  const result = unblindHop(secp, { pathKey, encryptedRecipientData }, secp.ecdh(pathKey, key));
  if (!result.ok) throw new TypeError(result.error.kind);
  return result.value;
}

describe('BOLT 4 route-blinding-test.json', () => {
  const vector = vectorFile<RouteVector>('route-blinding-test.json');
  const [bob, carol, dave, eve] = vector.generate.hops;
  const toBlind = (hops: readonly (typeof bob)[]) =>
    hops.map((hop) => ({
      nodeId: fromHex(hop?.node_id ?? ''),
      recipientData: fromHex(hop?.encoded_tlvs ?? ''),
    }));

  test('two paths are made and joined', () => {
    const first = blindPath(secp, fromHex(bob?.session_key ?? ''), toBlind([bob, carol]));
    const second = blindPath(secp, fromHex(dave?.session_key ?? ''), toBlind([dave, eve]));
    expect(toHex(first.firstNodeId)).toBe(vector.route.first_node_id);
    expect(toHex(first.firstPathKey)).toBe(vector.route.first_path_key);
    expect(
      [...first.hops, ...second.hops].map((hop) => ({
        blinded_node_id: toHex(hop.blindedNodeId),
        encrypted_data: toHex(hop.encryptedRecipientData),
      })),
    ).toEqual(vector.route.hops);
  });

  test('each hop unblinds its part', () => {
    for (const [index, hop] of vector.unblind.hops.entries()) {
      const key = fromHex(hop.node_privkey);
      const pathKey = fromHex(hop.path_key);
      const encrypted = fromHex(vector.route.hops[index]?.encrypted_data ?? '');
      const result = unblinded(pathKey, encrypted, key);
      expect(toHex(encodeRecipientData(result.data.tlvs, result.data.unknownTlvs))).toBe(hop.decrypted_data);
      expect(toHex(result.nextPathKey)).toBe(hop.next_path_key_override ?? hop.next_path_key);
      const tweak = blindedNodeIdTweak(secp.ecdh(pathKey, key));
      expect(toHex(secp.secretKeyTweakMul(key, tweak))).toBe(hop.blinded_privkey);
      expect(unblindHop(secp, { pathKey, encryptedRecipientData: encrypted }, new Uint8Array(32))).toEqual({
        ok: false,
        error: { kind: 'not_decryptable' },
      });
    }
  });
});

describe('BOLT 4 blinded-onion-message-onion-test.json', () => {
  const vector = vectorFile<MessageVector>('blinded-onion-message-onion-test.json');

  test('the path is made hop by hop, joined to the one received', () => {
    for (const [index, hop] of vector.generate.hops.entries()) {
      const nodeId = secp.publicKeyOf(fromHex(vector.decrypt.hops[index]?.privkey ?? ''));
      const path = blindPath(secp, fromHex(hop.path_key_secret), [
        { nodeId, recipientData: fromHex(hop.encrypted_data_tlv) },
      ]);
      expect(toHex(path.firstPathKey)).toBe(hop.E);
      expect(toHex(path.hops[0]?.blindedNodeId ?? new Uint8Array(0))).toBe(hop.blinded_node_id);
      expect(toHex(path.hops[0]?.encryptedRecipientData ?? new Uint8Array(0))).toBe(
        vector.route.hops[index]?.encrypted_recipient_data,
      );
    }
  });

  test('the packet is built byte for byte', () => {
    const hops = vector.route.hops.map((hop) => ({
      blindedNodeId: fromHex(hop.blinded_node_id),
      encryptedRecipientData: fromHex(hop.encrypted_recipient_data),
    }));
    const onion = buildOnionMessage(secp, fromHex(vector.generate.session_key), hops, {
      tlvs: {},
      unknownTlvs: [{ type: 1n, value: fromHex(vector.onionmessage.unknown_tag_1) }],
    });
    if (!onion.ok) throw new TypeError(onion.error.kind);
    expect(toHex(onion.value.packet)).toBe(vector.onionmessage.onion_message_packet);
  });

  test('each hop forwards the message of the next, and the last reads it', () => {
    for (const [index, hop] of vector.decrypt.hops.entries()) {
      const message = fromHex(hop.onion_message);
      const pathKey = message.slice(2, 35);
      const key = fromHex(hop.privkey);
      const peeled = peel(message.slice(37), key, new Uint8Array(0), secp.ecdh(pathKey, key));
      const payload = decodeOnionMessagePayload(peeled.payload);
      if (!payload.ok) throw payload.error;
      const encrypted = payload.value.tlvs.encryptedRecipientData ?? new Uint8Array(0);
      const { data, nextPathKey } = unblinded(pathKey, encrypted, key);
      const next = vector.decrypt.hops[index + 1];
      if (next === undefined) {
        expect(peeled.next).toBeUndefined();
        expect(payload.value.unknownTlvs).toEqual([{ type: 1n, value: new TextEncoder().encode('hello') }]);
        expect(toHex(data.tlvs.pathId ?? new Uint8Array(0))).toMatch(/^deadbeefbadc0ffee/);
        continue;
      }
      expect(toHex(data.tlvs.nextNodeId ?? new Uint8Array(0))).toBe(hop.next_node_id);
      const packet = peeled.next?.packet ?? new Uint8Array(0);
      const length = new Writer().u16(packet.length).finish();
      expect(toHex(concatBytes(Uint8Array.of(2, 1), nextPathKey, length, packet))).toBe(next.onion_message);
    }
  });

  test('large contents take the larger packet', () => {
    const hop = {
      blindedNodeId: secp.publicKeyOf(new Uint8Array(32).fill(1)),
      encryptedRecipientData: new Uint8Array(50),
    };
    const build = (size: number) =>
      buildOnionMessage(secp, new Uint8Array(32).fill(3), [hop], { tlvs: { invoice: new Uint8Array(size) } });
    expect(build(100)).toMatchObject({ ok: true, value: { packet: { length: 1366 } } });
    expect(build(2000)).toMatchObject({ ok: true, value: { packet: { length: 32834 } } });
    expect(build(40000)).toMatchObject({ ok: false, error: { kind: 'payloads_too_long' } });
  });
});

describe('BOLT 4 blinded-payment-onion-test.json, from Alice to Eve', () => {
  const vector = vectorFile<PaymentVector>('blinded-payment-onion-test.json');
  const associatedData = fromHex(vector.generate.associated_data);

  test('each hop reads its instruction and hands on the next onion', () => {
    let htlc: IncomingHtlc = {
      amountMsat: 110125n,
      cltvExpiryHeight: 749150,
      pathKey: undefined,
      packet: fromHex(vector.decrypt.hops[0]?.onion ?? ''),
    };
    const instructions: HopInstruction[] = [];
    for (const [index, hop] of vector.decrypt.hops.entries()) {
      expect(toHex(htlc.packet)).toBe(hop.onion);
      const key = fromHex(hop.node_privkey);
      const secret = htlc.pathKey === undefined ? undefined : secp.ecdh(htlc.pathKey, key);
      const peeled = peel(htlc.packet, key, associatedData, secret);
      const payload = decodeHopPayload(peeled.payload);
      if (!payload.ok) throw payload.error;
      const pathKey = pathKeyOfHop(payload.value, htlc);
      if (!pathKey.ok) throw new TypeError(pathKey.error.kind);
      const opened =
        pathKey.value === undefined
          ? undefined
          : unblindHop(
              secp,
              {
                pathKey: pathKey.value,
                encryptedRecipientData: payload.value.tlvs.encryptedRecipientData ?? new Uint8Array(0),
              },
              secp.ecdh(pathKey.value, key),
            );
      if (hop.next_path_key !== undefined) {
        expect(opened?.ok === true ? toHex(opened.value.nextPathKey) : undefined).toBe(hop.next_path_key);
      }
      const role = peeled.next === undefined ? 'final' : 'intermediate';
      const instruction = hopInstruction(payload.value, role, htlc, opened);
      if (!instruction.ok) throw new TypeError(`hop ${index}: ${instruction.error.kind}`);
      instructions.push(instruction.value);
      if (instruction.value.kind !== 'forward' || peeled.next === undefined) break;
      htlc = {
        amountMsat: instruction.value.amountMsat,
        cltvExpiryHeight: instruction.value.cltvExpiryHeight,
        pathKey: instruction.value.nextPathKey,
        packet: peeled.next.packet,
      };
    }
    expect(instructions).toMatchObject([
      { next: { shortChannelId: 10n }, amountMsat: 110125n, cltvExpiryHeight: 749150 },
      { next: { shortChannelId: 1n }, amountMsat: 100125n, cltvExpiryHeight: 749100 },
      { next: { shortChannelId: 2n }, amountMsat: 100010n, cltvExpiryHeight: 749025 },
      { next: { shortChannelId: 3n }, amountMsat: 100000n, cltvExpiryHeight: 749000 },
      { kind: 'receive_blinded', amountMsat: 100000n, totalMsat: 150000n, cltvExpiryHeight: 749000 },
    ]);
  });

  test('the path costs what the vector says', () => {
    const relays = [
      { cltvExpiryDelta: 50, feeProportionalMillionths: 0, feeBaseMsat: 10000 },
      { cltvExpiryDelta: 75, feeProportionalMillionths: 150, feeBaseMsat: 100 },
      { cltvExpiryDelta: 25, feeProportionalMillionths: 100, feeBaseMsat: 0 },
    ];
    expect(aggregateBlindedFees(relays, 0)).toEqual({
      feeBaseMsat: 10100n,
      feeProportionalMillionths: 251n,
      cltvExpiryDelta: 150,
    });
  });
});

describe('what a hop refuses', () => {
  const htlc: IncomingHtlc = {
    amountMsat: 1000n,
    cltvExpiryHeight: 500,
    pathKey: undefined,
    packet: new Uint8Array(1366),
  };
  const pathKey = secp.publicKeyOf(new Uint8Array(32).fill(5));
  const blinded = { ...htlc, pathKey };
  const encryptedRecipientData = new Uint8Array(20);
  const relay = { cltvExpiryDelta: 40, feeProportionalMillionths: 0, feeBaseMsat: 10 };
  const forwardData: RecipientData['tlvs'] = { shortChannelId: 1n, paymentRelay: relay };

  function outcome(
    tlvs: HopPayload['tlvs'],
    role: 'intermediate' | 'final',
    incoming: IncomingHtlc,
    data?: RecipientData['tlvs'],
    unknownTlvs: RecipientData['unknownTlvs'] = [],
  ): string {
    const hop =
      data === undefined ? undefined : { data: { tlvs: data, unknownTlvs: [] }, nextPathKey: pathKey };
    const result = hopInstruction(
      { tlvs, unknownTlvs },
      role,
      incoming,
      hop === undefined ? undefined : { ok: true, value: hop },
    );
    return result.ok ? result.value.kind : result.error.kind;
  }

  test('outside of blinded paths', () => {
    const amounts = { amtToForwardMsat: 900n, outgoingCltvHeight: 450 };
    expect(outcome({ ...amounts, shortChannelId: 1n }, 'intermediate', htlc)).toBe('forward');
    expect(outcome(amounts, 'intermediate', htlc)).toBe('invalid_onion_payload');
    expect(outcome({ outgoingCltvHeight: 1 }, 'final', htlc)).toBe('invalid_onion_payload');
    expect(outcome({ amtToForwardMsat: 1n }, 'final', htlc)).toBe('invalid_onion_payload');
    expect(outcome(amounts, 'final', htlc)).toBe('receive');
    expect(outcome({ ...amounts, outgoingCltvHeight: 501 }, 'final', htlc)).toBe(
      'final_incorrect_cltv_expiry',
    );
    expect(outcome({ ...amounts, amtToForwardMsat: 1001n }, 'final', htlc)).toBe(
      'final_incorrect_htlc_amount',
    );
    expect(outcome(amounts, 'final', blinded)).toBe('invalid_onion_blinding');
    expect(outcome({ ...amounts, currentPathKey: pathKey }, 'final', htlc)).toBe('invalid_onion_blinding');
  });

  test('inside of blinded paths', () => {
    const refused = 'invalid_onion_blinding';
    const tlvs = { encryptedRecipientData };
    expect(outcome(tlvs, 'intermediate', blinded, forwardData)).toBe('forward');
    expect(outcome({ ...tlvs, currentPathKey: pathKey }, 'intermediate', htlc, forwardData)).toBe('forward');
    expect(outcome({ ...tlvs, currentPathKey: pathKey }, 'intermediate', blinded, forwardData)).toBe(refused);
    expect(outcome(tlvs, 'intermediate', htlc, forwardData)).toBe(refused);
    expect(outcome(tlvs, 'intermediate', blinded)).toBe(refused);
    expect(outcome({ ...tlvs, amtToForwardMsat: 1n }, 'intermediate', blinded, forwardData)).toBe(refused);
    const odd = [{ type: 77n, value: new Uint8Array(1) }];
    expect(outcome(tlvs, 'intermediate', blinded, forwardData, odd)).toBe(refused);
    expect(outcome(tlvs, 'intermediate', blinded, { shortChannelId: 1n })).toBe(refused);
    expect(outcome(tlvs, 'intermediate', blinded, { paymentRelay: relay })).toBe(refused);
    expect(outcome(tlvs, 'intermediate', blinded, { ...forwardData, nextNodeId: pathKey })).toBe(refused);
    expect(
      outcome(tlvs, 'intermediate', blinded, { ...forwardData, allowedFeatures: new Uint8Array(2) }),
    ).toBe('forward');
    expect(
      outcome(tlvs, 'intermediate', blinded, { ...forwardData, allowedFeatures: Uint8Array.of(2) }),
    ).toBe(refused);
    const constraints = { maxCltvExpiryHeight: 500, htlcMinimumMsat: 1000n };
    const limited = (change: object) => ({
      ...forwardData,
      paymentConstraints: { ...constraints, ...change },
    });
    expect(outcome(tlvs, 'intermediate', blinded, limited({}))).toBe('forward');
    expect(outcome(tlvs, 'intermediate', blinded, limited({ maxCltvExpiryHeight: 499 }))).toBe(refused);
    expect(outcome(tlvs, 'intermediate', blinded, limited({ htlcMinimumMsat: 1001n }))).toBe(refused);
    expect(
      outcome(tlvs, 'intermediate', blinded, {
        ...forwardData,
        paymentRelay: { ...relay, feeBaseMsat: 1001 },
      }),
    ).toBe(refused);
    const final = { ...tlvs, amtToForwardMsat: 900n, outgoingCltvHeight: 450, totalAmountMsat: 900n };
    expect(outcome(final, 'final', blinded, {})).toBe('receive_blinded');
    const { totalAmountMsat: _total, ...noTotal } = final;
    expect(outcome(noTotal, 'final', blinded, {})).toBe(refused);
    expect(outcome({ ...final, paymentMetadata: new Uint8Array(1) }, 'final', blinded, {})).toBe(refused);
    expect(outcome({ ...final, amtToForwardMsat: 1001n }, 'final', blinded, {})).toBe(refused);
    expect(outcome({ ...final, outgoingCltvHeight: 501 }, 'final', blinded, {})).toBe(refused);
  });
});

test('padding makes all recipient data equally long', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 5 }), (lengths) => {
      const hops = lengths.map((length) => ({ tlvs: { pathId: new Uint8Array(length) }, unknownTlvs: [] }));
      const encoded = encodeRecipientDataPadded(hops);
      expect(new Set(encoded.map((bytes) => bytes.length)).size).toBe(1);
      for (const [index, bytes] of encoded.entries()) {
        const decoded = decodeRecipientData(bytes);
        expect(decoded.ok && decoded.value.tlvs.pathId?.length).toBe(lengths[index]);
      }
    }),
    { numRuns: 200 },
  );
});

test('arbitrary bytes decode to a typed error or to what encodes to them', () => {
  const pathBytes = new Writer();
  blindedPathCoder.write(
    pathBytes,
    blindPath(secp, new Uint8Array(32).fill(1), [
      { nodeId: secp.publicKeyOf(new Uint8Array(32).fill(2)), recipientData: Uint8Array.of(1, 0) },
    ]),
  );
  const valid = pathBytes.finish();
  const mutated = fc
    .tuple(
      fc.integer({ min: 0, max: valid.length - 1 }),
      fc.integer({ min: 0, max: 255 }),
      fc.nat(valid.length),
    )
    .map(([at, byte, length]) =>
      valid.map((old, i) => (i === at ? byte : old)).slice(0, length === 0 ? undefined : length),
    );
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 120 }), mutated), (bytes) => {
      const data = decodeRecipientData(bytes);
      if (data.ok) expect(encodeRecipientData(data.value.tlvs, data.value.unknownTlvs)).toEqual(bytes);
      const message = decodeOnionMessagePayload(bytes);
      if (message.ok)
        expect(encodeOnionMessagePayload(message.value.tlvs, message.value.unknownTlvs)).toEqual(bytes);
      const path = decodeWith(bytes, (reader) => blindedPathCoder.read(reader));
      if (!path.ok) expect(path.error).toBeInstanceOf(DecodeError);
      else {
        const writer = new Writer();
        blindedPathCoder.write(writer, path.value);
        expect(equalBytes(writer.finish(), bytes)).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
});
