import { afterEach, describe, expect, test } from 'vitest';
import { displayHash, encodeTx, txidHex } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { fromHex, toHex } from '@fulmen/codec';
import {
  type ChannelMonitorUpdateStep,
  decodeMonitor,
  encodeChannelMonitorUpdate,
  encodeMonitor,
  encodeMonitorParameters,
  withChunks,
} from '@fulmen/monitor';
import { type Move, play } from '@fulmen/monitor/testing/history';
import { longChannel } from '@fulmen/settlement/testing/scale';
import type { DrainedMonitor } from '@fulmen/store/chain/chain-store';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';
import { storeRawTx } from '@fulmen/testing/devchain';
import { type Harness, payFrom, startHarness } from '../testing/harness.ts';

const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

async function funded(): Promise<Harness> {
  const harness = await startHarness();
  open.push(harness);
  await harness.mine(110);
  return harness;
}

const PARAMETERS = TEST_PARAMETERS;
const KEY = toHex(PARAMETERS.channelId);
const MOVES: readonly Move[] = [
  { type: 'add', direction: 'outbound', amountMsat: 50_000_000n, cltvExpiryHeight: 500 },
  { type: 'sign_counterparty' },
  { type: 'revoke' },
  { type: 'sign_holder' },
];

function log(harness: Harness, ...last: readonly ChannelMonitorUpdateStep[]): bigint {
  const { updates } = play(PARAMETERS, MOVES);
  const all =
    last.length === 0
      ? updates
      : [...updates, { channelId: PARAMETERS.channelId, updateId: BigInt(updates.length + 1), steps: last }];
  harness.manager.monitorBirths.set(KEY, encodeMonitorParameters(PARAMETERS));
  harness.manager.monitorLog.set(
    KEY,
    all.map((update) => ({ updateId: update.updateId, payload: encodeChannelMonitorUpdate(update) })),
  );
  return BigInt(all.length);
}

const CLOSE = (shouldBroadcast: 'broadcast' | 'passive'): ChannelMonitorUpdateStep => ({
  type: 'channel_force_closed',
  shouldBroadcast,
  reason: 'test',
});

describe('draining', () => {
  test('updates become a snapshot in order, and leave the log', async () => {
    const harness = await funded();
    const last = log(harness);
    await harness.turn();
    const row = harness.state.monitors.get(KEY);
    expect(row?.updateId).toBe(last);
    expect(harness.manager.monitorLog.size).toBe(0);
    const monitor = decodeMonitor(row?.snapshot ?? new Uint8Array(0));
    expect(monitor.ok && monitor.value.holderCommitment?.content.commitmentNumber).toBe(1n);
    expect(await harness.metrics.registry.metrics()).toMatch(new RegExp(`drained_total\\{[^}]*\\} ${last}`));
  });

  test('a gap stops that channel, keeps its log, and alarms; the gap filled, it goes on', async () => {
    const harness = await funded();
    const last = log(harness);
    const all = harness.manager.monitorLog.get(KEY) ?? [];
    harness.manager.monitorLog.set(
      KEY,
      all.filter(({ updateId }) => updateId !== 2n),
    );
    await harness.mine(1);
    expect(harness.state.monitors.has(KEY)).toBe(false);
    expect(harness.manager.monitorLog.get(KEY)).toHaveLength(all.length - 1);
    expect(await harness.metrics.registry.metrics()).toMatch(/monitors_broken\{[^}]*\} 1/);
    // Blocks go on for everybody else.
    expect((await harness.chain.getBestBlock({})).height).toBe(111);
    harness.manager.monitorLog.set(KEY, all);
    await harness.turn();
    expect(harness.state.monitors.get(KEY)?.updateId).toBe(last);
    expect(await harness.metrics.registry.metrics()).toMatch(/monitors_broken\{[^}]*\} 0/);
  });

  test('a channel whose log does not apply keeps none behind it from draining, however long its log grows', async () => {
    const harness = await funded();
    const last = log(harness);
    const brokenKey = '00'.repeat(32);
    expect(brokenKey < KEY).toBe(true);
    const rows = Array.from({ length: 20_000 }, (_, at) => ({
      updateId: BigInt(at + 2),
      payload: Uint8Array.of(1),
    }));
    harness.manager.monitorLog.set(brokenKey, rows);
    await harness.turn();
    expect(harness.state.monitors.get(KEY)?.updateId).toBe(last);
    expect(harness.manager.monitorLog.get(brokenKey)).toHaveLength(20_000);
    expect(await harness.metrics.registry.metrics()).toMatch(/monitors_broken\{[^}]*\} 1/);
  });

  test('each channel that is passed over gets its turn again', async () => {
    const harness = await funded();
    const keys = ['00', '01', '02'].map((byte) => byte.repeat(32));
    for (const key of keys)
      harness.manager.monitorLog.set(key, [{ updateId: 2n, payload: Uint8Array.of(1) }]);
    await harness.turn();
    expect(await harness.metrics.registry.metrics()).toMatch(/monitors_broken\{[^}]*\} 3/);
    const repaired = keys.map((key) => ({ ...PARAMETERS, channelId: fromHex(key) }));
    for (const parameters of repaired) {
      const key = toHex(parameters.channelId);
      harness.manager.monitorBirths.set(key, encodeMonitorParameters(parameters));
      harness.manager.monitorLog.set(
        key,
        play(parameters, MOVES).updates.map((update) => ({
          updateId: update.updateId,
          payload: encodeChannelMonitorUpdate(update),
        })),
      );
    }
    for (let turns = 0; turns < keys.length; turns++) await harness.turn();
    expect(harness.manager.monitorLog.size).toBe(0);
    expect(await harness.metrics.registry.metrics()).toMatch(/monitors_broken\{[^}]*\} 0/);
  });

  test('nonsense in the log is no reason to crash', async () => {
    const harness = await funded();
    log(harness);
    harness.manager.monitorLog.set(KEY, [{ updateId: 1n, payload: Uint8Array.from([1, 2, 3]) }]);
    await harness.turn();
    expect(harness.manager.monitorLog.get(KEY)).toHaveLength(1);
    expect(harness.clock.failures).toEqual([]);
  });
});

describe('a channel with a long past', () => {
  const { monitor } = longChannel(5_000);
  const { channelId } = monitor.parameters;
  const key = toHex(channelId);

  /** The log's next entry, whatever it says. */
  function entryAfter(harness: Harness, updateId: bigint): void {
    const update = {
      channelId,
      updateId: updateId + 1n,
      steps: [{ type: 'shutdown_script' as const, scriptPubKey: Uint8Array.of(0x6a) }],
    };
    harness.manager.monitorLog.set(key, [
      { updateId: update.updateId, payload: encodeChannelMonitorUpdate(update) },
    ]);
  }

  test('writes as much for an update as a young one; one that is stored whole is split when it moves', async () => {
    const written: DrainedMonitor[] = [];
    const harness = await startHarness({
      wrapStore: (store) =>
        new Proxy(store, {
          get: (target, name) =>
            name === 'commitMonitors'
              ? (...parameters: Parameters<typeof target.commitMonitors>) => {
                  written.push(...parameters[1]);
                  return target.commitMonitors(...parameters);
                }
              : (target[name as keyof typeof target] as (...parameters: never[]) => unknown).bind(target),
        }),
    });
    open.push(harness);
    const whole = encodeMonitor(monitor);
    expect(whole.length).toBeGreaterThan(150_000);
    const { updateId } = monitor;
    harness.state.monitors.set(key, { channelId, updateId, snapshot: whole, closeState: 'open' });
    entryAfter(harness, updateId);
    await harness.turn();
    entryAfter(harness, updateId + 1n);
    await harness.turn();
    const [split, next] = written;
    expect(next?.updateId).toBe(updateId + 2n);
    expect(next?.snapshot.length).toBeLessThan(100_000);
    expect(next?.chunks).toEqual([]);
    // 19 chunks of states and 19 of HTLCs.
    expect(split?.chunks).toHaveLength(38);
    const stored = decodeMonitor(harness.state.monitors.get(key)?.snapshot ?? new Uint8Array(0));
    const chunks = [...(harness.state.monitorChunks.get(key)?.values() ?? [])];
    if (!stored.ok) throw stored.error;
    expect(encodeMonitor(withChunks(stored.value, [], chunks))).toEqual(
      encodeMonitor({ ...monitor, updateId: updateId + 2n, shutdownScript: Uint8Array.of(0x6a) }),
    );
  });
});

describe('force close', () => {
  test('asks the signer with the latest commitment, broadcasts once, and survives a signer that is away', async () => {
    const harness = await funded();
    const commitment = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 20_000n }]);
    log(harness, CLOSE('broadcast'));
    await harness.turn();
    expect(harness.signer.calls.closes).toHaveLength(1);
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('pending');
    harness.signer.answers.holderCommitment = commitment.raw;
    await harness.turn();
    expect(harness.signer.calls.closes).toHaveLength(1);
    await harness.clock.advance(10_000);
    expect(harness.signer.calls.closes).toHaveLength(2);
    const request = harness.signer.calls.closes[1];
    expect(request?.channelKeysId).toEqual(Buffer.from(PARAMETERS.channelKeysId));
    expect(request?.holderCommitment?.spec).toMatchObject({
      commitmentNumber: 1n,
      htlcs: [{ outbound: true, id: 0n, amountMsat: 50_000_000n, cltvExpiryHeight: 500 }],
    });
    expect(request?.holderCommitment?.signatures).toHaveLength(PARAMETERS.fundings.length);
    await harness.turn();
    expect(harness.devChain.mempool.get(displayHash(commitment.txid))).toBeDefined();
    await harness.mine(1);
    const [order] = harness.state.broadcasts.values();
    expect(order).toMatchObject({ kind: 'force_close', confirmedHeights: [111] });
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('ordered');
    await harness.mine(99);
    expect(harness.state.broadcasts.size).toBe(0);
    expect(harness.signer.calls.closes).toHaveLength(2);
  });

  test('a monitor that cannot be read is an alarm, and its close waits; the others go on', async () => {
    const harness = await funded();
    const channelId = new Uint8Array(32);
    const unreadable = {
      channelId,
      updateId: 1n,
      snapshot: Uint8Array.of(99),
      closeState: 'pending',
    } as const;
    harness.state.monitors.set(toHex(channelId), unreadable);
    const commitment = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 20_000n }]);
    log(harness, CLOSE('broadcast'));
    harness.signer.answers.holderCommitment = commitment.raw;
    await harness.turn();
    expect(harness.clock.failures).toEqual([]);
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('ordered');
    expect(harness.state.monitors.get(toHex(channelId))?.closeState).toBe('pending');
    expect(await harness.metrics.registry.metrics()).toMatch(/force_close_failures_total\{[^}]*\} 1/);
  });

  test('passive is never broadcast', async () => {
    const harness = await funded();
    log(harness, CLOSE('passive'));
    await harness.turn();
    await harness.clock.advance(20_000);
    expect(harness.signer.calls.closes).toEqual([]);
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('passive');
    expect(harness.state.broadcasts.size).toBe(0);
  });
});

describe('without the manager', () => {
  /** The channel's row at the manager, as it was left. */
  function row(harness: Harness, monitorUpdateId: bigint): void {
    harness.manager.channels.set(KEY, {
      row: { channelKeysId: PARAMETERS.channelKeysId, shard: 1, phase: 'open' },
      outgoing: new Map(),
      monitorUpdateId,
    });
  }

  const eventTypes = (harness: Harness): string[] => harness.manager.outbox.map(({ type }) => type);

  test('an HTLC that expired closes its channel: decided, drained, signed, broadcast', async () => {
    const harness = await funded();
    const commitment = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 20_000n }]);
    row(harness, log(harness));
    harness.signer.answers.holderCommitment = commitment.raw;
    await harness.turn();
    await harness.mine(504 - 110);
    expect(harness.manager.channels.get(KEY)?.closingDecision).toBeUndefined();
    await harness.mine(1);
    expect(harness.manager.channels.get(KEY)?.closingDecision).toMatch(/outbound HTLC 0/);
    expect(harness.signer.calls.closes).toHaveLength(1);
    expect(harness.devChain.mempool.get(displayHash(commitment.txid))).toBeDefined();
    expect(eventTypes(harness)).toEqual(['channel_closing', 'commitment_broadcast']);
    expect(JSON.parse(harness.manager.outbox[1]?.body ?? '')).toMatchObject({
      txid: displayHash(commitment.txid),
      commitmentNumber: '1',
      reason: expect.stringMatching(/50000 sat at stake/),
    });
  });

  test('a close that was decided on the row of a channel out of service: drained, signed, broadcast', async () => {
    const harness = await funded();
    const commitment = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 20_000n }]);
    row(harness, log(harness));
    harness.signer.answers.holderCommitment = commitment.raw;
    await harness.turn();
    expect(harness.signer.calls.closes).toEqual([]);
    const channel = harness.manager.channels.get(KEY);
    if (channel !== undefined) channel.closingDecision = 'the operator asked for it';
    await harness.turn();
    await harness.turn();
    expect(harness.signer.calls.closes).toHaveLength(1);
    expect(harness.devChain.mempool.get(displayHash(commitment.txid))).toBeDefined();
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('ordered');
    expect(harness.manager.outbox.map(({ body }) => JSON.parse(body) as unknown)).toMatchObject([
      { type: 'commitment_broadcast', reason: 'the operator asked for it' },
    ]);
  });

  test('a deadline decides from a state that is old: once the manager knows it, the close is passive', async () => {
    const harness = await funded();
    row(harness, log(harness));
    await harness.turn();
    // The signer refuses what is revoked.
    await harness.mine(505 - 110);
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('pending');
    row(harness, log(harness, CLOSE('passive')));
    await harness.turn();
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('passive');
    const asked = harness.signer.calls.closes.length;
    await harness.clock.advance(20_000);
    expect(harness.signer.calls.closes).toHaveLength(asked);
    expect(harness.state.broadcasts.size).toBe(0);
  });

  test('nothing is broadcast for a channel that is fine, whenever it is looked at', async () => {
    let harness = await funded();
    row(harness, log(harness));
    await harness.turn();
    for (let restarts = 0; restarts < 3; restarts++) {
      harness = await harness.restart();
      open.push(harness);
      await harness.clock.advance(20_000);
      await harness.mine(1);
    }
    expect(harness.signer.calls.closes).toEqual([]);
    expect(harness.state.broadcasts.size).toBe(0);
    expect(eventTypes(harness)).toEqual([]);
  });

  test.each([
    ['a monitor ahead of its channel', -1n],
    ['a channel ahead of its monitor', 1n],
  ])('stale restore: %s is passive, says so, and is never broadcast', async (_, offset) => {
    const harness = await funded();
    const last = log(harness, CLOSE('broadcast'));
    row(harness, last + offset);
    harness.signer.answers.holderCommitment = payFrom(harness.devChain, 1, []).raw;
    await harness.turn();
    await harness.clock.advance(20_000);
    expect(harness.signer.calls.closes).toEqual([]);
    expect(harness.state.broadcasts.size).toBe(0);
    expect(harness.state.monitors.get(KEY)?.closeState).toBe('passive');
    expect(eventTypes(harness)).toEqual(['channel_passive']);
    expect(await harness.metrics.registry.metrics()).toMatch(/force_close_failures_total\{[^}]*\} 1/);
  });
});

describe('broadcasts', () => {
  test('a refused one says why, is repeated, and succeeds when its parent is there', async () => {
    const harness = await funded();
    const parent = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 100_000n }]);
    const { tx } = parent;
    const child = {
      ...tx,
      inputs: [{ ...(tx.inputs[0] as (typeof tx.inputs)[number]), txid: parent.txid, vout: 0 }],
      outputs: [{ script: ANYONE_SCRIPT, valueSat: 90_000n }],
    };
    harness.manager.broadcasts.push({
      kind: 'mutual_close',
      channelId: new Uint8Array(32),
      transactions: [encodeTx(child)],
    });
    await harness.turn();
    const [order] = harness.state.broadcasts.values();
    expect(order?.rejectReason).toBe('missing-inputs');
    const stored = storeRawTx(parent.raw);
    if (stored !== undefined) harness.devChain.submit(stored);
    await harness.turn();
    expect(harness.devChain.mempool.get(txidHex(child))).toBeUndefined();
    await harness.clock.advance(30_000);
    await harness.turn();
    expect(harness.devChain.mempool.get(txidHex(child))).toBeDefined();
    const [accepted] = harness.state.broadcasts.values();
    expect(accepted?.rejectReason).toBeUndefined();
    expect(await harness.metrics.registry.metrics()).toMatch(/rebroadcasts_total\{[^}]*\} [1-9]/);
    // A reorg puts it back to work.
    await harness.mine(1);
    harness.devChain.reorg(1, ANYONE_SCRIPT);
    await harness.turn();
    expect([...harness.state.broadcasts.values()][0]?.confirmedHeights).toEqual([undefined]);
  });

  test('an order that no node can read is refused, and holds up nobody', async () => {
    const harness = await funded();
    const paid = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 100_000n }]);
    harness.manager.broadcasts.push({
      kind: 'funding',
      channelId: new Uint8Array(32),
      transactions: [Uint8Array.from([1, 2, 3])],
    });
    harness.manager.broadcasts.push({
      kind: 'funding',
      channelId: new Uint8Array(32),
      transactions: [paid.raw],
    });
    await harness.turn();
    expect(harness.devChain.mempool.get(displayHash(paid.txid))).toBeDefined();
    expect([...harness.state.broadcasts.values()].map(({ rejectReason }) => rejectReason)).toEqual([
      'TX decode failed',
      undefined,
    ]);
  });

  test('an order that confirmed before it came is found; one that lost to another ends', async () => {
    const harness = await funded();
    const paid = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 100_000n }]);
    const loser = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 200_000n }]);
    const stored = storeRawTx(paid.raw);
    if (stored !== undefined) harness.devChain.submit(stored);
    harness.manager.broadcasts.push({
      kind: 'force_close',
      channelId: new Uint8Array(32),
      transactions: [loser.raw],
    });
    await harness.turn();
    await harness.mine(1);
    harness.manager.broadcasts.push({
      kind: 'funding',
      channelId: new Uint8Array(32),
      transactions: [paid.raw],
    });
    await harness.turn();
    const orders = [...harness.state.broadcasts.values()];
    expect(
      orders.map(({ confirmedHeights, conflictHeight }) => ({ confirmedHeights, conflictHeight })),
    ).toEqual([
      { confirmedHeights: [undefined], conflictHeight: 111 },
      { confirmedHeights: [111], conflictHeight: undefined },
    ]);
    await harness.mine(99);
    expect(harness.state.broadcasts.size).toBe(0);
  });
});
