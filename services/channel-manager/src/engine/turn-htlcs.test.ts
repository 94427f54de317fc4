/** What a turn tells upstream, and once: of HTLCs that go out over the channel, and of those that came in over it. */
import type { ChannelState, EstablishedChannel, PeerMessage } from '@fulmen/channel';
import { Pair, addCommand, preimageOf } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { unwrapFailure, wrapAgain } from '@fulmen/onion';
import type { Resolution } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import type { OutgoingLink } from './forwarding.ts';
import type { Item } from './items.ts';
import type { TurnResult } from './turn-result.ts';
import { Turn } from './turn.ts';

const GENERATION = 1n;
const SHARED_SECRET = new Uint8Array(32).fill(5);
const AMOUNT_MSAT = 10_000_000n;
const UPSTREAM = { type: 'htlc', channelId: new Uint8Array(32).fill(0xab), htlcId: 9n } as const;
const LINK: OutgoingLink = {
  source: UPSTREAM,
  sourceShard: 3,
  incomingAmountMsat: AMOUNT_MSAT + 1_000n,
  preimage: 'awaited',
};

/** The fleet's side is Bob, turn by turn. Each offered an HTLC with id 0: Alice's came to stay, Bob's is a forward. */
class Bench {
  readonly pair = new Pair(fakeSecp256k1);
  readonly outgoing = new Map([[0n, LINK]]);
  state: ChannelState;

  constructor() {
    this.pair.alice.must(addCommand(1, AMOUNT_MSAT));
    this.pair.bob.must(addCommand(2, AMOUNT_MSAT));
    this.pair.settle();
    this.state = this.pair.bob.channel;
  }

  get channel(): EstablishedChannel {
    if (this.state.type !== 'established') throw new TypeError('no channel');
    return this.state;
  }

  turn(...items: readonly Item[]): TurnResult {
    const result = new Turn(
      {
        core: this.pair.bob.ctx,
        channelId: this.channel.channelId,
        nowUnixMs: 0,
        updatesComplete: 'at_commit',
        newHtlcs: 'taken',
        reestablish: 'awaited',
        decisions: new Map(),
        outgoing: this.outgoing,
        isTakenUp: () => true,
        sharedSecretOf: (id) => (id === 0n ? SHARED_SECRET : undefined),
        refuseForward: () => undefined,
        cannotCarry: () => ({ kind: 'temporary_node_failure' }),
      },
      this.state,
    ).run(items);
    this.state = result.state;
    for (const { htlcId, channelId: _, ...link } of result.forwarding.outgoing)
      this.outgoing.set(htlcId, link);
    for (const id of result.removedOutgoing) this.outgoing.delete(id);
    return result;
  }

  /** What Alice has to say. */
  fromAlice(): Item[] {
    return this.pair.alice.outbox.splice(0).map((message) => ({
      kind: 'message',
      generation: GENERATION,
      frame: 1n,
      input: { type: 'message', message },
    }));
  }

  /** The connection is lost, and there is another; Alice's next message is her channel_reestablish. */
  reconnected(): Item[] {
    const { alice, features } = this.pair;
    alice.outbox = [];
    alice.must({ type: 'peer_disconnected' });
    alice.must({ type: 'peer_connected', features });
    return [
      { kind: 'disconnected', generation: GENERATION },
      { kind: 'connected', generation: GENERATION, features },
    ];
  }

  /** Alice hears what a turn said, as the signer would have made it. */
  toAlice(messages: TurnResult['messages']): void {
    const { alice, bob } = this.pair;
    bob.state = this.state;
    for (const message of messages) {
      const wire: PeerMessage = bob.toWire(message);
      const error = alice.input({ type: 'message', message: wire });
      if (error !== undefined) throw new TypeError(`${wire.type}: ${error.message}`);
    }
  }
}

test('a preimage that comes twice in one turn is told upstream once: the rows of a commit are of different HTLCs', () => {
  const bench = new Bench();
  bench.pair.alice.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) });
  const fulfil = bench.fromAlice();
  // It does not wait for our channel_reestablish before it says it again.
  const result = bench.turn(...fulfil, ...bench.reconnected(), ...bench.fromAlice(), ...fulfil);
  expect(result.forwarding.resolutions).toEqual([
    { source: UPSTREAM, sourceShard: 3, outcome: { type: 'fulfilled', preimage: preimageOf(2) } },
  ]);
});

test.each([
  ['as it is', 60_000],
  ['as one of ours: with what hops before us may add, it would fit no message', 60_001],
  ['as one of ours, also the longest that fits a message', 65_491],
])('a failure from downstream goes upstream %s', (_how, length) => {
  const bench = new Bench();
  const { channelId } = bench.channel;
  const reason = new Uint8Array(length);
  const { messages, forwarding } = bench.turn({
    kind: 'resolution',
    resolution: {
      source: { type: 'htlc', channelId, htlcId: 0n },
      sourceShard: 1,
      outcome: { type: 'failed', reason },
    },
  });
  expect(forwarding.resolutionsTaken).toMatchObject([{ outcome: 'failed' }]);
  const [first] = messages;
  if (first?.kind !== 'ready' || first.message.type !== 'update_fail_htlc')
    return expect.fail('no update_fail_htlc');
  if (length === 60_000) expect(first.message.reason).toEqual(wrapAgain(SHARED_SECRET, reason));
  else
    expect(
      unwrapFailure([SHARED_SECRET], { reason: first.message.reason, attributionData: undefined }),
    ).toMatchObject({ hopIndex: 0, failure: { kind: 'temporary_channel_failure' } });
  bench.toAlice(messages);
});

test.each(['failed', 'fulfilled'] as const)(
  'the end of an HTLC that is gone (it %s) has been heard, and its onion with the secret is gone, too',
  (type) => {
    const bench = new Bench();
    const source = { type: 'htlc', channelId: bench.channel.channelId, htlcId: 7n } as const;
    const outcome: Resolution['outcome'] =
      type === 'failed' ? { type, reason: new Uint8Array(292) } : { type, preimage: preimageOf(7) };
    const resolution: Resolution = { source, sourceShard: 1, outcome };
    const { messages, forwarding } = bench.turn(
      { kind: 'resolution', resolution },
      { kind: 'cancel', source },
    );
    expect(messages).toEqual([]);
    expect(forwarding).toMatchObject({ resolutionsTaken: [{ source, outcome: type }], intentClaims: [] });
  },
);

test('a preimage that comes in the turn of the failure it replaces does not hide that the failure was carried out', () => {
  const bench = new Bench();
  const { channelId } = bench.channel;
  const end = (outcome: Resolution['outcome']): Item => ({
    kind: 'resolution',
    resolution: { source: { type: 'htlc', channelId, htlcId: 0n }, sourceShard: 1, outcome },
  });
  const { messages, forwarding } = bench.turn(
    end({ type: 'failed', reason: new Uint8Array(292) }),
    end({ type: 'fulfilled', preimage: preimageOf(1) }),
  );
  expect(messages[0]).toMatchObject({ message: { type: 'update_fail_htlc' } });
  // The store, which has the preimage by now, refuses this, and the turn is run again without it.
  expect(forwarding.resolutionsTaken).toMatchObject([{ outcome: 'failed' }]);
});

describe('a forward is written into the event log', () => {
  const forwards = (...results: readonly TurnResult[]): unknown[] =>
    results.flatMap(({ forwarding }) =>
      forwarding.events
        .filter(({ type }) => type === 'payment_forwarded')
        .map(({ body }) => JSON.parse(body) as unknown),
    );

  test('once, however often its preimage comes before the removal is committed', () => {
    const bench = new Bench();
    const { alice } = bench.pair;
    alice.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) });
    const results = [bench.turn(...bench.fromAlice())];
    expect(results[0]?.forwarding.resolutions).toHaveLength(1);
    for (let connection = 0; connection < 2; connection++) {
      const greeting = bench.turn(...bench.reconnected());
      bench.toAlice(greeting.messages);
      results.push(greeting, bench.turn(...bench.fromAlice()));
    }
    expect(forwards(...results)).toEqual([]);
    alice.must({ type: 'commit' });
    const committed = bench.turn(...bench.fromAlice());
    bench.toAlice(committed.messages);
    const last = bench.turn(...bench.fromAlice());
    expect(last.removedOutgoing).toEqual([0n]);
    expect(forwards(...results, committed, last)).toEqual([
      {
        inboundChannelId: toHex(UPSTREAM.channelId),
        inboundHtlcId: '9',
        outboundChannelId: toHex(bench.channel.channelId),
        outboundHtlcId: '0',
        outboundAmountMsat: AMOUNT_MSAT.toString(),
        feeEarnedMsat: '1000',
      },
    ]);
  });

  test('once, when its channel is closed after the preimage came: the fee is earned, wherever the HTLC ends', () => {
    const bench = new Bench();
    bench.pair.alice.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) });
    const close: Item = { kind: 'closing_decided', reason: 'an HTLC cannot wait' };
    const results = [bench.turn(...bench.fromAlice()), bench.turn(close), bench.turn(close)];
    expect(forwards(...results)).toMatchObject([{ outboundHtlcId: '0', feeEarnedMsat: '1000' }]);
  });

  test.each([
    ['turn by turn', (bench: Bench, items: readonly Item[]) => items.map((item) => bench.turn(item))],
    ['in one turn', (bench: Bench, items: readonly Item[]) => [bench.turn(...items)]],
  ])(
    'once, when the loss of the connection took the removal back before its channel is closed: %s',
    (_how, run) => {
      const bench = new Bench();
      bench.pair.alice.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) });
      const results = run(bench, [
        ...bench.fromAlice(),
        { kind: 'disconnected', generation: GENERATION },
        { kind: 'closing_decided', reason: 'the peer stays away' },
      ]);
      expect(forwards(...results)).toMatchObject([{ outboundHtlcId: '0', feeEarnedMsat: '1000' }]);
    },
  );

  test('not, when its channel is closed before a preimage came', () => {
    expect(forwards(new Bench().turn({ kind: 'closing_decided', reason: 'enough' }))).toEqual([]);
  });

  test('not, when it failed', () => {
    const bench = new Bench();
    const { alice } = bench.pair;
    alice.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(292) });
    alice.must({ type: 'commit' });
    const failed = bench.turn(...bench.fromAlice());
    bench.toAlice(failed.messages);
    const last = bench.turn(...bench.fromAlice());
    expect(last.removedOutgoing).toEqual([0n]);
    expect(forwards(failed, last)).toEqual([]);
  });
});
