/** What is sent to peers, and when: within a gateway's grants, and within what one peer may ask for. */
import { NetworkGraph, nodeKey } from '@fulmen/graph';
import { SYNTHETIC_CHAIN_HASH, syntheticGraph } from '@fulmen/graph/synthetic';
import { decodeMessage, encodeMessage, encodeQueryFlags, encodeShortIds, make } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import type { FakeGateway, Fleet } from './testing/fleet.ts';
import { bytesOf, EVERYTHING_FILTER, NOW_SECONDS } from './testing/fleet.ts';
import { until } from './testing/manual-runtime.ts';
import { fleetOf, idOf } from './testing/questions.ts';

const ALL_BLOCKS = make('query_channel_range', {
  chainHash: SYNTHETIC_CHAIN_HASH,
  firstBlocknum: 0,
  numberOfBlocks: 0xffff_ffff,
});
const MAX_MESSAGE_BYTES = 65_535;

/** For all messages of these channels. */
const queryOf = (scids: readonly bigint[]) =>
  make('query_short_channel_ids', {
    chainHash: SYNTHETIC_CHAIN_HASH,
    encodedShortIds: encodeShortIds([...scids]),
    tlvs: { queryFlags: encodeQueryFlags(scids.map(() => 0x1fn)) },
  });

/** A router that knows a made-up network, and a gateway that sends grants. */
async function networkOf(
  graph: NetworkGraph,
): Promise<{ fleet: Fleet; gateway: FakeGateway; stop: () => Promise<void> }> {
  const fleet = await fleetOf();
  // Nobody funded them, and nobody asks.
  fleet.chain.isSilent = true;
  fleet.store(graph);
  const router = await fleet.startRouter('router');
  const gateway = fleet.gateway('g1', 'router');
  await gateway.sendsGrants();
  const stop = async (): Promise<void> => {
    await router.stop();
    expect(fleet.runtime.failures).toEqual([]);
  };
  return { fleet, gateway, stop };
}

/** Lets what is under way come to rest. */
async function rest(gateway: FakeGateway): Promise<void> {
  let turns = 0;
  let { length } = gateway.received;
  await until(() => {
    turns = gateway.received.length === length ? turns + 1 : 0;
    ({ length } = gateway.received);
    return turns === 50;
  });
}

const bytesTo = (gateway: FakeGateway): number =>
  gateway.received.reduce((sum, item) => sum + bytesOf(item).length, 0);

/** `full_information` of each reply_short_channel_ids_end to a peer; others are not decoded. */
function ends(gateway: FakeGateway, peer: Uint8Array): number[] {
  return gateway.received.flatMap((item) => {
    const message = bytesOf(item);
    if (message[0] !== 1 || message[1] !== 6 || nodeKey(item.peerNodeId) !== nodeKey(peer)) return [];
    const decoded = decodeMessage(Uint8Array.from(message));
    return decoded.ok && decoded.value.type === 'reply_short_channel_ids_end'
      ? [decoded.value.fullInformation]
      : [];
  });
}

describe('grants', () => {
  test('nothing is sent before one, and then no more than one message beyond it, until all is sent', async () => {
    const { fleet, gateway, stop } = await networkOf(syntheticGraph(500, 30_000, 1, NOW_SECONDS));
    const peer = idOf(fleet, 100);
    await gateway.peerUp(peer);
    await gateway.say(peer, ALL_BLOCKS);
    await rest(gateway);
    expect(gateway.received).toEqual([]);
    const last = (): boolean =>
      gateway
        .messagesTo(peer)
        .some((message) => message.type === 'reply_channel_range' && message.syncComplete === 1);
    for (let throughBytes = 1; !last(); throughBytes = bytesTo(gateway) + 1) {
      expect(throughBytes).toBeLessThan(300_000);
      await gateway.grant(peer, 7n, throughBytes);
      await rest(gateway);
      expect(bytesTo(gateway)).toBeGreaterThanOrEqual(throughBytes);
      expect(bytesTo(gateway)).toBeLessThan(throughBytes + MAX_MESSAGE_BYTES);
    }
    expect(gateway.typesTo(peer).filter((type) => type === 'reply_channel_range').length).toBe(4);
    expect(new Set(gateway.received.map(({ connectionId }) => connectionId))).toEqual(new Set([7n]));
    await stop();
  });

  test('a peer that reads nothing is told off all the same', async () => {
    const { fleet, gateway, stop } = await networkOf(new NetworkGraph(SYNTHETIC_CHAIN_HASH));
    const peer = idOf(fleet, 100);
    await gateway.peerUp(peer);
    await gateway.say(peer, ...Array<typeof ALL_BLOCKS>(5).fill(ALL_BLOCKS));
    await until(() => gateway.received.length === 1);
    expect(gateway.verdicts(peer)).toEqual(['warning: a query before the answer to the last']);
    await stop();
  });
});

describe('what a peer asks for', () => {
  test('filters without end bring what is stored four times, and once more after a minute', async () => {
    const graph = syntheticGraph(20, 50, 1, NOW_SECONDS);
    const { fleet, gateway, stop } = await networkOf(graph);
    const peer = idOf(fleet, 100);
    await gateway.peerUp(peer);
    await gateway.grant(peer, 1n, Number.MAX_SAFE_INTEGER);
    const announcements = (): number =>
      gateway.typesTo(peer).filter((type) => type === 'channel_announcement').length;
    for (let filters = 1; filters <= 10; filters++) {
      await gateway.say(peer, EVERYTHING_FILTER);
      await rest(gateway);
      expect(announcements()).toBe(Math.min(filters, 4) * graph.channelCount);
    }
    expect(await fleet.value('dropped_total', { what: 'backlog' })).toBe(6);
    await fleet.runtime.advance(60_000);
    await gateway.say(peer, EVERYTHING_FILTER);
    await rest(gateway);
    expect(announcements()).toBe(5 * graph.channelCount);
    await stop();
  });

  test('answers that nobody reads hold no more than their bytes: a further query is answered by its end alone', async () => {
    const graph = syntheticGraph(20, 7_000, 1, NOW_SECONDS);
    const { fleet, gateway, stop } = await networkOf(graph);
    const query = encodeMessage(queryOf([...graph.sortedScids()]));
    const silent = Array.from({ length: 150 }, (_, index) => idOf(fleet, 200 + index));
    for (const peer of silent) {
      await gateway.peerUp(peer);
      await gateway.say(peer, query, query, query, query);
    }
    const reader = idOf(fleet, 100);
    await gateway.peerUp(reader);
    await gateway.grant(reader, 1n, Number.MAX_SAFE_INTEGER);
    await gateway.say(reader, query);
    await until(() => ends(gateway, reader).length === 1);
    expect(ends(gateway, reader)).toEqual([0]);
    expect(gateway.typesTo(reader)).not.toContain('channel_announcement');
    const held = await fleet.value('answer_bytes');
    expect(held).toBeGreaterThan(63 * 1024 * 1024);
    expect(held).toBeLessThanOrEqual(64 * 1024 * 1024);

    for (const peer of silent) await gateway.peerDown(peer);
    await gateway.say(reader, query);
    await until(() => ends(gateway, reader).length === 2);
    expect(ends(gateway, reader)).toEqual([0, 1]);
    await rest(gateway);
    expect(await fleet.value('answer_bytes')).toBe(0);
    await stop();
  });
});
