import { toHex } from '@fulmen/codec';
import {
  encodeChannelMonitorUpdate,
  encodeMonitor,
  encodeMonitorParameters,
  newMonitor,
} from '@fulmen/monitor';
import type { AcknowledgeRequest, PullRequest, PullResponse } from '@fulmen/proto/tower/v1/tower';
import { RpcError } from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import { InboxSetBackError } from '@fulmen/store/tower/tower-store';
import { afterEach, expect, test } from 'vitest';
import { ChainView } from '../state/view.ts';
import { ManualClock, settle } from '../testing/harness.ts';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';
import { TowerPuller } from './puller.ts';
import { EMPTY_SNAPSHOT } from '../testing/empty-snapshot.ts';

const [UPDATED, DUE, LATER_DUE] = [0x01, 0x02, 0x03].map((byte) => new Uint8Array(32).fill(byte)) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
];
const LEASE = { holder: 'tower', epoch: 1n };
const EMPTY_VIEW = new ChainView(EMPTY_SNAPSHOT);

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

const parametersOf = (channelId: Uint8Array) => ({ ...TEST_PARAMETERS, channelId });

function updateOf(channelId: Uint8Array, updateId: bigint): PullResponse['updates'][number] {
  const payload = encodeChannelMonitorUpdate({ channelId, updateId, steps: [] });
  return { channelId, updateId, payload, origin: undefined };
}

/** A tower whose node has these updates and monitors for it, until they are acknowledged. */
function startPuller(has: {
  readonly updates: PullResponse['updates'];
  readonly due: Uint8Array[];
  /** What becomes of a question for a channel's monitor, by id in hex; absent: it comes. */
  readonly monitors: Map<string, 'not_found' | 'silent'>;
}) {
  const clock = new ManualClock();
  const node = { ...has, pulls: [] as PullRequest[], asked: [] as string[] };
  const justice = { isAway: false };
  /** What the node knows of the tower's database, and what that counts. */
  const marks = { node: 0n, here: 1n, lost: [] as bigint[] };
  const count = (known: bigint): bigint => {
    if (marks.here < known) throw new InboxSetBackError('less');
    return (marks.here += 1n);
  };
  const moved: string[] = [];
  const acknowledged = new Map<string, bigint>();
  const pageFor = (): Omit<PullResponse, 'mark'> => ({
    updates: node.updates,
    preimages: [],
    monitors: node.due,
  });
  const puller = new TowerPuller({
    towerId: 'home',
    feeds: [
      {
        pull: async (request, call) => {
          node.pulls.push(request);
          if (request.mark > marks.node) marks.node = request.mark;
          if (request.mark < marks.node)
            return { updates: [], preimages: [], monitors: [], mark: marks.node };
          const deferred = new Set(request.deferredMonitors.map(toHex));
          const page = pageFor();
          const monitors = page.monitors.filter((id) => !deferred.has(toHex(id)));
          if (page.updates.length + monitors.length === 0)
            await clock.runtime().sleep(request.waitMs, call?.signal);
          return { ...page, monitors, mark: marks.node };
        },
        getMonitor: async function* ({ channelId }, call) {
          const id = toHex(channelId);
          node.asked.push(id);
          const fate = node.monitors.get(id);
          if (fate === 'silent') await clock.runtime().sleep(1_000_000, call?.signal);
          if (fate === 'not_found') throw new RpcError('not_found', 'there is no monitor to send yet');
          const parameters = parametersOf(Uint8Array.from(channelId));
          const snapshot = encodeMonitor(newMonitor(parameters));
          yield {
            updateId: 0n,
            totalBytes: BigInt(snapshot.length),
            snapshot,
            origin: {
              parameters: encodeMonitorParameters(parameters),
              sealedKey: new Uint8Array(82),
            },
          };
        },
        acknowledge: async ({ progress, mark }: AcknowledgeRequest) => {
          if (mark > marks.node) marks.node = mark;
          for (const { channelId, updateId } of progress) {
            const id = toHex(channelId);
            acknowledged.set(id, updateId);
            node.updates = node.updates.filter((update) => toHex(update.channelId) !== id);
            node.due = node.due.filter((due) => toHex(due) !== id);
          }
          return {};
        },
        reportSetBack: async ({ lostMark }) => {
          marks.lost.push(lostMark);
          if (lostMark < marks.node) return { mark: 0n };
          marks.node = lostMark + 1n;
          node.due = [DUE];
          return { mark: marks.node };
        },
      },
    ],
    inbox: {
      mark: async () => marks.here,
      raiseMark: async (mark) => {
        if (mark > marks.here) marks.here = mark;
      },
      receive: async ({ updates }, known) => ({
        mark: count(known),
        progress: updates.map(({ channelId, updateId }) => ({ channelId, updateId })),
        missing: [],
      }),
      receiveMonitor: async (_lease, { channelId, updateId }, _origin, _watch, known) => ({
        mark: count(known),
        outcome: 'taken',
        progress: { channelId, updateId },
      }),
      sealedKey: async () => undefined,
      forgetPreimages: async () => undefined,
      close: async () => undefined,
    },
    justice: {
      checkKey: async () => {
        if (justice.isAway) throw new RpcError('unavailable', 'away');
        return {};
      },
    },
    runtime: clock.runtime(),
    logger: silentLogger,
    metrics: new Metrics('chain-monitor'),
    writer: { lease: LEASE, exclusive: (work) => work(EMPTY_VIEW, LEASE) },
    broken: () => new Map(),
    onMoved: (channelId) => void moved.push(toHex(channelId)),
    onStored: () => undefined,
    oldestHtlcs: () => [],
  });
  const task = puller.start();
  stops.push(() => task.stop());
  return { node, clock, justice, moved, acknowledged, marks };
}

test('a monitor that cannot be had costs its own channel only, and is asked for again', async () => {
  const { node, clock, moved, acknowledged } = startPuller({
    updates: [updateOf(UPDATED, 5n)],
    due: [DUE, LATER_DUE],
    monitors: new Map([[toHex(DUE), 'not_found']]),
  });
  await clock.advance(0);
  expect(acknowledged.get(toHex(UPDATED))).toBe(5n);
  expect(acknowledged.get(toHex(LATER_DUE))).toBe(0n);
  expect(moved).toEqual([toHex(LATER_DUE)]);
  expect(node.asked).toEqual([DUE, LATER_DUE].map(toHex));
  // Meanwhile nobody asks in a loop.
  expect(node.pulls.length).toBeLessThan(5);
  node.monitors.clear();
  await clock.advance(10_000);
  expect(node.asked).toEqual([DUE, LATER_DUE, DUE].map(toHex));
  expect(acknowledged.get(toHex(DUE))).toBe(0n);
});

test('while a monitor is on its way, updates of other channels are acknowledged', async () => {
  const { node, clock, acknowledged } = startPuller({
    updates: [],
    due: [DUE],
    monitors: new Map([[toHex(DUE), 'silent']]),
  });
  await clock.advance(0);
  expect(node.asked).toEqual([toHex(DUE)]);
  for (const updateId of [5n, 6n]) {
    node.updates = [updateOf(UPDATED, updateId)];
    // The hint that there is news.
    await clock.advance(30_000);
    await settle();
    expect(acknowledged.get(toHex(UPDATED))).toBe(updateId);
  }
  expect(node.asked).toEqual([toHex(DUE)]);
});

test('while the justice signer is away, only channels that are new wait for it', async () => {
  const origin = {
    parameters: encodeMonitorParameters(parametersOf(DUE)),
    sealedKey: new Uint8Array(82),
  };
  const { clock, justice, acknowledged } = startPuller({
    updates: [{ ...updateOf(DUE, 1n), origin }, updateOf(DUE, 2n), updateOf(UPDATED, 5n)],
    due: [],
    monitors: new Map(),
  });
  justice.isAway = true;
  await clock.advance(0);
  expect([...acknowledged]).toEqual([[toHex(UPDATED), 5n]]);
  justice.isAway = false;
  await clock.advance(1_000);
  expect(acknowledged.get(toHex(DUE))).toBe(2n);
});

test('a database that was set back while the tower runs, or lost, is fetched anew; one that was not, is not', async () => {
  const { node, clock, marks, acknowledged } = startPuller({
    updates: [updateOf(UPDATED, 5n)],
    due: [],
    monitors: new Map(),
  });
  await clock.advance(30_000);
  // A restart, or monitors that come beside the updates, are no loss.
  node.due = [LATER_DUE];
  await clock.advance(60_000);
  expect(acknowledged.get(toHex(LATER_DUE))).toBe(0n);
  expect(marks.lost).toEqual([]);
  expect(marks.node).toBe(marks.here);
  for (const lost of [marks.here - 1n, 1n]) {
    const before = marks.here;
    marks.here = lost;
    acknowledged.clear();
    // What comes before the next question is not taken by a database that counts less.
    node.updates = [updateOf(UPDATED, 6n)];
    await clock.advance(60_000);
    expect(marks.lost.splice(0)).toEqual([before]);
    expect([...acknowledged]).toEqual(
      expect.arrayContaining([
        [toHex(UPDATED), 6n],
        [toHex(DUE), 0n],
      ]),
    );
    expect(marks.here).toBeGreaterThan(before + 1n);
  }
});
