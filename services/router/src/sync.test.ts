/** What peers are asked for when they connect. */
import { STALE_AFTER_SECONDS } from '@fulmen/graph';
import { expect, test } from 'vitest';
import { NOW_SECONDS } from './testing/fleet.ts';
import { until } from './testing/manual-runtime.ts';
import { fleetOf, idOf } from './testing/questions.ts';

/** Peers that are asked for the graph at once. */
const ASKED = 3;
/** What arrived at the others while they connected. */
const TEN_MINUTES = 600;

// LDK answers no query_short_channel_ids: it sends its whole graph on the first filter, if that reaches back for hours.
test('the first filter reaches back two weeks for a peer that is asked for the graph, ten minutes for others', async () => {
  const fleet = await fleetOf();
  const router = await fleet.startRouter('router');
  const gateway = fleet.gateway('g1', 'router');
  const peers = Array.from({ length: ASKED + 1 }, (_, index) => idOf(fleet, 100 + index));
  for (const peer of peers) await gateway.peerUp(peer);
  const asked = peers.map((_, index) => index < ASKED);
  const types = (peer: Uint8Array) => gateway.typesTo(peer);
  await until(() => peers.every((peer) => types(peer).includes('gossip_timestamp_filter')));
  expect(peers.map((peer) => types(peer).includes('query_channel_range'))).toEqual(asked);
  const filters = peers.map((peer) =>
    gateway
      .messagesTo(peer)
      .flatMap((message) =>
        message.type === 'gossip_timestamp_filter' ? [NOW_SECONDS - message.firstTimestamp] : [],
      ),
  );
  expect(filters).toEqual(asked.map((isAsked) => [isAsked ? STALE_AFTER_SECONDS : TEN_MINUTES]));
  expect(STALE_AFTER_SECONDS).toBe(14 * 86_400);
  await router.stop();
});
