/** The group commit: what one step writes, and how one bad unit leaves the others alone. */
import { describe, expect, test } from 'vitest';
import type { ChannelRow, Fence, LoadedChannel, ManagerStore } from '../manager-store.ts';
import {
  bytes,
  channelIdOf,
  htlc,
  invoice,
  type ManagerDatabaseUnderTest,
  owner,
  payment,
  row,
  step,
  types,
} from './fixtures.ts';

export async function load(
  store: ManagerStore,
  fence: Fence,
  number: number,
): Promise<LoadedChannel | undefined> {
  const loaded = await store.loadShard(fence);
  if (loaded.type !== 'loaded') return undefined;
  return loaded.channels.find((channel) => channel.row.channelId.join() === channelIdOf(number).join());
}

export function commitCompliance(
  database: () => ManagerDatabaseUnderTest,
  a: () => ManagerStore,
  b: () => ManagerStore,
): void {
  describe('commits', () => {
    let fence: Fence;
    const begin = async (shard: number): Promise<void> => void (fence = await owner(a(), 'commit-a', shard));

    test('everything of a channel is read back as it was written', async () => {
      await begin(40);
      const full: Partial<ChannelRow> = {
        fundingTxid: bytes(32, 5),
        fundingOutputIndex: 3,
        shortChannelId: 2n ** 63n + 40n,
        holderAliasScid: 41n,
        closingReason: 'peer asked',
        closingTxid: bytes(32, 6),
        htlcsInFlight: 3,
        phase: 'closing',
        announce: false,
        holderIsFunder: false,
      };
      const inbound = htlc('inbound', 2n ** 63n + 1n, { pathKey: bytes(33, 2) });
      const outbound = htlc('outbound', 0n);
      const third = htlc('inbound', 1n);
      const source = { type: 'payment', attemptId: bytes(20, 1) } as const;
      const birth = step(fence, 400, 0n, {
        monitorBirth: bytes(300, 1),
        watches: [
          {
            channelId: channelIdOf(400),
            fundingTxid: bytes(32, 5),
            fundingOutputIndex: 3,
            fundingValueSat: 9n,
            scriptPubKey: bytes(34, 1),
            minimumDepth: 3,
          },
        ],
        broadcasts: [
          { kind: 'funding', channelId: channelIdOf(400), transactions: [bytes(100, 1), bytes(120, 2)] },
        ],
      });
      const removals = [
        {
          direction: 'inbound',
          id: 1n,
          removal: { type: 'failed', reason: bytes(292, 1), attributionData: bytes(920, 1) },
        },
        {
          direction: 'inbound',
          id: inbound.id,
          removal: { type: 'failed_malformed', sha256OfOnion: bytes(32, 1), failureCode: 0xc005 },
        },
        { direction: 'outbound', id: 0n, removal: { type: 'fulfilled', preimage: bytes(32, 3) } },
      ] as const;
      const second = step(fence, 400, 1n, {
        row: full,
        delta: {
          cold: bytes(700, 9),
          newHtlcs: [third, inbound, outbound],
          newRemovals: removals,
          holderSignatures: bytes(3_000, 1),
          secretBuckets: [
            { bucket: 0, index: 2n ** 48n - 1n, secret: bytes(32, 1) },
            { bucket: 48, index: 0n, secret: bytes(32, 2) },
          ],
        },
        monitorUpdates: [
          { updateId: 1n, payload: bytes(90, 1) },
          { updateId: 2n, payload: bytes(90, 2) },
        ],
        forwarding: {
          outgoing: [
            { channelId: channelIdOf(400), htlcId: 0n, source, sourceShard: 7, incomingAmountMsat: 11n },
          ],
          preimages: [
            { channelId: channelIdOf(400), htlcId: 1n, preimage: bytes(32, 3) },
            { channelId: channelIdOf(401), htlcId: 1n, preimage: bytes(32, 3) },
          ],
        },
        consumedThrough: { generation: 1n, number: 5n },
        fulfilledLateMsat: 7n,
      });
      expect(await a().commitSteps([birth, second])).toEqual([{ type: 'committed' }, { type: 'committed' }]);
      expect(await load(a(), fence, 400)).toEqual({
        version: 2n,
        row: row(400, 40, full),
        persisted: {
          hot: bytes(200, 401),
          cold: bytes(700, 9),
          htlcs: [third, inbound, outbound].toSorted((x, y) => order(x, y)),
          removals: removals.toSorted((x, y) => order(x, y)),
          secretBuckets: [
            { bucket: 0, index: 2n ** 48n - 1n, secret: bytes(32, 1) },
            { bucket: 48, index: 0n, secret: bytes(32, 2) },
          ],
          holderSignatures: bytes(3_000, 1),
        },
        nextMonitorUpdateId: 3n,
        fundingStatus: { type: 'unconfirmed' },
        outgoing: [{ htlcId: 0n, source, sourceShard: 7, incomingAmountMsat: 11n, preimage: 'awaited' }],
        fulfilledLateMsat: 7n,
        intentsWritten: [],
        preimages: [{ htlcId: 1n, preimage: bytes(32, 3) }],
      } satisfies LoadedChannel);
      expect(await b().shardOfScid(2n ** 63n + 40n)).toEqual({ shard: 40, channelId: channelIdOf(400) });
      expect(await b().shardOfScid(41n)).toEqual({ shard: 40, channelId: channelIdOf(400) });
      expect(await b().shardOfScid(42n)).toBeUndefined();

      // A newer secret of a bucket replaces the older; settled HTLCs and their links are gone.
      const settled = [
        { direction: 'outbound', id: 0n },
        { direction: 'inbound', id: 1n },
      ] as const;
      const next = step(fence, 400, 2n, {
        row: full,
        delta: { settledHtlcs: settled, secretBuckets: [{ bucket: 48, index: 3n, secret: bytes(32, 8) }] },
        fulfilledLateMsat: 2n ** 62n,
      });
      expect(types(await a().commitSteps([next]))).toEqual(['committed']);
      const after = await load(a(), fence, 400);
      expect(after?.persisted.htlcs).toEqual([inbound]);
      // What was fulfilled too late is summed up.
      expect(after?.fulfilledLateMsat).toBe(2n ** 62n + 7n);
      expect(after?.persisted.removals.map(({ id }) => id)).toEqual([inbound.id]);
      expect(after?.persisted.secretBuckets[1]).toEqual({ bucket: 48, index: 3n, secret: bytes(32, 8) });
      expect(after?.persisted.holderSignatures).toEqual(bytes(3_000, 1));
      expect(after?.outgoing).toEqual([]);

      // After a disconnection an id comes back with another body, and a rolled-back removal with another content.
      const again = { ...inbound, amountMsat: inbound.amountMsat + 1n };
      const otherRemoval = { type: 'fulfilled', preimage: bytes(32, 9) } as const;
      const replaced = step(fence, 400, 3n, {
        row: full,
        delta: {
          settledHtlcs: [{ direction: 'inbound', id: inbound.id }],
          newHtlcs: [again],
          newRemovals: [{ direction: 'inbound', id: inbound.id, removal: removals[0].removal }],
        },
      });
      const rolledBack = step(fence, 400, 4n, {
        row: full,
        delta: { newRemovals: [{ direction: 'inbound', id: inbound.id, removal: otherRemoval }] },
      });
      expect(types(await a().commitSteps([replaced]))).toEqual(['committed']);
      expect(types(await a().commitSteps([rolledBack]))).toEqual(['committed']);
      const back = await load(a(), fence, 400);
      expect(back?.persisted.htlcs).toEqual([again]);
      expect(back?.persisted.removals).toEqual([
        { direction: 'inbound', id: inbound.id, removal: otherRemoval },
      ]);

      for (const status of [
        { type: 'confirmed', height: 5, txIndex: 1, depth: 2 },
        { type: 'mismatch', reason: 'value' },
        { type: 'lost', reason: 'nobody saw it' },
        { type: 'spent', txid: bytes(32, 1), height: 9, depth: 1 },
      ] as const) {
        await database().reportFundingStatus(channelIdOf(400), status);
        expect(await a().fundingStatuses([40])).toEqual([{ channelId: channelIdOf(400), status }]);
        expect((await load(a(), fence, 400))?.fundingStatus).toEqual(status);
      }
      expect(await a().fundingStatuses([41])).toEqual([]);

      // A closed channel is not loaded, and is still there.
      expect(
        types(await a().commitSteps([step(fence, 400, 5n, { row: { ...full, phase: 'closed' } })])),
      ).toEqual(['committed']);
      expect(await load(a(), fence, 400)).toBeUndefined();
      expect(await a().fundingStatuses([40])).toEqual([]);
      const closed = async (filter: 'include' | 'exclude') =>
        (await b().listChannels({ closed: filter })).some(
          ({ channelId }) => channelId.join() === channelIdOf(400).join(),
        );
      expect([await closed('include'), await closed('exclude')]).toEqual([true, false]);
    });

    test('one transaction for both: a channel and its monitor’s log move together, or neither does', async () => {
      await begin(44);
      const update = { updateId: 1n, payload: bytes(40, 1) };
      expect(types(await a().commitSteps([step(fence, 440, 0n)]))).toEqual(['committed']);
      const next = async () => (await load(a(), fence, 440))?.nextMonitorUpdateId;
      const refused = [
        // The channel's version, an update out of order, an HTLC twice, another owner.
        step(fence, 440, 7n, { monitorUpdates: [update] }),
        step(fence, 440, 1n, { monitorUpdates: [{ ...update, updateId: 2n }] }),
        step(fence, 440, 1n, {
          monitorUpdates: [update],
          delta: { newHtlcs: [htlc('inbound', 1n), htlc('inbound', 1n)] },
        }),
        step({ ...fence, epoch: fence.epoch - 1n }, 440, 1n, { monitorUpdates: [update] }),
      ];
      for (const unit of refused) {
        expect(types(await a().commitSteps([unit]))).not.toEqual(['committed']);
        expect([(await load(a(), fence, 440))?.version, await next()]).toEqual([1n, 1n]);
      }
      expect(types(await a().commitSteps([step(fence, 440, 1n, { monitorUpdates: [update] })]))).toEqual([
        'committed',
      ]);
      expect([(await load(a(), fence, 440))?.version, await next()]).toEqual([2n, 2n]);
    });

    test('closing is one decision: once it is made elsewhere, only the closing commits', async () => {
      await begin(43);
      expect(types(await a().commitSteps([step(fence, 430, 0n), step(fence, 431, 0n)]))).toEqual([
        'committed',
        'committed',
      ]);
      expect((await load(a(), fence, 430))?.closingDecision).toBeUndefined();
      await database().decideClose(channelIdOf(430), 'an HTLC expired');
      await database().decideClose(channelIdOf(430), 'a later word');
      expect((await load(a(), fence, 430))?.closingDecision).toBe('an HTLC expired');
      const both = [step(fence, 430, 1n), step(fence, 431, 1n)];
      expect(await a().commitSteps(both)).toEqual([
        { type: 'closing_decided', reason: 'an HTLC expired' },
        { type: 'committed' },
      ]);
      // A second writer is the graver fault.
      expect(types(await a().commitSteps([step(fence, 430, 7n)]))).toEqual(['version_mismatch']);
      const closing = step(fence, 430, 1n, { row: { phase: 'closing_force' } });
      expect(types(await a().commitSteps([closing]))).toEqual(['committed']);
      expect(types(await a().commitSteps([step(fence, 430, 2n)]))).toEqual(['closing_decided']);
    });

    test('a close is decided under the fence, of a channel that can still be closed', async () => {
      await begin(45);
      const phases = ['open', 'closing_mutual', 'closing_force', 'passive', 'closed'];
      const units = phases.map((phase, n) => step(fence, 450 + n, 0n, { row: { phase } }));
      expect(types(await a().commitSteps(units))).toEqual(Array(5).fill('committed'));
      const decide = (number: number, by = fence) =>
        a().decideClose(by, channelIdOf(number), 'the operator', {
          type: 'channel_closing',
          timeUnixMs: 7,
          body: `{"channel":${number}}`,
        });
      expect(await decide(450, { ...fence, epoch: fence.epoch - 1n })).toBe('fence_lost');
      expect((await load(a(), fence, 450))?.closingDecision).toBeUndefined();
      const outcomes = [];
      for (const n of phases.keys()) outcomes.push(await decide(450 + n));
      // Both signed a mutual close, but it may never be broadcast; a commitment may be then. A passive channel has none.
      expect(outcomes).toEqual(['decided', 'decided', 'closing', 'passive', 'closing']);
      expect(await decide(450)).toBe('closing');
      expect(await decide(459)).toBe('closing');
      expect((await load(a(), fence, 450))?.closingDecision).toBe('the operator');
      expect((await load(a(), fence, 453))?.closingDecision).toBeUndefined();
      expect(types(await a().commitSteps([step(fence, 450, 1n)]))).toEqual(['closing_decided']);
      await a().sequenceEvents('a', 100);
      const events = (await a().readEvents(0n, 100)).map(({ event }) => event);
      expect(events.filter(({ type }) => type === 'channel_closing').map(({ body }) => body)).toEqual([
        '{"channel":450}',
        '{"channel":451}',
      ]);
    });

    test('a bad unit is alone: the others of its group are stored, it left nothing', async () => {
      await begin(41);
      expect(
        types(
          await a().commitSteps(
            [410, 411, 412, 413, 414, 415].map((n) =>
              step(fence, n, 0n, { row: { holderAliasScid: BigInt(n) } }),
            ),
          ),
        ),
      ).toEqual(Array(6).fill('committed'));
      const good = htlc('inbound', 0n);
      expect(types(await a().commitSteps([step(fence, 410, 1n, { delta: { newHtlcs: [good] } })]))).toEqual([
        'committed',
      ]);
      const verdicts = await a().commitSteps([
        step(fence, 410, 2n, { delta: { newHtlcs: [htlc('inbound', 1n), good] } }),
        step(fence, 411, 1n, { monitorUpdates: [{ updateId: 2n, payload: bytes(1, 1) }] }),
        step(fence, 412, 1n, { delta: { newHtlcs: [good] } }),
        step(fence, 413, 1n, { row: { holderAliasScid: 414n } }),
        step(fence, 414, 7n),
        step(fence, 415, 1n, { forwarding: { events: [{ type: 'bad', timeUnixMs: 1, body: 'a\0b' }] } }),
        step({ ...fence, epoch: fence.epoch + 1n }, 416, 0n),
        step(fence, 417, 0n, { delta: { hot: bytes(200, 417) } }),
        step(fence, 412, 2n),
        payment(fence, 418, 0n, { row: { ...invoice, amountMsat: -1n } }),
        step(fence, 419, 0n, {
          monitorUpdates: [
            { updateId: 1n, payload: bytes(1, 1) },
            { updateId: 3n, payload: bytes(1, 1) },
          ],
        }),
      ]);
      expect(types(verdicts)).toEqual([
        'bad_data',
        'bad_data',
        'committed',
        'bad_data',
        'version_mismatch',
        'bad_data',
        'fence_lost',
        'committed',
        'committed',
        'bad_data',
        'bad_data',
      ]);
      const loaded = await a().loadShard(fence);
      expect(loaded.type === 'loaded' && loaded.channels.map(({ version }) => version)).toEqual([
        2n,
        1n,
        3n,
        1n,
        1n,
        1n,
        1n,
      ]);
      expect((await load(a(), fence, 410))?.persisted.htlcs).toEqual([good]);
      expect(await a().loadPayment(fence, bytes(32, 418))).toBeUndefined();
      expect(await a().commitSteps([])).toEqual([]);
    });

    test('each version is written once, whoever races', async () => {
      await begin(42);
      const outcomes = await Promise.all(
        [1, 2, 3, 4].map((n) => (n % 2 === 0 ? a() : b()).commitSteps([step(fence, 420, 0n)])),
      );
      expect(
        outcomes.map((verdicts) => types(verdicts)[0] ?? '').toSorted((x, y) => (x < y ? -1 : 1)),
      ).toEqual(['committed', 'version_mismatch', 'version_mismatch', 'version_mismatch']);
      let commits = 1n;
      const race = async (store: ManagerStore): Promise<void> => {
        for (let attempt = 0; attempt < 15; attempt += 1) {
          const version = (await load(store, fence, 420))?.version ?? 0n;
          const [verdict] = await store.commitSteps([step(fence, 420, version)]);
          if (verdict?.type === 'committed') commits += 1n;
          else expect(verdict?.type).toBe('version_mismatch');
        }
      };
      await Promise.all([race(a()), race(b())]);
      expect((await load(a(), fence, 420))?.version).toBe(commits);
    });

    test('groups that meet on many channels in any order all end', async () => {
      await begin(43);
      const numbers = Array.from({ length: 20 }, (_, index) => 4_300 + index);
      await a().commitSteps(numbers.map((n) => step(fence, n, 0n)));
      const groups = await Promise.all(
        [0, 1, 2, 3].map((turn) =>
          (turn % 2 === 0 ? a() : b()).commitSteps(
            (turn < 2 ? numbers : numbers.toReversed()).map((n) => step(fence, n, 1n)),
          ),
        ),
      );
      const committed = groups.flat().filter(({ type }) => type === 'committed').length;
      expect(committed).toBe(numbers.length);
    });

    test('payments: versions, states, queries', async () => {
      await begin(44);
      const outbound = {
        type: 'outbound',
        status: 'pending',
        bolt11: 'lnbc2',
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
            payment(fence, 440, 0n),
            payment(fence, 441, 0n, { row: outbound }),
            payment(fence, 440, 0n),
          ]),
        ),
      ).toEqual(['committed', 'committed', 'version_mismatch']);
      const loaded = await a().loadShard(fence);
      expect(loaded.type === 'loaded' && loaded.payments).toEqual(
        [
          { paymentHash: bytes(32, 440), version: 1n, state: bytes(40, 440), row: invoice },
          { paymentHash: bytes(32, 441), version: 1n, state: bytes(40, 441), row: outbound },
        ].toSorted((x, y) => (x.paymentHash.join() < y.paymentHash.join() ? -1 : 1)),
      );
      const paid = { ...invoice, status: 'paid', receivedMsat: 5n, paidUnixMs: 15 } as const;
      const won = { ...outbound, status: 'succeeded', preimage: bytes(32, 2) } as const;
      const done = { ...won, finished: true } as const;
      expect(
        types(
          await a().commitSteps([
            payment(fence, 440, 1n, { row: paid }),
            payment(fence, 441, 1n, { row: won }),
          ]),
        ),
      ).toEqual(['committed', 'committed']);
      // Some of its HTLCs are still in flight.
      const settling = await a().loadShard(fence);
      expect(settling.type === 'loaded' && settling.payments).toMatchObject([{ row: won }]);
      expect(types(await a().commitSteps([payment(fence, 441, 2n, { row: done })]))).toEqual(['committed']);
      const after = await a().loadShard(fence);
      expect(after.type === 'loaded' && after.payments).toEqual([]);
      expect(await a().loadPayment(fence, bytes(32, 440))).toEqual({
        paymentHash: bytes(32, 440),
        version: 2n,
        state: bytes(40, 440),
        row: paid,
      });
      expect(await b().getPayment(bytes(32, 441))).toEqual(done);
      expect(await b().getPaymentState(bytes(32, 441))).toEqual(bytes(40, 441));
      expect(await b().getPayment(bytes(32, 449))).toBeUndefined();
      expect(await b().getPaymentState(bytes(32, 449))).toBeUndefined();
      expect(await b().listPayments('outbound', 1)).toEqual([{ paymentHash: bytes(32, 441), row: done }]);
    });
  });
}

function order(
  x: { readonly direction: string; readonly id: bigint },
  y: { readonly direction: string; readonly id: bigint },
): number {
  if (x.direction !== y.direction) return x.direction === 'inbound' ? -1 : 1;
  return Number(x.id - y.id);
}
