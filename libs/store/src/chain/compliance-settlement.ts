/** What every ChainStore must do about closed channels and their settlement. */
import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import type { ChainEvent, ClaimRecord, SettlementRecord, SpendRecord, SweepRecord } from './chain-store.ts';
import { type ChainStoreCase, connect, id, leaseOf, request } from './compliance-fixtures.ts';

const SPEND: SpendRecord = { channelId: id(1), txid: id(30), height: 7, txIndex: 3, transaction: id(31) };
const SETTLEMENT: SettlementRecord = {
  channelId: id(1),
  stage: 'closed',
  closeType: 'counterparty',
  closeTxid: id(30),
  closeHeight: 7,
  summary: '{"outputs":[]}',
  toldFulfilled: [2n ** 63n + 1n, 4n],
  toldFailed: [],
};
const CLAIM: ClaimRecord = {
  outPoint: { txid: id(30), outputIndex: 2 },
  channelId: id(1),
  kind: 'counterparty_htlc',
  valueSat: 5_000n,
  deadlineHeight: 20,
  budgetSat: 2_500n,
  feerateSatPerKw: 0,
  attempts: 0,
  firstHeight: 7,
  nextAction: 'to be swept',
};
const SWEEP: SweepRecord = {
  sweepId: id(40),
  txid: id(41),
  transaction: id(42),
  parents: [id(43)],
  claims: [{ txid: id(30), outputIndex: 2 }],
  walletInputs: [{ txid: id(44), outputIndex: 1 }],
  feeSat: 300n,
  feerateSatPerKw: 900,
  createdHeight: 8,
};

const event = (type: string, channel: number): ChainEvent => ({
  type,
  channelId: id(channel),
  timeUnixMs: 1_700_000_000_123,
  body: '{}',
});

export const SETTLEMENT_CASES: readonly ChainStoreCase[] = [
  {
    name: 'facts and what follows from them are written, replaced, loaded in the order of the chain, and forgotten',
    run: async ({ store, other }) => {
      const lease = await leaseOf(store);
      const later: SpendRecord = { ...SPEND, txid: id(32), height: 7, txIndex: 9 };
      const turn = {
        spends: [later, SPEND],
        settlements: [SETTLEMENT],
        claims: [CLAIM],
        sweeps: [SWEEP],
      };
      await store.commit(lease, turn);
      await store.commit(lease, turn);
      const loaded = await other.load();
      deepStrictEqual(loaded.spends, [SPEND, later]);
      deepStrictEqual(loaded.settlements, [SETTLEMENT]);
      deepStrictEqual(loaded.claims, [CLAIM]);
      deepStrictEqual(loaded.sweeps, [SWEEP]);
      const { deadlineHeight: _, ...leisurely } = CLAIM;
      const claim: ClaimRecord = { ...leisurely, sweepId: id(40), attempts: 1, requestedFeerateSatPerKw: 9 };
      const sweep: SweepRecord = { ...SWEEP, txid: id(45), confirmedHeight: 9, rejectReason: 'why' };
      const resolved: SettlementRecord = {
        ...SETTLEMENT,
        stage: 'resolved',
        toldFailed: [1n],
        resolvedHeight: 12,
      };
      await store.commit(lease, { claims: [claim], sweeps: [sweep], settlements: [resolved] });
      const changed = await other.load();
      deepStrictEqual([changed.claims, changed.sweeps], [[claim], [sweep]]);
      // Settled for good, but its facts are kept: a deep reorganisation may still take them away.
      deepStrictEqual(changed.settlements, [resolved]);
      await store.commit(lease, {
        forgottenSpends: [SPEND, later],
        forgottenClaims: [CLAIM.outPoint],
        forgottenSweeps: [SWEEP.sweepId],
      });
      const emptied = await other.load();
      deepStrictEqual(
        [emptied.spends, emptied.settlements, emptied.claims, emptied.sweeps],
        [[], [], [], []],
      );
      deepStrictEqual(await other.listSettlements({ resolved: 'include', limit: 5 }), [resolved]);
      deepStrictEqual(await other.listSettlements({ resolved: 'exclude', limit: 5 }), []);
      await store.commit(lease, { forgottenSettlements: [id(1)] });
      deepStrictEqual(await other.listSettlements({ resolved: 'include', limit: 5 }), []);
    },
  },
  {
    name: 'a fact that a reorganisation moved is one fact, and a turn that forgets and finds it keeps it',
    run: async ({ store }) => {
      const lease = await leaseOf(store);
      await store.commit(lease, { ...connect(7, 1, 0), spends: [SPEND] });
      await store.commit(lease, { spends: [{ ...SPEND, height: 8 }] });
      deepStrictEqual((await store.load()).spends, [{ ...SPEND, height: 8 }]);
      await store.commit(lease, { forgottenSpends: [SPEND], spends: [{ ...SPEND, height: 9 }] });
      deepStrictEqual((await store.load()).spends, [{ ...SPEND, height: 9 }]);
    },
  },
  {
    name: 'settlements are listed newest first',
    run: async ({ store }) => {
      const lease = await leaseOf(store);
      const at = (n: number, closeHeight: number): SettlementRecord => ({
        ...SETTLEMENT,
        channelId: id(n),
        closeHeight,
      });
      await store.commit(lease, { settlements: [at(1, 5), at(2, 9), at(3, 7)] });
      deepStrictEqual(
        (await store.listSettlements({ resolved: 'exclude', limit: 2 })).map(({ channelId }) => channelId),
        [id(2), id(3)],
      );
    },
  },
  {
    name: 'never fail upstream while a preimage is known: the first end stands, a preimage replaces a failure not taken',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      await manager.channel(id(1), id(40));
      const upstream = { type: 'htlc', channelId: id(9), htlcId: 2n ** 63n + 5n } as const;
      const payment = { type: 'payment', attemptId: id(8) } as const;
      await manager.outgoing(id(1), 0n, upstream, 3);
      await manager.outgoing(id(1), 1n, payment, 4);
      await manager.outgoing(id(1), 2n, { type: 'htlc', channelId: id(9), htlcId: 6n }, 3);
      const failed = (htlcId: bigint) =>
        ({ channelId: id(1), htlcId, outcome: { type: 'failed', failure: id(50) } }) as const;
      const fulfilled = (htlcId: bigint) =>
        ({ channelId: id(1), htlcId, outcome: { type: 'fulfilled', preimage: id(51) } }) as const;
      deepStrictEqual(await store.ownPayments([id(1), id(9)]), [{ channelId: id(1), htlcId: 1n }]);
      deepStrictEqual(await store.ownPayments([id(9)]), []);
      deepStrictEqual(await store.ownPayments([]), []);
      // One that nobody waits for any more is nobody's business.
      await store.commit(lease, { outcomes: [failed(0n), failed(1n), failed(77n)] });
      deepStrictEqual(await manager.resolution(upstream), {
        source: upstream,
        sourceShard: 3,
        outcome: { type: 'failed_here', failure: id(50) },
      });
      deepStrictEqual(await store.preimages([id(9)]), []);
      await store.commit(lease, { outcomes: [fulfilled(0n), fulfilled(1n)] });
      await store.commit(lease, { outcomes: [failed(0n), fulfilled(0n)] });
      for (const [source, sourceShard] of [
        [upstream, 3],
        [payment, 4],
      ] as const)
        deepStrictEqual(await manager.resolution(source), {
          source,
          sourceShard,
          outcome: { type: 'fulfilled', preimage: id(51) },
        });
      // Only an HTLC is claimed on-chain.
      deepStrictEqual(await store.preimages([id(9), id(8), id(1)]), [
        { channelId: id(9), htlcId: upstream.htlcId, preimage: id(51) },
      ]);
      // A failure that was passed on stays, and the preimage is kept for the chain.
      const taken = { type: 'htlc', channelId: id(9), htlcId: 6n } as const;
      await store.commit(lease, { outcomes: [failed(2n)] });
      await manager.take(taken);
      await store.commit(lease, { outcomes: [fulfilled(2n)] });
      deepStrictEqual((await manager.resolution(taken))?.outcome.type, 'failed_here');
      strictEqual((await store.preimages([id(9)])).length, 2);
      deepStrictEqual(await store.preimages([]), []);
    },
  },
  {
    name: 'what was fulfilled too late is read of those channels that are asked about',
    run: async ({ store, manager }) => {
      for (const n of [1, 2, 3]) await manager.channel(id(n), id(40 + n));
      await manager.fulfilledLate(id(1), 5n, 8n);
      await manager.fulfilledLate(id(3), 6n, 9n);
      deepStrictEqual(await store.fulfilledLate([id(1), id(2), id(9)]), [
        { channelId: id(1), amountMsat: 5n, updateId: 8n },
      ]);
      deepStrictEqual(await store.fulfilledLate([]), []);
    },
  },
  {
    name: 'events reach the log of the node with the shard of their channel',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      await manager.channel(id(1), id(40));
      await store.commit(lease, { events: [event('first', 1), event('second', 2)] });
      deepStrictEqual(await manager.events(), [
        { type: 'first', timeUnixMs: 1_700_000_000_123, body: '{}' },
        { type: 'second', timeUnixMs: 1_700_000_000_123, body: '{}' },
      ]);
    },
  },
  {
    name: 'start-up is O(open channels): what is settled for good is loaded only while a reorganisation could reach it',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      const funding = {
        channelId: id(1),
        fundingTxid: id(2),
        fundingOutputIndex: 0,
        fundingValueSat: 5n,
        scriptPubKey: id(3),
        minimumDepth: 3,
        spent: { txid: id(4), height: 1 },
      };
      const fundings = [funding, { ...funding, channelId: id(5), settledHeight: 2 }];
      await manager.watch(funding);
      await store.commit(lease, { ...connect(100, 1, 0), fundings });
      const loaded = async () =>
        (await store.load()).fundings
          .map(({ channelId, settledHeight }) => [channelId[0] ?? 0, settledHeight] as const)
          .sort(([a], [b]) => a - b);
      deepStrictEqual(await loaded(), [
        [1, undefined],
        [5, 2],
      ]);
      for (let height = 101; height <= 290; height++)
        await store.commit(
          lease,
          connect(height, (height % 200) + 3, height === 101 ? 1 : ((height - 1) % 200) + 3),
        );
      deepStrictEqual(await loaded(), [[1, undefined]]);
      await store.commit(lease, { fundings: [{ ...funding, settledHeight: 2 }] });
      deepStrictEqual(await loaded(), []);
      // It stays followed: the manager's watch of it is not new.
      deepStrictEqual(await store.newWatches(5), []);
    },
  },
  {
    name: 'deadlines are told of open monitors that have one',
    run: async ({ store }) => {
      const lease = await leaseOf(store);
      const monitor = (n: number) => ({
        channelId: id(n),
        expectedUpdateId: 0n,
        updateId: 1n,
        snapshot: id(9),
        closeState: 'open' as const,
      });
      await store.commitMonitors(lease, [
        { ...monitor(1), nextDeadlineHeight: 500 },
        monitor(2),
        { ...monitor(3), nextDeadlineHeight: 400 },
        { ...monitor(4), nextDeadlineHeight: 300, closeState: 'pending' },
      ]);
      deepStrictEqual(await store.monitorDeadlines(undefined, 9), [
        { channelId: id(1), height: 500 },
        { channelId: id(3), height: 400 },
      ]);
      deepStrictEqual(await store.monitorDeadlines(undefined, 1), [{ channelId: id(1), height: 500 }]);
      deepStrictEqual(await store.monitorDeadlines(id(1), 9), [{ channelId: id(3), height: 400 }]);
      await store.commitMonitors(lease, [{ ...monitor(1), expectedUpdateId: 1n, updateId: 2n }]);
      deepStrictEqual(await store.monitorDeadlines(undefined, 9), [{ channelId: id(3), height: 400 }]);
    },
  },
  {
    name: 'closing is one decision: the first stands, marks the monitor, and waits for the log',
    run: async ({ store, other, manager }) => {
      const lease = await leaseOf(store);
      strictEqual(await store.decideClose(lease, id(1), 'no such channel'), 'closing');
      await manager.channel(id(1), id(40));
      await rejects(store.decideClose(lease, id(1), 'no monitor'), { name: 'ChainConflictError' });
      strictEqual(await manager.closingDecision(id(1)), undefined);
      const monitor = { channelId: id(1), expectedUpdateId: 0n, updateId: 1n, snapshot: id(71) };
      await store.commitMonitors(lease, [{ ...monitor, closeState: 'open' }]);
      await manager.log(id(1), 2n, id(72));
      strictEqual(
        await store.decideClose(lease, id(1), 'an HTLC expired', event('channel_closing', 1)),
        'decided',
      );
      strictEqual(await store.decideClose(lease, id(1), 'again'), 'closing');
      strictEqual(await manager.closingDecision(id(1)), 'an HTLC expired');
      // Whatever was committed before the decision must be in the snapshot that is signed.
      deepStrictEqual(await store.pendingCloses(undefined, 5), []);
      await store.commitMonitors(lease, [
        { channelId: id(1), expectedUpdateId: 1n, updateId: 2n, snapshot: id(73), closeState: 'pending' },
      ]);
      deepStrictEqual(
        (await store.pendingCloses(undefined, 5)).map(({ updateId, managerUpdateId, decision }) => [
          updateId,
          managerUpdateId,
          decision,
        ]),
        [[2n, 0n, 'an HTLC expired']],
      );
      deepStrictEqual(await manager.events(), [
        { type: 'channel_closing', timeUnixMs: 1_700_000_000_123, body: '{}' },
      ]);
      await store.commitClose(lease, id(1), 'ordered', undefined, event('commitment_broadcast', 1));
      strictEqual((await manager.events()).length, 2);
      await manager.channel(id(2), id(41), 'closing_force');
      await store.commitMonitors(lease, [{ ...monitor, channelId: id(2), closeState: 'passive' }]);
      strictEqual(await store.decideClose(lease, id(2), 'late'), 'closing');
      await store.releaseLease(lease);
      await other.acquireLease(request('b'));
      await rejects(store.decideClose(lease, id(1), 'old writer'), { name: 'ChainFenceLostError' });
    },
  },
  {
    name: 'a close that the manager decided is pending once the log is drained, until it is ordered',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      const monitor = { expectedUpdateId: 0n, updateId: 1n, snapshot: id(71), closeState: 'open' } as const;
      for (const n of [1, 2, 3]) {
        await manager.channel(id(n), id(40 + n));
        await store.commitMonitors(lease, [{ ...monitor, channelId: id(n) }]);
      }
      for (const n of [1, 3]) await manager.decideClose(id(n), 'the operator asked for it');
      await manager.log(id(1), 2n, id(72));
      const pending = async (after?: Uint8Array) =>
        (await store.pendingCloses(after, 5)).map(({ channelId, decision }) => [channelId[0], decision]);
      deepStrictEqual(await pending(), [[3, 'the operator asked for it']]);
      const drained = { ...monitor, channelId: id(1), expectedUpdateId: 1n, updateId: 2n };
      await store.commitMonitors(lease, [drained]);
      deepStrictEqual(await pending(), [
        [1, 'the operator asked for it'],
        [3, 'the operator asked for it'],
      ]);
      deepStrictEqual(await pending(id(1)), [[3, 'the operator asked for it']]);
      await store.commitClose(lease, id(3), 'ordered', undefined);
      // What turned out to be old in the meantime is never broadcast.
      await store.commitMonitors(lease, [
        { ...drained, expectedUpdateId: 2n, updateId: 3n, closeState: 'passive' },
      ]);
      deepStrictEqual(await pending(), []);
    },
  },
];
