/** What crosses shards: intents, claims, resolutions, replays, and upkeep. */
import { describe, expect, test } from 'vitest';
import type { CommitUnit, Fence, HtlcSource, ManagerStore, Resolution } from '../manager-store.ts';
import {
  bytes,
  channelIdOf,
  forwardingPair,
  htlc,
  htlcSource,
  intent,
  noWrites,
  step,
  types,
} from './fixtures.ts';
import { load } from './commits.ts';

export function forwardingCompliance(a: () => ManagerStore, b: () => ManagerStore): void {
  describe('forwarding', () => {
    test('an intent waits for its consumer until it is claimed; a refused unit leaves nothing', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 50);
      const sources = [0n, 1n, 2n].map((id) => htlcSource(upNumber, id));
      const [first, second, local] = [
        intent(sources[0] as HtlcSource, 51, 50, { createdUnixMs: 30 }),
        intent(sources[1] as HtlcSource, 51, 50, { createdUnixMs: 20 }),
        intent(sources[2] as HtlcSource, 77, 50, {
          target: { type: 'local', paymentHash: bytes(32, 5) },
          createdUnixMs: 10,
        }),
      ];
      const htlcs = [0n, 1n, 2n].map((id) => htlc('inbound', id));
      expect(
        types(
          await a().commitSteps([
            step(up, upNumber, 1n, {
              delta: { newHtlcs: htlcs },
              forwarding: { intents: [first, second, local] },
            }),
          ]),
        ),
      ).toEqual(['committed']);
      expect(await b().pendingIntents([51], 10)).toEqual([second, first]);
      expect(await b().pendingIntents([51, 77], 2)).toEqual([local, second]);
      expect(await b().pendingIntents([51, 77], 1, local)).toEqual([second]);
      expect(await b().pendingIntents([51, 77], 9, second)).toEqual([first]);
      expect(await b().pendingIntents([51, 77], 9, first)).toEqual([]);
      expect((await load(a(), up, upNumber))?.intentsWritten).toEqual([0n, 1n, 2n]);
      // Written twice: refused.
      expect(
        types(await a().commitSteps([step(up, upNumber, 2n, { forwarding: { intents: [first] } })])),
      ).toEqual(['bad_data']);

      const take = (version: bigint, source: HtlcSource) =>
        step(down, downNumber, version, { forwarding: { intentClaims: [{ source, outcome: 'taken' }] } });
      expect(types(await b().commitSteps([take(1n, first.source)]))).toEqual(['committed']);
      expect(await b().pendingIntents([51], 10)).toEqual([second]);
      const cancel = step(up, upNumber, 2n, {
        forwarding: {
          intentClaims: [
            { source: second.source, outcome: 'cancelled' },
            { source: first.source, outcome: 'cancelled' },
          ],
          events: [{ type: 'x', timeUnixMs: 1, body: '{}' }],
        },
      });
      expect(await a().commitSteps([cancel])).toEqual([{ type: 'intent_lost', source: first.source }]);
      expect(await b().pendingIntents([51], 10)).toEqual([second]);
      expect((await load(a(), up, upNumber))?.version).toBe(2n);
    });

    test('taken or cancelled: exactly one side wins each intent, in any race', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 54);
      const ids = Array.from({ length: 12 }, (_, index) => BigInt(index));
      expect(
        types(
          await a().commitSteps([
            step(up, upNumber, 1n, {
              forwarding: { intents: ids.map((id) => intent(htlcSource(upNumber, id), 55, 54)) },
            }),
          ]),
        ),
      ).toEqual(['committed']);
      let [upVersion, downVersion] = [2n, 1n];
      for (const id of ids) {
        const source = htlcSource(upNumber, id);
        const [taken, cancelled] = await Promise.all([
          b().commitSteps([
            step(down, downNumber, downVersion, {
              forwarding: { intentClaims: [{ source, outcome: 'taken' }] },
            }),
          ]),
          a().commitSteps([
            step(up, upNumber, upVersion, {
              forwarding: { intentClaims: [{ source, outcome: 'cancelled' }] },
            }),
          ]),
        ]);
        expect([...types(taken), ...types(cancelled)].toSorted()).toEqual(['committed', 'intent_lost']);
        if (taken[0]?.type === 'committed') downVersion += 1n;
        else upVersion += 1n;
      }
      expect(await b().pendingIntents([55], 100)).toEqual([]);
      // Also inside one group: two units, one winner.
      await a().commitSteps([
        step(up, upNumber, upVersion, {
          forwarding: { intents: [intent(htlcSource(upNumber, 50n), 55, 54)] },
        }),
      ]);
      await b().commitSteps([step(down, downNumber + 1, 0n), step(down, downNumber + 2, 0n)]);
      const claims = {
        forwarding: { intentClaims: [{ source: htlcSource(upNumber, 50n), outcome: 'taken' as const }] },
      };
      const both = await b().commitSteps([
        step(down, downNumber + 1, 1n, claims),
        step(down, downNumber + 2, 1n, claims),
      ]);
      expect(types(both).toSorted()).toEqual(['committed', 'intent_lost']);
    });

    test('the first resolution stands, but a preimage replaces a failure that nobody consumed', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 58);
      const source = htlcSource(upNumber, 0n);
      const resolve = (version: bigint, outcome: Resolution['outcome'], of = source) =>
        step(down, downNumber, version, {
          forwarding: { resolutions: [{ source: of, sourceShard: 58, outcome }] },
        });
      const failed = { type: 'failed', reason: bytes(292, 1) } as const;
      const fulfilled = { type: 'fulfilled', preimage: bytes(32, 1) } as const;
      expect(
        types(
          await b().commitSteps([
            resolve(1n, failed),
            resolve(2n, { type: 'failed_here', failure: bytes(4, 1) }),
          ]),
        ),
      ).toEqual(['committed', 'committed']);
      expect(await a().pendingResolutions([58], 10)).toEqual([{ source, sourceShard: 58, outcome: failed }]);
      expect(types(await b().commitSteps([resolve(3n, fulfilled), resolve(4n, failed)]))).toEqual([
        'committed',
        'committed',
      ]);
      expect(await a().pendingResolutions([58], 10)).toEqual([
        { source, sourceShard: 58, outcome: fulfilled },
      ]);
      const take = (version: bigint, outcome: Resolution['outcome']['type'], of = source) =>
        step(up, upNumber, version, { forwarding: { resolutionsTaken: [{ source: of, outcome }] } });
      // The upstream owner had read the failure: it must think again.
      expect(await a().commitSteps([take(1n, 'failed')])).toEqual([{ type: 'resolution_changed', source }]);
      expect(types(await a().commitSteps([take(1n, 'fulfilled')]))).toEqual(['committed']);
      expect(await a().pendingResolutions([58], 10)).toEqual([]);
      expect(await a().commitSteps([take(2n, 'fulfilled')])).toEqual([
        { type: 'resolution_changed', source },
      ]);
      // Consumed first, replaced never.
      const other = htlcSource(upNumber, 1n);
      expect(
        types(
          await b().commitSteps([
            resolve(
              5n,
              { type: 'failed_malformed', sha256OfOnion: bytes(32, 2), failureCode: 0xc004 },
              other,
            ),
          ]),
        ),
      ).toEqual(['committed']);
      expect(await a().pendingResolutions([58], 10)).toEqual([
        {
          source: other,
          sourceShard: 58,
          outcome: { type: 'failed_malformed', sha256OfOnion: bytes(32, 2), failureCode: 0xc004 },
        },
      ]);
      expect(types(await a().commitSteps([take(2n, 'failed_malformed', other)]))).toEqual(['committed']);
      expect(types(await b().commitSteps([resolve(6n, fulfilled, other)]))).toEqual(['committed']);
      expect(await a().pendingResolutions([58], 10)).toEqual([]);
    });

    test('a unit ends an HTLC once, and takes one end of it: which of two it meant nobody could say', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 116);
      const source = htlcSource(upNumber, 0n);
      const failed = { type: 'failed', reason: bytes(292, 1) } as const;
      const fulfilled = { type: 'fulfilled', preimage: bytes(32, 1) } as const;
      const resolve = (...outcomes: readonly Resolution['outcome'][]) =>
        step(down, downNumber, 1n, {
          forwarding: { resolutions: outcomes.map((outcome) => ({ source, sourceShard: 116, outcome })) },
        });
      expect(types(await b().commitSteps([resolve(failed, fulfilled)]))).toEqual(['bad_data']);
      expect(types(await b().commitSteps([resolve(fulfilled)]))).toEqual(['committed']);
      const take = (...outcomes: readonly Resolution['outcome']['type'][]) =>
        step(up, upNumber, 1n, {
          forwarding: { resolutionsTaken: outcomes.map((outcome) => ({ source, outcome })) },
        });
      expect(types(await a().commitSteps([take('failed', 'fulfilled')]))).toEqual(['bad_data']);
      expect(types(await a().commitSteps([take('fulfilled')]))).toEqual(['committed']);
    });

    test('a preimage that races with the consumption of a failure: either replaces it in time, or is too late for both', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 62);
      let [upVersion, downVersion] = [1n, 1n];
      for (let id = 0n; id < 12n; id += 1n) {
        const source = htlcSource(upNumber, id);
        const resolve = (outcome: Resolution['outcome']) =>
          step(down, downNumber, downVersion, {
            forwarding: { resolutions: [{ source, sourceShard: 62, outcome }] },
          });
        expect(types(await b().commitSteps([resolve({ type: 'failed', reason: bytes(3, 1) })]))).toEqual([
          'committed',
        ]);
        downVersion += 1n;
        const [replaced, consumed] = await Promise.all([
          b().commitSteps([resolve({ type: 'fulfilled', preimage: bytes(32, 1) })]),
          a().commitSteps([
            step(up, upNumber, upVersion, {
              forwarding: { resolutionsTaken: [{ source, outcome: 'failed' }] },
            }),
          ]),
        ]);
        expect(types(replaced)).toEqual(['committed']);
        downVersion += 1n;
        if (consumed[0]?.type === 'committed') upVersion += 1n;
        else expect(consumed).toEqual([{ type: 'resolution_changed', source }]);
        const pending = (await a().pendingResolutions([62], 100)).filter(
          (found) => found.source.type === 'htlc' && found.source.htlcId === id,
        );
        expect(pending.map(({ outcome }) => outcome.type)).toEqual(
          consumed[0]?.type === 'committed' ? [] : ['fulfilled'],
        );
      }
    });

    test('an onion is one HTLC’s: the same again is no replay, another is', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 66);
      const replay = (number: number, htlcId: bigint) => ({
        forwarding: {
          onionReplays: [{ sharedSecretHash: bytes(32, 66), channelId: channelIdOf(number), htlcId }],
        },
      });
      expect(types(await a().commitSteps([step(up, upNumber, 1n, replay(upNumber, 4n))]))).toEqual([
        'committed',
      ]);
      expect(types(await a().commitSteps([step(up, upNumber, 2n, replay(upNumber, 4n))]))).toEqual([
        'committed',
      ]);
      expect(await a().commitSteps([step(up, upNumber, 3n, replay(upNumber, 5n))])).toEqual([
        { type: 'onion_replay', channelId: channelIdOf(upNumber), htlcId: 5n },
      ]);
      expect(await b().commitSteps([step(down, downNumber, 1n, replay(downNumber, 2n ** 64n - 1n))])).toEqual(
        [{ type: 'onion_replay', channelId: channelIdOf(downNumber), htlcId: 2n ** 64n - 1n }],
      );
      const fresh = (number: number) => ({
        forwarding: {
          onionReplays: [{ sharedSecretHash: bytes(32, 67), channelId: channelIdOf(number), htlcId: 0n }],
        },
      });
      const raced = await Promise.all([
        a().commitSteps([step(up, upNumber, 3n, fresh(upNumber))]),
        b().commitSteps([step(down, downNumber, 1n, fresh(downNumber))]),
      ]);
      expect(types(raced.flat()).toSorted()).toEqual(['committed', 'onion_replay']);
    });

    test('resolutions are read page by page', async () => {
      const { down, downNumber } = await forwardingPair(a(), b(), 90);
      const resolutions: Resolution[] = [0n, 1n, 2n].map((htlcId) => ({
        source: htlcSource(900, htlcId),
        sourceShard: 90,
        outcome: { type: 'failed', reason: bytes(40, 1) },
      }));
      await b().commitSteps([step(down, downNumber, 1n, { forwarding: { resolutions } })]);
      const [first, second, third] = resolutions;
      expect(await a().pendingResolutions([90], 2)).toEqual([first, second]);
      expect(await a().pendingResolutions([90], 2, second?.source)).toEqual([third]);
      expect(await a().pendingResolutions([90], 2, third?.source)).toEqual([]);
    });

    test('a shard answers for what none of its channels can carry, once, and while it is owned', async () => {
      const { up, down, upNumber } = await forwardingPair(a(), b(), 48);
      const sources = [0n, 1n].map((id) => htlcSource(upNumber, id));
      await a().commitSteps([
        step(up, upNumber, 1n, {
          delta: { newHtlcs: [htlc('inbound', 0n), htlc('inbound', 1n)] },
          forwarding: { intents: sources.map((source) => intent(source, 49, 48)) },
        }),
      ]);
      const outcome = { type: 'failed_here', failure: bytes(2, 10) } as const;
      const answer = (source: HtlcSource, fence: Fence): CommitUnit => ({
        kind: 'shard',
        commit: {
          fence,
          forwarding: {
            ...noWrites,
            intentClaims: [{ source, outcome: 'cancelled' }],
            resolutions: [{ source, sourceShard: 48, outcome }],
          },
        },
      });
      const [first, second] = sources as [HtlcSource, HtlcSource];
      const lost = { ...down, epoch: down.epoch + 1n };
      expect(types(await b().commitSteps([answer(first, lost)]))).toEqual(['fence_lost']);
      expect(await b().commitSteps([answer(first, down), answer(second, down)])).toEqual([
        { type: 'committed' },
        { type: 'committed' },
      ]);
      expect(types(await b().commitSteps([answer(first, down)]))).toEqual(['intent_lost']);
      expect(await b().pendingIntents([49], 10)).toEqual([]);
      expect(await a().pendingResolutions([48], 10)).toEqual(
        sources.map((source) => ({ source, sourceShard: 48, outcome })),
      );
      const forwards = await a().listForwards(10_000);
      expect(
        forwards.filter(({ inboundChannelId }) => inboundChannelId.join() === channelIdOf(upNumber).join()),
      ).toMatchObject([
        { outboundChannelId: undefined, status: 'failed' },
        { outboundChannelId: undefined, status: 'failed' },
      ]);
    });
  });
}
