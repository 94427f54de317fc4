import { encodeChannelType, type Funding } from '@fulmen/channel';
import { compareBytes, InternalError } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { checkChannelUpdate, decodeChannelUpdate } from '@fulmen/graph';
import type { GraphPolicy } from '@fulmen/proto/router/v1/router';
import { beforeEach, describe, expect, test } from 'vitest';
import { type HandRuntime, NODE, PEER, SCID } from '../payments/testing/bench.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { GossipPublisher } from './gossip-publisher.ts';
import {
  AWAY_MS,
  CAPACITY_SAT,
  type FakeRouter,
  GossipBench,
  known,
  publicChannel,
  signedByPeer,
} from './testing/gossip-bench.ts';

const WEEK_MS = 7 * 86_400_000;

let router: FakeRouter;
let runtime: HandRuntime;
let toPeer: Uint8Array[];
let publisher: GossipPublisher;
let settled: () => Promise<void>;
let bench: GossipBench;

beforeEach(() => {
  bench = new GossipBench();
  ({ router, runtime, toPeer, publisher } = bench);
  settled = () => bench.settled();
});

describe('the terms of a public channel', () => {
  test('changed twice within a second are two updates, the second newer than the first', async () => {
    router.channel = known();
    const { actor, policy } = publicChannel();
    publisher.publishPolicy(actor);
    await settled();
    for (const feeBaseMsat of [7, 8]) {
      actor.policy = { ...policy, feeBaseMsat } as ChannelActor['policy'];
      publisher.publishPolicy(actor);
      await settled();
    }
    expect(router.updates.map(({ feeBaseMsat }) => feeBaseMsat)).toEqual([1_000, 7, 8]);
    const times = router.updates.map(({ timestamp }) => timestamp);
    expect(new Set(times).size).toBe(3);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(toPeer).toHaveLength(3);
  });

  test('are newer than what the network knows, even if the clock was set back', async () => {
    const { actor } = publicChannel();
    const later = Math.floor(runtime.wallClockMs() / 1_000) + 5_000;
    const before = { timestamp: later, ...actor.policy, feeBaseMsat: 5, disabled: false };
    router.channel = known(before as unknown as GraphPolicy);
    publisher.publishPolicy(actor);
    await settled();
    expect(router.updates.map(({ timestamp }) => timestamp)).toEqual([later + 1]);
  });

  test('are not told again with every connection, but refreshed before others prune the channel', async () => {
    router.channel = known();
    const { actor } = publicChannel();
    for (let i = 0; i < 3; i++) {
      publisher.publishPolicy(actor);
      await settled();
    }
    expect(router.updates).toHaveLength(1);
    publisher.look([actor], 'all');
    await settled();
    expect(router.updates).toHaveLength(1);
    runtime.nowMs += WEEK_MS + 10_000;
    publisher.look([actor], 'all');
    await settled();
    expect(router.updates).toHaveLength(2);
  });

  test('wait for the announcement of their channel', async () => {
    const { actor } = publicChannel();
    publisher.publishPolicy(actor);
    await settled();
    expect(router.updates).toEqual([]);
    // A router that knows no such channel was not asked either.
    expect(router.refusals).toEqual([]);
    expect(toPeer).toHaveLength(1);
  });

  test('are told to the peer once both have said that the channel is ready', async () => {
    const { actor, phase } = publicChannel();
    phase.type = 'awaiting_channel_ready';
    publisher.publishPolicy(actor);
    await settled();
    expect(toPeer).toEqual([]);
    phase.type = 'open';
    publisher.publishPolicy(actor);
    await settled();
    expect(toPeer).toHaveLength(1);
  });

  // BOLT 7: "MUST set `htlc_minimum_msat` to the minimum HTLC value (in millisatoshi) that the channel peer will accept"
  // and `htlc_maximum_msat` at most "to `max_htlc_value_in_flight_msat` it received from the peer."
  test('ask for no less than the peer takes in an HTLC, and for no more than it has in flight', async () => {
    router.channel = known();
    const { actor, policy } = publicChannel({
      htlcMinimumMsat: 5_000n,
      maxHtlcValueInFlightMsat: 100_000_000n,
    });
    const limits = async (over: Partial<ChannelActor['policy']>) => {
      actor.policy = { ...policy, ...over };
      publisher.publishPolicy(actor);
      await settled();
      const told = [router.updates.at(-1), bench.updatesToPeer().at(-1)];
      return told.map((update) => [update?.htlcMinimumMsat, update?.htlcMaximumMsat]);
    };
    const twice = (limit: readonly bigint[]) => [limit, limit];
    expect(await limits({})).toEqual(twice([5_000n, 100_000_000n]));
    expect(await limits({ htlcMinimumMsat: 6_000n, htlcMaximumMsat: 90_000_000n })).toEqual(
      twice([6_000n, 90_000_000n]),
    );
  });

  test('ask for no more than there is in the channel', async () => {
    router.channel = known();
    const { actor, policy } = publicChannel();
    actor.policy = { ...policy, htlcMaximumMsat: CAPACITY_SAT * 2_000n };
    publisher.publishPolicy(actor);
    await settled();
    expect(router.updates.map(({ htlcMaximumMsat }) => htlcMaximumMsat)).toEqual([CAPACITY_SAT * 1_000n]);
  });

  test('are disabled when the peer is away for long or the channel closes, and enabled when it returns', async () => {
    router.channel = known();
    const { actor, connection, phase } = publicChannel();
    publisher.publishPolicy(actor);
    await settled();
    const flags = async () => {
      publisher.look([actor], 'changed');
      await settled();
      return router.updates.map(({ channelFlags }) => (channelFlags & 2) !== 0);
    };
    connection.type = 'disconnected';
    expect(await flags()).toEqual([false]);
    runtime.nowMs += AWAY_MS - 1;
    expect(await flags()).toEqual([false]);
    runtime.nowMs += 1;
    expect(await flags()).toEqual([false, true]);
    expect(await flags()).toEqual([false, true]);
    connection.type = 'connected';
    expect(await flags()).toEqual([false, true, false]);
    // The next absence is counted from its own beginning.
    connection.type = 'disconnected';
    expect(await flags()).toEqual([false, true, false]);
    runtime.nowMs += AWAY_MS - 1;
    expect(await flags()).toEqual([false, true, false]);
    connection.type = 'connected';
    phase.type = 'shutting_down';
    expect(await flags()).toEqual([false, true, false, true]);
  });

  test('are enabled with the connection itself, not with the next look', async () => {
    router.channel = known();
    const { actor, connection } = publicChannel();
    connection.type = 'disconnected';
    publisher.look([actor], 'all');
    runtime.nowMs += AWAY_MS;
    publisher.look([actor], 'all');
    await settled();
    connection.type = 'connected';
    publisher.publishPolicy(actor);
    await settled();
    expect(router.updates.at(-2)?.channelFlags).toBe((router.updates.at(-1)?.channelFlags ?? 0) | 2);
    expect((router.updates.at(-1)?.channelFlags ?? 2) & 2).toBe(0);
  });
});

describe('an announcement that both have signed', () => {
  /** A channel whose announcement did not go out when it could. */
  const stored = (announcement: Funding['announcement']) => {
    const { actor } = publicChannel();
    if (actor.state.type !== 'established') throw new InternalError('not established');
    const [funding] = actor.state.fundings;
    Object.assign(funding ?? {}, { announcement });
    return actor;
  };
  const look = async (actor: ChannelActor) => {
    publisher.look([actor], 'all');
    await settled();
  };

  test('is made again with the next look when it was cut short', async () => {
    await look(publicChannel().actor);
    expect(router.announcements).toEqual([]);
    const actor = stored(signedByPeer(SCID, 'sent'));
    await look(actor);
    expect(router.announcements).toMatchObject([{ shortChannelId: SCID }]);
    expect(router.updates).toHaveLength(1);
    await look(actor);
    expect(router.announcements).toHaveLength(1);
  });

  test('is made again with the next look when it was not taken', async () => {
    const { actor } = publicChannel();
    const theirs = signedByPeer(SCID, 'sent');
    router.chain = 'behind';
    publisher.publishAnnouncement(actor, theirs);
    await settled();
    expect(router.refusals).toEqual(['unconfirmed']);
    expect(router.announcements).toEqual([]);
    router.chain = 'followed';
    await look(stored(theirs));
    expect(router.announcements).toMatchObject([{ shortChannelId: SCID }]);
    expect(router.updates).toHaveLength(1);
  });

  test('is not made for another block than the one that has the funding, nor before our half is due', async () => {
    await look(stored(signedByPeer(SCID + 1n, 'sent')));
    await look(stored(signedByPeer(SCID, 'unsent')));
    expect(router.announcements).toEqual([]);
    expect(router.refusals).toEqual([]);
  });
});

test('the terms of an unannounced channel are told again when its peer spoke, once for each connection', async () => {
  const { actor } = publicChannel();
  const state = actor.state as unknown as { parameters: object; counterpartyAliasScid: bigint | undefined };
  publisher.peerSpoke(actor);
  await settled();
  expect(toPeer).toHaveLength(0);
  state.parameters = { ...state.parameters, announce: false };
  state.counterpartyAliasScid = SCID + 1n;
  for (const generation of [1n, 1n, 2n]) {
    Object.assign(actor, { generation });
    publisher.peerSpoke(actor);
    await settled();
  }
  expect(toPeer).toHaveLength(2);
});

test('the terms of an unannounced channel are told under the alias that its peer gave, or the real scid, but a hidden one', async () => {
  const { actor } = publicChannel();
  const state = actor.state as unknown as {
    parameters: { announce: boolean; channelType: Uint8Array };
    counterpartyAliasScid: bigint | undefined;
  };
  const told = async () => {
    publisher.publishPolicy(actor);
    await settled();
    const names = bench.updatesToPeer().map(({ shortChannelId }) => shortChannelId);
    toPeer.length = 0;
    return names;
  };
  state.parameters.announce = false;
  expect(await told()).toEqual([SCID]);
  state.counterpartyAliasScid = SCID + 1n;
  expect(await told()).toEqual([SCID + 1n]);
  state.parameters.channelType = encodeChannelType({
    commitmentFormat: 'anchors',
    scidAlias: 'scid_alias',
    confirmations: 'confirmed',
  });
  expect(await told()).toEqual([SCID + 1n]);
  state.counterpartyAliasScid = undefined;
  expect(await told()).toEqual([]);
  expect(router.refusals).toEqual([]);
});

test('terms are signed by the node for its own direction, and those of an unannounced channel are for the peer alone', async () => {
  const { actor } = publicChannel();
  const direction = compareBytes(NODE.nodeId, PEER.nodeId) < 0 ? 0 : 1;
  for (const [announce, messageFlags] of [
    [true, 1],
    [false, 3],
  ] as const) {
    Object.assign((actor.state as { readonly parameters: object }).parameters, { announce });
    publisher.publishPolicy(actor);
    await settled();
    const raw = toPeer.at(-1) ?? new Uint8Array(0);
    const update = decodeChannelUpdate(raw);
    if (update === undefined) throw new InternalError('no channel_update');
    expect(update).toMatchObject({ messageFlags, channelFlags: direction });
    expect(checkChannelUpdate(secp256k1, update, raw, NODE.nodeId)).toEqual({ ok: true });
  }
});
