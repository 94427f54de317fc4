import { describe, expect, test } from 'vitest';
import type { Bus } from './bus.ts';

export interface BusWorld {
  /** A handle of its own for each process; resolves once it may publish. */
  connect(name: string): Promise<Bus>;
  stop(): Promise<void>;
}

const PATIENCE_MS = 10_000;

/** Publishes until the listener heard: a hint may be lost, and a subscription takes a moment to reach a server. */
async function publishUntil(
  bus: Bus,
  subject: Parameters<Bus['publish']>[0],
  heard: () => boolean,
  payload?: Uint8Array,
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!heard() && performance.now() < deadline) {
    bus.publish(subject, payload);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** What every hint bus must do; run on memory and on a real NATS server. */
export function busCompliance(name: string, makeWorld: () => Promise<BusWorld>): void {
  const withWorld = async (run: (world: BusWorld) => Promise<void>): Promise<void> => {
    const world = await makeWorld();
    try {
      await run(world);
    } finally {
      await world.stop();
    }
  };

  describe(`bus: ${name}`, () => {
    test('a hint reaches every listener of its subject, with its payload', () =>
      withWorld(async (world) => {
        const [a, b, c] = await Promise.all([world.connect('a'), world.connect('b'), world.connect('c')]);
        const heard = new Map<string, Uint8Array>();
        b.subscribe('fulmen.block', (_subject, payload) => heard.set('b', payload));
        c.subscribe('fulmen.block', (_subject, payload) => heard.set('c', payload));
        const payload = Uint8Array.of(1, 2, 3);
        await publishUntil(a, 'fulmen.block', () => heard.size === 2, payload);
        expect(heard.get('b')).toEqual(payload);
        expect(heard.get('c')).toEqual(payload);
      }));

    test('subjects are kept apart; `>` hears all shards', () =>
      withWorld(async (world) => {
        const [a, b] = await Promise.all([world.connect('a'), world.connect('b')]);
        const heard: string[] = [];
        b.subscribe('fulmen.shard.>', (subject) => heard.push(subject));
        b.subscribe('fulmen.event', (subject) => heard.push(subject));
        await publishUntil(a, 'fulmen.shard.7', () => heard.includes('fulmen.shard.7'));
        a.publish('fulmen.block');
        await publishUntil(a, 'fulmen.event', () => heard.includes('fulmen.event'));
        expect(new Set(heard)).toEqual(new Set(['fulmen.shard.7', 'fulmen.event']));
      }));

    test('a listener that throws harms nobody, and one that left hears nothing', () =>
      withWorld(async (world) => {
        const [a, b] = await Promise.all([world.connect('a'), world.connect('b')]);
        let gone = 0;
        let kept = 0;
        const leave = b.subscribe('fulmen.lease', () => (gone += 1));
        leave();
        b.subscribe('fulmen.lease', () => {
          throw new TypeError('a bug of the listener');
        });
        b.subscribe('fulmen.lease', () => (kept += 1));
        await publishUntil(a, 'fulmen.lease', () => kept > 0);
        expect(kept).toBeGreaterThan(0);
        expect(gone).toBe(0);
      }));

    test('publishing on a closed bus is silent', () =>
      withWorld(async (world) => {
        const a = await world.connect('a');
        await a.close();
        expect(() => a.publish('fulmen.block')).not.toThrow();
      }));
  });
}
