import type { ChannelState, EstablishedChannel, PeerMessage } from '@fulmen/channel';
import { isFrozen } from '@fulmen/channel/updates/ready';
import { addCommand, Pair } from '@fulmen/channel/testing/pair';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import type { Intent } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import type { HtlcDecision } from './htlc-decision.ts';
import type { Item } from './items.ts';
import { Turn } from './turn.ts';
import type { TurnResult } from './turn-result.ts';

const GENERATION = 1n;

/** The fleet's side is Bob, turn by turn; Alice is a peer that knows nothing of towers. */
class Bench {
  readonly pair = new Pair(secp);
  readonly decisions = new Map<bigint, HtlcDecision>();
  readonly takenUp = new Set<bigint>();
  readonly takenByOthers = new Set<bigint>();
  updatesComplete: 'at_commit' | 'at_towers';
  state: ChannelState;
  #frame = 0n;

  constructor(updatesComplete: 'at_commit' | 'at_towers') {
    this.updatesComplete = updatesComplete;
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
        blockHeight: 400,
        greatestHeight: 400,
        fulfilledLateMsat: 0n,
        updatesComplete: this.updatesComplete,
        newHtlcs: 'taken',
        reestablish: 'awaited',
        decisions: this.decisions,
        outgoing: new Map(),
        isTakenUp: (id) => this.takenUp.has(id),
        isTakenByOthers: (id) => this.takenByOthers.has(id),
        sharedSecretOf: () => new Uint8Array(32),
        refuseForward: () => undefined,
        cannotCarry: () => ({ kind: 'temporary_node_failure' }),
      },
      this.state,
    ).run(items);
    this.state = result.state;
    for (const { source } of result.forwarding.intents)
      if (source.type === 'htlc') this.takenUp.add(source.htlcId);
    return result;
  }

  /** What Alice has to say. */
  fromAlice(): Item[] {
    return this.pair.alice.outbox.splice(0).map((message) => ({
      kind: 'message',
      generation: GENERATION,
      frame: ++this.#frame,
      input: { type: 'message', message },
    }));
  }

  /** Alice hears what the turn said, as the signer would have made it. */
  toAlice(messages: TurnResult['messages']): void {
    const { alice, bob } = this.pair;
    bob.state = this.state;
    for (const message of messages) {
      const wire: PeerMessage = bob.toWire(message);
      const error = alice.input({ type: 'message', message: wire });
      if (error !== undefined) throw new TypeError(`${wire.type}: ${error.message}`);
    }
  }

  intentFor(htlcId: bigint): void {
    const { channelId } = this.channel;
    const intent: Intent = {
      source: { type: 'htlc', channelId, htlcId },
      sourceShard: 1,
      target: { type: 'scid', shortChannelId: 5n },
      targetShard: 2,
      paymentHash: new Uint8Array(32),
      incomingAmountMsat: 2n,
      incomingCltvExpiryHeight: 2,
      outgoingAmountMsat: 1n,
      outgoingCltvExpiryHeight: 1,
      createdUnixMs: 0,
      onion: new Uint8Array(1366),
      sharedSecret: new Uint8Array(32),
    };
    this.decisions.set(htlcId, { type: 'intent', intent, sharedSecretHash: new Uint8Array(32) });
  }
}

const kinds = ({ messages }: TurnResult): string[] =>
  messages.map((message) => (message.kind === 'ready' ? message.message.type : message.kind));
const completed = (updateId: bigint): Item => ({ kind: 'monitor_completed', updateId });

describe('a turn whose monitor updates wait for towers', () => {
  test('holds what gives something away, and makes it again, in its order, when the last update is complete', () => {
    const bench = new Bench('at_towers');
    const { alice } = bench.pair;
    alice.must(addCommand(1, 10_000_000n));
    alice.must({ type: 'commit' });
    const first = bench.turn(...bench.fromAlice());
    // Alice's commitment and our own: both updates are in this commit, and neither message leaves.
    expect(first.monitorUpdates.length).toBeGreaterThan(0);
    expect(kinds(first)).toEqual([]);
    expect(isFrozen(bench.channel)).toBe(true);
    const { updateId } = bench.channel.monitor;
    // Acknowledgements of earlier updates come late, and change nothing.
    for (let earlier = updateId - 2n; earlier < updateId; earlier++)
      expect(kinds(bench.turn(completed(earlier)))).toEqual([]);
    const thawed = bench.turn(completed(updateId));
    expect(kinds(thawed)).toEqual(['revoke_and_ack', 'commitment_signed']);
    expect(isFrozen(bench.channel)).toBe(false);
    bench.toAlice(thawed.messages);
    expect(kinds(bench.turn(completed(updateId)))).toEqual([]);
  });

  test('an HTLC is forwarded once, and not before the towers know the revocation that makes it irrevocable', () => {
    const bench = new Bench('at_towers');
    const { alice } = bench.pair;
    alice.must(addCommand(1, 10_000_000n));
    alice.must({ type: 'commit' });
    bench.intentFor(0n);
    bench.turn(...bench.fromAlice());
    bench.toAlice(bench.turn(completed(bench.channel.monitor.updateId)).messages);
    const revoked = bench.turn(...bench.fromAlice());
    expect(revoked.revocations).toHaveLength(1);
    expect(revoked.forwarding.intents).toEqual([]);
    expect(bench.turn({ kind: 'resume' }).forwarding.intents).toEqual([]);
    const { updateId } = bench.channel.monitor;
    expect(bench.turn(completed(updateId)).forwarding.intents).toHaveLength(1);
    expect(bench.turn(completed(updateId)).forwarding.intents).toEqual([]);
    expect(bench.turn({ kind: 'resume' }).forwarding.intents).toEqual([]);
  });

  test('an HTLC is taken up once, where a restart without towers and its completion are one turn', () => {
    const bench = new Bench('at_towers');
    const { alice } = bench.pair;
    alice.must(addCommand(1, 10_000_000n));
    alice.must({ type: 'commit' });
    bench.intentFor(0n);
    bench.turn(...bench.fromAlice());
    bench.toAlice(bench.turn(completed(bench.channel.monitor.updateId)).messages);
    bench.turn(...bench.fromAlice());
    expect(isFrozen(bench.channel)).toBe(true);
    bench.updatesComplete = 'at_commit';
    bench.turn({ kind: 'disconnected', generation: 0n });
    const { forwarding } = bench.turn(completed(bench.channel.monitor.updateId), { kind: 'resume' });
    expect(forwarding.intents).toHaveLength(1);
    expect(forwarding.onionReplays).toHaveLength(1);
  });

  test('a restart in the middle leaves it to the reestablish, and to the towers', () => {
    const bench = new Bench('at_towers');
    const { alice } = bench.pair;
    alice.must(addCommand(1, 10_000_000n));
    alice.must({ type: 'commit' });
    bench.turn(...bench.fromAlice());
    bench.pair.alice.must({ type: 'peer_disconnected' });
    bench.turn({ kind: 'disconnected', generation: 0n }, { kind: 'resume' });
    expect(isFrozen(bench.channel)).toBe(true);
    alice.must({ type: 'peer_connected', features: bench.pair.features });
    const greeting = bench.turn({
      kind: 'connected',
      generation: GENERATION,
      features: bench.pair.features,
    });
    expect(kinds(greeting)).toEqual(['channel_reestablish']);
    bench.toAlice(greeting.messages);
    // Alice repeats her updates and her signature; what we owe her still waits.
    expect(kinds(bench.turn(...bench.fromAlice()))).toEqual([]);
    const thawed = bench.turn(completed(bench.channel.monitor.updateId));
    expect(kinds(thawed)).toEqual(['revoke_and_ack', 'commitment_signed']);
    bench.toAlice(thawed.messages);
  });

  test('without towers nothing is held', () => {
    const bench = new Bench('at_commit');
    bench.pair.alice.must(addCommand(1, 10_000_000n));
    bench.pair.alice.must({ type: 'commit' });
    const result = bench.turn(...bench.fromAlice());
    expect(kinds(result)).toEqual(['revoke_and_ack', 'commitment_signed']);
    expect(isFrozen(bench.channel)).toBe(false);
  });
});

describe('a commitment_signed before the one before it is answered', () => {
  /** Two updates and their signatures; the second as if Alice knew the point that our answer to the first brings. */
  function burst(bench: Bench): readonly [Item[], Item[]] {
    const { pair } = bench;
    const signs = (feerateSatPerKw: number): Item[] => {
      pair.alice.must({ type: 'update_fee', feerateSatPerKw });
      pair.alice.must({ type: 'commit' });
      const messages = [...pair.alice.outbox];
      const items = bench.fromAlice();
      pair.alice.outbox.push(...messages);
      pair.deliverAll();
      return items;
    };
    return [signs(1_100), signs(1_200)];
  }

  const reactions = ({ followUps }: TurnResult): string[] => followUps.map(({ type }) => type);

  test('ends the connection when both come in one turn', () => {
    const bench = new Bench('at_commit');
    const result = bench.turn(...burst(bench).flat());
    expect(reactions(result)).toEqual(['disconnect']);
    expect(kinds(result)).toEqual(['revoke_and_ack', 'warning', 'commitment_signed']);
    expect(bench.channel.changes.holderCommitmentNumber).toBe(1n);
  });

  test('ends the connection while the answer waits for towers', () => {
    const bench = new Bench('at_towers');
    const [first, second] = burst(bench);
    bench.turn(...first);
    expect(isFrozen(bench.channel)).toBe(true);
    const result = bench.turn(...second);
    expect(reactions(result)).toEqual(['disconnect']);
    expect(kinds(result)).toEqual(['warning']);
    expect(bench.channel.changes.holderCommitmentNumber).toBe(1n);
    expect(kinds(bench.turn(completed(bench.channel.monitor.updateId)))).toContain('revoke_and_ack');
  });
});

describe('a turn of a channel whose rows were set back', () => {
  test('leaves once, and takes no HTLC up: it may be long over', () => {
    const bench = new Bench('at_commit');
    bench.pair.alice.must(addCommand(1, 10_000_000n));
    bench.pair.settle();
    bench.state = bench.pair.bob.channel;
    bench.intentFor(0n);
    const result = bench.turn(
      { kind: 'state_lost' },
      { kind: 'disconnected', generation: 0n },
      { kind: 'resume' },
    );
    expect(bench.channel.phase.type).toBe('passive');
    expect(result.monitorUpdates).toHaveLength(1);
    expect(result.forwarding.intents).toEqual([]);
    expect(kinds(result)).toEqual([]);
    expect(bench.turn({ kind: 'state_lost' }, { kind: 'resume' })).toMatchObject({
      monitorUpdates: [],
      messages: [],
      forwarding: { intents: [], events: [] },
    });
  });

  test('takes back what it had handed over, where nobody else has it: the channel that paid cannot be claimed from', () => {
    const bench = new Bench('at_commit');
    for (const seed of [1, 2, 3]) bench.pair.alice.must(addCommand(seed, 10_000_000n));
    bench.pair.settle();
    bench.state = bench.pair.bob.channel;
    for (const id of [0n, 1n]) bench.takenUp.add(id);
    bench.takenByOthers.add(1n);
    const { channelId } = bench.channel;
    const source = { type: 'htlc', channelId, htlcId: 0n } as const;
    const result = bench.turn({ kind: 'state_lost' }, { kind: 'disconnected', generation: 0n });
    expect(result.forwarding.intentClaims).toEqual([{ source, outcome: 'cancelled' }]);
    expect(bench.channel.changes.htlcs).toHaveLength(3);
    expect(bench.turn({ kind: 'state_lost' }).forwarding.intentClaims).toEqual([]);
  });

  test('stays as it is when chain-monitor decides to close, and refuses the operator', () => {
    const bench = new Bench('at_commit');
    bench.turn({ kind: 'state_lost' });
    const outcomes: boolean[] = [];
    const result = bench.turn(
      { kind: 'closing_decided', reason: 'an HTLC expired' },
      {
        kind: 'command',
        input: { type: 'force_close', reason: 'the operator asked for it' },
        settle: ({ ok }) => void outcomes.push(ok),
      },
    );
    for (const settle of result.settlements) settle();
    expect(outcomes).toEqual([false]);
    expect(result.monitorUpdates).toEqual([]);
    expect(bench.channel.phase.type).toBe('passive');
  });
});
