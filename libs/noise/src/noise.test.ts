/** BOLT 8's vectors in full, an independent implementation as the other side, and hostile bytes. */
import { NoiseState } from '@node-dlc/noise';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  MAX_MESSAGE_LENGTH,
  NoiseError,
  Transport,
  initiator,
  initiatorMakeActOne,
  initiatorMakeActThree,
  initiatorReadActTwo,
  responder,
  responderMakeActTwo,
  responderReadActOne,
} from './index.ts';
import type { HandshakeError, SessionKeys } from './index.ts';
import vectors from './vectors/bolt08-appendix-a.json' with { type: 'json' };

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const INITIATOR_SECRET = new Uint8Array(32).fill(0x11);
const INITIATOR_EPHEMERAL = new Uint8Array(32).fill(0x12);
const RESPONDER_SECRET = new Uint8Array(32).fill(0x21);
const RESPONDER_EPHEMERAL = new Uint8Array(32).fill(0x22);

/** The vectors' name of an error. */
function nameOf(error: HandshakeError): string {
  const names = {
    bad_length: 'READ_FAILED',
    bad_version: 'BAD_VERSION',
    bad_public_key: 'BAD_PUBKEY',
    bad_ciphertext: 'BAD_CIPHERTEXT',
    bad_tag: 'BAD_TAG',
  };
  return `ACT${error.act}_${names[error.kind]}`;
}

/** `ERROR (ACT2_BAD_VERSION 1)` → `ACT2_BAD_VERSION`; undefined for bytes. */
function expectedError(output: string | undefined): string | undefined {
  return output === undefined ? undefined : /^ERROR \((\w+)/.exec(output)?.[1];
}

function valueOf<T, E>(
  result: { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: E },
): T {
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
}

interface Step {
  readonly input?: string;
  readonly output?: string;
}

describe('BOLT 8 vectors', () => {
  test.each(vectors.initiator)('$name', ({ keys, steps: typed }) => {
    const steps: readonly Step[] = typed;
    const begun = valueOf(
      initiator(secp, {
        staticSecret: hex(keys['ls.priv']),
        ephemeralSecret: hex(keys['e.priv']),
        counterpartyStaticKey: hex(keys['rs.pub'] ?? ''),
      }),
    );
    expect(toHex(begun.actOne)).toBe(steps[0]?.output);
    const finished = begun.onActTwo(hex(steps[1]?.input ?? ''));
    const wanted = expectedError(steps[2]?.output);
    if (wanted !== undefined) {
      expect(!finished.ok && nameOf(finished.error)).toBe(wanted);
      return;
    }
    const { actThree, keys: session } = valueOf(finished);
    expect(toHex(actThree)).toBe(steps[2]?.output);
    expect(steps[3]?.output).toBe(`sk,rk=${toHex(session.sendingKey)},${toHex(session.receivingKey)}`);
  });

  test.each(vectors.responder)('$name', ({ keys, steps: typed }) => {
    const steps: readonly Step[] = typed;
    const begun = responder(
      secp,
      { staticSecret: hex(keys['ls.priv']), ephemeralSecret: hex(keys['e.priv']) },
      hex(steps[0]?.input ?? ''),
    );
    const firstError = expectedError(steps[1]?.output);
    if (firstError !== undefined) {
      expect(!begun.ok && nameOf(begun.error)).toBe(firstError);
      return;
    }
    expect(toHex(valueOf(begun).actTwo)).toBe(steps[1]?.output);
    const finished = valueOf(begun).onActThree(hex(steps[2]?.input ?? ''));
    const wanted = expectedError(steps[3]?.output);
    if (wanted !== undefined) {
      expect(!finished.ok && nameOf(finished.error)).toBe(wanted);
      return;
    }
    const { keys: session, counterpartyStaticKey } = valueOf(finished);
    expect(counterpartyStaticKey).toEqual(secp.publicKeyOf(INITIATOR_SECRET));
    expect(steps[3]?.output).toBe(`rk,sk=${toHex(session.receivingKey)},${toHex(session.sendingKey)}`);
  });

  test('there are 5 and 10 of them', () => {
    expect([vectors.initiator.length, vectors.responder.length]).toEqual([5, 10]);
  });

  test('message encryption, over two rotations', () => {
    const { ck, sk, rk, outputs } = vectors.message;
    const sender = new Transport({ sendingKey: hex(sk), receivingKey: hex(rk), chainingKey: hex(ck) });
    const receiver = new Transport({ sendingKey: hex(rk), receivingKey: hex(sk), chainingKey: hex(ck) });
    const wanted = new Map(Object.entries(outputs));
    const hello = new TextEncoder().encode('hello');
    let compared = 0;
    for (let i = 0; i <= 1001; i++) {
      const frame = sender.encrypt(hello);
      const output = wanted.get(String(i));
      if (output !== undefined) {
        expect(toHex(frame)).toBe(output);
        compared += 1;
      }
      expect(receiver.feed(frame)).toEqual({ ok: true, value: [hello] });
    }
    expect(compared).toBe(6);
  });
});

/** The keys of both sides after a good handshake. */
function session(curve = secp): { readonly a: SessionKeys; readonly b: SessionKeys } {
  const begun = valueOf(
    initiator(curve, {
      staticSecret: INITIATOR_SECRET,
      ephemeralSecret: INITIATOR_EPHEMERAL,
      counterpartyStaticKey: curve.publicKeyOf(RESPONDER_SECRET),
    }),
  );
  const answered = valueOf(
    responder(curve, { staticSecret: RESPONDER_SECRET, ephemeralSecret: RESPONDER_EPHEMERAL }, begun.actOne),
  );
  const { actThree, keys: a } = valueOf(begun.onActTwo(answered.actTwo));
  return { a, b: valueOf(answered.onActThree(actThree)).keys };
}

describe('handshake', () => {
  test('the static secret stays with whoever answers the ECDH', () => {
    const responderKey = secp.publicKeyOf(RESPONDER_SECRET);
    const one = valueOf(
      initiatorMakeActOne(secp, {
        ephemeralSecret: INITIATOR_EPHEMERAL,
        counterpartyStaticKey: responderKey,
      }),
    );
    const needs = valueOf(responderReadActOne(secp, responderKey, one.act));
    const two = valueOf(
      responderMakeActTwo(secp, needs, {
        ephemeralSecret: RESPONDER_EPHEMERAL,
        ecdhWithStatic: secp.ecdh(needs.ecdhPoint, RESPONDER_SECRET),
      }),
    );
    const read = valueOf(initiatorReadActTwo(secp, one.state, two.act));
    const three = initiatorMakeActThree(read, {
      holderStaticKey: secp.publicKeyOf(INITIATOR_SECRET),
      ecdhWithStatic: secp.ecdh(read.ecdhPoint, INITIATOR_SECRET),
    });
    expect(three.keys).toEqual(session().a);
  });

  test('an ECDH with another key is found out in Act One', () => {
    const one = valueOf(
      initiatorMakeActOne(secp, {
        ephemeralSecret: INITIATOR_EPHEMERAL,
        counterpartyStaticKey: secp.publicKeyOf(RESPONDER_SECRET),
      }),
    );
    const needs = valueOf(responderReadActOne(secp, secp.publicKeyOf(RESPONDER_SECRET), one.act));
    const made = responderMakeActTwo(secp, needs, {
      ephemeralSecret: RESPONDER_EPHEMERAL,
      ecdhWithStatic: new Uint8Array(32),
    });
    expect(made).toEqual({ ok: false, error: { kind: 'bad_tag', act: 1 } });
  });

  test('a node id that is no point is refused before anything is sent', () => {
    const begun = initiator(secp, {
      staticSecret: INITIATOR_SECRET,
      ephemeralSecret: INITIATOR_EPHEMERAL,
      counterpartyStaticKey: new Uint8Array(33),
    });
    expect(begun).toEqual({ ok: false, error: { kind: 'bad_public_key', act: 0 } });
  });

  test('it also runs on the fake curve', () => {
    const { a, b } = session(fakeSecp256k1);
    expect(a.sendingKey).toEqual(b.receivingKey);
    expect(a.receivingKey).toEqual(b.sendingKey);
  });

  test('any changed bit of any act is refused', () => {
    fc.assert(
      fc.property(fc.constantFrom(1, 2, 3), fc.nat({ max: 65 }), fc.nat({ max: 7 }), (act, at, bit) => {
        const flip = (bytes: Uint8Array): Uint8Array => {
          const out = Uint8Array.from(bytes);
          const index = at % out.length;
          out[index] = (out[index] ?? 0) ^ (1 << bit);
          return out;
        };
        const begun = valueOf(
          initiator(secp, {
            staticSecret: INITIATOR_SECRET,
            ephemeralSecret: INITIATOR_EPHEMERAL,
            counterpartyStaticKey: secp.publicKeyOf(RESPONDER_SECRET),
          }),
        );
        const secrets = { staticSecret: RESPONDER_SECRET, ephemeralSecret: RESPONDER_EPHEMERAL };
        if (act === 1) {
          expect(responder(secp, secrets, flip(begun.actOne)).ok).toBe(false);
          return;
        }
        const answered = valueOf(responder(secp, secrets, begun.actOne));
        if (act === 2) {
          expect(begun.onActTwo(flip(answered.actTwo)).ok).toBe(false);
          return;
        }
        expect(answered.onActThree(flip(valueOf(begun.onActTwo(answered.actTwo)).actThree)).ok).toBe(false);
      }),
      { numRuns: 60 },
    );
  });

  test('arbitrary bytes in place of an act are a typed error', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ minLength: 50, maxLength: 50 })),
        (junk) => {
          const begun = responder(
            secp,
            { staticSecret: RESPONDER_SECRET, ephemeralSecret: RESPONDER_EPHEMERAL },
            junk,
          );
          expect(begun.ok).toBe(false);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('against an independent implementation', () => {
  const theirs = (staticSecret: Uint8Array, ephemeralSecret: Uint8Array): NoiseState =>
    new NoiseState({ ls: Buffer.from(staticSecret), es: Buffer.from(ephemeralSecret) });

  // It keeps one chaining key for both directions, where BOLT 8 has `rck` and `sck`; so one direction at a time.
  test.each(['we send', 'they send'])('we begin, %s over two rotations', async (direction) => {
    const them = theirs(RESPONDER_SECRET, RESPONDER_EPHEMERAL);
    const begun = valueOf(
      initiator(secp, {
        staticSecret: INITIATOR_SECRET,
        ephemeralSecret: INITIATOR_EPHEMERAL,
        counterpartyStaticKey: secp.publicKeyOf(RESPONDER_SECRET),
      }),
    );
    them.receiveAct1(Buffer.from(begun.actOne));
    const { actThree, keys } = valueOf(begun.onActTwo(Uint8Array.from(them.recieveAct2())));
    them.receiveAct3(Buffer.from(actThree));
    const transport = new Transport(keys);
    for (let i = 0; i < 1005; i++) {
      const message = new Uint8Array(i % 40).fill(i);
      if (direction === 'we send') {
        const frame = Buffer.from(transport.encrypt(message));
        expect(them.decryptLength(frame.subarray(0, 18))).toBe(message.length);
        expect(Uint8Array.from(them.decryptMessage(frame.subarray(18)))).toEqual(message);
      } else {
        const frame = them.encryptMessage(Buffer.from(message));
        expect(transport.feed(Uint8Array.from(frame))).toEqual({ ok: true, value: [message] });
      }
    }
  });

  test('they begin', () => {
    const them = theirs(INITIATOR_SECRET, INITIATOR_EPHEMERAL);
    const actOne = them.initiatorAct1(Buffer.from(secp.publicKeyOf(RESPONDER_SECRET)));
    const answered = valueOf(
      responder(
        secp,
        { staticSecret: RESPONDER_SECRET, ephemeralSecret: RESPONDER_EPHEMERAL },
        Uint8Array.from(actOne),
      ),
    );
    them.initiatorAct2(Buffer.from(answered.actTwo));
    const { counterpartyStaticKey } = valueOf(answered.onActThree(Uint8Array.from(them.initiatorAct3())));
    expect(counterpartyStaticKey).toEqual(secp.publicKeyOf(INITIATOR_SECRET));
  });
});

describe('transport', () => {
  const { a, b } = session();

  test('messages survive any cutting of the stream', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 20 }),
        (messages, cuts) => {
          const sender = new Transport(a);
          const receiver = new Transport(b);
          const stream = Uint8Array.from(messages.flatMap((message) => [...sender.encrypt(message)]));
          const received: Uint8Array[] = [];
          for (let offset = 0, i = 0; offset < stream.length; i++) {
            const size = cuts[i % cuts.length] ?? 1;
            const piece = stream.slice(offset, offset + size);
            received.push(...valueOf(receiver.feed(piece)));
            piece.fill(0);
            offset += size;
          }
          expect(received).toEqual(messages);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('the longest message passes byte by byte, one more byte is misuse', () => {
    const sender = new Transport(a);
    const receiver = new Transport(b);
    const message = new Uint8Array(MAX_MESSAGE_LENGTH).fill(7);
    const frame = sender.encrypt(message);
    const received: Uint8Array[] = [];
    for (let i = 0; i < frame.length; i++) received.push(...valueOf(receiver.feed(frame.subarray(i, i + 1))));
    expect(received).toHaveLength(1);
    expect(received[0]).toEqual(message);
    expect(() => sender.encrypt(new Uint8Array(MAX_MESSAGE_LENGTH + 1))).toThrow(NoiseError);
  });

  test('a changed byte ends the session for good', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(), (message, at) => {
        const sender = new Transport(a);
        const receiver = new Transport(b);
        const frame = sender.encrypt(message);
        const index = at % frame.length;
        frame[index] = (frame[index] ?? 0) ^ 0x80;
        const error = { ok: false, error: { kind: index < 18 ? 'bad_length_tag' : 'bad_message_tag' } };
        expect(receiver.feed(frame)).toEqual(error);
        expect(receiver.feed(sender.encrypt(message))).toEqual(error);
        expect(receiver.feed(new Uint8Array(0))).toEqual(error);
      }),
      { numRuns: 40 },
    );
  });

  test('arbitrary bytes are awaited or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (junk) => {
        const outcome = new Transport(b).feed(junk);
        if (junk.length < 18) expect(outcome).toEqual({ ok: true, value: [] });
        else expect(outcome).toEqual({ ok: false, error: { kind: 'bad_length_tag' } });
      }),
      { numRuns: 50 },
    );
  });

  test('a frame cannot be replayed, nor sent back to its sender', () => {
    const frame = new Transport(a).encrypt(Uint8Array.of(1, 2, 3));
    const receiver = new Transport(b);
    expect(receiver.feed(frame).ok).toBe(true);
    expect(receiver.feed(frame).ok).toBe(false);
    expect(new Transport(a).feed(frame).ok).toBe(false);
  });
});
