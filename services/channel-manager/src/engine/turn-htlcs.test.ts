/** What a turn tells upstream, and once: of HTLCs that go out over the channel, and of those that came in over it. */
import type { ChannelState, EstablishedChannel, PeerMessage } from '@fulmen/channel';
import { ONION, Pair, addCommand, preimageOf } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { unwrapFailure, wrapAgain } from '@fulmen/onion';
import type { Intent, Resolution } from '@fulmen/store';
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
  blockHeight = 400;
  blocksUnseen = 0;
  newHtlcs: 'taken' | 'held' = 'taken';
  updatesComplete: 'at_commit' | 'at_towers' = 'at_commit';
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
        blockHeight: this.blockHeight,
        greatestHeight: this.blockHeight + this.blocksUnseen,
        fulfilledLateMsat: 0n,
        updatesComplete: this.updatesComplete,
        newHtlcs: this.newHtlcs,
        reestablish: 'awaited',
        decisions: new Map(),
        outgoing: this.outgoing,
        isTakenUp: () => true,
        isTakenByOthers: () => false,
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

describe('an HTLC that is sent while the peer owes its revoke_and_ack', () => {
  const EXPIRY = 500;
  const FORWARD: Item = {
    kind: 'forward',
    alternatives: 'none',
    intent: {
      source: UPSTREAM,
      sourceShard: 3,
      target: { type: 'scid', shortChannelId: 5n },
      targetShard: 1,
      paymentHash: new Uint8Array(32).fill(3),
      incomingAmountMsat: AMOUNT_MSAT + 1_000n,
      incomingCltvExpiryHeight: EXPIRY + 72,
      outgoingAmountMsat: AMOUNT_MSAT,
      outgoingCltvExpiryHeight: EXPIRY,
      onion: ONION,
      sharedSecret: SHARED_SECRET,
      createdUnixMs: 0,
    } satisfies Intent,
  };
  const FAILED_UPSTREAM = { source: UPSTREAM, sourceShard: 3, outcome: { type: 'failed_here' } };

  /** Alice has signed an HTLC of hers, and keeps the revoke_and_ack for the commitment that answers it. */
  function owing(): { bench: Bench; revocation: readonly Item[] } {
    const bench = new Bench();
    const { alice } = bench.pair;
    alice.must(addCommand(4, AMOUNT_MSAT));
    alice.must({ type: 'commit' });
    bench.toAlice(bench.turn(...bench.fromAlice()).messages);
    const revocation = bench.fromAlice();
    const added = bench.turn(FORWARD);
    expect(kindsOf(added)).toEqual(['update_add_htlc']);
    bench.toAlice(added.messages);
    return { bench, revocation };
  }

  const kindsOf = ({ messages }: TurnResult): string[] =>
    messages.map((message) => (message.kind === 'ready' ? message.message.type : message.kind));
  const ENDS = [
    { type: 'disconnect', reason: expect.stringMatching(/HTLC 1, which expires at 500/) as string },
  ];
  const at = (bench: Bench, height: number): Item => {
    bench.blockHeight = height;
    return { kind: 'block', height };
  };

  test('is taken back with the connection before it expires, and fails upstream', () => {
    const { bench } = owing();
    expect(bench.turn(at(bench, EXPIRY - 4)).followUps).toEqual([]);
    const late = bench.turn(at(bench, EXPIRY - 3));
    expect(late.followUps).toEqual(ENDS);
    expect(kindsOf(late)).toEqual(['warning']);
    const lost = bench.turn({ kind: 'disconnected', generation: GENERATION });
    expect(lost.forwarding.resolutions).toMatchObject([FAILED_UPSTREAM]);
    expect(bench.channel.phase.type).toBe('open');
  });

  test.each([
    ['after the block', (bench: Bench, revocation: readonly Item[]) => [[at(bench, EXPIRY)], revocation]],
    [
      'in the turn of the block',
      (bench: Bench, revocation: readonly Item[]) => [[at(bench, EXPIRY), ...revocation]],
    ],
    [
      'before the block in its turn',
      (bench: Bench, revocation: readonly Item[]) => [[...revocation, at(bench, EXPIRY)]],
    ],
    [
      'when the height is known and its block waits',
      (bench: Bench, revocation: readonly Item[]) => {
        at(bench, EXPIRY);
        return [revocation];
      },
    ],
  ])('is not signed when the revoke_and_ack comes %s', (_when, turns) => {
    const { bench, revocation } = owing();
    for (const items of turns(bench, revocation)) {
      const result = bench.turn(...items);
      expect(kindsOf(result)).not.toContain('commitment_signed');
      expect(result.followUps).toEqual(ENDS);
    }
    const { messages, forwarding } = bench.turn(...bench.reconnected());
    expect(forwarding.resolutions).toMatchObject([FAILED_UPSTREAM]);
    bench.toAlice(messages);
    // The peer asks for nothing of it.
    expect(kindsOf(bench.turn(...bench.fromAlice()))).not.toContain('update_add_htlc');
  });

  test('is taken back while the channel is frozen, and not signed when it thaws', () => {
    for (const thaws of ['before', 'after']) {
      const { bench, revocation } = owing();
      bench.updatesComplete = 'at_towers';
      const { alice } = bench.pair;
      // What she signs meanwhile is a monitor update that the towers do not have.
      alice.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(292) });
      alice.must({ type: 'commit' });
      bench.turn(...bench.fromAlice());
      bench.turn(...revocation);
      const completed: Item = { kind: 'monitor_completed', updateId: bench.channel.monitor.updateId };
      const late = bench.turn(...(thaws === 'before' ? [at(bench, EXPIRY)] : [at(bench, EXPIRY), completed]));
      expect(late.followUps).toEqual(ENDS);
      if (thaws === 'before') expect(bench.turn(completed).followUps).toEqual(ENDS);
      expect(
        bench.channel.changes.htlcs.find(({ body }) => body.direction === 'outbound' && body.id === 1n),
      ).toMatchObject({
        state: 'add_pending',
      });
    }
  });

  test.each([
    { unseen: EXPIRY - 4 - 400, what: 'is signed where the chain was in doubt for a while', ends: [] },
    {
      unseen: EXPIRY - 3 - 400,
      what: 'is not signed where its last blocks may have come unseen',
      ends: ENDS,
    },
  ])('$what', ({ unseen, ends }) => {
    const { bench, revocation } = owing();
    bench.newHtlcs = 'held';
    bench.blocksUnseen = unseen;
    const result = bench.turn(...revocation);
    expect(kindsOf(result).includes('commitment_signed')).toBe(ends.length === 0);
    expect(result.followUps).toEqual(ends);
  });

  test('is signed with the revoke_and_ack that comes in time', () => {
    const { bench, revocation } = owing();
    const result = bench.turn(at(bench, EXPIRY - 4), ...revocation);
    expect(result.followUps).toEqual([]);
    expect(kindsOf(result)).toContain('commitment_signed');
    bench.toAlice(result.messages);
  });
});

describe('a forward that is fulfilled past its deadline, when it may have failed upstream', () => {
  /** Turns in which Alice ends Bob's HTLC, and the last of them, in which it has left the channel. */
  function ended(bench: Bench, how: 'fulfilled' | 'failed'): readonly TurnResult[] {
    const { alice } = bench.pair;
    if (how === 'fulfilled') alice.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) });
    else alice.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(292) });
    const heard = bench.turn(...bench.fromAlice());
    const greeting = bench.turn(...bench.reconnected());
    bench.toAlice(greeting.messages);
    const again = bench.turn(...bench.fromAlice());
    alice.must({ type: 'commit' });
    const committed = bench.turn(...bench.fromAlice());
    bench.toAlice(committed.messages);
    const last = bench.turn(...bench.fromAlice());
    expect(last.removedOutgoing).toEqual([0n]);
    return [heard, greeting, again, committed, last];
  }
  const sums = (results: readonly TurnResult[]): bigint[] =>
    results.map(({ fulfilledLateMsat }) => fulfilledLateMsat);

  test('is counted when it leaves the channel, once', () => {
    const bench = new Bench();
    bench.blockHeight = 503;
    expect(sums(ended(bench, 'fulfilled'))).toEqual([0n, 0n, 0n, 0n, AMOUNT_MSAT]);
  });

  test('is not counted in time, when it fails, or when it was a payment of our own', () => {
    const inTime = new Bench();
    inTime.blockHeight = 502;
    const failed = new Bench();
    failed.blockHeight = 503;
    const own = new Bench();
    own.blockHeight = 503;
    own.outgoing.set(0n, { ...LINK, source: { type: 'payment', attemptId: new Uint8Array(16) } });
    for (const results of [ended(inTime, 'fulfilled'), ended(failed, 'failed'), ended(own, 'fulfilled')])
      expect(sums(results)).toEqual([0n, 0n, 0n, 0n, 0n]);
  });
});
