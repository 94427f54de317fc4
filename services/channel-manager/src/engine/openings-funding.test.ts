/** What becomes of an opening that comes to nothing: the coins that the wallet set apart, and what the operator hears. */
import { acceptChannel } from '@fulmen/channel';
import { FEATURES } from '@fulmen/channel/testing/node';
import { testScript } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { RpcError } from '@fulmen/rpc';
import { toHex, utf8Encode } from '@fulmen/codec';
import { type MessageOf, make } from '@fulmen/wire';
import { expect, test } from 'vitest';
import type { Peer } from '../peers/peer.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { Item } from './items.ts';
import { FUNDED, OneOpening } from './testing/one-opening.ts';

const turnOfTheLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The operator's wish, told to the peer: `open` is what it hears. */
async function begin(one: OneOpening) {
  const sent: MessageOf<'open_channel'>[] = [];
  const peer = {
    nodeId: fakeSecp256k1.publicKeyOf(new Uint8Array(32).fill(9)),
    fence: { shard: 1, epoch: 1n, replicaId: 'a' },
    connection: { generation: 1n, features: FEATURES },
    openings: new Map<string, ChannelActor>(),
    channels: new Map(),
    send: (message: MessageOf<'open_channel'>) => sent.push(message) > 0,
  } as unknown as Peer;
  const outcome = one.openings
    .open(
      peer,
      {
        nodeId: peer.nodeId,
        fundingSat: 1_000_000n,
        pushMsat: 0n,
        announce: false,
        fundingFeerateSatPerKw: undefined,
        shutdownScript: undefined,
        commitmentFormat: undefined,
        scidAlias: 'real_scid',
        confirmations: 'confirmed',
      },
      1_000,
    )
    .catch((error: unknown) => error);
  await turnOfTheLoop();
  const [actor] = peer.openings.values();
  const [open] = sent;
  if (actor === undefined || open === undefined) throw new TypeError('no opening');
  return { peer, outcome, actor, open };
}

// The console asks another replica again for as long as it may when a call is 'aborted'.
test('an opening that the peer refuses is answered at once, in its words, and no other replica is asked', async () => {
  const one = new OneOpening();
  const { outcome, actor, open } = await begin(one);
  const message = make('error', {
    channelId: open.temporaryChannelId,
    data: utf8Encode('no more channels today'),
  });
  actor.post({ kind: 'message', input: { type: 'message', message }, generation: 1n, frame: 1n });
  expect(await outcome).toMatchObject({
    code: 'failed_precondition',
    message: expect.stringMatching(/^the channel was not opened: .*no more channels today/) as string,
    metadata: {},
  });
});

test('a peer that accepts and leaves while the wallet builds: they are free again', async () => {
  const one = new OneOpening();
  const { peer, outcome, actor, open } = await begin(one);
  const accepted = acceptChannel(
    one.counterparty.ctx,
    {
      counterpartyNodeId: peer.nodeId,
      keys: one.counterparty.signer.keys(),
      features: FEATURES,
      shutdownScript: testScript(2),
      aliasScid: 5n,
      zeroConf: 'refused',
    },
    open,
  );
  if (!accepted.ok) throw new TypeError(accepted.error.message);
  one.counterparty.take(accepted.value, 'durable');
  const message = one.counterparty.outbox.shift();
  if (message === undefined) throw new TypeError('no accept_channel');
  actor.post({ kind: 'message', input: { type: 'message', message }, generation: 1n, frame: 1n });
  await one.asked.promise;
  actor.post({ kind: 'disconnected', generation: 1n });
  expect(String(await outcome)).toContain('the peer disconnected during the opening');
  expect(one.released).toEqual([]);
  one.answer.resolve(FUNDED);
  await turnOfTheLoop();
  expect(one.released).toEqual([toHex(actor.channelKeysId)]);
});

/** An actor that does with the wallet's answer what `post` says. */
function actorThat(post: (item: Item) => boolean): ChannelActor {
  return {
    channelKeysId: new Uint8Array(32).fill(3),
    fundingTransaction: undefined,
    post,
  } as unknown as ChannelActor;
}

const settling =
  (outcome: Parameters<Extract<Item, { kind: 'command' }>['settle']>[0]) =>
  (item: Item): boolean => {
    if (item.kind === 'command') item.settle(outcome);
    return true;
  };
const REFUSED = { ok: false, error: { code: 'invalid_command', message: 'the channel moved' } } as const;

test.each([
  { opening: 'is gone', post: () => false, inputs: 'freed' },
  { opening: 'leaves this replica first', post: settling(REFUSED), inputs: 'freed' },
  { opening: 'takes it', post: settling({ ok: true }), inputs: 'kept' },
] as const)('the wallet answers, and the opening $opening: $inputs', async ({ post, inputs }) => {
  const one = new OneOpening();
  one.openings.fund(actorThat(post), 1_000_000n, new Uint8Array(34));
  one.answer.resolve(FUNDED);
  await turnOfTheLoop();
  expect(one.released.length).toBe(inputs === 'freed' ? 1 : 0);
});

test('the wallet’s answer gets lost: what it may have set apart is freed, and the opening ends', async () => {
  const one = new OneOpening();
  const posted: Item[] = [];
  one.openings.fund(
    actorThat((item) => posted.push(item) > 0),
    1_000_000n,
    new Uint8Array(34),
  );
  one.answer.reject(new RpcError('deadline_exceeded', 'too late'));
  await turnOfTheLoop();
  expect(posted).toMatchObject([{ kind: 'command', input: { type: 'abandon_opening' } }]);
  expect(one.released.length).toBe(1);
});
