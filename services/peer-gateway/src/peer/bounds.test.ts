import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DEFAULT_CREDIT_BYTES,
  DEFAULT_LIMITS,
  FRAME_OVERHEAD_BYTES,
  MAX_CREDIT_BYTES,
  OUTBOUND_LIMIT_BYTES,
  OUTBOUND_PAUSE_BYTES,
  PONG_BURST,
} from '../limits.ts';
import { Admission } from './admission.ts';
import { InboundWindow } from './inbound-window.ts';
import { OutboundQueue } from './outbound-queue.ts';
import { TokenBucket } from './token-bucket.ts';

describe('the inbound window', () => {
  test('counts 1, 2, 3 …, hands each frame on once, and holds its bytes until acknowledged', () => {
    const window = new InboundWindow();
    expect([1, 2, 3].map(() => window.push(new Uint8Array(10)).number)).toEqual([1n, 2n, 3n]);
    // Nothing is acknowledged that was never sent.
    window.acknowledge(3n, 0);
    expect(window.takeUnsent().map(({ number }) => number)).toEqual([1n, 2n, 3n]);
    expect(window.takeUnsent()).toEqual([]);
    window.acknowledge(2n, 0);
    // An acknowledgement of less than the one before frees nothing.
    window.acknowledge(1n, 0);
    expect(window.heldBytes).toBe(10 + FRAME_OVERHEAD_BYTES);
    window.acknowledge(3n, 0);
    expect(window.heldBytes).toBe(0);
    expect(window.push(new Uint8Array(1)).number).toBe(4n);
  });

  test('is exhausted at the credit, which the manager moves within bounds', () => {
    const window = new InboundWindow();
    window.push(new Uint8Array(DEFAULT_CREDIT_BYTES));
    expect(window.isExhausted).toBe(true);
    window.takeUnsent();
    window.acknowledge(0n, 0xffffffff);
    expect(window.isExhausted).toBe(false);
    window.push(new Uint8Array(MAX_CREDIT_BYTES));
    expect(window.isExhausted).toBe(true);
  });

  test('empty messages cost too', () => {
    const window = new InboundWindow();
    let count = 0;
    while (!window.isExhausted) {
      window.push(new Uint8Array(0));
      count += 1;
    }
    expect(count).toBeLessThan(10_000);
  });

  test('held bytes are those of the frames not acknowledged, whatever happens', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('push' as const), length: fc.integer({ min: 0, max: 100 }) }),
      fc.record({ kind: fc.constant('acknowledge' as const), through: fc.bigInt({ min: 0n, max: 30n }) }),
      fc.record({ kind: fc.constant('send' as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const window = new InboundWindow();
        const lengths: number[] = [];
        let acknowledged = 0;
        let sent = 0;
        for (const one of steps) {
          if (one.kind === 'push')
            lengths.push(Number(window.push(new Uint8Array(one.length)).message.length));
          else if (one.kind === 'send') {
            window.takeUnsent();
            sent = lengths.length;
          } else {
            window.acknowledge(one.through, 0);
            if (one.through <= BigInt(sent)) acknowledged = Math.max(acknowledged, Number(one.through));
          }
          const held = lengths
            .slice(acknowledged)
            .reduce((sum, length) => sum + length + FRAME_OVERHEAD_BYTES, 0);
          expect(window.heldBytes).toBe(held);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('the outbound queue', () => {
  test('channel messages overtake gossip and keep their order', () => {
    const queue = new OutboundQueue();
    queue.pushGossip(Uint8Array.of(9));
    queue.pushUrgent({ message: Uint8Array.of(1), number: 1n });
    queue.pushUrgent({ message: Uint8Array.of(2), number: 2n });
    expect(queue.take(100).map(({ message }) => message[0])).toEqual([1, 2, 9]);
    expect(queue.isEmpty).toBe(true);
    expect(queue.urgentBytes).toBe(0);
  });

  test('takes at least one message, and no more than asked for', () => {
    const queue = new OutboundQueue();
    for (let i = 0; i < 3; i += 1) queue.pushUrgent({ message: new Uint8Array(60) });
    expect(queue.take(10).length).toBe(1);
    expect(queue.take(120).length).toBe(2);
    expect(queue.take(120)).toEqual([]);
  });

  test('a pong waits in its place, as a number, and is made when it is taken', () => {
    const queue = new OutboundQueue();
    queue.pushUrgent({ message: Uint8Array.of(1, 1), number: 1n });
    for (let i = 0; i < PONG_BURST; i += 1) expect(queue.pushPong(65_531)).toBe(true);
    expect(queue.pushPong(0)).toBe(false);
    queue.pushUrgent({ message: Uint8Array.of(2), number: 2n });
    expect(queue.urgentBytes).toBe(3);
    expect(queue.take(64 * 1024).map(({ message }) => message.length)).toEqual([2]);
    for (let i = 1; i < PONG_BURST; i += 1)
      expect(queue.take(64 * 1024).map(({ message }) => message.length)).toEqual([65_535]);
    expect(queue.pushPong(0)).toBe(true);
    expect(queue.take(128 * 1024).map(({ message }) => message.length)).toEqual([65_535, 1, 4]);
    expect(queue.isEmpty).toBe(true);
  });

  test('small messages count with what they take beside their bytes', () => {
    const queue = new OutboundQueue();
    const message = new Uint8Array(51);
    // With the half of a kilobyte that an object of that kind takes: of the bytes alone ten times as many would fit.
    const count = Math.ceil(OUTBOUND_PAUSE_BYTES / (message.length + 512));
    for (let i = 1; i < count; i += 1) queue.pushUrgent({ message });
    expect(queue.isCrowded).toBe(false);
    queue.pushUrgent({ message });
    expect(queue.isCrowded).toBe(true);
    queue.take(51);
    expect(queue.isCrowded).toBe(false);
  });

  test('is bounded in bytes, gossip apart', () => {
    const queue = new OutboundQueue();
    const half = new Uint8Array(OUTBOUND_LIMIT_BYTES / 2);
    expect([1, 2, 3].map(() => queue.pushUrgent({ message: half }))).toEqual([true, true, false]);
    const piece = new Uint8Array(64 * 1024);
    expect([1, 2, 3].map(() => queue.pushGossip(piece))).toEqual([true, true, false]);
    queue.dropGossip();
    expect(queue.pushGossip(piece)).toBe(true);
  });
});

test('a token bucket gives its burst and then its rate, whatever the clock does', () => {
  const bucket = new TokenBucket({ burst: 3, perSecond: 2, nowMs: 0 });
  expect([1, 2, 3, 4].map(() => bucket.take(0))).toEqual([true, true, true, false]);
  expect([bucket.take(500), bucket.take(500)]).toEqual([true, false]);
  expect(bucket.take(400)).toBe(false);
  expect(bucket.isFull(100_000)).toBe(true);
});

test('addresses without end are not remembered without end', () => {
  const admission = new Admission({
    ...DEFAULT_LIMITS,
    maxPendingHandshakes: 10_000,
    maxConnections: 10_000,
  });
  for (let i = 0; i < 6_000; i += 1) {
    expect(admission.admit(`host ${i}`, 0)).toBeUndefined();
    admission.established(`host ${i}`);
    admission.closed(`host ${i}`);
  }
  expect(admission.connections).toBe(0);
  expect(admission.pendingHandshakes).toBe(0);
});

test('a stranger who is silent in all handshakes that an address may have leaves room for those of others', () => {
  const admission = new Admission({ ...DEFAULT_LIMITS, maxPendingHandshakes: 24 });
  const refusals = Array.from({ length: 4 }, () => admission.admit('192.0.2.1', 0));
  expect(refusals).toEqual([undefined, undefined, undefined, 'pending_handshakes_per_address']);
  expect(admission.admit('192.0.2.2', 0)).toBeUndefined();
  admission.established('192.0.2.1');
  expect(admission.admit('192.0.2.1', 0)).toBeUndefined();
});

test('the addresses of one IPv6 network are one, however they are written; those of IPv4 are apart', () => {
  const admission = new Admission({ ...DEFAULT_LIMITS, maxConnectionsPerAddress: 2 });
  const admit = (host: string) => admission.admit(host, 0);
  expect([admit('2001:db8:0:1::1'), admit('2001:DB8::1:ffff:0:0:2')]).toEqual([undefined, undefined]);
  expect(admit('2001:db8:0:1:a:b:c:d')).toBe('per_address');
  expect(admit('2001:db8:0:2::1')).toBeUndefined();
  admission.closed('2001:db8:0:1:9::');
  expect(admit('2001:db8:0:1:a:b:c:d')).toBeUndefined();
  for (const host of ['192.0.2.1', '192.0.2.2', '192.0.2.3', 'host']) expect(admit(host)).toBeUndefined();
});
