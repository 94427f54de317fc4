/** Events: nothing is skipped, nothing comes before its cause. */
import { describe, expect, test } from 'vitest';
import type { ManagerStore } from '../manager-store.ts';
import { event, owner, step, types } from './fixtures.ts';

export function eventCompliance(a: () => ManagerStore, b: () => ManagerStore): void {
  describe('events', () => {
    test('writers, two sequencers and a reader race: the reader sees every event once, each channel’s in order', async () => {
      const lanes = await Promise.all(
        [0, 1, 2, 3].map(async (lane) => ({
          fence: await owner(a(), `events-${lane}`, 80 + lane),
          number: 800 + lane,
          store: lane % 2 === 0 ? a() : b(),
        })),
      );
      const STEPS = 15;
      let writing = true;
      const write = async ({ fence, number, store }: (typeof lanes)[number]): Promise<void> => {
        for (let version = 0; version < STEPS; version += 1) {
          const events = [
            event('race', `${number} ${2 * version}`),
            event('race', `${number} ${2 * version + 1}`),
          ];
          expect(
            types(
              await store.commitSteps([step(fence, number, BigInt(version), { forwarding: { events } })]),
            ),
          ).toEqual(['committed']);
        }
      };
      const sequence = async (store: ManagerStore): Promise<void> => {
        while (writing) await store.sequenceEvents('sequencer', 7);
      };
      const seen: string[] = [];
      let cursor = 0n;
      const readOnce = async (): Promise<void> => {
        for (const { position, event: found } of await b().readEvents(cursor, 5)) {
          // Positions have no gaps, so that a reader knows that it missed nothing.
          expect(position).toBe(cursor + 1n);
          cursor = position;
          if (found.type === 'race') seen.push(found.body);
        }
      };
      const read = async (): Promise<void> => {
        while (writing) await readOnce();
      };
      const helpers = [sequence(a()), sequence(b()), read()];
      await Promise.all(lanes.map(write));
      writing = false;
      await Promise.all(helpers);
      while ((await a().sequenceEvents('sequencer', 100)) > 0);
      for (let before = -1n; before !== cursor;) {
        before = cursor;
        await readOnce();
      }
      for (const { number } of lanes) {
        expect(seen.filter((body) => body.startsWith(`${number} `))).toEqual(
          Array.from({ length: 2 * STEPS }, (_, index) => `${number} ${index}`),
        );
      }
      expect(seen).toHaveLength(lanes.length * 2 * STEPS);
    });

    test('a cursor resumes anywhere', async () => {
      const fence = await owner(a(), 'events-x', 86);
      await a().commitSteps([
        step(fence, 860, 0n, {
          forwarding: { events: ['1', '2', '3'].map((body) => event('resume', body)) },
        }),
      ]);
      while ((await a().sequenceEvents('s', 100)) > 0);
      const all = (await a().readEvents(0n, 10_000)).filter(({ event: { type } }) => type === 'resume');
      expect(all.map(({ event: found }) => found)).toEqual(
        ['1', '2', '3'].map((body) => event('resume', body)),
      );
      const [first] = all;
      expect((await b().readEvents(first?.position ?? 0n, 2)).map(({ event: { body } }) => body)).toEqual([
        '2',
        '3',
      ]);
      expect(await b().readEvents(1_000_000n, 2)).toEqual([]);
    });
  });
}
