/** Work is found however much of what was found before is still held, and given to a channel that can do it. */
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { decodeFailureMessage } from '@fulmen/onion';
import { silentLogger } from '@fulmen/service';
import type { CommitUnit, Intent, ManagerStore, Resolution, Verdict } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import type { ChannelActor } from './channel-actor.ts';
import { ForwardDesk } from './forward-desk.ts';
import type { Item } from './items.ts';
import type { EnginePorts } from './ports.ts';

function part(number: number): Intent {
  const paymentHash = new Uint8Array(32).fill(number & 0xff);
  return {
    source: { type: 'htlc', channelId: new Uint8Array(32), htlcId: BigInt(number) },
    sourceShard: 1,
    target: { type: 'local', paymentHash },
    targetShard: 2,
    paymentHash,
    incomingAmountMsat: 1n,
    incomingCltvExpiryHeight: 1,
    outgoingAmountMsat: 1n,
    outgoingCltvExpiryHeight: 1,
    onion: new Uint8Array(0),
    sharedSecret: new Uint8Array(0),
    // Many in one moment: the order within it is that of their sources.
    createdUnixMs: Math.floor(number / 700),
  };
}

test('parts that are held unclaimed, however many, do not hide what came after them', async () => {
  const held = Array.from({ length: 4_700 }, (_, number) => part(number));
  const heard: bigint[] = [];
  const store: Pick<ManagerStore, 'pendingIntents' | 'pendingResolutions'> = {
    pendingIntents: (_shards, limit, after) => {
      const start = 1 + held.findIndex(({ source }) => source === after?.source);
      return Promise.resolve(held.slice(start, start + limit));
    },
    pendingResolutions: () => Promise.resolve([]),
  };
  const desk = new ForwardDesk({ store, logger: silentLogger } as unknown as EnginePorts, {
    directory: undefined as never,
    peers: { find: () => undefined },
    payments: () => ({
      onIntent: ({ source }) => void (source.type === 'htlc' && heard.push(source.htlcId)),
      onResolution: () => undefined,
    }),
    fenceOf: (shard) => ({ shard, epoch: 1n, replicaId: 'a' }),
  });
  for (let poll = 0; poll < 3; poll++) await desk.findWork([2]);
  expect(heard).toEqual(held.map((_, number) => BigInt(number)));
  // And from the beginning again: what was offered may have been refused by a full mailbox.
  await desk.findWork([2]);
  expect(heard[4_700]).toBe(0n);
});

test('resolutions that nobody takes, however many, do not hide what came after them', async () => {
  const untaken = Array.from({ length: 4_700 }, (_, number): Resolution => {
    const attemptId = new Uint8Array(4);
    new DataView(attemptId.buffer).setUint32(0, number);
    const outcome = { type: 'failed', reason: new Uint8Array(0) } as const;
    return { source: { type: 'payment', attemptId }, sourceShard: 2, outcome };
  });
  const heard: Resolution[] = [];
  const store: Pick<ManagerStore, 'pendingIntents' | 'pendingResolutions'> = {
    pendingIntents: () => Promise.resolve([]),
    pendingResolutions: (_shards, limit, after) => {
      const start = 1 + untaken.findIndex(({ source }) => source === after);
      return Promise.resolve(untaken.slice(start, start + limit));
    },
  };
  const desk = new ForwardDesk({ store, logger: silentLogger } as unknown as EnginePorts, {
    directory: undefined as never,
    peers: { find: () => undefined },
    payments: () => ({ onIntent: () => undefined, onResolution: (one) => void heard.push(one) }),
    fenceOf: (shard) => ({ shard, epoch: 1n, replicaId: 'a' }),
  });
  for (let poll = 0; poll < 3; poll++) await desk.findWork([2]);
  expect(heard).toEqual(untaken);
  await desk.findWork([2]);
  expect(heard[4_700]).toBe(untaken[0]);
});

describe('a forward', () => {
  const SCID = 5n;

  /** Channels with one peer, of which the first is named by forwards. */
  function bench(...channels: readonly ('open' | 'away' | 'stopped' | 'passive')[]) {
    const posted: Item[][] = channels.map(() => []);
    const actors = channels.map(
      (is, index) =>
        ({
          fence: { shard: 2, epoch: 1n, replicaId: 'a' },
          counterpartyNodeId: new Uint8Array(33),
          state: { type: 'opening' },
          stopped: is === 'stopped',
          get isInService() {
            return is !== 'passive' && !(this as { readonly stopped: boolean }).stopped;
          },
          isConnected: () => is !== 'away',
          outboundLiquidityMsat: () => 1_000n,
          post: (item: Item) => is !== 'stopped' && posted[index]?.push(item) !== undefined,
        }) as unknown as ChannelActor & { stopped: boolean },
    );
    const commits: CommitUnit[] = [];
    const resolutions: Resolution[] = [];
    let nowMs = 0;
    let verdict: Verdict = { type: 'committed' };
    const ports = {
      bus: { publish: () => undefined },
      logger: silentLogger,
      runtime: { wallClockMs: () => nowMs },
      committer: {
        submit: (unit: CommitUnit) => {
          commits.push(unit);
          return Promise.resolve({ verdict });
        },
      },
    } as unknown as EnginePorts;
    const upstream = {
      post: (item: Item) => item.kind === 'resolution' && resolutions.push(item.resolution) > 0,
    } as unknown as ChannelActor;
    const desk = new ForwardDesk(ports, {
      directory: {
        byScid: (scid: bigint) => (scid === SCID ? actors[0] : undefined),
        byId: () => upstream,
      } as never,
      peers: {
        find: () => ({ channels: new Map(actors.map((actor, index) => [`${index}`, actor])) }) as never,
      },
      payments: () => undefined as never,
      fenceOf: (shard) => ({ shard, epoch: 1n, replicaId: 'a' }),
    });
    const take = async (shortChannelId = SCID, number = 1): Promise<void> => {
      desk.takeIntent({ ...part(number), target: { type: 'scid', shortChannelId } });
      await new Promise(setImmediate);
    };
    return {
      desk,
      actors,
      commits,
      take,
      taken: () => posted.map((items) => items.length),
      failures: () =>
        resolutions.map(({ outcome }) =>
          outcome.type === 'failed_here' ? decodeFailureMessage(outcome.failure)?.kind : outcome.type,
        ),
      waitMs: (ms: number) => (nowMs += ms),
      answerWith: (next: Verdict) => (verdict = next),
    };
  }

  test('goes over another channel with the peer when the named one is out of service', async () => {
    for (const state of ['stopped', 'passive'] as const) {
      const { take, taken, commits } = bench(state, 'open');
      await take();
      expect(taken()).toEqual([0, 1]);
      expect(commits).toEqual([]);
    }
  });

  test('that no channel is in service for fails back at once', async () => {
    for (const state of ['stopped', 'passive'] as const) {
      const { take, taken, failures, commits } = bench(state, state);
      await take();
      expect(taken()).toEqual([0, 0]);
      expect(failures()).toEqual(['temporary_channel_failure']);
      expect(commits).toMatchObject([
        {
          kind: 'shard',
          commit: { fence: { shard: 2 }, forwarding: { intentClaims: [{ outcome: 'cancelled' }] } },
        },
      ]);
    }
  });

  test('over a channel whose rows cannot be read fails back at once', async () => {
    const { take, failures } = bench('open');
    await take(6n);
    expect(failures()).toEqual(['unknown_next_peer']);
  });

  test('waits for a peer that is away, and not for a channel that is out of service', async () => {
    const { take, taken, failures, waitMs } = bench('stopped', 'away');
    await take();
    expect([taken(), failures()]).toEqual([[0, 0], []]);
    waitMs(30_000);
    await take();
    expect([taken(), failures()]).toEqual([[0, 1], []]);
  });

  test('that a channel had in hand when it went out of service is answered', async () => {
    const { take, taken, actors, failures } = bench('open');
    await take();
    await take();
    expect(taken()).toEqual([1]);
    if (actors[0] !== undefined) actors[0].stopped = true;
    await take();
    expect(failures()).toEqual(['temporary_channel_failure']);
  });

  test('that bounced into the hands of a channel that then went out of service is answered', async () => {
    const { desk, take, taken, actors, failures } = bench('open', 'open');
    await take();
    const [first, second] = actors;
    if (first === undefined || second === undefined) throw new TypeError('no channels');
    desk.bounced(first, { ...part(1), target: { type: 'scid', shortChannelId: 5n } });
    expect(taken()).toEqual([1, 1]);
    second.stopped = true;
    await take();
    expect(taken()).toEqual([2, 1]);
    first.stopped = true;
    await take();
    expect(failures()).toEqual(['temporary_channel_failure']);
  });

  // BOLT 2: "MUST NOT allow incoming HTLCs to this channel using the real short_channel_id"
  test('that names a channel by the scid that its type hides is refused as if there were none, and goes over no other', async () => {
    const { channel } = new Pair(fakeSecp256k1, { scidAlias: 'scid_alias' }).bob;
    const { fundings } = channel;
    const confirmation = { type: 'confirmed', depth: 6, shortChannelId: SCID };
    const state = { ...channel, fundings: fundings.map((funding) => ({ ...funding, confirmation })) };
    const hidden = { state, outboundLiquidityMsat: () => 0n };
    const serving = bench('open', 'open');
    Object.assign(serving.actors[0] ?? {}, hidden);
    await serving.take();
    // It says no itself.
    expect(serving.taken()).toEqual([1, 0]);
    const stopped = bench('stopped', 'open');
    Object.assign(stopped.actors[0] ?? {}, hidden);
    await stopped.take();
    expect(stopped.taken()).toEqual([0, 0]);
    expect(stopped.failures()).toEqual(['unknown_next_peer']);
  });

  test('that its channel lets go is handed over again if it is still there', async () => {
    const { desk, take, taken } = bench('open');
    await take();
    desk.letGo([part(1).source]);
    await take();
    expect(taken()).toEqual([2]);
  });

  test('is looked at again when its answer was not stored', async () => {
    const { take, failures, answerWith, commits } = bench('stopped');
    answerWith({ type: 'fence_lost' });
    await take();
    expect(failures()).toEqual([]);
    answerWith({ type: 'committed' });
    await take();
    expect(commits).toHaveLength(2);
    expect(failures()).toEqual(['temporary_channel_failure']);
  });
});

describe('a resolution', () => {
  const SOURCE = { type: 'htlc', channelId: new Uint8Array(32), htlcId: 1n } as const;
  const of = (outcome: Resolution['outcome'], htlcId = 1n): Resolution => ({
    source: { ...SOURCE, htlcId },
    sourceShard: 1,
    outcome,
  });
  const fulfilled = of({ type: 'fulfilled', preimage: new Uint8Array(32) });
  const failed = of({ type: 'failed', reason: new Uint8Array(292) });

  /** A desk beside a channel, and what its rows say at the next look. */
  function bench() {
    const posted: string[] = [];
    const pending: Resolution[] = [];
    const actor = {
      fence: { shard: 1, epoch: 1n, replicaId: 'a' },
      stopped: false,
      isFull: false,
      post(item: Item) {
        if (this.isFull || item.kind !== 'resolution' || item.resolution.source.type !== 'htlc') return false;
        posted.push(`${item.resolution.source.htlcId} ${item.resolution.outcome.type}`);
        return true;
      },
    };
    const ports = {
      bus: { publish: () => undefined },
      store: {
        pendingIntents: () => Promise.resolve([]),
        pendingResolutions: () => Promise.resolve([...pending]),
      },
    } as unknown as EnginePorts;
    const desk = new ForwardDesk(ports, {
      directory: { byId: () => actor as unknown as ChannelActor } as never,
      peers: { find: () => undefined },
      payments: () => undefined as never,
      fenceOf: (shard) => ({ shard, epoch: 1n, replicaId: 'a' }),
    });
    const look = async (...rows: readonly Resolution[]): Promise<readonly string[]> => {
      pending.splice(0, pending.length, ...rows);
      await desk.findWork([1]);
      return posted.splice(0);
    };
    return { desk, actor, look };
  }

  test('is handed over once, however often its row is seen before the channel has acted on it', async () => {
    for (const resolution of [fulfilled, failed]) {
      const { desk, look } = bench();
      expect(await look(resolution)).toHaveLength(1);
      expect(await look(resolution)).toEqual([]);
      desk.takeResolution(resolution);
      expect(await look(resolution)).toEqual([]);
    }
  });

  test('with a preimage does not wait behind the failure that it replaces', async () => {
    const { look } = bench();
    expect(await look(failed)).toEqual(['1 failed']);
    expect(await look(fulfilled)).toEqual(['1 fulfilled']);
    expect(await look(fulfilled)).toEqual([]);
    // A page that was read before the preimage was stored.
    expect(await look(failed)).toEqual([]);
  });

  test('is handed over again to a channel that was too busy, and after one that left', async () => {
    const { look, actor } = bench();
    actor.isFull = true;
    expect(await look(fulfilled)).toEqual([]);
    actor.isFull = false;
    expect(await look(fulfilled)).toEqual(['1 fulfilled']);
    actor.stopped = true;
    expect(await look(fulfilled)).toEqual(['1 fulfilled']);
  });

  test('that turned out to be another is read again, and no other is', async () => {
    const { desk, look } = bench();
    const other = of({ type: 'failed', reason: new Uint8Array(292) }, 2n);
    expect(await look(failed, other)).toEqual(['1 failed', '2 failed']);
    desk.readResolutionAgain(SOURCE);
    expect(await look(fulfilled, other)).toEqual(['1 fulfilled']);
  });
});
