/** What nothing needs any more goes, and nothing else. */
import { describe, expect, test } from 'vitest';
import type { CommitUnit, ManagerStore, Resolution } from '../manager-store.ts';
import {
  bytes,
  channelIdOf,
  forwardingPair,
  htlc,
  htlcSource,
  intent,
  noWrites,
  payment,
  step,
  types,
} from './fixtures.ts';
import { load } from './commits.ts';

export function upkeepCompliance(a: () => ManagerStore, b: () => ManagerStore): void {
  describe('upkeep', () => {
    test('upkeep takes what nothing needs, in small bites, and a forward leaves its history', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 70);
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
            outgoing: [settled, failed].map(({ source }, id) => ({
              channelId: channelIdOf(downNumber),
              htlcId: BigInt(id),
              source,
              sourceShard: 70,
              incomingAmountMsat: 1_001n,
            })),
          },
        }),
      ]);
      const linked = async () =>
        (await load(b(), down, downNumber))?.outgoing.map(({ preimage }) => preimage);
      expect(await linked()).toEqual(['heard', 'awaited']);
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
      // The HTLC downstream may be there longer than the one upstream.
      expect(await linked()).toEqual(['heard', 'awaited']);
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
      const { up, down, downNumber } = await forwardingPair(a(), b(), 74);
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
      const { up, down, downNumber } = await forwardingPair(a(), b(), 76);
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
      const { up, down, downNumber } = await forwardingPair(a(), b(), 46);
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

    test('the end of an HTLC whose channel is closed meanwhile waits for nobody', async () => {
      const { up, down, upNumber, downNumber } = await forwardingPair(a(), b(), 78);
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
