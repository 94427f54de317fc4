/** Channels by scid while blocks come and are replaced. */
import type { EstablishedChannel } from '@fulmen/channel';
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import type { ChannelActor } from './channel-actor.ts';
import { ChannelDirectory } from './channel-directory.ts';
import type { EnginePorts } from './ports.ts';

const ALIAS = 2n ** 62n;

/** A channel that is at this place, or unconfirmed. */
function at(number: number, realScid: bigint | undefined): EstablishedChannel {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const [funding] = channel.fundings;
  if (funding?.confirmation.type !== 'confirmed') throw new TypeError('not confirmed');
  const confirmation =
    realScid === undefined
      ? ({ type: 'unconfirmed' } as const)
      : { ...funding.confirmation, shortChannelId: realScid };
  return {
    ...channel,
    channelId: new Uint8Array(32).fill(number),
    aliasScid: ALIAS + BigInt(number),
    fundings: [{ ...funding, confirmation }],
  };
}

const actorOf = (state: EstablishedChannel) => ({
  fence: { shard: 1 },
  channelId: state.channelId,
  isInService: true,
  state,
});

const directoryWith = (shardOfScid: EnginePorts['store']['shardOfScid']): ChannelDirectory =>
  new ChannelDirectory({ shardOfScid } as unknown as EnginePorts['store']);

test('a channel is found where it is, not where it was before a block was replaced', () => {
  const directory = directoryWith(async () => undefined);
  const actor = actorOf(at(1, 5n));
  directory.add(actor as unknown as ChannelActor);
  const found = (): readonly string[] =>
    [5n, 6n, ALIAS + 1n].map((scid) => (directory.byScid(scid) === undefined ? 'unknown' : 'found'));
  expect(found()).toEqual(['found', 'unknown', 'found']);
  actor.state = at(1, 6n);
  directory.reindex();
  expect(found()).toEqual(['unknown', 'found', 'found']);
  actor.state = at(1, undefined);
  directory.reindex();
  expect(found()).toEqual(['unknown', 'unknown', 'found']);
});

test.each([
  ['first', 1, 2],
  ['last', 2, 1],
])('a channel that left keeps its place from nobody, found %s', (_, left, other) => {
  const directory = directoryWith(async () => undefined);
  const phase = { type: 'closing_force', reason: 'the funding transaction left the chain' } as const;
  for (const number of [1, 2]) {
    const state = at(number, 5n);
    directory.add(actorOf(number === left ? { ...state, phase } : state) as unknown as ChannelActor);
  }
  expect(directory.byScid(5n)?.channelId[0]).toBe(other);
  directory.reindex();
  expect(directory.byScid(5n)?.channelId[0]).toBe(other);
});

test('where channels of other replicas are is asked once for each block', async () => {
  let shard = 3;
  let asked = 0;
  const directory = directoryWith(async () => {
    asked += 1;
    return { shard, channelId: new Uint8Array(32) };
  });
  expect([await directory.shardOfScid(5n), await directory.shardOfScid(5n), asked]).toEqual([3, 3, 1]);
  shard = 4;
  directory.blockConnected();
  expect([await directory.shardOfScid(5n), await directory.shardOfScid(5n), asked]).toEqual([4, 4, 2]);
});
