/** What peers can make the router hold. */
import { syntheticAnnouncement, syntheticNode, syntheticUpdate } from '@fulmen/graph/synthetic';
import { shortChannelId } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import type { Fleet } from './testing/fleet.ts';
import { NOW_SECONDS } from './testing/fleet.ts';
import { until } from './testing/manual-runtime.ts';
import { channelOf, fleetOf, idOf, learn } from './testing/questions.ts';

const MIB = 1024 * 1024;

/** An announcement of a channel that nobody funded, made large by its features. */
const unfunded = (fleet: Fleet, index: number, featureBytes: number): Uint8Array =>
  syntheticAnnouncement(
    fleet.secp,
    shortChannelId.from(700_000, index, 0),
    [1, 2],
    new Uint8Array(featureBytes),
  ).raw;

/** A channel_update of so many bytes about a channel, not even signed. */
function unsignedUpdate(fleet: Fleet, scid: bigint, bytes: number): Uint8Array {
  const { raw } = syntheticUpdate(fleet.secp, 1, { shortChannelId: scid, timestamp: NOW_SECONDS });
  const update = new Uint8Array(bytes);
  update.set(raw);
  // An odd record that fills the rest.
  update.set(
    [0xfd, 0xff, 0xff, 0xfd, (bytes - raw.length - 6) >> 8, (bytes - raw.length - 6) & 0xff],
    raw.length,
  );
  return update;
}

describe('bytes', () => {
  test('gossip larger than any real one is dropped before it is queued, and counted', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    const mallory = idOf(fleet, 100);
    await gateway.peerUp(mallory);
    const channel = channelOf(fleet, 700_001, [1, 2]);
    await learn(fleet, gateway, mallory, [channel]);
    const update = unsignedUpdate(fleet, channel.scid, 60_000);
    const node = syntheticNode(fleet.secp, 1, NOW_SECONDS, new Uint8Array(60_000).fill(0xff)).raw;
    await gateway.say(mallory, unfunded(fleet, 1, 60_000), update, node);
    await until(async () => (await fleet.value('dropped_total', { what: 'oversized_gossip' })) === 3);
    expect(fleet.chain.asked).toBe(1);
    expect(gateway.verdicts(mallory)).toEqual([]);
    await router.stop();
  });

  test('while the chain does not answer, what waits for it stays within its bytes', async () => {
    const fleet = await fleetOf();
    fleet.chain.isSilent = true;
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    const mallory = idOf(fleet, 100);
    await gateway.peerUp(mallory);
    const announcements = 1_100;
    for (let index = 1; index <= announcements; index++) {
      const update = unsignedUpdate(fleet, shortChannelId.from(700_000, index, 0), 2_000);
      await gateway.say(mallory, unfunded(fleet, index, 0), ...Array<Uint8Array>(9).fill(update));
      const done = async (): Promise<boolean> => (await fleet.value('gossip_queue_bytes')) === 0;
      if (index % 100 === 0) await until(done);
    }
    await until(async () => (await fleet.value('gossip_messages_total')) === 10 * announcements);
    const held = await fleet.value('gossip_held_bytes');
    expect(held).toBeGreaterThan(16 * MIB - 4_096);
    expect(held).toBeLessThanOrEqual(16 * MIB);
    expect(await fleet.value('dropped_total', { what: 'held_gossip' })).toBeGreaterThan(announcements);
    await router.stop();
  });

  test('the queue is bounded in bytes for one peer, and makes the stream wait for all', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    const peers = [100, 101, 102, 103].map((key) => idOf(fleet, key));
    for (const peer of peers) await gateway.peerUp(peer);
    const updates = Array<Uint8Array>(5_000).fill(unsignedUpdate(fleet, 7n, 1_000));
    const dropped = () => fleet.value('dropped_total', { what: 'gossip_of_peer' });
    /** Says them in the name of each; gives the most bytes that ever waited. */
    const sayAll = async (saying: readonly Uint8Array[], total: number): Promise<number> => {
      let highest = 0;
      const said = saying.map((peer) => gateway.say(peer, ...updates));
      await until(async () => {
        highest = Math.max(highest, await fleet.value('gossip_queue_bytes'));
        return (await fleet.value('gossip_messages_total')) + (await dropped()) === total;
      });
      await Promise.all(said);
      return highest;
    };
    const [first = new Uint8Array(0)] = peers;
    expect(await sayAll([first], 5_000)).toBeLessThanOrEqual(4 * MIB + 1_128);
    expect(await dropped()).toBeGreaterThan(0);
    const highest = await sayAll(peers, 25_000);
    expect(highest).toBeGreaterThan(7 * MIB);
    expect(highest).toBeLessThanOrEqual(8 * MIB + 1_128);
    await router.stop();
  });
});
