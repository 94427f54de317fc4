/** What the router may send to a peer, and when: grants, over a gateway with a router that keeps to them. */
import type { GossipToPeer } from '@fulmen/proto/router/v1/router';
import { encodeMessage, make } from '@fulmen/wire';
import { afterEach, describe, expect, test } from 'vitest';
import { GOSSIP_GRANT_BYTES } from '../limits.ts';
import { Fleet, nodeIdOf } from '../testing/fleet.ts';
import { settle } from '../testing/manual-runtime.ts';

let fleet: Fleet;
const begin = async (): Promise<Fleet> => (fleet = await Fleet.start());
afterEach(() => fleet.stop());

/** A reply that can be told from others, as long as a message can be. */
const reply = (firstBlocknum: number) =>
  make('reply_channel_range', {
    chainHash: new Uint8Array(32),
    firstBlocknum,
    numberOfBlocks: 1,
    syncComplete: 0,
    encodedShortIds: new Uint8Array(65_480),
  });

const toAlice = (message: Uint8Array, connectionId: bigint): GossipToPeer => ({
  peerNodeId: nodeIdOf('alice'),
  connectionId,
  body: { $case: 'message', value: message },
});

const grantsOf = (connectionId: bigint): number[] =>
  fleet.router.received.flatMap((body) =>
    body.$case === 'grant' && body.value.connectionId === connectionId
      ? [Number(body.value.throughBytes)]
      : [],
  );

describe('grants', () => {
  test('a peer that reads slowly gets all that a router sends within them', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    peer.pauseReading();
    const total = 30;
    let sentBytes = 0;
    let sent = 0;
    for (let turns = 0; turns < 2_000 && peer.waiting.length < total; turns++) {
      const grantedThroughBytes = Math.max(0, ...grantsOf(1n));
      if (sent < total && sentBytes < grantedThroughBytes) {
        const message = encodeMessage(reply(sent));
        fleet.router.send(toAlice(message, 1n));
        sentBytes += message.length;
        sent += 1;
      }
      await settle();
      if (turns % 10 === 0) peer.resumeReading();
      else peer.pauseReading();
    }
    expect(
      peer.waiting.map((message) => (message.type === 'reply_channel_range' ? message.firstBlocknum : -1)),
    ).toEqual(Array.from({ length: total }, (_, index) => index));
    expect(await fleet.value('dropped_messages_total')).toBe(0);
    // A grant for each step of bytes, not for each message.
    expect(grantsOf(1n).length).toBeLessThan(2 + (2 * sentBytes) / GOSSIP_GRANT_BYTES);
  });

  test('a peer that reads nothing is granted nothing more', async () => {
    await begin();
    const peer = await fleet.peer('alice');
    peer.pauseReading();
    let sentBytes = 0;
    for (let index = 0; index < 2_000 && sentBytes < Math.max(...grantsOf(1n)); index++) {
      const message = encodeMessage(reply(index));
      fleet.router.send(toAlice(message, 1n));
      sentBytes += message.length;
      await settle();
    }
    expect(sentBytes).toBeGreaterThan(GOSSIP_GRANT_BYTES);
    const grants = grantsOf(1n).length;
    await fleet.runtime.advance(5_000);
    expect(grantsOf(1n).length).toBe(grants);
    expect(await fleet.value('dropped_messages_total')).toBe(0);
    peer.resumeReading();
    await settle();
    await settle();
    expect(grantsOf(1n).length).toBeGreaterThan(grants);
  });

  test('count from the beginning of a connection and of a stream; what is for an earlier connection is dropped', async () => {
    await begin();
    await fleet.peer('alice');
    const message = encodeMessage(reply(1));
    fleet.router.send(toAlice(message, 1n));
    await settle();
    const newer = await fleet.peer('alice');
    fleet.router.send(toAlice(message, 1n));
    fleet.router.send(toAlice(encodeMessage(reply(2)), 2n));
    expect((await newer.next('reply_channel_range')).firstBlocknum).toBe(2);
    expect(grantsOf(2n)).toEqual([GOSSIP_GRANT_BYTES, GOSSIP_GRANT_BYTES + message.length]);
    fleet.network.crash('router');
    await settle();
    fleet.router.received.length = 0;
    await fleet.router.listen(fleet.network);
    await fleet.runtime.advance(2_000);
    expect(grantsOf(2n)).toEqual([GOSSIP_GRANT_BYTES]);
  });
});
