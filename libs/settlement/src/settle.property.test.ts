/**
 * Random channels, closes, spends by either side and reorganisations: the same facts give the same settlement however
 * they were reached, no HTLC is ever told both ways, every claim that is offered is valid, and in the end every satoshi
 * lies where BOLT 5 says.
 */
import { txid as txidOf } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { InternalError, equalBytes, toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { htlcKey } from '@fulmen/monitor';
import type { ChannelMonitor } from '@fulmen/monitor';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { settle } from './settle.ts';
import { outPointKey } from './spends.ts';
import { claimTransaction, claimableOf } from './testing/claims.ts';
import { TestChain } from './testing/test-chain.ts';
import { TestChannel, homeScript } from './testing/test-channel.ts';
import type { Side, SignedCommitment } from './testing/test-channel.ts';
import type { Settlement, SettlementFacts } from './types.ts';

type ChannelMove =
  | {
      readonly type: 'add';
      readonly from: Side;
      readonly seed: number;
      readonly amountMsat: bigint;
      readonly cltvExpiryHeight: number;
    }
  | { readonly type: 'settle' }
  | { readonly type: 'remove'; readonly by: Side; readonly index: number; readonly how: 'fulfil' | 'fail' };

type ChainMove =
  | { readonly type: 'wait'; readonly blocks: number }
  | { readonly type: 'alice_claims'; readonly index: number }
  | { readonly type: 'bob_takes'; readonly index: number; readonly where: 'block' | 'mempool' }
  | { readonly type: 'bob_goes_home'; readonly index: number }
  | { readonly type: 'reorganisation'; readonly blocks: number; readonly again: 'same' | 'nothing' }
  | { readonly type: 'alice_learns'; readonly index: number };

const side = fc.constantFrom<Side>('alice', 'bob');
const channelMove: fc.Arbitrary<ChannelMove> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant('add' as const),
      from: side,
      // Few values each, so that twins are common.
      seed: fc.integer({ min: 1, max: 3 }),
      amountMsat: fc.constantFrom(200_000n, 20_000_000n, 20_000_000n, 35_000_000n),
      cltvExpiryHeight: fc.constantFrom(200, 200, 210),
    }),
  },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('settle' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('remove' as const),
      by: side,
      index: fc.nat(5),
      how: fc.constantFrom('fulfil' as const, 'fail' as const),
    }),
  },
);
const chainMove: fc.Arbitrary<ChainMove> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ type: fc.constant('wait' as const), blocks: fc.constantFrom(1, 5, 40, 105) }),
  },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('alice_claims' as const), index: fc.nat(6) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('bob_takes' as const),
      index: fc.nat(6),
      where: fc.constantFrom('block' as const, 'mempool' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('bob_goes_home' as const), index: fc.nat(6) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('reorganisation' as const),
      blocks: fc.integer({ min: 1, max: 5 }),
      again: fc.constantFrom('same' as const, 'nothing' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('alice_learns' as const), index: fc.nat(4) }) },
);

const history = fc.record({
  format: fc.constantFrom('static_remotekey' as const, 'anchors' as const),
  channel: fc.array(channelMove, { maxLength: 12 }),
  unheard: fc.constantFrom('none' as const, 'alice' as const),
  owner: side,
  /** How many commitments ago; the holder's own are never older than one. */
  age: fc.nat(6),
  /** Long before the expiries of the HTLCs, or about then. */
  startHeight: fc.constantFrom(100, 195, 201),
  chain: fc.array(chainMove, { maxLength: 12 }),
});

/** Plays the channel; what is impossible at its time does nothing. */
function playChannel(format: 'static_remotekey' | 'anchors', moves: readonly ChannelMove[]): TestChannel {
  const channel = new TestChannel({ format });
  const offered: { readonly to: Side; readonly id: bigint; readonly seed: number }[] = [];
  for (const move of moves) {
    if (move.type === 'settle') {
      channel.settle();
    } else if (move.type === 'add') {
      const id = channel.add(move.from, move);
      offered.push({ to: channel.other(move.from), id, seed: move.seed });
    } else {
      const candidates = offered.filter(({ to, id }) => {
        const htlcs = channel.pair.node(to).channel.changes.htlcs;
        return (
          to === move.by &&
          htlcs.some(
            ({ body, state }) => body.direction === 'inbound' && body.id === id && state === 'committed',
          )
        );
      });
      const htlc = candidates[move.index % Math.max(1, candidates.length)];
      if (htlc === undefined) continue;
      if (move.how === 'fulfil') channel.fulfill(htlc.to, htlc.id, htlc.seed);
      else channel.fail(htlc.to, htlc.id);
    }
  }
  return channel;
}

/** Keeps facts as the follower does: adds what spends a watched output, forgets what a reorganisation takes away. */
class Shell {
  #confirmed = new Set<string>();
  preimages = new Map<string, Uint8Array>();

  look(chain: TestChain, monitor: ChannelMonitor): { settlement: Settlement; facts: SettlementFacts } {
    const all = chain.confirmed();
    const keyOf = ({ txid, height }: { readonly txid: Uint8Array; readonly height: number }): string =>
      `${toHex(txid)}@${height}`;
    const present = new Set(all.map(keyOf));
    this.#confirmed = new Set([...this.#confirmed].filter((key) => present.has(key)));
    for (;;) {
      const facts = {
        confirmed: all.filter((spend) => this.#confirmed.has(keyOf(spend))),
        unconfirmed: chain.mempool,
        bestHeight: chain.height,
        preimages: this.preimages,
      };
      const settlement = settle({ secp }, monitor, facts);
      const watched = new Set(settlement.watched.map(outPointKey));
      const before = this.#confirmed.size;
      for (const spend of all)
        if (spend.tx.inputs.some(({ txid, vout }) => watched.has(outPointKey({ txid, outputIndex: vout }))))
          this.#confirmed.add(keyOf(spend));
      if (this.#confirmed.size === before) return { settlement, facts };
    }
  }
}

/** Where an output's value came to rest: somebody's home, or still unspent. */
function restOf(chain: TestChain, txid: Uint8Array, outputIndex: number): Side | 'unspent' {
  const spends = new Map<string, { readonly tx: Tx; readonly inputIndex: number }>();
  for (const { tx } of chain.confirmed())
    for (const [inputIndex, input] of tx.inputs.entries())
      spends.set(outPointKey({ txid: input.txid, outputIndex: input.vout }), { tx, inputIndex });
  let at = { txid, outputIndex };
  for (;;) {
    const spend = spends.get(outPointKey(at));
    if (spend === undefined) return 'unspent';
    const { tx, inputIndex } = spend;
    const output = tx.outputs[inputIndex] ?? tx.outputs[0];
    for (const owner of ['alice', 'bob'] as const)
      if (output !== undefined && equalBytes(output.script, homeScript(owner))) return owner;
    at = { txid: txidOf(tx), outputIndex: inputIndex };
  }
}

const SEEDS = new Map([1, 2, 3].map((seed) => [toHex(sha256(preimageOf(seed))), seed]));

function preimageFor(paymentHash: Uint8Array): Uint8Array {
  const seed = SEEDS.get(toHex(paymentHash));
  if (seed === undefined) throw new InternalError('an unknown hash');
  return preimageOf(seed);
}

/** The case's chain, with both sides acting on it. */
class Close {
  readonly chain: TestChain;
  readonly shell = new Shell();
  readonly channel: TestChannel;
  readonly monitor: ChannelMonitor;
  readonly commitment: SignedCommitment;
  /** Of bob's. */
  readonly #second: Tx[] = [];
  readonly #closeHeight: number;
  #told = new Map<string, 'failed' | 'fulfilled'>();

  constructor(channel: TestChannel, owner: Side, age: number, startHeight: number) {
    this.channel = channel;
    this.chain = new TestChain(startHeight);
    this.monitor = channel.monitor('alice');
    const newest = channel.newestNumber(owner);
    const back = BigInt(owner === 'alice' ? Math.min(age, 1) : age);
    this.commitment = channel.commitment(owner, newest > back ? newest - back : 0n);
    this.chain.fund(channel);
    this.chain.mine([this.commitment.tx]);
    this.#closeHeight = this.chain.height;
  }

  /** Looks at the chain as the shell does, and at the same facts from nothing. */
  look(): Settlement {
    const { settlement, facts } = this.shell.look(this.chain, this.monitor);
    const fresh = new Shell();
    fresh.preimages = this.shell.preimages;
    expect(fresh.look(this.chain, this.monitor).settlement).toEqual(settlement);
    const { preimages, ...rest } = facts;
    expect(settle({ secp }, this.monitor, { ...rest, preimages: new Map(preimages) })).toEqual(settlement);
    for (const outcome of settlement.htlcs) {
      if (outcome.type === 'pending') continue;
      const key = htlcKey(outcome.htlc);
      const told = this.#told.get(key);
      if (told !== undefined) expect(`${key} ${outcome.type}`).toBe(`${key} ${told}`);
      this.#told.set(key, outcome.type);
      // As the shell writes it down, whatever a reorganisation takes away.
      if (outcome.type === 'fulfilled') {
        expect(toHex(sha256(outcome.preimage))).toBe(toHex(outcome.htlc.paymentHash));
        this.shell.preimages.set(key, outcome.preimage);
      }
    }
    return settlement;
  }

  /** What no reorganisation here can undo stays told; pending may follow on anything. */
  play(move: ChainMove): void {
    const { chain, channel, commitment, monitor } = this;
    const settlement = this.look();
    switch (move.type) {
      case 'wait':
        chain.mineTo(chain.height + move.blocks);
        break;
      case 'alice_claims': {
        const claims = claimableOf(settlement);
        const claim = claims[move.index % Math.max(1, claims.length)];
        if (claim !== undefined) chain.mine([claimTransaction(channel, 'alice', [claim])]);
        break;
      }
      case 'bob_takes': {
        const taken = this.#bobTakes(move.index);
        if (taken === undefined || !chain.accepts(taken.tx)) break;
        if (move.where === 'mempool') chain.mempool = [...chain.mempool, taken.tx];
        else chain.mine([taken.tx]);
        this.#second.push(taken.tx);
        const outcome = this.look().htlcs.find(({ htlc }) => htlcKey(htlc) === taken.fulfils);
        if (outcome !== undefined) expect(outcome.type).toBe('fulfilled');
        break;
      }
      case 'bob_goes_home': {
        if (commitment.owner === 'alice') break;
        const toLocal = commitment.built.outputs.filter(({ type }) => type === 'to_local');
        const outputs = [
          ...toLocal.map((output) => ({ ...output, txid: commitment.txid })),
          ...this.#second.flatMap((tx) =>
            tx.outputs.map(({ valueSat }, outputIndex) => ({ txid: txidOf(tx), outputIndex, valueSat })),
          ),
        ];
        const output = outputs[move.index % Math.max(1, outputs.length)];
        if (output === undefined) break;
        const tx = channel.delayedClaim(commitment, [output]);
        if (chain.accepts(tx)) chain.mine([tx]);
        break;
      }
      case 'reorganisation': {
        // The commitment itself stays in this game; another test takes it away.
        const blocks = Math.min(move.blocks, chain.height - this.#closeHeight);
        const gone = chain.disconnect(blocks);
        this.look();
        if (move.again === 'same') for (const tx of gone) if (chain.accepts(tx)) chain.mine([tx]);
        chain.mineTo(chain.height + 1);
        break;
      }
      case 'alice_learns': {
        const inbound = [...monitor.htlcs.values()].filter(({ htlc }) => htlc.direction === 'inbound');
        const htlc = inbound[move.index % Math.max(1, inbound.length)]?.htlc;
        if (htlc !== undefined) this.shell.preimages.set(htlcKey(htlc), preimageFor(htlc.paymentHash));
        break;
      }
    }
  }

  /** One of bob's ways with an HTLC output of the commitment, whether or not it is due. */
  #bobTakes(index: number): { readonly tx: Tx; readonly fulfils?: string } | undefined {
    const { channel, commitment } = this;
    const htlcs = commitment.built.outputs.filter((output) => output.type === 'htlc');
    const output = htlcs[index % Math.max(1, htlcs.length)];
    if (output === undefined) return undefined;
    const { outputIndex, htlc } = output;
    const isBobs = (htlc.direction === 'outbound') === (commitment.owner === 'bob');
    const preimage = isBobs ? undefined : preimageFor(htlc.paymentHash);
    if (commitment.owner === 'alice') {
      const tx = channel.directClaim(commitment, outputIndex, preimage);
      return isBobs ? { tx } : { tx, fulfils: `out:${htlc.id}` };
    }
    return isBobs
      ? { tx: channel.secondStage(commitment, [{ outputIndex }]) }
      : {
          tx: channel.secondStage(commitment, [{ outputIndex, preimage: preimageFor(htlc.paymentHash) }]),
          fulfils: `out:${htlc.id}`,
        };
  }

  /** alice claims whatever she can until nothing is left to do. */
  finish(): Settlement {
    const { chain, channel } = this;
    chain.mempool = [];
    for (let round = 0; round < 60; round++) {
      const settlement = this.look();
      if (settlement.stage === 'resolved') return settlement;
      const claims = claimableOf(settlement).filter(({ kind }) => kind.type !== 'anchor');
      const heights = settlement.outputs.flatMap(({ status }) =>
        status.type === 'maturing' ? [status.height] : [],
      );
      if (claims.length > 0) chain.mine(claims.map((claim) => claimTransaction(channel, 'alice', [claim])));
      else chain.mineTo(heights.length > 0 ? Math.min(...heights) - 1 : chain.height + 50);
    }
    throw new InternalError('the channel never settles');
  }

  /** Every output of the commitment lies where it belongs. */
  check(end: Settlement): void {
    const { chain, commitment, monitor } = this;
    const isRevoked = commitment.owner === 'bob' && commitment.number < monitor.secrets.count;
    expect(end.close?.type === 'revoked').toBe(isRevoked);
    const outcomeOf = new Map(end.htlcs.map((outcome) => [htlcKey(outcome.htlc), outcome.type]));
    for (const output of commitment.built.outputs) {
      const rest = restOf(chain, commitment.txid, output.outputIndex);
      const isAlices = (output.type === 'to_local') === (commitment.owner === 'alice');
      if (output.type === 'to_local' || output.type === 'to_remote') {
        if (isAlices) expect(rest).toBe('alice');
        else if (isRevoked) expect(['alice', 'bob']).toContain(rest);
        else expect(['bob', 'unspent']).toContain(rest);
      } else if (output.type === 'htlc') {
        const isOutbound = (output.htlc.direction === 'outbound') === (commitment.owner === 'alice');
        const key = htlcKey({ direction: isOutbound ? 'outbound' : 'inbound', id: output.htlc.id });
        const isBobsByChain = this.#tookByBob(output.outputIndex);
        if (isRevoked) expect(isBobsByChain ? ['alice', 'bob'] : ['alice']).toContain(rest);
        else if (isBobsByChain) expect(['bob', 'unspent']).toContain(rest);
        else if (isOutbound || this.shell.preimages.has(key) || monitor.preimages.has(key))
          expect(rest).toBe('alice');
        else expect(rest).toBe('unspent');
        if (isOutbound && isBobsByChain && outcomeOf.has(key)) expect(outcomeOf.get(key)).toBe('fulfilled');
      }
    }
    for (const type of outcomeOf.values()) expect(type).not.toBe('pending');
  }

  #tookByBob(outputIndex: number): boolean {
    const bobs = new Set(this.#second.map((tx) => toHex(txidOf(tx))));
    const key = outPointKey({ txid: this.commitment.txid, outputIndex });
    return this.chain
      .confirmed()
      .some(
        ({ tx, txid }) =>
          bobs.has(toHex(txid)) &&
          tx.inputs.some((input) => outPointKey({ txid: input.txid, outputIndex: input.vout }) === key),
      );
  }
}

test('any history, closed by anybody in any way, spent and reorganised at random', () => {
  fc.assert(
    fc.property(history, ({ format, channel: moves, unheard, owner, age, startHeight, chain }) => {
      const channel = playChannel(format, moves);
      if (unheard === 'alice') channel.signUnheard('alice');
      const close = new Close(channel, owner, age, startHeight);
      for (const move of chain) close.play(move);
      close.check(close.finish());
    }),
    { numRuns: 25 },
  );
}, 120_000);
