/** What crosses shards: intents, claims, resolutions, replays, and upkeep. */
import { describe, expect, test } from 'vitest';
import type { CommitUnit, Fence, HtlcSource, ManagerStore, Resolution } from '../manager-store.ts';
import { bytes, channelIdOf, htlc, htlcSource, intent, owner, payment, step, types } from './fixtures.ts';
import { load } from './commits.ts';

export function forwardingCompliance(a: () => ManagerStore, b: () => ManagerStore): void {
  /** Two shards with a channel each: HTLCs come in on the first and go out on the second. */
  async function pair(base: number): Promise<{
    readonly up: Fence;
    readonly down: Fence;
    readonly upNumber: number;
    readonly downNumber: number;
  }> {
    const up = await owner(a(), `up-${base}`, base);
    const down = await owner(b(), `down-${base}`, base + 1);
    const [upNumber, downNumber] = [base * 10, base * 10 + 1];
    expect(types(await a().commitSteps([step(up, upNumber, 0n)]))).toEqual(['committed']);
    expect(types(await b().commitSteps([step(down, downNumber, 0n)]))).toEqual(['committed']);
    return { up, down, upNumber, downNumber };
  }

  describe('forwarding', () => {
    test('an intent waits for its consumer until it is claimed; a refused unit leaves nothing', async () => {
      const { up, down, upNumber, downNumber } = await pair(50);
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
      const { up, down, upNumber, downNumber } = await pair(54);
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
      const { up, down, upNumber, downNumber } = await pair(58);
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

    test('a preimage that races with the consumption of a failure: either replaces it in time, or is too late for both', async () => {
      const { up, down, upNumber, downNumber } = await pair(62);
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
      const { up, down, upNumber, downNumber } = await pair(66);
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

    test('upkeep takes what nothing needs, in small bites, and a forward leaves its history', async () => {
      const { up, down, upNumber, downNumber } = await pair(70);
      const [settled, failed, dropped, open] = [0n, 1n, 2n, 3n].map((id) =>
        intent(htlcSource(upNumber, id), 71, 70, { createdUnixMs: 1_000 + Number(id) }),
      );
      if (settled === undefined || failed === undefined || dropped === undefined || open === undefined)
        throw new TypeError('four intents');
      const all = [settled, failed, dropped, open];
      const replays = [0n, 1n].map((id) => ({
        sharedSecretHash: bytes(32, 700 + Number(id)),
        channelId: channelIdOf(upNumber),
        htlcId: id,
      }));
      const htlcs = [
        htlc('inbound', 0n, { cltvExpiryHeight: 100 }),
        htlc('inbound', 1n, { cltvExpiryHeight: 200 }),
        htlc('inbound', 2n),
        htlc('inbound', 3n),
      ];
      await a().commitSteps([
        step(up, upNumber, 1n, {
          delta: { newHtlcs: htlcs },
          forwarding: { intents: all, onionReplays: replays },
        }),
      ]);
      await b().commitSteps([
        step(down, downNumber, 1n, {
          forwarding: {
            intentClaims: [settled, failed].map(({ source }) => ({ source, outcome: 'taken' as const })),
            resolutions: [
              {
                source: settled.source,
                sourceShard: 70,
                outcome: { type: 'fulfilled', preimage: bytes(32, 1) },
              },
              { source: failed.source, sourceShard: 70, outcome: { type: 'failed', reason: bytes(5, 1) } },
            ],
            preimages: [{ channelId: channelIdOf(upNumber), htlcId: 0n, preimage: bytes(32, 1) }],
          },
        }),
      ]);
      const taken = [
        { source: settled.source, outcome: 'fulfilled' as const },
        { source: failed.source, outcome: 'failed' as const },
      ];
      await a().commitSteps([
        step(up, upNumber, 2n, {
          forwarding: {
            resolutionsTaken: taken,
            intentClaims: [{ source: dropped.source, outcome: 'cancelled' }],
          },
        }),
      ]);
      const forwards = async () =>
        (await b().listForwards(1_000)).filter(
          ({ inboundChannelId }) => inboundChannelId.join() === channelIdOf(upNumber).join(),
        );
      const expected = [
        { inboundHtlcId: 3n, outboundChannelId: undefined, status: 'pending', createdUnixMs: 1_003 },
        { inboundHtlcId: 2n, outboundChannelId: undefined, status: 'failed', createdUnixMs: 1_002 },
        {
          inboundHtlcId: 1n,
          outboundChannelId: channelIdOf(downNumber),
          status: 'failed',
          createdUnixMs: 1_001,
        },
        {
          inboundHtlcId: 0n,
          outboundChannelId: channelIdOf(downNumber),
          status: 'settled',
          createdUnixMs: 1_000,
        },
      ].map((line) => ({
        inboundChannelId: channelIdOf(upNumber),
        inboundAmountMsat: 1_001n,
        outboundAmountMsat: 1_000n,
        ...line,
      }));
      expect(await forwards()).toEqual(expected);
      expect((await load(a(), up, upNumber))?.preimages).toHaveLength(1);

      const drain = async (height: number): Promise<number> => {
        let total = 0;
        for (let removed = -1; removed !== 0; total += removed)
          removed = await a().prune(2, height, 3_600_000);
        return total;
      };
      // The channel still carries the HTLCs: a restart must find that they were forwarded.
      const before = await drain(0);
      expect(before).toBeGreaterThanOrEqual(0);
      expect((await load(a(), up, upNumber))?.intentsWritten).toEqual([0n, 1n, 2n, 3n]);
      await a().commitSteps([
        step(up, upNumber, 3n, {
          delta: { settledHtlcs: [0n, 1n, 2n].map((id) => ({ direction: 'inbound' as const, id })) },
        }),
      ]);
      expect(await drain(0)).toBe(3);
      expect(await forwards()).toEqual(expected);
      const loaded = await load(a(), up, upNumber);
      expect([loaded?.intentsWritten, loaded?.preimages]).toEqual([[3n], []]);
      expect(await b().pendingIntents([71], 10)).toEqual([open]);

      // A replay entry lives as long as its HTLC's expiry lets a replay pass.
      expect(await drain(150)).toBe(1);
      const again = (index: number) =>
        step(down, downNumber, 2n, {
          forwarding: {
            onionReplays: [
              { sharedSecretHash: bytes(32, 700 + index), channelId: channelIdOf(downNumber), htlcId: 0n },
            ],
          },
        });
      expect(types(await b().commitSteps([again(1)]))).toEqual(['onion_replay']);
      expect(types(await b().commitSteps([again(0)]))).toEqual(['committed']);
    });

    test('a payment’s attempt is a source like any other', async () => {
      const { up, down, downNumber } = await pair(74);
      const source = { type: 'payment', attemptId: bytes(16, 74) } as const;
      const sent = intent(source, 75, 74, { sharedSecret: new Uint8Array(), createdUnixMs: 74 });
      const outbound = {
        type: 'outbound',
        status: 'pending',
        bolt11: '',
        amountMsat: 7n,
        feeMsat: 1n,
        failureReason: '',
        createdUnixMs: 30,
        attempts: 1,
        finished: false,
      } as const;
      expect(
        types(
          await a().commitSteps([
            payment(up, 740, 0n, { row: outbound, forwarding: { ...noWrites, intents: [sent] } }),
          ]),
        ),
      ).toEqual(['committed']);
      expect(await b().pendingIntents([75], 10)).toEqual([sent]);
      const resolution: Resolution = {
        source,
        sourceShard: 74,
        outcome: { type: 'failed_here', failure: bytes(9, 1) },
      };
      const claims = [{ source, outcome: 'taken' as const }];
      expect(
        types(
          await b().commitSteps([
            step(down, downNumber, 1n, { forwarding: { intentClaims: claims, resolutions: [resolution] } }),
          ]),
        ),
      ).toEqual(['committed']);
      expect(await a().pendingResolutions([74], 10)).toEqual([resolution]);
      const taken = { ...noWrites, resolutionsTaken: [{ source, outcome: 'failed_here' as const }] };
      expect(
        types(await a().commitSteps([payment(up, 740, 1n, { row: outbound, forwarding: taken })])),
      ).toEqual(['committed']);
      expect(await a().prune(100, 0, 3_600_000)).toBe(1);
      expect((await a().listForwards(1_000)).filter(({ createdUnixMs }) => createdUnixMs === 74)).toEqual([]);
    });

    test('an intent that is gone is nobody’s to claim: who comes that late must not add an HTLC', async () => {
      const { up, down, downNumber } = await pair(76);
      const source = { type: 'payment', attemptId: bytes(16, 76) } as const;
      const sent = intent(source, 77, 76, { sharedSecret: new Uint8Array() });
      const claim = (outcome: 'taken' | 'cancelled') => ({
        ...noWrites,
        intentClaims: [{ source, outcome }],
      });
      const forwarding = { ...noWrites, intents: [sent] };
      expect(types(await a().commitSteps([payment(up, 760, 0n, { forwarding })]))).toEqual(['committed']);
      const back = payment(up, 760, 1n, { forwarding: claim('cancelled') });
      expect(types(await a().commitSteps([back]))).toEqual(['committed']);
      expect(await a().prune(100, 0, 3_600_000)).toBe(1);
      const late = step(down, downNumber, 1n, { forwarding: claim('taken') });
      expect(await b().commitSteps([late])).toEqual([{ type: 'intent_lost', source }]);
    });

    test('the end of a payment’s HTLC that is told again, when all is over, waits for nobody', async () => {
      const { up, down, downNumber } = await pair(46);
      const source = { type: 'payment', attemptId: bytes(16, 46) } as const;
      const failed = { type: 'failed', reason: bytes(40, 1) } as const;
      const end = (version: bigint) =>
        step(down, downNumber, version, {
          forwarding: { resolutions: [{ source, sourceShard: 46, outcome: failed }] },
        });
      const sent = intent(source, 47, 46, { sharedSecret: new Uint8Array() });
      const commits = async (unit: CommitUnit): Promise<void> =>
        expect(types(await a().commitSteps([unit]))).toEqual(['committed']);
      await commits(payment(up, 460, 0n, { forwarding: { ...noWrites, intents: [sent] } }));
      await commits(end(1n));
      // Not taken, and the payment is still there for it.
      expect(await a().prune(100, 0, 3_600_000)).toBe(0);
      const resolutionsTaken = [{ source, outcome: failed.type }];
      await commits(payment(up, 460, 1n, { forwarding: { ...noWrites, resolutionsTaken } }));
      expect(await a().prune(100, 0, 3_600_000)).toBe(1);
      await commits(end(2n));
      expect(await a().pendingResolutions([46], 10)).toHaveLength(1);
      expect(await a().prune(100, 0, 3_600_000)).toBe(1);
      expect(await a().pendingResolutions([46], 10)).toEqual([]);
    });

    test('resolutions are read page by page', async () => {
      const { down, downNumber } = await pair(90);
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
      const { up, down, upNumber } = await pair(48);
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

    test('the end of an HTLC whose channel is closed meanwhile waits for nobody', async () => {
      const { up, down, upNumber, downNumber } = await pair(78);
      const source = htlcSource(upNumber, 0n);
      const incoming = htlc('inbound', 0n);
      const resolutions: Resolution[] = [
        { source, sourceShard: 78, outcome: { type: 'failed', reason: bytes(40, 1) } },
      ];
      const commits = async (unit: CommitUnit, store: ManagerStore): Promise<void> =>
        expect(types(await store.commitSteps([unit]))).toEqual(['committed']);
      await commits(
        step(up, upNumber, 1n, {
          delta: { newHtlcs: [incoming] },
          forwarding: { intents: [intent(source, 79, 78)] },
        }),
        a(),
      );
      await commits(step(down, downNumber, 1n, { forwarding: { resolutions } }), b());
      expect(await a().prune(100, 0, 3_600_000)).toBe(0);
      const left = [{ direction: 'inbound' as const, id: 0n }];
      await commits(step(up, upNumber, 2n, { row: { phase: 'closed' }, delta: { settledHtlcs: left } }), a());
      expect(await a().prune(100, 0, 3_600_000)).toBe(1);
      expect(await a().pendingResolutions([78], 10)).toEqual([]);
    });
  });
}

const noWrites = {
  intents: [],
  intentClaims: [],
  resolutions: [],
  resolutionsTaken: [],
  preimages: [],
  outgoing: [],
  onionReplays: [],
  events: [],
};
