/** When no channel is opened, and which channels count against the caps on pending ones. */
import { FEERATES } from '@fulmen/channel/testing/node';
import { opened } from '@fulmen/channel/testing/opening';
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import type { Peer } from '../peers/peer.ts';
import type { ActorHost } from './actor-host.ts';
import type { OpenChannelCommand } from './api.ts';
import { isPending, Openings } from './openings.ts';
import type { PolicyDefaults } from './policy.ts';

const FAILED = { type: 'force_close', reason: 'error from the peer' } as const;

test('a channel of the peer’s that fails before its funding confirmed counts until it is over', () => {
  // Without confirmations it is open, and no block has its funding.
  const { bob } = new Pair(fakeSecp256k1, { confirmations: 'zero_conf', pushMsat: 0n });
  expect(isPending(bob.channel)).toBe(false);
  bob.must(FAILED);
  expect(isPending(bob.channel)).toBe(true);
  bob.must({ type: 'funding_lost', reason: 'nobody saw it' });
  expect(isPending(bob.channel)).toBe(false);
});

test('one that fails afterwards does not, nor one that this node funds', () => {
  const { bob } = new Pair(fakeSecp256k1);
  bob.must(FAILED);
  expect(isPending(bob.channel)).toBe(false);
  const { alice } = new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
  alice.must(FAILED);
  expect(isPending(alice.channel)).toBe(false);
});

test.each([
  ['of its own', 4, 4, 'too many channels of yours are not confirmed yet'],
  ['of everybody', 0, 4, 'too many channels are being opened: try again later'],
])('a peer’s channel is refused while as many %s are pending as may be', async (_, ofPeer, total, text) => {
  const openings = new Openings(
    { node: { feerates: FEERATES } } as unknown as ActorHost,
    { maxPendingPerPeer: 4, maxPendingTotal: 4 },
    {} as PolicyDefaults,
    () => ({ ofPeer: () => ofPeer, total }),
  );
  const complaints: string[] = [];
  const peer = {
    channels: new Map(),
    openings: new Map(),
    beginning: new Set(),
    complain: (_id: Uint8Array, complaint: string) => complaints.push(complaint),
  } as unknown as Peer;
  await openings.received(peer, opened().message, 1n);
  expect(complaints).toEqual([text]);
});

test('no operator opens a channel before there is a fee estimate', async () => {
  const openings = new Openings(
    { node: { feerates: undefined } } as unknown as ActorHost,
    { maxPendingPerPeer: 4, maxPendingTotal: 4 },
    {} as PolicyDefaults,
    () => ({ ofPeer: () => 0, total: 0 }),
  );
  const peer = { connection: { generation: 1n } } as unknown as Peer;
  await expect(openings.open(peer, {} as OpenChannelCommand, 1_000)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('fee estimate') as string,
  });
});
