/** Law 5's deadlines: a channel is closed without its manager, when an HTLC cannot wait and is worth it. */
import { LATENCY_GRACE_PERIOD_BLOCKS } from '@fulmen/channel/config';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import type { ChannelMonitor } from '@fulmen/monitor';
import { Metrics, silentLogger } from '@fulmen/service';
import { TestChannel } from '@fulmen/settlement/testing/test-channel';
import { sourceKey } from '@fulmen/store/manager/source';
import { describe, expect, test } from 'vitest';
import { chainMetrics } from '../metrics.ts';
import { Settling } from '../testing/settling.ts';
import { DeadlineKeeper, MANAGER_GRACE_BLOCKS } from './deadline-keeper.ts';
import { nextDeadlineOf } from './deadlines.ts';

const EXPIRY = 500;
const FEERATE_SAT_PER_KW = 1_000;

function keeperOf(settling: Settling): DeadlineKeeper {
  return new DeadlineKeeper({
    writer: settling.writer,
    fees: { estimateSatPerKw: async () => FEERATE_SAT_PER_KW },
    runtime: { wallClockMs: () => 1 },
    logger: silentLogger,
    metrics: chainMetrics(new Metrics('chain-monitor')),
  });
}

interface Stage {
  readonly settling: Settling;
  readonly keeper: DeadlineKeeper;
  readonly monitor: ChannelMonitor;
  readonly id: string;
  readonly decision: () => string | undefined;
}

const SOURCE = { type: 'htlc', channelId: new Uint8Array(32).fill(9), htlcId: 3n } as const;

async function stage(channel: TestChannel, height: number): Promise<Stage> {
  const settling = await Settling.start(height);
  const monitor = channel.monitor('alice');
  const id = toHex(monitor.parameters.channelId);
  settling.manager.channels.set(id, {
    row: { channelKeysId: monitor.parameters.channelKeysId, shard: 1, phase: 'open' },
    monitorUpdateId: monitor.updateId,
    outgoing: new Map([[0n, { source: SOURCE, sourceShard: 3 }]]),
  });
  await settling.watch(monitor);
  const decision = (): string | undefined => settling.manager.channels.get(id)?.closingDecision;
  return { settling, keeper: keeperOf(settling), monitor, id, decision };
}

/** Runs the keeper at every block until this height. */
async function runTo({ settling, keeper }: Stage, height: number): Promise<number> {
  let closed = await keeper.run();
  while (settling.height < height) {
    await settling.connect();
    closed += await keeper.run();
  }
  return closed;
}

function withHtlc(from: 'alice' | 'bob', amountMsat: bigint): TestChannel {
  const channel = new TestChannel({ format: 'anchors' });
  channel.add(from, { seed: 1, amountMsat, cltvExpiryHeight: EXPIRY });
  channel.settle();
  return channel;
}

describe('a channel is closed alone', () => {
  test('for an outbound HTLC, two blocks after its manager would have', async () => {
    const one = await stage(withHtlc('alice', 50_000_000n), EXPIRY - 2);
    const due = EXPIRY + LATENCY_GRACE_PERIOD_BLOCKS + MANAGER_GRACE_BLOCKS;
    expect(await runTo(one, due - 1)).toBe(0);
    expect(one.decision()).toBeUndefined();
    expect(await runTo(one, due)).toBe(1);
    expect(one.decision()).toMatch(/outbound HTLC 0 .*50000 sat at stake in 1 HTLCs, about \d+ sat to close/);
    expect(one.settling.state.monitors.get(one.id)?.closeState).toBe('pending');
    expect(one.settling.events('channel_closing')).toMatchObject([
      { decidedBy: 'chain-monitor', atStakeSat: '50000', costSat: '2002' },
    ]);
    // Once is enough.
    expect(await runTo(one, due + 3)).toBe(0);
  });

  test('for an inbound HTLC whose preimage some other commit wrote, whenever it comes', async () => {
    const one = await stage(withHtlc('bob', 50_000_000n), EXPIRY - 40);
    expect(await runTo(one, EXPIRY - 20)).toBe(0);
    one.settling.manager.preimages.set('row', {
      channelId: one.monitor.parameters.channelId,
      htlcId: 0n,
      preimage: preimageOf(1),
    });
    expect(await runTo(one, EXPIRY - 19)).toBe(1);
    expect(one.decision()).toMatch(/inbound HTLC 0 \(inbound_preimage_known\)/);
  });

  test('after a restart, from the stored deadlines', async () => {
    const one = await stage(withHtlc('alice', 50_000_000n), EXPIRY);
    const restarted = await one.settling.restart();
    const keeper = keeperOf(restarted);
    expect(await runTo({ ...one, settling: restarted, keeper }, EXPIRY + 5)).toBe(1);
  });
});

describe('nothing is closed', () => {
  test('when the HTLC left every commitment that could be broadcast', async () => {
    const channel = withHtlc('alice', 50_000_000n);
    channel.fail('bob', 0n);
    channel.settle();
    const one = await stage(channel, EXPIRY);
    expect(nextDeadlineOf(one.monitor)).toBeUndefined();
    expect(await runTo(one, EXPIRY + 20)).toBe(0);
    expect(one.decision()).toBeUndefined();
  });

  test('when the manager closes it already, or the funding output is spent', async () => {
    const closing = await stage(withHtlc('alice', 50_000_000n), EXPIRY);
    const known = closing.settling.manager.channels.get(closing.id);
    if (known !== undefined)
      closing.settling.manager.channels.set(closing.id, {
        ...known,
        row: { ...known.row, phase: 'closing_force' },
      });
    await runTo(closing, EXPIRY + 9);
    expect(closing.decision()).toBeUndefined();
    expect(closing.settling.state.monitors.get(closing.id)?.closeState).toBe('open');

    const channel = withHtlc('alice', 50_000_000n);
    const spent = await stage(channel, EXPIRY);
    await spent.settling.mine([channel.commitment('bob').tx]);
    await runTo(spent, EXPIRY + 9);
    expect(spent.decision()).toBeUndefined();
  });

  test('lnd#7180: a 10-sat HTLC costs no channel: it is failed upstream, and the event says why', async () => {
    const one = await stage(withHtlc('alice', 10_000n), EXPIRY);
    expect(await runTo(one, EXPIRY + 30)).toBe(0);
    expect(one.decision()).toBeUndefined();
    expect(one.settling.manager.resolutions.get(sourceKey(SOURCE))?.resolution.outcome.type).toBe(
      'failed_here',
    );
    const told = one.settling.events('htlc_abandoned');
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ htlcId: '0', amountMsat: '10000', atStakeSat: '10', costSat: '2002' });
  });

  test('a payment of our own is not failed for it: the peer may still take the HTLC', async () => {
    const one = await stage(withHtlc('alice', 10_000n), EXPIRY);
    const row = one.settling.manager.channels.get(one.id);
    if (row === undefined) throw new TypeError('no row');
    const source = { type: 'payment', attemptId: new Uint8Array(32).fill(8) } as const;
    const outgoing = new Map([[0n, { source, sourceShard: 3 }]]);
    one.settling.manager.channels.set(one.id, { ...row, outgoing });
    expect(await runTo(one, EXPIRY + 30)).toBe(0);
    expect(one.settling.manager.resolutions.size).toBe(0);
    expect(one.settling.events('htlc_abandoned')).toHaveLength(1);
  });

  test('but what was given up counts with what comes later: no peer takes more than a close costs', async () => {
    const channel = new TestChannel({ format: 'anchors' });
    for (const [seed, cltvExpiryHeight] of [
      [1, EXPIRY],
      [2, EXPIRY + 10],
      [3, EXPIRY + 20],
    ] as const)
      channel.add('alice', { seed, amountMsat: 1_500_000n, cltvExpiryHeight });
    channel.settle();
    const one = await stage(channel, EXPIRY);
    expect(await runTo(one, EXPIRY + 10 + 4)).toBe(0);
    expect(one.settling.events('htlc_abandoned')).toHaveLength(1);
    // Two of them: 3000 sat at stake, 2880 sat to close.
    expect(await runTo(one, EXPIRY + 10 + 5)).toBe(1);
    expect(one.decision()).toMatch(/3000 sat at stake in 2 HTLCs, about 2880 sat to close/);
  });

  test.each(['the same process', 'a restart'])(
    'and what the peer fulfilled when it was given up counts when it has left the channel: %s',
    async (which) => {
      const channel = withHtlc('alice', 1_500_000n);
      const one = await stage(channel, EXPIRY);
      expect(await runTo(one, EXPIRY + 5)).toBe(0);
      expect(one.settling.events('htlc_abandoned')).toHaveLength(1);
      channel.fulfill('bob', 0n, 1);
      channel.settle();
      const row = one.settling.manager.channels.get(one.id);
      if (row === undefined) throw new TypeError('no row');
      const left = channel.monitor('alice');
      // As the manager's commit has it, in which the HTLC left.
      const fulfilledLate = { amountMsat: 1_500_000n, updateId: left.updateId };
      one.settling.manager.channels.set(one.id, { ...row, outgoing: new Map(), fulfilledLate });
      // The monitor still has the HTLC: it is not counted twice.
      expect(await runTo(one, EXPIRY + 6)).toBe(0);
      await one.settling.update(left);
      one.keeper.monitorMoved(left.parameters.channelId, left, 'open');
      expect(await runTo(one, EXPIRY + 7)).toBe(0);
      const next = EXPIRY + 40;
      channel.add('alice', { seed: 2, amountMsat: 1_500_000n, cltvExpiryHeight: next });
      channel.settle();
      await one.settling.update(channel.monitor('alice'));
      const settling = which === 'a restart' ? await one.settling.restart() : one.settling;
      const keeper = which === 'a restart' ? keeperOf(settling) : one.keeper;
      keeper.monitorMoved(one.monitor.parameters.channelId, channel.monitor('alice'), 'open');
      expect(await runTo({ ...one, settling, keeper }, next + 4)).toBe(0);
      expect(await runTo({ ...one, settling, keeper }, next + 5)).toBe(1);
      expect(one.decision()).toMatch(/3000 sat at stake in 1 HTLCs/);
    },
  );
});
