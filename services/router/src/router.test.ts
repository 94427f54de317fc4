/** The router over its RPCs: gossip in and out, queries, own messages. */
import { STALE_AFTER_SECONDS } from '@fulmen/graph';
import { compareBytes, toHex } from '@fulmen/codec';
import { SYNTHETIC_CHAIN_HASH } from '@fulmen/graph/synthetic';
import { StoreError } from '@fulmen/store/error';
import type { MessageOf } from '@fulmen/wire';
import { decodeShortIds, encodeShortIds, make } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import { bytesOf, EVERYTHING_FILTER, HEIGHT, NOW_SECONDS } from './testing/fleet.ts';
import { until } from './testing/manual-runtime.ts';
import { fleetOf, idOf, channelOf, lineOf, info, learn, longer } from './testing/questions.ts';

describe('gossip in', () => {
  test('a network is learnt from a peer, survives a restart, and is relayed to another gateway after a minute', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const [first, second] = [fleet.gateway('g1', 'router'), fleet.gateway('g2', 'router')];
    const [alice, bob] = [idOf(fleet, 100), idOf(fleet, 101)];
    await first.peerUp(alice);
    await second.peerUp(bob);
    await second.say(bob, EVERYTHING_FILTER);
    await first.say(alice, EVERYTHING_FILTER);
    await until(() => second.typesTo(bob).includes('query_channel_range'));
    await learn(fleet, first, alice, lineOf(fleet, 3));
    expect(await info(fleet)).toEqual({ nodes: 4, channels: 3, updates: 6 });
    expect(await fleet.client('router').getNode({ nodeId: idOf(fleet, 2) })).toMatchObject({
      found: true,
      channels: 2,
    });

    const channels = lineOf(fleet, 3);
    const { channel } = await fleet
      .client('router')
      .lookupChannel({ shortChannelId: channels[0]?.scid ?? 0n });
    expect(channel).toMatchObject({
      capacitySat: 1_000_000n,
      spentHeight: 0,
      policy1: { timestamp: NOW_SECONDS - 100, htlcMaximumMsat: 1_000_000_000n, disabled: false },
      policy2: { timestamp: NOW_SECONDS - 100 },
    });
    expect(compareBytes(channel?.nodeId1 ?? new Uint8Array(0), channel?.nodeId2 ?? new Uint8Array(0))).toBe(
      -1,
    );
    expect(await fleet.client('router').lookupChannel({ shortChannelId: 1n })).toEqual({
      channel: undefined,
    });
    const page = async (afterShortChannelId: bigint, limit: number, nodeId: Uint8Array = new Uint8Array(0)) =>
      (await fleet.client('router').listChannels({ afterShortChannelId, limit, nodeId })).channels.map(
        ({ shortChannelId: scid }) => scid,
      );
    const scids = channels.map(({ scid }) => scid);
    expect(await page(0n, 2)).toEqual(scids.slice(0, 2));
    expect(await page(scids[1] ?? 0n, 0)).toEqual(scids.slice(2));
    expect(await page(0n, 0, idOf(fleet, 2))).toEqual(scids.slice(0, 2));
    expect(await page(0n, 0, idOf(fleet, 77))).toEqual([]);
    await expect(page(0n, 1_001)).rejects.toMatchObject({ code: 'invalid_argument' });

    // Nothing before the flush; then all, announcements before updates, and nothing back to where it came from.
    expect(second.typesTo(bob)).not.toContain('channel_announcement');
    await fleet.runtime.advance(60_000);
    await until(() => second.typesTo(bob).filter((type) => type === 'node_announcement').length === 4);
    const types = second
      .typesTo(bob)
      .filter((type) => type.endsWith('announcement') || type === 'channel_update');
    expect(types).toEqual([
      ...Array<string>(3).fill('channel_announcement'),
      ...Array<string>(6).fill('channel_update'),
      ...Array<string>(4).fill('node_announcement'),
    ]);
    expect(first.typesTo(alice)).not.toContain('channel_announcement');
    expect(first.verdicts(alice)).toEqual([]);

    await router.stop();
    const again = await fleet.startRouter('router');
    expect(await info(fleet)).toEqual({ nodes: 4, channels: 3, updates: 6 });
    await again.stop();
    expect(fleet.runtime.failures).toEqual([]);
  });

  test('a wrong signature costs the connection, a missing or other output is refused and not asked for again', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    const mallory = idOf(fleet, 100);
    await gateway.peerUp(mallory);
    const [forged, unfunded, stolen, good] = lineOf(fleet, 4);
    if (!forged || !unfunded || !stolen || !good) throw new TypeError('no channels');
    fleet.chain.outputs.delete(unfunded.scid);
    fleet.chain.outputs.set(stolen.scid, { valueSat: 1n, scriptPubkey: good.announcement.raw.slice(0, 34) });
    const bad = forged.announcement.raw.slice();
    bad[10] = (bad[10] ?? 0) ^ 1;
    await gateway.say(mallory, bad);
    await until(() => gateway.verdicts(mallory).length > 0);
    expect(gateway.verdicts(mallory)).toEqual(['disconnect: invalid signature']);
    await gateway.say(mallory, unfunded.announcement.raw, stolen.announcement.raw);
    await until(() => fleet.chain.asked === 2);
    await gateway.say(mallory, unfunded.announcement.raw, stolen.announcement.raw, ...good.raw);
    await until(async () => (await info(fleet)).updates === 2);
    expect(await info(fleet)).toMatchObject({ channels: 1 });
    expect(fleet.chain.asked).toBe(3);
    const [update] = good.updates;
    const badUpdate = update?.raw.slice() ?? new Uint8Array(0);
    badUpdate[badUpdate.length - 1] = 7;
    new DataView(badUpdate.buffer).setUint32(2 + 64 + 32 + 8, NOW_SECONDS);
    await gateway.say(mallory, badUpdate, Uint8Array.of(1, 0, 5));
    await until(() => gateway.verdicts(mallory).length === 3);
    expect(gateway.verdicts(mallory).slice(1)).toEqual([
      'disconnect: invalid signature',
      'warning: malformed gossip message',
    ]);
    await router.stop();
  });

  test('what its node signed and nobody can read is kept and relayed byte for byte, and held against no bearer', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const [first, second] = [fleet.gateway('g1', 'router'), fleet.gateway('g2', 'router')];
    const [honest, other] = [idOf(fleet, 100), idOf(fleet, 101)];
    await first.peerUp(honest);
    await second.peerUp(other);
    await second.say(other, EVERYTHING_FILTER);
    const { announcement, updates, nodes, keys } = channelOf(fleet, 700_000, [1, 2]);
    // No record at all, an unknown even one, records out of order, and one cut short.
    const odd = [
      longer(fleet, announcement.raw, '00', [...keys, ...keys]),
      longer(fleet, updates[0]?.raw, '020107', keys.slice(0, 1)),
      longer(fleet, updates[1]?.raw, '05000300', keys.slice(1)),
      longer(fleet, nodes[0]?.raw, '0109ff', keys.slice(0, 1)),
    ];
    await first.say(honest, ...odd);
    await until(async () => first.verdicts(honest).length > 0 || (await info(fleet)).updates === 2);
    expect(first.verdicts(honest)).toEqual([]);
    await fleet.runtime.advance(60_000);
    await until(() => second.typesTo(other).includes('node_announcement'));
    const relayed = second.received.map((item) => toHex(bytesOf(item)));
    expect(relayed).toEqual(expect.arrayContaining(odd.map(toHex)));
    await router.stop();
    const again = await fleet.startRouter('router');
    expect(await info(fleet)).toMatchObject({ channels: 1, updates: 2 });
    await again.stop();
  });

  test('an announcement that comes before its blocks is kept until chain-monitor has them', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    await gateway.peerUp(idOf(fleet, 100));
    const [early, unfunded] = [channelOf(fleet, HEIGHT + 1, [1, 2]), channelOf(fleet, HEIGHT - 8, [2, 3])];
    const output = fleet.chain.outputs.get(unfunded.scid);
    fleet.chain.outputs.delete(unfunded.scid);
    await gateway.say(idOf(fleet, 100), ...early.raw, ...unfunded.raw);
    await until(() => fleet.chain.asked === 1);
    await fleet.runtime.advance(4_000);
    expect(await info(fleet)).toMatchObject({ channels: 0 });
    fleet.chain.height += 6;
    if (output !== undefined) fleet.chain.outputs.set(unfunded.scid, output);
    await fleet.runtime.advance(40_000);
    await until(async () => (await info(fleet)).updates === 4);
    expect(gateway.verdicts(idOf(fleet, 100))).toEqual([]);
    await router.stop();
  });

  test('a spent channel is remarked, and forgotten 72 blocks later', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    await gateway.peerUp(idOf(fleet, 100));
    const [channel] = lineOf(fleet, 1);
    if (channel === undefined) throw new TypeError('no channel');
    await learn(fleet, gateway, idOf(fleet, 100), [channel]);
    fleet.chain.outputs.delete(channel.scid);
    fleet.chain.height += 1;
    await fleet.runtime.advance(20_000);
    await until(() => (fleet.disk.channels.get(channel.scid)?.value.spentHeight ?? 0) !== 0);
    expect(await info(fleet)).toMatchObject({ channels: 1 });
    fleet.chain.height += 72;
    await fleet.runtime.advance(20_000);
    await until(async () => (await info(fleet)).channels === 0);
    await fleet.runtime.advance(1_000);
    expect(fleet.disk.channels.size).toBe(0);
    expect(fleet.disk.nodes.size).toBe(0);
    await router.stop();
  });
});

describe('queries', () => {
  test('range and ids are answered; a peer is asked for what we lack', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    const peer = idOf(fleet, 100);
    await gateway.peerUp(peer);
    const channels = lineOf(fleet, 3);
    const [known, ...unknown] = channels;
    if (known === undefined) throw new TypeError('no channel');
    await learn(fleet, gateway, peer, [known]);

    await gateway.say(
      peer,
      make('query_channel_range', {
        chainHash: SYNTHETIC_CHAIN_HASH,
        firstBlocknum: 0,
        numberOfBlocks: 0xffff_ffff,
      }),
    );
    await until(() => gateway.typesTo(peer).includes('reply_channel_range'));
    const reply = gateway
      .messagesTo(peer)
      .find((message): message is MessageOf<'reply_channel_range'> => message.type === 'reply_channel_range');
    expect(decodeShortIds(reply?.encodedShortIds ?? new Uint8Array(0))).toEqual({
      ok: true,
      value: [known.scid],
    });

    await gateway.say(
      peer,
      make('query_short_channel_ids', {
        chainHash: SYNTHETIC_CHAIN_HASH,
        encodedShortIds: encodeShortIds([known.scid]),
      }),
    );
    await until(() => gateway.typesTo(peer).includes('reply_short_channel_ids_end'));
    expect(gateway.typesTo(peer).slice(-6)).toEqual([
      'channel_announcement',
      'channel_update',
      'channel_update',
      'node_announcement',
      'node_announcement',
      'reply_short_channel_ids_end',
    ]);

    // The peer answers our own query.
    expect(gateway.typesTo(peer).slice(0, 2)).toEqual(['query_channel_range', 'gossip_timestamp_filter']);
    // LDK answers no query_short_channel_ids, and sends what it has on a filter that reaches back.
    const filter = gateway.messagesTo(peer)[1];
    expect(filter).toMatchObject({ firstTimestamp: NOW_SECONDS - STALE_AFTER_SECONDS });
    await gateway.say(
      peer,
      make('reply_channel_range', {
        chainHash: SYNTHETIC_CHAIN_HASH,
        firstBlocknum: 0,
        numberOfBlocks: 0xffff_ffff,
        syncComplete: 1,
        encodedShortIds: encodeShortIds(channels.map(({ scid }) => scid)),
      }),
    );
    await until(() => gateway.typesTo(peer).includes('query_short_channel_ids'));
    const query = gateway
      .messagesTo(peer)
      .find(
        (message): message is MessageOf<'query_short_channel_ids'> =>
          message.type === 'query_short_channel_ids',
      );
    expect(decodeShortIds(query?.encodedShortIds ?? new Uint8Array(0))).toEqual({
      ok: true,
      value: unknown.map(({ scid }) => scid),
    });
    await gateway.say(
      peer,
      ...unknown.flatMap(({ raw }) => raw),
      make('reply_short_channel_ids_end', { chainHash: SYNTHETIC_CHAIN_HASH, fullInformation: 1 }),
    );
    await until(async () => (await info(fleet)).updates === 6);
    await router.stop();
  });

  test('a filter brings what is stored, only of its time; too many queries bring a warning', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    const [source, wants, wantsNone] = [idOf(fleet, 100), idOf(fleet, 101), idOf(fleet, 102)];
    for (const peer of [source, wants, wantsNone]) await gateway.peerUp(peer);
    await learn(fleet, gateway, source, lineOf(fleet, 2));
    await gateway.say(wants, EVERYTHING_FILTER);
    await gateway.say(
      wantsNone,
      make('gossip_timestamp_filter', {
        chainHash: SYNTHETIC_CHAIN_HASH,
        firstTimestamp: NOW_SECONDS,
        timestampRange: 1_000,
      }),
    );
    await until(() => gateway.typesTo(wants).filter((type) => type === 'node_announcement').length === 3);
    expect(gateway.typesTo(wants).filter((type) => type === 'channel_update').length).toBe(4);
    expect(gateway.typesTo(wantsNone)).not.toContain('channel_update');
    const query = make('query_short_channel_ids', {
      chainHash: SYNTHETIC_CHAIN_HASH,
      encodedShortIds: encodeShortIds([]),
    });
    const answers = () =>
      gateway.typesTo(wantsNone).filter((type) => type === 'reply_short_channel_ids_end').length;
    // As many as LND asks for to learn 50,000 channels, each after the answer to the last.
    for (let asked = 1; asked <= 100; asked++) {
      await gateway.say(wantsNone, query);
      await until(() => answers() === asked);
    }
    expect(gateway.verdicts(wantsNone)).toEqual([]);
    await gateway.say(wantsNone, ...Array<typeof query>(120).fill(query));
    await until(() => gateway.verdicts(wantsNone).includes('warning: too many queries'));
    await router.stop();
  });
});

describe('own messages', () => {
  test('are kept and sent at once to every peer with a filter', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    const [listens, silent] = [idOf(fleet, 100), idOf(fleet, 101)];
    await gateway.peerUp(listens);
    await gateway.peerUp(silent);
    await gateway.say(listens, EVERYTHING_FILTER);
    const [channel] = lineOf(fleet, 1);
    if (channel === undefined) throw new TypeError('no channel');
    const own = [channel.announcement, channel.updates[0], channel.nodes[0]].flatMap(
      (signed) => signed?.raw ?? [],
    );
    await until(() => gateway.typesTo(listens).length > 0);
    await fleet.client('router').publishOwn({ messages: own });
    await until(() => gateway.typesTo(listens).includes('node_announcement'));
    expect(gateway.typesTo(silent)).not.toContain('channel_announcement');
    expect(fleet.disk.channels.size).toBe(1);
    // Once more changes nothing.
    await fleet.client('router').publishOwn({ messages: own });
    const forged = own[0]?.slice() ?? new Uint8Array(0);
    forged[5] = (forged[5] ?? 0) ^ 1;
    await expect(fleet.client('router').publishOwn({ messages: [forged] })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await router.stop();
  });

  test('whose saving failed are sent once they are saved, whether or not they are published again', async () => {
    const fleet = await fleetOf();
    const failing = { writes: 2 };
    const router = await fleet.startRouter('router', {}, (store) => ({
      ...store,
      write: (...args) =>
        failing.writes-- > 0
          ? Promise.reject(new StoreError('unavailable', 'not now'))
          : store.write(...args),
    }));
    const gateway = fleet.gateway('g1', 'router');
    const listens = idOf(fleet, 100);
    await gateway.peerUp(listens);
    await gateway.say(listens, EVERYTHING_FILTER);
    await until(() => gateway.typesTo(listens).length > 0);
    const [channel] = lineOf(fleet, 1);
    if (channel === undefined) throw new TypeError('no channel');
    const messages = [channel.announcement.raw];
    const publish = () => fleet.client('router').publishOwn({ messages });
    for (let i = 0; i < 2; i++) await expect(publish()).rejects.toMatchObject({ code: 'unavailable' });
    expect(gateway.typesTo(listens)).not.toContain('channel_announcement');
    await publish();
    await until(() => gateway.typesTo(listens).includes('channel_announcement'));
    // Once heard, it is not said again.
    await publish();
    failing.writes = 1;
    const update = channel.updates[0]?.raw ?? new Uint8Array(0);
    await expect(fleet.client('router').publishOwn({ messages: [update] })).rejects.toMatchObject({
      code: 'unavailable',
    });
    await fleet.runtime.advance(1_000);
    await until(() => gateway.typesTo(listens).includes('channel_update'));
    expect(gateway.typesTo(listens).filter((type) => type === 'channel_announcement')).toHaveLength(1);
    await router.stop();
  });
});
