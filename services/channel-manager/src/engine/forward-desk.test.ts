/** Work is found however much of what was found before is still held. */
import { silentLogger } from '@fulmen/service';
import type { Intent, ManagerStore } from '@fulmen/store';
import { expect, test } from 'vitest';
import { ForwardDesk } from './forward-desk.ts';
import type { EnginePorts } from './ports.ts';

function part(number: number): Intent {
  const paymentHash = new Uint8Array(32).fill(number & 0xff);
  return {
    source: { type: 'htlc', channelId: new Uint8Array(32), htlcId: BigInt(number) },
    sourceShard: 1,
    target: { type: 'local', paymentHash },
    targetShard: 2,
    paymentHash,
    incomingAmountMsat: 1n,
    incomingCltvExpiryHeight: 1,
    outgoingAmountMsat: 1n,
    outgoingCltvExpiryHeight: 1,
    onion: new Uint8Array(0),
    sharedSecret: new Uint8Array(0),
    // Many in one moment: the order within it is that of their sources.
    createdUnixMs: Math.floor(number / 700),
  };
}

test('parts that are held unclaimed, however many, do not hide what came after them', async () => {
  const held = Array.from({ length: 4_700 }, (_, number) => part(number));
  const heard: bigint[] = [];
  const store: Pick<ManagerStore, 'pendingIntents' | 'pendingResolutions'> = {
    pendingIntents: (_shards, limit, after) => {
      const start = 1 + held.findIndex(({ source }) => source === after?.source);
      return Promise.resolve(held.slice(start, start + limit));
    },
    pendingResolutions: () => Promise.resolve([]),
  };
  const desk = new ForwardDesk({ store, logger: silentLogger } as unknown as EnginePorts, {
    directory: undefined as never,
    peers: { find: () => undefined },
    payments: () => ({
      onIntent: ({ source }) => void (source.type === 'htlc' && heard.push(source.htlcId)),
      onResolution: () => undefined,
    }),
    owns: () => true,
  });
  for (let poll = 0; poll < 3; poll++) await desk.findWork([2]);
  expect(heard).toEqual(held.map((_, number) => BigInt(number)));
  // And from the beginning again: what was offered may have been refused by a full mailbox.
  await desk.findWork([2]);
  expect(heard[4_700]).toBe(0n);
});
