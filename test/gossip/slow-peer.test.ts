/** A peer on a slow line asks for everything: a gateway and a router, in memory, between them nothing but their stream. */
import { STALE_AFTER_SECONDS } from '@fulmen/graph';
import { SYNTHETIC_CHAIN_HASH, syntheticGraph } from '@fulmen/graph/synthetic';
import { Fleet as GatewayFleet } from '@fulmen/peer-gateway/testing/fleet';
import { settle } from '@fulmen/peer-gateway/testing/manual-runtime';
import { Fleet as RouterFleet, NOW_SECONDS } from '@fulmen/router/testing/fleet';
import type { TestPeer } from '@fulmen/testing/peer';
import type { MessageOf } from '@fulmen/wire';
import { QUERY_OPTION, decodeShortIds, encodeShortIds, make } from '@fulmen/wire';
import { onTestFinished, expect, test } from 'vitest';

const CHANNELS = 30_000;
/** Ids of one query_short_channel_ids: as many as a message holds. */
const QUERY_IDS = 8_000;

async function slowPeer(): Promise<{ gateways: GatewayFleet; routers: RouterFleet; peer: TestPeer }> {
  const routers = new RouterFleet();
  await routers.startChain();
  routers.store(syntheticGraph(1_000, CHANNELS, 1, NOW_SECONDS - STALE_AFTER_SECONDS / 2));
  const router = await routers.startRouter('router');
  const gateways = await GatewayFleet.start({ network: routers.network });
  onTestFinished(async () => {
    await gateways.stop();
    await router.stop();
    expect(routers.runtime.failures).toEqual([]);
  });
  return { gateways, routers, peer: await gateways.peer('alice') };
}

/** Lets the peer read a piece now and then, until it has read what `isLast` says. */
async function readSlowly(peer: TestPeer, isLast: () => boolean): Promise<void> {
  // First nothing at all, until everything has come to rest.
  for (let turns = 0; turns < 500; turns++) await settle();
  for (let pieces = 0; pieces < 5_000 && !isLast(); pieces++) {
    peer.resumeReading();
    await settle();
    peer.pauseReading();
    for (let turns = 0; turns < 8; turns++) await settle();
  }
}

test('it gets every reply, and the word that says it was the last', async () => {
  const { gateways, peer } = await slowPeer();
  const replies = (): MessageOf<'reply_channel_range'>[] =>
    peer.waiting.filter(
      (message): message is MessageOf<'reply_channel_range'> => message.type === 'reply_channel_range',
    );
  peer.pauseReading();
  await peer.send(
    make('query_channel_range', {
      chainHash: SYNTHETIC_CHAIN_HASH,
      firstBlocknum: 0,
      numberOfBlocks: 0xffff_ffff,
      tlvs: { queryOption: QUERY_OPTION.timestamps | QUERY_OPTION.checksums },
    }),
  );
  await readSlowly(peer, () => replies().at(-1)?.syncComplete === 1);
  const scids = replies().flatMap(({ encodedShortIds }) => {
    const decoded = decodeShortIds(encodedShortIds);
    return decoded.ok ? decoded.value : [];
  });
  expect(scids.length).toBe(CHANNELS);
  expect(replies().map(({ syncComplete }) => syncComplete)).toEqual([
    ...Array<number>(replies().length - 1).fill(0),
    1,
  ]);

  const asked = scids.slice(0, QUERY_IDS);
  await peer.send(
    make('query_short_channel_ids', {
      chainHash: SYNTHETIC_CHAIN_HASH,
      encodedShortIds: encodeShortIds(asked),
    }),
  );
  const count = (type: string): number => peer.waiting.filter((message) => message.type === type).length;
  await readSlowly(peer, () => count('reply_short_channel_ids_end') === 1);
  expect(count('reply_short_channel_ids_end')).toBe(1);
  expect([count('channel_announcement'), count('channel_update')]).toEqual([QUERY_IDS, 2 * QUERY_IDS]);
  expect(await gateways.value('dropped_messages_total')).toBe(0);
});
