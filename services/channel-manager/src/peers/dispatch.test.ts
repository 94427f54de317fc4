/** Every frame is reported as processed by somebody, or the peer's credit shrinks for ever. */
import { toHex } from '@fulmen/codec';
import { silentLogger } from '@fulmen/service';
import { make } from '@fulmen/wire';
import { expect, test } from 'vitest';
import { Dispatcher, type MessageHandler } from './dispatch.ts';
import type { Peer } from './peer.ts';

const ID = new Uint8Array(32).fill(4);
const ALL = new Uint8Array(32);
const dispatcher = new Dispatcher(silentLogger, {} as unknown as MessageHandler);

function peerWith(takes: boolean): Peer {
  const actor = { channelId: ID, stopped: !takes, post: () => takes };
  return {
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
