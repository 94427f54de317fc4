/** When no channel is opened, what an opening waits for, and which channels count against the caps on pending ones. */
import { FEATURES, TestNode } from '@fulmen/channel/testing/node';
import { addCommand, Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import { RpcError } from '@fulmen/rpc';
import type { MessageOf } from '@fulmen/wire';
import type { Peer } from '../peers/peer.ts';
import type { ActorHost } from './actor-host.ts';
import type { OpenChannelCommand } from './api.ts';
import { EngineCommands } from './commands.ts';
import type { Engine } from './engine.ts';
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

test('one that the peer closes before frees no place either, at whatever step it leaves the close', () => {
  const pair = new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
  const { alice, bob } = pair;
  const look = () => [bob.channel.phase.type, isPending(bob.channel)];
  // While an HTLC is there no fee is negotiated.
  alice.must(addCommand(1, 1_000_000n));
  pair.settle();
  alice.must({ type: 'shutdown' });
  pair.settle();
  expect(look()).toEqual(['shutting_down', true]);
  bob.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(1) });
  bob.must({ type: 'commit' });
  pair.deliver('alice');
  pair.deliver('alice');
  alice.must({ type: 'commit' });
  while (bob.channel.phase.type === 'shutting_down')
    expect(pair.deliver('bob') || pair.deliver('alice')).toBe(true);
  expect(look()).toEqual(['negotiating_closing', true]);
  pair.deliverAll();
  expect(look()).toEqual(['closing_mutual', true]);
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
  { ofPeer: 3, total: 99, complaint: undefined },
  { ofPeer: 4, total: 4, complaint: 'too many channels of yours are not confirmed yet' },
  { ofPeer: 0, total: 100, complaint: 'too many channels are being opened: try again later' },
])('$ofPeer pending of a peer, $total of all: $complaint', async ({ ofPeer, total, complaint }) => {
  const node = new TestNode('bob', fakeSecp256k1);
  const asked: string[] = [];
  const openings = new Openings(
    {
      node: { feerates: node.ctx.feerates },
      ports: {
        store: {
          zeroConfTrust: async () => {
            asked.push('goes on');
            throw new RpcError('unavailable', 'no store here');
          },
        },
      },
    } as unknown as ActorHost,
    { maxPendingPerPeer: 4, maxPendingTotal: 100 },
    {} as PolicyDefaults,
    () => ({ ofPeer: () => ofPeer, total }),
  );
  const peer = {
    channels: new Map(),
    openings: new Map(),
    beginning: new Set(),
    hasChannel: () => false,
    complain: (_: Uint8Array, text: string) => void asked.push(text),
  } as unknown as Peer;
  const temporaryChannelId = new Uint8Array(32).fill(7);
  const message = { type: 'open_channel', temporaryChannelId } as MessageOf<'open_channel'>;
  await openings.received(peer, message, 1n).catch(() => undefined);
  expect(asked).toEqual([complaint ?? 'goes on']);
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

test('an opening waits for the peer’s connection that is being accepted', async () => {
  const accepted = { generation: 7n, features: FEATURES };
  const peer = {
    connection: undefined as typeof accepted | undefined,
    accepting: new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      peer.connection = accepted;
    }),
  };
  const connections: unknown[] = [];
  const commands = new EngineCommands({
    requirePeer: () => peer,
    ports: { chain: { estimateFee: async () => ({ feerateSatPerKw: 1_000 }) } },
    openings: {
      open: async ({ connection }: Peer) => {
        connections.push(connection);
      },
    },
  } as unknown as Engine);
  await commands.openChannel({ commitmentFormat: undefined } as OpenChannelCommand);
  expect(connections).toEqual([accepted]);
});
