/**
 * A small chain for tests: heights, inputs that exist and are unspent, values,
 * locktimes and relative locktimes, every script in an independent
 * interpreter, and reorganisations. It also collects a monitor's facts, as the
 * follower does: what spends a watched output, until nothing more is watched.
 */
import { txid as txidOf } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { runInput } from '@fulmen/channel/commitment/testing/interpreter';
import { InternalError, toHex } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import type { ChannelMonitor } from '@fulmen/monitor';
import { settle } from '../settle.ts';
import { outPointKey } from '../spends.ts';
import type { ConfirmedSpend, Settlement, SettlementFacts } from '../types.ts';
import type { Side, TestChannel } from './test-channel.ts';

export interface SettledFacts {
  readonly settlement: Settlement;
  readonly facts: SettlementFacts;
}

interface Coin {
  readonly valueSat: bigint;
  readonly scriptPubKey: Uint8Array;
  readonly height: number;
}

export class TestChain {
  readonly #firstHeight: number;
  #blocks: (readonly Tx[])[] = [];
  readonly #funded: (readonly [string, Coin])[] = [];
  /** Unspent outputs. */
  #coins = new Map<string, Coin>();
  /** What waits; blocks do not take from it by themselves. */
  mempool: Tx[] = [];

  constructor(height = 100) {
    this.#firstHeight = height;
  }

  get height(): number {
    return this.#firstHeight + this.#blocks.length;
  }

  /** The channel's funding output exists. */
  fund(channel: TestChannel): void {
    const { fundingTxid, fundingOutputIndex, fundingValueSat, ...keys } = channel.funding;
    this.#funded.push([
      outPointKey({ txid: fundingTxid, outputIndex: fundingOutputIndex }),
      {
        valueSat: fundingValueSat,
        scriptPubKey: fundingScriptPubKey(keys.holderFundingPubkey, keys.counterpartyFundingPubkey),
        height: this.#firstHeight,
      },
    ]);
    this.#replay(this.#blocks);
  }

  /** Adds a block. @throws InternalError when a transaction may not be in it. */
  mine(txs: readonly Tx[] = []): void {
    const height = this.height + 1;
    for (const tx of txs) this.#connect(tx, height, 'checked');
    this.#blocks.push(txs);
    const mined = new Set(txs.map((tx) => toHex(txidOf(tx))));
    const spent = new Set(
      txs.flatMap((tx) => tx.inputs.map(({ txid, vout }) => outPointKey({ txid, outputIndex: vout }))),
    );
    this.mempool = this.mempool.filter(
      (tx) =>
        !mined.has(toHex(txidOf(tx))) &&
        !tx.inputs.some(({ txid, vout }) => spent.has(outPointKey({ txid, outputIndex: vout }))),
    );
  }

  /** Empty blocks until this height is the tip. */
  mineTo(height: number): void {
    while (this.height < height) this.mine();
  }

  /** Takes the last blocks away; their transactions are returned, lowest first, and may be mined again. */
  disconnect(blocks: number): Tx[] {
    const kept = this.#blocks.slice(0, this.#blocks.length - blocks);
    const gone = this.#blocks.slice(kept.length).flat();
    this.#replay(kept);
    return gone;
  }

  /** True if the next block may contain it. */
  accepts(tx: Tx): boolean {
    const before = new Map(this.#coins);
    try {
      this.#connect(tx, this.height + 1, 'checked');
      return true;
    } catch (error) {
      if (error instanceof InternalError) return false;
      throw error;
    } finally {
      this.#coins = before;
    }
  }

  isUnspent(txid: Uint8Array, outputIndex: number): boolean {
    return this.#coins.has(outPointKey({ txid, outputIndex }));
  }

  #replay(blocks: readonly (readonly Tx[])[]): void {
    this.#coins = new Map(this.#funded);
    this.#blocks = [...blocks];
    for (const [index, txs] of blocks.entries())
      for (const tx of txs) this.#connect(tx, this.#firstHeight + index + 1, 'replayed');
  }

  #connect(tx: Tx, height: number, mode: 'checked' | 'replayed'): void {
    const txid = txidOf(tx);
    const refuse = (reason: string): never => {
      throw new InternalError(`transaction ${toHex(txid)}: ${reason}`);
    };
    if (
      tx.locktime >= height &&
      tx.locktime < 500_000_000 &&
      tx.inputs.some((one) => one.sequence !== 0xffff_ffff)
    )
      refuse(`locktime ${tx.locktime} in block ${height}`);
    let inSat = 0n;
    for (const [index, { txid: prevTxid, vout, sequence }] of tx.inputs.entries()) {
      const coin = this.#coins.get(outPointKey({ txid: prevTxid, outputIndex: vout }));
      if (coin === undefined) return refuse(`input ${index} is missing or spent`);
      // BIP 68.
      if (sequence < 0x8000_0000 && height < coin.height + (sequence & 0xffff))
        refuse(`input ${index} waits until ${coin.height + (sequence & 0xffff)}`);
      if (mode === 'checked') {
        const verdict = runInput(tx, index, coin);
        if (verdict !== 'ok') refuse(`input ${index}: ${verdict}`);
      }
      inSat += coin.valueSat;
    }
    if (tx.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n) > inSat) refuse('creates money');
    for (const { txid: prevTxid, vout } of tx.inputs)
      this.#coins.delete(outPointKey({ txid: prevTxid, outputIndex: vout }));
    for (const [outputIndex, { valueSat, script }] of tx.outputs.entries())
      this.#coins.set(outPointKey({ txid, outputIndex }), { valueSat, scriptPubKey: script, height });
  }

  /** Every confirmed transaction in order. */
  confirmed(): ConfirmedSpend[] {
    return this.#blocks.flatMap((txs, index) =>
      txs.map((tx) => ({ tx, txid: txidOf(tx), height: this.#firstHeight + index + 1 })),
    );
  }

  /** Settles a side's channel with the facts that it watches. */
  settlement(
    channel: TestChannel,
    side: Side,
    preimages: ReadonlyMap<string, Uint8Array> = new Map(),
  ): SettledFacts {
    return this.settlementOf(channel.monitor(side), preimages);
  }

  /** Settles any monitor, a stale one for example. */
  settlementOf(
    monitor: ChannelMonitor,
    preimages: ReadonlyMap<string, Uint8Array> = new Map(),
  ): SettledFacts {
    const all = this.confirmed();
    let facts: SettlementFacts = { confirmed: [], unconfirmed: [], bestHeight: this.height, preimages };
    for (;;) {
      const settlement = settle({ secp }, monitor, facts);
      const watched = new Set(settlement.watched.map(outPointKey));
      const spendsWatched = (tx: Tx): boolean =>
        tx.inputs.some(({ txid, vout }) => watched.has(outPointKey({ txid, outputIndex: vout })));
      const known = new Set(facts.confirmed);
      const confirmed = all.filter((spend) => known.has(spend) || spendsWatched(spend.tx));
      const waiting = new Set(facts.unconfirmed);
      const unconfirmed = this.mempool.filter((tx) => waiting.has(tx) || spendsWatched(tx));
      if (confirmed.length === facts.confirmed.length && unconfirmed.length === facts.unconfirmed.length)
        return { settlement, facts };
      facts = { ...facts, confirmed, unconfirmed };
    }
  }
}
