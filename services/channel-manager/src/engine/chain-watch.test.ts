import { addCommand, Pair, preimageOf } from '@fulmen/channel/testing/pair';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { decodeFailureMessage, type FailureMessage } from '@fulmen/onion';
import { silentLogger } from '@fulmen/service';
import type { Intent } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import { ChainWatch } from './chain-watch.ts';
import type { Item } from './items.ts';
import { LoneActor } from './testing/lone-actor.ts';
import { Turn } from './turn.ts';
import type { TurnResult } from './turn-result.ts';

describe('whether the chain is known as it is', () => {
  function watch(staleMs: number) {
    const clock = { nowMs: 1_000 };
    return { clock, chain: new ChainWatch({ monotonicMs: () => clock.nowMs }, silentLogger, staleMs) };
  }

  test('chain-monitor’s word holds until it says otherwise', () => {
    const { chain } = watch(10_000);
    expect(chain.doubt()).toBeUndefined();
    chain.heard({ halted: true, haltReason: 'the source lies' });
    expect(chain.doubt()).toBe('the source lies');
    chain.heard({ halted: false, haltReason: '' });
    expect(chain.doubt()).toBeUndefined();
  });

  test('silence beyond the bound is doubt, until it answers again', () => {
    const { chain, clock } = watch(10_000);
    clock.nowMs += 10_000;
    expect(chain.doubt()).toBeUndefined();
    clock.nowMs += 1;
    expect(chain.doubt()).toBe('chain-monitor has not answered for 10 seconds');
    chain.heard({ halted: false, haltReason: '' });
    expect(chain.doubt()).toBeUndefined();
  });

  test('each minute without a word that is believed may have brought a block', () => {
    const { chain, clock } = watch(10_000);
    expect(chain.blocksUnseen()).toBe(0);
    clock.nowMs += 119_999;
    expect(chain.blocksUnseen()).toBe(1);
    chain.heard({ halted: true, haltReason: 'the source lies' });
    clock.nowMs += 1;
    expect(chain.blocksUnseen()).toBe(2);
    chain.heard({ halted: false, haltReason: '' });
    expect(chain.blocksUnseen()).toBe(0);
  });
});

describe('while the chain is not known as it is', () => {
  const PATIENCE_MS = 20_000;
  const SOURCE = { type: 'htlc', channelId: new Uint8Array(32).fill(9), htlcId: 4n } as const;

  /** A turn of Bob's, whose chain is in doubt. */
  function turn(
    pair: Pair,
    nowUnixMs: number,
    items: readonly Item[],
    newHtlcs: 'taken' | 'held',
  ): TurnResult {
    const state = pair.bob.channel;
    const refusal: FailureMessage | undefined =
      newHtlcs === 'held' ? { kind: 'temporary_node_failure' } : undefined;
    return new Turn(
      {
        core: pair.bob.ctx,
        channelId: state.channelId,
        nowUnixMs,
        blockHeight: 400,
        greatestHeight: 400,
        fulfilledLateMsat: 0n,
        updatesComplete: 'at_commit',
        newHtlcs,
        reestablish: 'awaited',
        decisions: new Map(),
        outgoing: new Map(),
        isTakenUp: () => true,
        isTakenByOthers: () => false,
        sharedSecretOf: () => new Uint8Array(32),
        refuseForward: () => refusal,
        cannotCarry: () => ({ kind: 'temporary_node_failure' }),
      },
      state,
    ).run(items);
  }

  const forward = (source: Intent['source']): Item => ({
    kind: 'forward',
    alternatives: 'none',
    intent: {
      source,
      sourceShard: 1,
      target: { type: 'scid', shortChannelId: 5n },
      targetShard: 2,
      paymentHash: new Uint8Array(32).fill(3),
      incomingAmountMsat: 10_001_000n,
      incomingCltvExpiryHeight: 700,
      outgoingAmountMsat: 10_000_000n,
      outgoingCltvExpiryHeight: 600,
      createdUnixMs: 0,
      onion: new Uint8Array(1366),
      sharedSecret: new Uint8Array(32),
    },
  });
  const sources: readonly Intent['source'][] = [SOURCE, { type: 'payment', attemptId: new Uint8Array(32) }];

  test.each(sources)('a forward or payment waits, and fails when it has waited enough: $type', (source) => {
    const pair = new Pair(secp);
    const waiting = turn(pair, PATIENCE_MS - 1, [forward(source)], 'held');
    expect(waiting.postponed).toEqual([source]);
    expect(waiting.forwarding.intentClaims).toEqual([]);
    expect(waiting.messages).toEqual([]);
    const late = turn(pair, PATIENCE_MS, [forward(source)], 'held');
    expect(late.postponed).toEqual([]);
    expect(late.messages).toEqual([]);
    expect(late.forwarding.intentClaims).toEqual([{ source, outcome: 'taken' }]);
    const [resolution] = late.forwarding.resolutions;
    expect(resolution?.outcome.type).toBe('failed_here');
    if (resolution?.outcome.type === 'failed_here')
      expect(decodeFailureMessage(resolution.outcome.failure)).toEqual({ kind: 'temporary_node_failure' });
  });

  test('a channel holds back what is new by that word', async () => {
    const lone = new LoneActor(new Pair(secp).bob);
    lone.chain.doubt = 'the source is silent';
    for (const htlcId of [1n, 2n]) {
      const source = { ...SOURCE, htlcId };
      const item = forward(source);
      if (item.kind !== 'forward') throw new TypeError('not a forward');
      // The second has waited long enough, by a wall clock that stands at 0.
      const createdUnixMs = htlcId === 2n ? -PATIENCE_MS : 0;
      lone.actor.post({ ...item, intent: { ...item.intent, createdUnixMs } });
      await lone.idle();
    }
    expect(lone.quarantines).toEqual([]);
    expect(lone.sent).toEqual([]);
    expect(lone.resolutions.map(({ source }) => source)).toEqual([{ ...SOURCE, htlcId: 2n }]);
    const [outcome] = lone.resolutions.map((resolution) => resolution.outcome);
    if (outcome?.type !== 'failed_here') return expect.unreachable();
    expect(decodeFailureMessage(outcome.failure)).toEqual({ kind: 'temporary_node_failure' });
  });

  test('one that waited is added when the chain is followed again', () => {
    const pair = new Pair(secp);
    expect(turn(pair, 1, [forward(SOURCE)], 'held').postponed).toHaveLength(1);
    const added = turn(pair, 2, [forward(SOURCE)], 'taken');
    expect(added.forwarding.outgoing).toHaveLength(1);
    expect(added.messages.length).toBeGreaterThan(0);
  });

  test('an HTLC that exists is fulfilled as always', () => {
    const pair = new Pair(secp);
    const { alice, bob } = pair;
    alice.must(addCommand(1, 10_000_000n));
    alice.must({ type: 'commit' });
    pair.settle();
    const [htlc] = bob.channel.changes.htlcs;
    expect(htlc?.state).toBe('committed');
    const preimage = preimageOf(1);
    const settled = turn(
      pair,
      0,
      [
        {
          kind: 'resolution',
          resolution: {
            source: { type: 'htlc', channelId: bob.channel.channelId, htlcId: htlc?.body.id ?? 0n },
            sourceShard: 1,
            outcome: { type: 'fulfilled', preimage },
          },
        },
      ],
      'held',
    );
    expect(settled.forwarding.resolutionsTaken).toHaveLength(1);
    expect(settled.messages[0]).toMatchObject({ message: { type: 'update_fulfill_htlc' } });
  });
});
