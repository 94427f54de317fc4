/** One case's chain: a development chain, coins of strangers, and a miner that takes what pays enough. */
import { type Tx, type TxOutput, displayHash, parseDisplayHash } from '@fulmen/bitcoin';
import type { BroadcastOutcome } from '@fulmen/chain';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { InternalError } from '@fulmen/codec';
import { type BlockNode, DevChain, Rejection, type StoredTx, storeTx } from '@fulmen/testing/devchain';
import type { FeeCoin } from './counterparty.ts';

/** Coins of strangers, each a mature coinbase. */
const COINS = 12;
const MATURITY = 100;
const START_UNIX_SECONDS = 1_700_000_000;

export interface WorldOptions {
  /** Below this nothing enters the mempool, in sat per 1000 vbytes. */
  readonly minRelayFeerateSatPerKvb: number;
}

/** What a node that follows a case lives through: the same blocks, and the same transactions between them. */
export type WorldEvent =
  | { readonly type: 'block'; readonly raw: Uint8Array }
  | { readonly type: 'invalidate'; readonly hash: string }
  | {
      readonly type: 'broadcast';
      readonly transactions: readonly Uint8Array[];
      readonly outcome: BroadcastOutcome;
    };

export class World {
  readonly chain: DevChain;
  readonly events: WorldEvent[] = [];
  /** The miner takes nothing that pays less, in sat per 1000 vbytes of a transaction with its ancestors. */
  floorSatPerKvb = 0;
  /** Transactions that the miner does not see. */
  readonly unmined = new Set<string>();
  #nextCoin = 2;

  constructor({ minRelayFeerateSatPerKvb }: WorldOptions) {
    let seconds = START_UNIX_SECONDS;
    this.chain = new DevChain({ now: () => seconds++, policy: { minRelayFeerateSatPerKvb } });
    for (const node of this.chain.mine(MATURITY + COINS, ANYONE_SCRIPT)) this.#record(node);
  }

  #record({ raw }: BlockNode): void {
    this.events.push({ type: 'block', raw });
  }

  get height(): number {
    return this.chain.chain.tip.height;
  }

  /** The reward of the block at this height. */
  coinAt(height: number): FeeCoin {
    const coinbase = this.chain.chain.at(height)?.transactions[0];
    const valueSat = coinbase?.tx.outputs[0]?.valueSat;
    if (coinbase === undefined || valueSat === undefined) throw new InternalError(`no coin at ${height}`);
    return { txid: parseDisplayHash(coinbase.txid), vout: 0, valueSat };
  }

  /** A coin that nobody used. */
  freshCoin(): FeeCoin {
    if (this.#nextCoin > COINS) throw new InternalError('no coins are left');
    return this.coinAt(this.#nextCoin++);
  }

  /** The next block: first what the miner was given by hand, then what pays, without what conflicts. */
  mine(given: readonly Tx[] = []): BlockNode {
    const byHand = given.map(storeTx);
    const own = new Set(byHand.map(({ txid }) => txid));
    const spent = new Set(byHand.flatMap((stored) => inputsOf(stored)));
    const { mempool } = this.chain;
    const chosen: StoredTx[] = [...byHand];
    const left = new Set<string>();
    for (const { stored } of mempool.entries()) {
      if (own.has(stored.txid)) continue;
      const pays = this.#pays(stored.txid);
      const needs = [...mempool.withAncestors([stored.txid])].some((txid) => left.has(txid));
      const conflicts = inputsOf(stored).some((input) => spent.has(input));
      if (!pays || needs || conflicts || this.unmined.has(stored.txid)) {
        left.add(stored.txid);
        continue;
      }
      chosen.push(stored);
      for (const input of inputsOf(stored)) spent.add(input);
    }
    const node = this.chain.mineWith(chosen, ANYONE_SCRIPT);
    this.#record(node);
    return node;
  }

  /** Replaces the last blocks by one more, all empty. */
  reorg(depth: number): void {
    const first = this.chain.chain.at(this.height - depth + 1);
    if (first !== undefined) this.events.push({ type: 'invalidate', hash: first.hash });
    for (const node of this.chain.reorg(depth, ANYONE_SCRIPT)) this.#record(node);
  }

  /** Whether the miner earns enough by this transaction, or by a descendant that pays for it. */
  #pays(txid: string): boolean {
    const { mempool } = this.chain;
    for (const last of mempool.withDescendants([txid])) {
      const group = mempool.withAncestors([last]);
      const feerate = (Number(mempool.feesOf(group)) * 1000) / mempool.vsizeOf(group);
      if (feerate >= this.floorSatPerKvb) return true;
    }
    return false;
  }

  /** Hands a transaction to the mempool; the reason when it is refused. */
  offer(tx: Tx): string | undefined {
    try {
      this.chain.submit(storeTx(tx));
      return undefined;
    } catch (error) {
      if (error instanceof Rejection) return error.reason;
      throw error;
    }
  }

  /** Nobody remembers the transaction, nor what spends it. */
  forget(tx: Tx): void {
    this.chain.mempool.remove(this.chain.mempool.withDescendants([storeTx(tx).txid]));
  }

  /** An output of the best chain, spent or not. */
  outputOf(txid: string, vout: number): TxOutput | undefined {
    const found = this.chain.chain.transaction(txid);
    return found?.node.transactions[found.index]?.tx.outputs[vout];
  }

  /** Where an output went on the best chain. */
  spenderOf(outpoint: string): { readonly stored: StoredTx; readonly height: number } | undefined {
    return this.#spends().get(outpoint);
  }

  #spendsAt:
    | { readonly tip: string; readonly map: Map<string, { stored: StoredTx; height: number }> }
    | undefined;

  #spends(): Map<string, { stored: StoredTx; height: number }> {
    const { tip } = this.chain.chain;
    if (this.#spendsAt?.tip === tip.hash) return this.#spendsAt.map;
    const map = new Map<string, { stored: StoredTx; height: number }>();
    for (let height = MATURITY; height <= tip.height; height++)
      for (const stored of this.chain.chain.at(height)?.transactions.slice(1) ?? [])
        for (const input of inputsOf(stored)) map.set(input, { stored, height });
    this.#spendsAt = { tip: tip.hash, map };
    return map;
  }
}

/** Outpoints that a transaction spends, `txid:vout` in display order. */
export function inputsOf({ tx }: StoredTx): string[] {
  return tx.inputs.map(({ txid, vout }) => `${displayHash(txid)}:${vout}`);
}

/** The funding of a channel, from the same coin in every world. */
export function fundingFrom(coin: FeeCoin, script: Uint8Array, valueSat: bigint): Tx {
  const feeSat = 5_000n;
  const base = spendAnyone(
    [{ txid: displayHash(coin.txid), vout: coin.vout }],
    [coin.valueSat - valueSat - feeSat],
  );
  return { ...base, outputs: [{ script, valueSat }, ...base.outputs] };
}
