/** Every frame is reported as processed by somebody, or the peer's credit shrinks for ever. */
import { toHex } from '@fulmen/codec';
import { silentLogger } from '@fulmen/service';
import { make } from '@fulmen/wire';
import { expect, test } from 'vitest';
import { Dispatcher, type MessageHandler } from './dispatch.ts';
import type { Peer } from './peer.ts';

const ID = new Uint8Array(32).fill(4);
const ALL = new Uint8Array(32);
/** What no channel took: its id, and the connection's generation. */
const unknown: string[] = [];
const dispatcher = new Dispatcher(silentLogger, {
  unknownChannel: (_, channelId, generation) => void unknown.push(`${toHex(channelId)} ${generation}`),
} as Partial<MessageHandler> as MessageHandler);

function peerWith(takes: boolean, stopped = !takes, disconnects: string[] = []): Peer {
  const actor = { channelId: ID, stopped, post: () => takes };
  return {
    disconnect: (reason: string) => void disconnects.push(reason),
    channels: new Map([[toHex(ID), actor]]),
    openings: new Map(),
    actors: () => [actor],
  } as unknown as Peer;
}

test.each(['error', 'warning'] as const)('%s: the frame is an actor’s if one takes it', (type) => {
  for (const channelId of [ID, ALL]) {
    const message = make(type, { channelId, data: new Uint8Array(0) });
    expect(dispatcher.dispatch(peerWith(true), message, 1n, 1n)).toBe(true);
    // Of a channel that is out of service.
    expect(dispatcher.dispatch(peerWith(false), message, 1n, 1n)).toBe(false);
  }
});

test('a message for a channel that is out of service is nobody’s, and the peer hears of it', () => {
  const message = make('stfu', { channelId: ID, initiator: 1 });
  const disconnects: string[] = [];
  expect(dispatcher.dispatch(peerWith(false, true, disconnects), message, 1n, 1n)).toBe(false);
  expect(unknown.splice(0)).toEqual([`${toHex(ID)} 1`]);
  expect(disconnects).toEqual([]);
});

test('a message that a channel has no room for ends the connection', () => {
  const message = make('stfu', { channelId: ID, initiator: 1 });
  const disconnects: string[] = [];
  expect(dispatcher.dispatch(peerWith(false, false, disconnects), message, 1n, 1n)).toBe(false);
  expect(disconnects).toEqual(['too many messages at once']);
  expect(unknown).toEqual([]);
});

// One that was closed before this process began is such a channel; BOLT 1 wants an error for it, and the peer closes then.
test('channel_reestablish of a channel that is not known is answered', () => {
  const message = make('channel_reestablish', {
    channelId: new Uint8Array(32).fill(5),
    nextCommitmentNumber: 1n,
    nextRevocationNumber: 0n,
    yourLastPerCommitmentSecret: new Uint8Array(32),
    myCurrentPerCommitmentPoint: new Uint8Array(33).fill(2),
  });
  expect(dispatcher.dispatch(peerWith(true), message, 3n, 1n)).toBe(false);
  expect(unknown.splice(0)).toEqual([`${'05'.repeat(32)} 3`]);
});
