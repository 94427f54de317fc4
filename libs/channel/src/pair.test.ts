/**
 * Two cores joined by queues: random adds, removals, feerates, deliveries,
 * disconnects that lose messages, crashes between commit and send, restarts
 * from what was persisted, and monitor updates that stay in progress. Honest
 * nodes must never refuse each other, must agree when they fall silent, and
 * must conserve every millisatoshi.
 */
import { InternalError, toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { buildCommitment } from './commitment/build.ts';
import { assembleCommitment } from './commitment/sign.ts';
import { runInput } from './commitment/testing/interpreter.ts';
import { p2wshScript } from '@fulmen/bitcoin';
import type { CommitmentSpec } from './commitment-spec.ts';
import type { CommitmentFormatName } from './parameters.ts';
import { primaryFunding } from './state.ts';
import { Pair, addCommand, preimageOf } from './testing/pair.ts';
import type { Side } from './testing/pair.ts';
import type { TestNode } from './testing/node.ts';
import { summary } from './summary.ts';
import { counterpartySpec, holderSpec } from './updates/spec.ts';

/** Histories on the fake curve and on the real one; FULMEN_HISTORIES multiplies both. */
const SCALE = Number(process.env['FULMEN_HISTORIES'] ?? 1);
const FAKE_RUNS = Math.ceil(80 * SCALE);
const REAL_RUNS = Math.ceil(8 * SCALE);
const TIMEOUT_MS = 60_000 * Math.max(1, SCALE);

type Operation =
  | { readonly type: 'add'; readonly side: Side; readonly amount: number }
  | {
      readonly type: 'remove';
      readonly side: Side;
      readonly which: number;
      readonly how: 'fulfil' | 'fail' | 'malformed';
    }
  | { readonly type: 'fee'; readonly feerate: number }
  | { readonly type: 'deliver'; readonly side: Side; readonly messages: number }
  | { readonly type: 'commit' | 'restart' | 'die' | 'hold_monitor' | 'complete_monitor'; readonly side: Side }
  | { readonly type: 'disconnect' | 'connect' | 'reconnect' | 'exchange' };

const side = fc.constantFrom<Side>('alice', 'bob');
/** In msat; 0 stands for the most that the channel allows. */
const AMOUNTS = [
  0, 0, 1, 999, 353_999, 354_000, 700_000, 1_500_000, 10_000_000, 60_000_000, 250_000_000, 599_000_000,
];
const removal = fc.constantFrom('fulfil' as const, 'fail' as const, 'malformed' as const);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({ type: fc.constant('add' as const), side, amount: fc.constantFrom(...AMOUNTS) }),
  },
  {
    weight: 10,
    arbitrary: fc.record({ type: fc.constant('remove' as const), side, which: fc.nat(20), how: removal }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('fee' as const),
      feerate: fc.constantFrom(253, 1000, 2500, 7000, 20_000),
    }),
  },
  { weight: 10, arbitrary: fc.record({ type: fc.constant('commit' as const), side }) },
  {
    weight: 20,
    arbitrary: fc.record({
      type: fc.constant('deliver' as const),
      side,
      messages: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('exchange' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constantFrom(
        'restart' as const,
        'die' as const,
        'hold_monitor' as const,
        'complete_monitor' as const,
      ),
      side,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constantFrom(
        'disconnect' as const,
        'connect' as const,
        'connect' as const,
        'reconnect' as const,
      ),
    }),
  },
);

/** Funding, push and feerate: comfortable, and so tight that reserves and fees bind. */
const CHANNELS = [
  { fundingSat: 1_000_000n, pushMsat: 400_000_000n, feerateSatPerKw: 1000 },
  { fundingSat: 60_000n, pushMsat: 25_000_000n, feerateSatPerKw: 2500 },
  { fundingSat: 30_000n, pushMsat: 0n, feerateSatPerKw: 5000 },
] as const;

class History {
  readonly pair: Pair;
  isConnected = true;
  #seed = 0;
  readonly #preimages = new Map<string, Uint8Array>();

  constructor(pair: Pair) {
    this.pair = pair;
  }

  run(operation: Operation): void {
    this.#perform(operation);
    this.#afterDeath();
  }

  #perform(operation: Operation): void {
    switch (operation.type) {
      case 'add': {
        this.#seed += 1;
        const preimage = preimageOf(this.#seed);
        this.#preimages.set(toHex(sha256(preimage)), preimage);
        const node = this.pair.node(operation.side);
        const mostMsat = summary(node.ctx, node.channel).outboundLiquidityMsat;
        const error = node.input(
          addCommand(this.#seed, operation.amount === 0 ? mostMsat : BigInt(operation.amount)),
        );
        // What the summary promises is possible.
        if (operation.amount === 0 && mostMsat > 0n && error?.code !== 'monitor_update_in_progress')
          expect(error).toBeUndefined();
        return;
      }
      case 'remove':
        return this.remove(this.pair.node(operation.side), operation.which, operation.how);
      case 'fee':
        this.pair.alice.input({ type: 'update_fee', feerateSatPerKw: operation.feerate });
        return;
      case 'commit':
        this.pair.node(operation.side).must({ type: 'commit' });
        return;
      case 'deliver':
        for (let i = 0; i < operation.messages; i += 1) {
          this.pair.deliver(operation.side);
          this.#afterDeath();
        }
        return;
      case 'exchange':
        for (let i = 0; i < 8; i += 1) {
          for (const one of ['alice', 'bob'] as const) {
            this.pair.node(one).must({ type: 'commit' });
            this.#afterDeath();
            while (this.pair.deliver(this.pair.other(one))) this.#afterDeath();
          }
        }
        return;
      case 'reconnect':
        this.disconnect();
        return this.connect();
      case 'restart':
        this.pair.node(operation.side).restart();
        return this.disconnect();
      case 'die':
        this.pair.node(operation.side).dies = 'after_next_commit';
        return;
      case 'hold_monitor':
        this.pair.node(operation.side).monitor = 'in_progress';
        return;
      case 'complete_monitor':
        this.pair.node(operation.side).completeMonitor();
        return;
      case 'disconnect':
        return this.disconnect();
      case 'connect':
        if (!this.isConnected) this.connect();
        return;
    }
  }

  remove(node: TestNode, which: number, how: 'fulfil' | 'fail' | 'malformed'): void {
    const ready = node.channel.changes.htlcs.filter(
      (htlc) => htlc.body.direction === 'inbound' && htlc.state === 'committed',
    );
    const htlc = ready[which % Math.max(1, ready.length)];
    if (htlc === undefined) return;
    const { id, paymentHash } = htlc.body;
    const preimage = this.#preimages.get(toHex(paymentHash)) ?? new Uint8Array(32);
    if (how === 'fulfil') node.must({ type: 'fulfil_htlc', id, preimage });
    else if (how === 'fail') node.must({ type: 'fail_htlc', id, reason: new Uint8Array(292) });
    else
      node.must({ type: 'fail_malformed_htlc', id, sha256OfOnion: new Uint8Array(32), failureCode: 0xc005 });
  }

  /** A process that died after a commit comes back without having sent anything. */
  #afterDeath(): void {
    for (const node of [this.pair.alice, this.pair.bob]) {
      if (node.dies !== 'dead') continue;
      node.restart();
      this.disconnect();
    }
  }

  disconnect(): void {
    for (const node of [this.pair.alice, this.pair.bob]) if (node.dies !== 'never') node.restart();
    // The signer of a node that died is at most one step behind; the next message tells.
    this.pair.disconnect();
    this.isConnected = false;
  }

  connect(): void {
    this.pair.connect();
    this.isConnected = true;
  }

  /** Brings everything to rest, in the end without HTLCs. */
  finish(): void {
    this.disconnect();
    for (const node of [this.pair.alice, this.pair.bob]) node.completeMonitor();
    this.connect();
    this.pair.settle();
    expectAgreement(this.pair);
    for (let i = 0; i < 4; i += 1) {
      for (const node of [this.pair.alice, this.pair.bob]) {
        while (
          node.channel.changes.htlcs.some(
            (htlc) => htlc.body.direction === 'inbound' && htlc.state === 'committed',
          )
        ) {
          this.remove(node, 0, i % 2 === 0 ? 'fulfil' : 'fail');
        }
      }
      this.pair.settle();
    }
    expectAgreement(this.pair);
  }
}

function expectAgreement({ alice, bob }: Pair): void {
  for (const [a, b] of [
    [alice, bob],
    [bob, alice],
  ] as const) {
    const mine = holderSpec(a.channel);
    const theirs = counterpartySpec(b.channel);
    expect(mine.commitmentNumber).toBe(theirs.commitmentNumber);
    expect(mine.feerateSatPerKw).toBe(theirs.feerateSatPerKw);
    expect(mine.toHolderMsat).toBe(theirs.toCounterpartyMsat);
    expect(mine.toCounterpartyMsat).toBe(theirs.toHolderMsat);
    expect(describeHtlcs(mine)).toEqual(describeHtlcs(theirs).map(mirrored).sort());
    const inHtlcs = mine.htlcs.reduce((sum, htlc) => sum + htlc.amountMsat, 0n);
    expect(mine.toHolderMsat + mine.toCounterpartyMsat + inHtlcs).toBe(
      primaryFunding(a.channel).fundingValueSat * 1000n,
    );
    expect(a.rows?.hot.length).toBeLessThan(1500);
  }
}

function describeHtlcs(spec: CommitmentSpec): string[] {
  return spec.htlcs
    .map((htlc) => `${htlc.direction} ${htlc.id} ${htlc.amountMsat} ${toHex(htlc.paymentHash)}`)
    .sort();
}

function mirrored(text: string): string {
  return text.startsWith('inbound')
    ? text.replace('inbound', 'outbound')
    : text.replace('outbound', 'inbound');
}

/** What each side was paid, by the HTLCs that settled on both. */
function expectConserved(pair: Pair, startMsat: { readonly alice: bigint; readonly bob: bigint }): void {
  for (const [node, start] of [
    [pair.alice, startMsat.alice],
    [pair.bob, startMsat.bob],
  ] as const) {
    expect(node.channel.changes.htlcs).toEqual([]);
    expect(primaryFunding(node.channel).holderBalanceMsat).toBe(start + node.earnedMsat);
  }
  expect(pair.alice.earnedMsat).toBe(-pair.bob.earnedMsat);
}

function runHistory(pair: Pair, operations: readonly Operation[]): void {
  const start = {
    alice: primaryFunding(pair.alice.channel).holderBalanceMsat,
    bob: primaryFunding(pair.bob.channel).holderBalanceMsat,
  };
  const history = new History(pair);
  for (const operation of operations) history.run(operation);
  history.finish();
  expectConserved(pair, start);
  expectMutualClose(pair);
}

/** Two idle nodes close for the funder's fee. */
function expectMutualClose(pair: Pair): void {
  pair.bob.must({ type: 'shutdown' });
  pair.settle();
  const [a, b] = [pair.alice.channel.phase, pair.bob.channel.phase];
  if (a.type !== 'closing_mutual' || b.type !== 'closing_mutual')
    throw new InternalError(`phases ${a.type}, ${b.type}`);
  expect(a.closing.feeSat).toBe(b.closing.feeSat);
  expect(a.closing.toHolderSat).toBe(b.closing.toCounterpartySat);
  expect(a.closing.toHolderSat + a.closing.toCounterpartySat + a.closing.feeSat).toBeLessThanOrEqual(
    primaryFunding(pair.alice.channel).fundingValueSat,
  );
}

/** The holder's commitment, with both signatures, satisfies the funding output's script. */
function expectBroadcastable(node: TestNode): void {
  const { registration } = node;
  const spec = holderSpec(node.channel);
  const built = buildCommitment(node.secp, {
    ...registration,
    owner: 'holder',
    spec,
    perCommitmentPoint: node.signer.point(spec.commitmentNumber),
  });
  const holderSignature = node.signer.signHolder(registration, spec, 'dry_run');
  const funding = primaryFunding(node.channel);
  const transaction = assembleCommitment(built, funding, {
    holderSignature,
    counterpartySignature: funding.signature,
  });
  expect(
    runInput(transaction, 0, {
      scriptPubKey: p2wshScript(built.fundingWitnessScript),
      valueSat: funding.fundingValueSat,
    }),
  ).toBe('ok');
}

test.each<CommitmentFormatName>(['anchors', 'static_remotekey'])(
  'random histories agree and conserve money (%s, fake curve)',
  (format) => {
    fc.assert(
      fc.property(
        fc.constantFrom(...CHANNELS),
        fc.array(operation, { minLength: 30, maxLength: 160, size: 'max' }),
        (channel, operations) => {
          runHistory(new Pair(fakeSecp256k1, { format, ...channel }), operations);
        },
      ),
      { numRuns: FAKE_RUNS },
    );
  },
  TIMEOUT_MS,
);

test.each<CommitmentFormatName>(['anchors', 'static_remotekey'])(
  'random histories end in commitments that a script interpreter accepts (%s, real curve)',
  (format) => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 20, maxLength: 80, size: 'max' }), (operations) => {
        const pair = new Pair(secp256k1, { format });
        const history = new History(pair);
        for (const operation of operations) history.run(operation);
        history.disconnect();
        for (const node of [pair.alice, pair.bob]) node.completeMonitor();
        history.connect();
        pair.settle();
        for (const node of [pair.alice, pair.bob]) expectBroadcastable(node);
        history.finish();
      }),
      { numRuns: REAL_RUNS },
    );
  },
  TIMEOUT_MS,
);
