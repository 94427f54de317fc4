/** How a channel leaves when the chain, or its watcher, says that it is over. */
import type { EstablishedChannel } from '@fulmen/channel';
import { Pair, addCommand, preimageOf } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { decodeChannelMonitorUpdate } from '@fulmen/monitor';
import type { FundingStatus, Intent, Resolution } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import type { Item } from './items.ts';
import type { TurnContext, TurnResult } from './turn-result.ts';
import { Turn } from './turn.ts';

const TXID = new Uint8Array(32).fill(0xab);
const EXPIRY = 500;

/** Alice offered 0, bob offered 0; both are irrevocable. */
function pairWithHtlcs(amountMsat = 10_000_000n): Pair {
  const pair = new Pair(fakeSecp256k1);
  pair.alice.must(addCommand(1, amountMsat, EXPIRY));
  pair.bob.must(addCommand(2, amountMsat, EXPIRY));
  pair.settle();
  return pair;
}

function run(pair: Pair, state: EstablishedChannel, ...items: Item[]): TurnResult {
  return runAfter(0n, pair, state, ...items);
}

/** @param fulfilledLateMsat what was fulfilled past its deadline, and has left the channel */
function runAfter(
  fulfilledLateMsat: bigint,
  pair: Pair,
  state: EstablishedChannel,
  ...items: Item[]
): TurnResult {
  const context: TurnContext = {
    core: pair.alice.ctx,
    channelId: state.channelId,
    nowUnixMs: 1,
    blockHeight: 400,
    greatestHeight: 400,
    fulfilledLateMsat,
    updatesComplete: 'at_commit',
    newHtlcs: 'taken',
    reestablish: 'awaited',
    isTakenUp: () => true,
    isTakenByOthers: () => false,
    decisions: new Map(),
    outgoing: new Map([
      [
        0n,
        {
          source: { type: 'htlc', channelId: TXID, htlcId: 9n },
          sourceShard: 3,
          incomingAmountMsat: 1n,
          preimage: 'awaited',
        },
      ],
    ]),
    sharedSecretOf: () => new Uint8Array(32).fill(7),
    refuseForward: () => undefined,
    cannotCarry: () => ({ kind: 'unknown_next_peer' }),
  };
  return new Turn(context, state).run(items);
}

function established({ state }: TurnResult): EstablishedChannel {
  if (state.type !== 'established') throw new TypeError('not established');
  return state;
}

const told = (status: FundingStatus): Item => ({ kind: 'funding_status', status });
const spent = (depth: number, settlement?: 'resolved'): Item =>
  told({ type: 'spent', txid: TXID, height: 200, depth, ...(settlement && { settlement }) });

function stepsOf({ monitorUpdates }: TurnResult): readonly string[] {
  return monitorUpdates.flatMap(({ payload }) => {
    const update = decodeChannelMonitorUpdate(payload);
    return update.ok ? update.value.steps.map(({ type }) => type) : ['undecodable'];
  });
}

describe('the chain ends a channel', () => {
  test.each([
    ['a spend in the mempool', told({ type: 'spend_seen', txid: TXID }), /broadcast its commitment abab/],
    ['a confirmed spend', spent(1), /funding output was spent by abab.* at height 200/],
  ])('%s ends it at once, and its HTLCs stay', (_, item, reason) => {
    const pair = pairWithHtlcs();
    const result = run(pair, pair.alice.channel, item);
    const state = established(result);
    expect(state.phase).toMatchObject({ type: 'closing_force', reason: expect.stringMatching(reason) });
    expect(state.changes.htlcs).toHaveLength(2);
    expect(stepsOf(result)).toEqual(['channel_force_closed']);
    expect(result.forwarding.events.map(({ type }) => type)).toEqual(['channel_closed']);
    // Nothing upstream hears of HTLCs that the chain decides about.
    expect(result.forwarding.resolutions).toEqual([]);
    expect(run(pair, state, item).monitorUpdates).toEqual([]);
  });

  test('a funding that is lost closes its channel, and what it had under way fails upstream', () => {
    const pair = pairWithHtlcs();
    const result = run(pair, pair.alice.channel, told({ type: 'lost', reason: 'it was replaced' }));
    expect(established(result).phase).toEqual({ type: 'closed', reason: 'it was replaced' });
    expect(established(result).changes.htlcs).toEqual([]);
    expect(result.forwarding.resolutions).toMatchObject([
      { source: { type: 'htlc', htlcId: 9n }, outcome: { type: 'failed_here' } },
    ]);
    expect(result.forwarding.events.map(({ type }) => type)).toEqual(['channel_closed']);
  });

  test('no HTLC is added to it any more', () => {
    const pair = pairWithHtlcs();
    const state = established(run(pair, pair.alice.channel, spent(1)));
    const intent: Intent = {
      source: { type: 'htlc', channelId: TXID, htlcId: 5n },
      target: { type: 'scid', shortChannelId: 1n },
      targetShard: 1,
      sourceShard: 3,
      paymentHash: TXID,
      incomingAmountMsat: 2_000_000n,
      incomingCltvExpiryHeight: 600,
      outgoingAmountMsat: 1_000_000n,
      outgoingCltvExpiryHeight: 500,
      onion: new Uint8Array(1366),
      sharedSecret: new Uint8Array(32),
      createdUnixMs: 0,
    };
    const result = run(pair, state, { kind: 'forward', intent, alternatives: 'none' });
    expect(established(result).changes.htlcs).toHaveLength(2);
    expect(result.forwarding.resolutions).toMatchObject([{ outcome: { type: 'failed_here' } }]);
  });

  test('it is closed when all is settled, however deep the spend, and then its HTLCs go', () => {
    const pair = pairWithHtlcs();
    const closing = established(run(pair, pair.alice.channel, spent(1)));
    const waiting = established(run(pair, closing, spent(144)));
    expect(waiting.phase.type).toBe('closing_force');
    expect(waiting.changes.htlcs).toHaveLength(2);
    const closed = established(run(pair, waiting, spent(144, 'resolved')));
    expect(closed.phase).toMatchObject({ type: 'closed', reason: expect.stringMatching(/settled on-chain/) });
    expect(closed.changes.htlcs).toEqual([]);
  });

  test('a mutual close is no surprise', () => {
    const pair = new Pair(fakeSecp256k1);
    pair.alice.must({ type: 'shutdown' });
    pair.settle();
    expect(pair.alice.channel.phase.type).toBe('closing_mutual');
    const seen = established(run(pair, pair.alice.channel, spent(1)));
    expect(seen.phase.type).toBe('closing_mutual');
    expect(established(run(pair, seen, spent(6, 'resolved'))).phase.type).toBe('closed');
  });
});

describe('a channel that the chain’s side closed', () => {
  test('leaves for that reason, whatever else was in the turn', () => {
    const pair = pairWithHtlcs();
    const resolution: Resolution = {
      source: { type: 'htlc', channelId: pair.alice.channel.channelId, htlcId: 0n },
      sourceShard: 1,
      outcome: { type: 'fulfilled', preimage: preimageOf(2) },
    };
    const result = run(
      pair,
      pair.alice.channel,
      { kind: 'closing_decided', reason: 'HTLC 0 cannot wait' },
      { kind: 'resolution', resolution },
    );
    expect(established(result).phase).toEqual({ type: 'closing_force', reason: 'HTLC 0 cannot wait' });
    // A preimage is enforcement data, also then.
    expect(stepsOf(result)).toEqual(['channel_force_closed', 'payment_preimage']);
    expect(result.forwarding.resolutionsTaken).toHaveLength(1);
  });

  test('hears failures of its inbound HTLCs, for the chain ends them', () => {
    const pair = pairWithHtlcs();
    const state = established(run(pair, pair.alice.channel, spent(1)));
    const resolution: Resolution = {
      source: { type: 'htlc', channelId: state.channelId, htlcId: 0n },
      sourceShard: 1,
      outcome: { type: 'failed_here', failure: Uint8Array.of(0x40, 8) },
    };
    const result = run(pair, state, { kind: 'resolution', resolution });
    expect(result.forwarding.resolutionsTaken).toHaveLength(1);
    expect(established(result).changes.htlcs).toHaveLength(2);
  });
});

describe('a deadline', () => {
  const LATE: Item = { kind: 'block', height: EXPIRY + 3 };

  test('closes the channel, and says what was at stake', () => {
    const pair = pairWithHtlcs();
    const { phase } = established(run(pair, pair.alice.channel, LATE));
    expect(phase).toMatchObject({
      type: 'closing_force',
      reason: expect.stringMatching(
        /outbound HTLC 0 .*10000 sat at stake in 1 HTLCs, about \d+ sat to close/,
      ),
    });
  });

  test('lnd#7180: of a 10-sat HTLC closes nothing', () => {
    const pair = pairWithHtlcs(10_000n);
    expect(established(run(pair, pair.alice.channel, LATE)).phase.type).toBe('open');
  });

  test('of a 10-sat HTLC closes the channel whose peer fulfilled too much of the kind too late', () => {
    const pair = pairWithHtlcs(10_000n);
    const { phase } = established(runAfter(2_000_000n, pair, pair.alice.channel, LATE));
    expect(phase).toMatchObject({
      type: 'closing_force',
      reason: expect.stringMatching(/2010 sat at stake in 1 HTLCs/),
    });
    // Not at once: it takes another one that is not settled in time.
    const early: Item = { kind: 'block', height: EXPIRY + 2 };
    expect(established(runAfter(2_000_000n, pair, pair.alice.channel, early)).phase.type).toBe('open');
  });
});
