/** What every ChainStore must do, as cases that any runner can run. */
import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import type { FundingStatus } from '../manager/manager-store.ts';
import type { ChainTurn, FundingRecord, MonitorChunk, ReservationRecord, UtxoRecord } from './chain-store.ts';
import { eachMonitor } from './chain-store.ts';
import { type ChainStoreCase, block, connect, id, leaseOf, request } from './compliance-fixtures.ts';
import { SETTLEMENT_CASES } from './compliance-settlement.ts';

export type { ChainStoreCase, ChainStoreHarness } from './compliance-fixtures.ts';

const FUNDING: FundingRecord = {
  channelId: id(1),
  fundingTxid: id(2),
  fundingOutputIndex: 1,
  fundingValueSat: 5_000n,
  scriptPubKey: id(3),
  minimumDepth: 3,
};
const UTXO: UtxoRecord = { txid: id(4), outputIndex: 2, valueSat: 7n, script: id(5), origin: 'foreign' };
const RESERVATION: ReservationRecord = {
  key: id(6),
  purpose: 'funding',
  requestDigest: id(7),
  inputs: [{ txid: id(4), outputIndex: 2 }],
  changeScript: id(8),
  psbt: id(9),
  txid: id(10),
  outputIndex: 0,
  feeSat: 11n,
  createdHeight: 12,
};

export const CHAIN_STORE_CASES: readonly ChainStoreCase[] = [
  {
    name: 'one writer: a lease is held, renewed, released, and fences the one before',
    run: async ({ store, other }) => {
      const lease = await leaseOf(store);
      deepStrictEqual(await leaseOf(store), lease);
      const held = { type: 'held', holder: 'a', address: 'a:1' };
      deepStrictEqual(await other.acquireLease(request('b')), held);
      await store.acquireLease(request('a', 'the last 10 blocks were replaced'));
      deepStrictEqual(await other.acquireLease(request('b')), {
        ...held,
        doubt: 'the last 10 blocks were replaced',
      });
      await store.acquireLease(request('a'));
      deepStrictEqual(await other.acquireLease(request('b')), held);
      await store.releaseLease(lease);
      const taken = await other.acquireLease(request('b'));
      ok(taken.type === 'acquired' && taken.lease.epoch === lease.epoch + 1n);
      await rejects(store.commit(lease, connect(1, 1, 0)), { name: 'ChainFenceLostError' });
      await rejects(
        store.commitMonitors(lease, [
          { channelId: id(1), expectedUpdateId: 0n, updateId: 1n, snapshot: id(1), closeState: 'open' },
        ]),
        { name: 'ChainFenceLostError' },
      );
      await other.commit(taken.lease, connect(1, 1, 0));
    },
  },
  {
    name: 'the chain grows on its tip only, shrinks from it, and keeps its last blocks',
    run: async ({ store, other }) => {
      const lease = await leaseOf(store);
      strictEqual(await store.tip(), undefined);
      await store.commit(lease, connect(100, 1, 0));
      await rejects(store.commit(lease, connect(101, 2, 9)), { name: 'ChainConflictError' });
      await rejects(store.commit(lease, connect(102, 2, 1)), { name: 'ChainConflictError' });
      await store.commit(lease, {
        ...connect(101, 2, 1),
        transactions: [{ txid: id(20), amountSat: -5n, feeSat: 1n, height: 101, label: 'send' }],
      });
      await rejects(store.commit(lease, { block: { type: 'disconnect', hash: id(1) } }), {
        name: 'ChainConflictError',
      });
      deepStrictEqual(await other.tip(), block(101, 2, 1));
      await store.commit(lease, { block: { type: 'disconnect', hash: id(2) } });
      deepStrictEqual(await store.listTransactions(5), [
        { txid: id(20), amountSat: -5n, feeSat: 1n, label: 'send' },
      ]);
      let previous = 1;
      for (let height = 101; height <= 390; height++) {
        await store.commit(lease, connect(height, (height % 200) + 3, previous));
        previous = (height % 200) + 3;
      }
      const { blocks } = await other.load();
      strictEqual(blocks.length, 288);
      strictEqual(blocks[0]?.height, 103);
    },
  },
  {
    name: 'a turn writes all of it, and again the same',
    run: async ({ store, other }) => {
      const lease = await leaseOf(store);
      const address = { script: id(5), kind: 'p2tr', chain: 'change', index: 3, state: 'unused' } as const;
      const broadcast = {
        orderId: id(13),
        kind: 'send',
        transactions: [id(14), id(15)],
        confirmedHeights: [undefined, 5],
      } as const;
      const turn: ChainTurn = {
        fundings: [
          { ...FUNDING, watchedHeight: 77, funder: 'holder' },
          {
            ...FUNDING,
            channelId: id(99),
            seen: { height: 7, txIndex: 2, fault: 'x' },
            spent: { txid: id(1), height: 8 },
            funder: 'counterparty',
          },
        ],
        addresses: [address],
        utxos: [UTXO],
        reservations: [RESERVATION],
        broadcasts: [broadcast],
        rescanFrom: 3,
        scannedFrom: 4,
        transactions: [{ txid: id(21), amountSat: 5n, feeSat: 0n, label: '' }],
      };
      await store.commit(lease, turn);
      await store.commit(lease, turn);
      const loaded = await other.load();
      deepStrictEqual(
        [...loaded.fundings].sort((a, b) => (a.channelId[0] ?? 0) - (b.channelId[0] ?? 0)),
        turn.fundings,
      );
      deepStrictEqual(loaded.addresses, [address]);
      deepStrictEqual(loaded.utxos, [UTXO]);
      deepStrictEqual(loaded.reservations, [RESERVATION]);
      deepStrictEqual(loaded.broadcasts, [broadcast]);
      deepStrictEqual([loaded.rescanFrom, loaded.scannedFrom], [3, 4]);
      const spent: UtxoRecord = { ...UTXO, height: 9, spentBy: { txid: id(16), height: 10 } };
      const signed: ReservationRecord = { ...RESERVATION, transaction: id(17) };
      const transactions = broadcast.transactions.map(() => id(18));
      const refused = { ...broadcast, transactions, conflictHeight: 4, rejectReason: 'why' };
      await store.commit(lease, {
        utxos: [spent],
        reservations: [signed],
        addresses: [{ ...address, state: 'used' }],
        broadcasts: [refused],
        rescanFrom: null,
      });
      const changed = await other.load();
      deepStrictEqual(
        [changed.utxos, changed.reservations, changed.broadcasts, changed.rescanFrom],
        [[spent], [signed], [refused], undefined],
      );
      strictEqual(changed.addresses[0]?.state, 'used');
      await store.commit(lease, {
        forgottenUtxos: [UTXO],
        releasedReservations: [RESERVATION.key],
        finishedBroadcasts: [id(13)],
        forgottenFundings: [id(1)],
        forgottenTransactions: [id(21)],
      });
      const emptied = await other.load();
      deepStrictEqual(
        [emptied.utxos, emptied.reservations, emptied.broadcasts, emptied.fundings.length],
        [[], [], [], 1],
      );
      deepStrictEqual(await other.listTransactions(9), []);
    },
  },
  {
    name: 'watches are new until they are followed, and again when the outpoint changes; reports reach the manager',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      await manager.watch(FUNDING);
      deepStrictEqual(await store.newWatches(5), [{ ...FUNDING, funder: 'counterparty' }]);
      await manager.channel(FUNDING.channelId, id(40));
      deepStrictEqual(await store.newWatches(5), [{ ...FUNDING, funder: 'holder' }]);
      const { channelId, fundingTxid, fundingOutputIndex } = FUNDING;
      const report = (status: FundingStatus): ChainTurn => ({
        reports: [{ channelId, fundingTxid, fundingOutputIndex, status }],
      });
      await store.commit(lease, {
        fundings: [{ ...FUNDING, funder: 'holder' }],
        ...report({ type: 'confirmed', height: 5, txIndex: 1, depth: 2 }),
      });
      deepStrictEqual(await store.newWatches(5), []);
      deepStrictEqual(await manager.status(channelId), {
        type: 'confirmed',
        height: 5,
        txIndex: 1,
        depth: 2,
      });
      await store.commit(lease, report({ type: 'mismatch', reason: 'no' }));
      deepStrictEqual(await manager.status(channelId), { type: 'mismatch', reason: 'no' });
      await store.commit(lease, report({ type: 'spent', txid: id(8), height: 6, depth: 1 }));
      deepStrictEqual(await manager.status(channelId), { type: 'spent', txid: id(8), height: 6, depth: 1 });
      for (const status of [
        { type: 'spent', txid: id(8), height: 6, depth: 9, settlement: 'resolved' },
        { type: 'spend_seen', txid: id(8) },
      ] as const) {
        await store.commit(lease, report(status));
        deepStrictEqual(await manager.status(channelId), status);
      }
      await store.commit(lease, report({ type: 'unconfirmed' }));
      const moved = { ...FUNDING, fundingTxid: id(50) };
      await manager.watch(moved);
      await store.commit(lease, report({ type: 'confirmed', height: 5, txIndex: 1, depth: 9 }));
      deepStrictEqual(await manager.status(channelId), { type: 'unconfirmed' });
      deepStrictEqual(await store.newWatches(5), [{ ...moved, funder: 'holder' }]);
    },
  },
  {
    name: 'a watch that is taken up again keeps what it lacked before: whose it is, and since when it waits',
    run: async ({ store }) => {
      const lease = await leaseOf(store);
      await store.commit(lease, { fundings: [FUNDING] });
      const again = { ...FUNDING, watchedHeight: 7, funder: 'counterparty' } as const;
      await store.commit(lease, { fundings: [again] });
      deepStrictEqual((await store.load()).fundings, [again]);
    },
  },
  {
    name: 'a watch from before funders were noted is new again, until its funding is seen',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      await manager.watch(FUNDING);
      await store.commit(lease, { fundings: [FUNDING] });
      deepStrictEqual(await store.newWatches(5), [{ ...FUNDING, funder: 'counterparty' }]);
      await store.commit(lease, { fundings: [{ ...FUNDING, seen: { height: 7, txIndex: 2 } }] });
      deepStrictEqual(await store.newWatches(5), []);
      await store.commit(lease, { fundings: [{ ...FUNDING, spent: { txid: id(8), height: 8 } }] });
      deepStrictEqual(await store.newWatches(5), []);
    },
  },
  {
    name: 'the funding of a channel that is closed is dropped, its other orders are not',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      const orderIdOf = (transactions: readonly Uint8Array[]): Uint8Array => transactions[0] ?? id(0);
      await manager.channel(id(1), id(40), 'closed');
      await manager.order({ kind: 'funding', channelId: id(1), transactions: [id(2)] });
      await manager.order({ kind: 'force_close', channelId: id(1), transactions: [id(3)] });
      const taken = await store.takeBroadcasts(lease, 5, orderIdOf);
      deepStrictEqual(
        taken.map(({ kind }) => kind),
        ['force_close'],
      );
      await manager.channel(id(2), id(41));
      await manager.order({ kind: 'funding', channelId: id(2), transactions: [id(4)] });
      strictEqual((await store.takeBroadcasts(lease, 5, orderIdOf)).length, 1);
      strictEqual((await store.load()).broadcasts.length, 2);
    },
  },
  {
    name: 'orders are taken once, and the same transactions are one order',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      const orderIdOf = (transactions: readonly Uint8Array[]): Uint8Array => transactions[0] ?? id(0);
      await manager.order({ kind: 'funding', channelId: id(1), transactions: [id(2), id(3)] });
      await manager.order({ kind: 'force_close', channelId: id(1), transactions: [id(2), id(3)] });
      await manager.order({ kind: 'mutual_close', channelId: id(4), transactions: [id(5)] });
      const first = await store.takeBroadcasts(lease, 2, orderIdOf);
      deepStrictEqual(first, [
        {
          orderId: id(2),
          kind: 'funding',
          channelId: id(1),
          transactions: [id(2), id(3)],
          confirmedHeights: [undefined, undefined],
        },
      ]);
      strictEqual((await store.takeBroadcasts(lease, 2, orderIdOf)).length, 1);
      deepStrictEqual(await store.takeBroadcasts(lease, 2, orderIdOf), []);
      strictEqual((await store.load()).broadcasts.length, 2);
    },
  },
  {
    name: 'keys of channels that the node has, and not those that are closed',
    run: async ({ store, manager }) => {
      await manager.channel(id(1), id(40));
      await manager.channel(id(2), id(41), 'closed');
      deepStrictEqual(await store.knownChannelKeys([id(40), id(41)]), [id(40)]);
      deepStrictEqual(await store.knownChannelKeys([]), []);
      deepStrictEqual(await store.closedChannels([id(1), id(2), id(3)]), [id(2)]);
      deepStrictEqual(await store.closedChannels([]), []);
    },
  },
  {
    name: 'the monitors: the log in order, snapshots by compare and set, drained entries gone',
    run: async ({ store, manager }) => {
      const lease = await leaseOf(store);
      deepStrictEqual(await store.readMonitorLog(undefined, 10), []);
      await manager.birth(id(1), id(70));
      for (const updateId of [1n, 2n, 3n]) await manager.log(id(1), updateId, id(Number(updateId)));
      await manager.log(id(2), 1n, id(9));
      const page = await store.readMonitorLog(undefined, 2);
      deepStrictEqual(
        page.map(({ updateId }) => updateId),
        [1n, 2n],
      );
      const rest = await store.readMonitorLog(page[1], 9);
      deepStrictEqual(rest, [
        { channelId: id(1), updateId: 3n, payload: id(3) },
        { channelId: id(2), updateId: 1n, payload: id(9) },
      ]);
      const positionsOf = async (
        after: { readonly channelId: Uint8Array; readonly updateId: bigint } | undefined,
        passedOver: readonly Uint8Array[],
        limit = 9,
      ): Promise<readonly (readonly [number | undefined, bigint])[]> =>
        (await store.readMonitorLog(after, limit, passedOver)).map(({ channelId, updateId }) => [
          channelId[0],
          updateId,
        ]);
      // However many rows a channel has that is passed over, none is read.
      deepStrictEqual(await positionsOf(undefined, [id(3), id(1), id(0)]), [[2, 1n]]);
      deepStrictEqual(await positionsOf(page[0], [id(1)]), [[2, 1n]]);
      deepStrictEqual(await positionsOf(page[0], [id(2)]), [
        [1, 2n],
        [1, 3n],
      ]);
      deepStrictEqual(await positionsOf(page[0], [id(2)], 1), [[1, 2n]]);
      deepStrictEqual(await positionsOf(rest[1], [id(1)]), []);
      deepStrictEqual(await store.loadMonitors([id(1)]), [
        { channelId: id(1), updateId: 0n, snapshot: undefined, birth: id(70), closeState: 'open' },
      ]);
      const drained = {
        channelId: id(1),
        expectedUpdateId: 0n,
        updateId: 2n,
        snapshot: id(71),
        closeState: 'pending',
      } as const;
      await store.commitMonitors(lease, [drained]);
      await rejects(store.commitMonitors(lease, [drained]), { name: 'ChainConflictError' });
      deepStrictEqual(
        (await store.readMonitorLog(undefined, 9)).map(({ updateId }) => updateId),
        [3n, 1n],
      );
      const [loaded] = await store.loadMonitors([id(1)]);
      deepStrictEqual(loaded, {
        channelId: id(1),
        updateId: 2n,
        snapshot: id(71),
        birth: id(70),
        closeState: 'pending',
      });
      // A close waits until all that was committed before it is in the snapshot.
      deepStrictEqual(await store.pendingCloses(undefined, 5), []);
      await store.commitMonitors(lease, [{ ...drained, expectedUpdateId: 2n, updateId: 3n }]);
      deepStrictEqual(
        (await store.pendingCloses(undefined, 5)).map(({ channelId, updateId }) => [channelId, updateId]),
        [[id(1), 3n]],
      );
      deepStrictEqual(await store.pendingCloses(id(1), 5), []);
      await store.commitClose(lease, id(1), 'ordered', {
        orderId: id(80),
        kind: 'force_close',
        channelId: id(1),
        transactions: [id(81)],
        confirmedHeights: [undefined],
      });
      deepStrictEqual(await store.pendingCloses(undefined, 5), []);
      strictEqual((await store.load()).broadcasts.length, 1);
      await store.commitMonitors(lease, [
        { channelId: id(1), expectedUpdateId: 3n, updateId: 4n, snapshot: id(72), closeState: 'ordered' },
      ]);
      await rejects(store.commitClose(lease, id(3), 'ordered', undefined), { name: 'ChainConflictError' });
    },
  },
  {
    name: 'snapshots of any length, few at once, in the order that they are asked for',
    run: async ({ store }) => {
      const lease = await leaseOf(store);
      const megabytes = (n: number, length: number): Uint8Array => {
        const bytes = new Uint8Array(length * 1024 * 1024).fill(n);
        bytes.set([1, 2, 3], bytes.length - 3);
        return bytes;
      };
      const snapshots = new Map([
        [1, id(71)],
        [2, megabytes(72, 5)],
        [3, megabytes(73, 9)],
        [4, megabytes(74, 5)],
      ]);
      for (const [n, snapshot] of snapshots)
        await store.commitMonitors(lease, [
          { channelId: id(n), expectedUpdateId: 0n, updateId: 7n, snapshot, closeState: 'passive' },
        ]);
      const asked = [4, 3, 9, 1, 2];
      const found: (number | undefined)[] = [];
      for await (const { channelId, updateId, snapshot, closeState } of eachMonitor(store, asked.map(id))) {
        const n = channelId[0] ?? 0;
        found.push(n);
        const expected = snapshots.get(n);
        ok(
          expected === undefined
            ? snapshot === undefined
            : snapshot !== undefined && Buffer.compare(snapshot, expected) === 0,
        );
        deepStrictEqual([updateId, closeState], expected === undefined ? [0n, 'open'] : [7n, 'passive']);
      }
      deepStrictEqual(found, asked);
      deepStrictEqual(await store.loadMonitors([]), []);
    },
  },
  {
    name: 'chunks come with the snapshot that counts them, and are found by the commitments that they cover',
    run: async ({ store, other }) => {
      const lease = await leaseOf(store);
      const chunk = (kind: MonitorChunk['kind'], number: number, bounds: readonly [bigint, bigint]) => ({
        kind,
        number,
        firstNumber: bounds[0],
        lastNumber: bounds[1],
        bytes: id(number),
      });
      const states = [chunk('state', 0, [0n, 255n]), chunk('state', 1, [256n, 511n])];
      const htlcs = [chunk('htlc', 0, [10n, 200n]), chunk('htlc', 1, [190n, 2n ** 48n - 1n])];
      const monitor = { channelId: id(1), snapshot: id(71), closeState: 'open' } as const;
      await store.commitMonitors(lease, [
        { ...monitor, expectedUpdateId: 0n, updateId: 1n, chunks: [...states.slice(0, 1), ...htlcs] },
      ]);
      // One whose snapshot is refused is not written.
      await rejects(
        store.commitMonitors(lease, [
          { ...monitor, expectedUpdateId: 0n, updateId: 2n, chunks: states.slice(1) },
        ]),
        { name: 'ChainConflictError' },
      );
      const found = async (...numbers: readonly bigint[]) =>
        (await other.monitorChunks(id(1), numbers)).map(({ kind, number }) => `${kind} ${number}`);
      deepStrictEqual(await found(9n), ['state 0']);
      deepStrictEqual(await found(10n), ['htlc 0', 'state 0']);
      deepStrictEqual(await found(195n), ['htlc 0', 'htlc 1', 'state 0']);
      deepStrictEqual(await found(300n), ['htlc 1']);
      await store.commitMonitors(lease, [{ ...monitor, expectedUpdateId: 1n, updateId: 2n, chunks: states }]);
      deepStrictEqual(await found(300n, 9n), ['htlc 1', 'state 0', 'state 1']);
      deepStrictEqual(await other.monitorChunks(id(1), [10n]), [htlcs[0], states[0]]);
      deepStrictEqual(await found(), []);
      deepStrictEqual(await other.monitorChunks(id(2), [10n]), []);
    },
  },
  ...SETTLEMENT_CASES,
];
