import type { EstablishedChannel } from '@fulmen/channel';
import { expect, test } from 'vitest';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { ChannelSigner } from './channel-signer.ts';
import { InboundHtlcs } from './inbound-htlcs.ts';
import type { TurnResult } from './turn-result.ts';

test('what others took is remembered as long as its HTLC is there, and of this channel alone', () => {
  const channelId = new Uint8Array(32).fill(1);
  const htlcs = new InboundHtlcs({} as ActorHost, { channelId } as ChannelActor, {} as ChannelSigner, [7n]);
  const state = {
    channelId,
    changes: {
      htlcs: [{ body: { direction: 'inbound', id: 7n, cltvExpiryHeight: 100 }, state: 'committed' }],
    },
  } as unknown as EstablishedChannel;
  const source = { type: 'htlc', channelId, htlcId: 7n } as const;
  const turn = (settledInbound: readonly bigint[], intents: readonly { source: typeof source }[]) =>
    htlcs.committed({ settledInbound, forwarding: { intents } } as unknown as TurnResult);

  htlcs.takenByOther({ ...source, channelId: new Uint8Array(32) });
  htlcs.takenByOther({ type: 'payment', attemptId: channelId });
  expect(htlcs.overdue(state, 100)).toEqual([source]);
  htlcs.takenByOther(source);
  expect(htlcs.overdue(state, 100)).toEqual([]);
  turn([7n], []);
  turn([], [{ source }]);
  expect(htlcs.overdue(state, 100)).toEqual([source]);
});
