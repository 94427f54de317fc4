/**
 * Plays one case of the matrix to its end: a fleet whose only living process
 * is chain-monitor (and the signer it asks), the counterparty, the chain, and
 * the faults of the case. Then the oracle looks.
 */
import { displayHash } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { InternalError } from '@fulmen/codec';
import { MemoryChainState } from '@fulmen/store/chain/memory';
import type { MemoryManagerState } from '@fulmen/store/manager/memory-state';
import { hexKey, sourceKey } from '@fulmen/store/manager/source';
import { storeTx } from '@fulmen/testing/devchain';
import { Actor } from './actor.ts';
import { type Case, nameOf } from './cases.ts';
import type { FleetSigner } from './fleet-signer.ts';
import { type Ledger, followMoney, upstreamOf } from './oracle.ts';
import { Clock, LEASE_MS, type Machine, Process } from './process.ts';
import { type Scenario, scenarioOf } from './scenario.ts';
import { World } from './world.ts';

const WALLET_COINS = 4;
const WALLET_COIN_SAT = 150_000n;
const BLOCK_MS = 40_000;
/** Blocks after which everything must have ended. */
const MAX_BLOCKS = 320;
const CALM_SAT_PER_KVB = 2_000;
const SPIKE_SAT_PER_KVB = 80_000;
const SPIKE_BLOCKS = 30;
/** Deeper than any reorganisation of these tests, so that what is final is seen to be. */
const REORGS = 40;

export interface Outcome {
  readonly name: string;
  readonly faults: readonly string[];
  readonly ledger: Ledger | undefined;
  readonly blocks: number;
  readonly processes: number;
  readonly reorgs: number;
  readonly broadcasts: number;
  /** Everything that chain-monitor handed to the node. */
  readonly transactions: readonly (readonly Uint8Array[])[];
  readonly complaints: readonly string[];
}

export async function runCase(one: Case, signer: FleetSigner): Promise<Outcome> {
  const run = new Run(one, scenarioOf(one), signer);
  await signer.learn(run.scenario.signer);
  return run.play();
}

class Run {
  readonly scenario: Scenario;
  readonly #one: Case;
  readonly #world: World;
  readonly #manager: MemoryManagerState;
  readonly #machine: Machine;
  readonly #actor: Actor;
  readonly #faults: string[] = [];
  #process: Process | undefined;
  #processes = 0;
  #reorgs = 0;
  #closedAt: number | undefined;
  #shown = new Set<string>();

  constructor(one: Case, scenario: Scenario, signer: FleetSigner) {
    this.#one = one;
    this.scenario = scenario;
    // With anchors, a spike lifts what a mempool takes above the feerate of the commitment.
    const isSpiking = one.feerate === 'spiking' && one.format === 'anchors';
    this.#world = new World({ minRelayFeerateSatPerKvb: isSpiking ? 2_000 : 1_000 });
    this.#world.chain.feerateEstimateSatPerKvb = CALM_SAT_PER_KVB;
    this.#manager = scenario.rows();
    const clock = new Clock();
    this.#machine = {
      world: this.#world,
      state: new MemoryChainState(this.#manager, () => clock.nowMs),
      signer: signer.client(),
      clock,
      broadcasts: [],
      refused: [],
      complaints: [],
    };
    this.#actor = new Actor(this.#world, scenario, one);
  }

  async play(): Promise<Outcome> {
    let initialSat = 0n;
    let blocks = 0;
    try {
      initialSat = await this.#open();
      await this.#close();
      for (; blocks < MAX_BLOCKS && !this.#isOver(); blocks++) await this.#block();
      await this.#end();
    } catch (error) {
      this.#faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    const ledger = this.#judge(initialSat);
    this.#process?.kill();
    return {
      name: nameOf(this.#one),
      faults: this.#faults,
      ledger,
      blocks,
      processes: this.#processes,
      reorgs: this.#reorgs,
      broadcasts: this.#machine.broadcasts.length,
      transactions: this.#machine.broadcasts,
      complaints: this.#machine.complaints,
    };
  }

  /** A funded channel and a wallet with coins, six blocks deep. */
  async #open(): Promise<bigint> {
    const process = await this.#start(undefined);
    const scripts: Uint8Array[] = [];
    for (let i = 0; i < WALLET_COINS; i++) {
      const address = process.wallet.newAddress({ addressType: 'p2wpkh' });
      await process.turn();
      scripts.push(Uint8Array.from((await address).scriptPubkey));
    }
    const coin = this.#world.freshCoin();
    const gifts = spendAnyone(
      [{ txid: displayHash(coin.txid), vout: coin.vout }],
      [coin.valueSat - BigInt(WALLET_COINS) * WALLET_COIN_SAT - 5_000n],
    );
    const outputs = [...scripts.map((script) => ({ script, valueSat: WALLET_COIN_SAT })), ...gifts.outputs];
    this.#world.mine([this.scenario.fundingTx, { ...gifts, outputs }]);
    for (let i = 0; i < 6; i++) this.#world.mine();
    await this.#turn();
    return BigInt(WALLET_COINS) * WALLET_COIN_SAT;
  }

  async #close(): Promise<void> {
    this.#closedAt = this.#world.height;
    if (this.#one.commitment !== 'holder') return;
    const key = hexKey(this.scenario.channelId);
    const closing = this.scenario.closingRows();
    const entry = closing.channels.get(key);
    const log = closing.monitorLog.get(key) ?? [];
    const before = this.scenario.rows().monitorLog.get(key)?.length ?? 0;
    if (entry === undefined) throw new InternalError('the manager has no such channel');
    this.#manager.channels.set(key, entry);
    this.#manager.monitorLog.set(key, [...(this.#manager.monitorLog.get(key) ?? []), ...log.slice(before)]);
    await this.#turn();
  }

  async #block(): Promise<void> {
    const world = this.#world;
    this.#weather();
    this.#show();
    await this.#turn();
    world.mine(this.#actor.byHand());
    this.#machine.clock.advance(BLOCK_MS);
    // What is shown is shown before the fleet sees the block: a race that it must win all the same.
    this.#show();
    await this.#turn();
    if (this.#one.fault === 'reorg' && this.#reorgs < REORGS && this.#touchesChannel(world.height)) {
      this.#reorgs += 1;
      const depth = Math.min(this.#reorgs % 3 === 0 ? 6 : 1, world.height - (this.#closedAt ?? world.height));
      if (depth > 0) world.chain.reorg(depth, ANYONE_SCRIPT);
      await this.#turn();
    }
  }

  /** Estimates, and what miners ask for. */
  #weather(): void {
    if (this.#one.feerate === 'calm') return;
    const sinceClose = this.#world.height - (this.#closedAt ?? 0);
    const isSpike = sinceClose < SPIKE_BLOCKS;
    this.#world.chain.feerateEstimateSatPerKvb = isSpike ? SPIKE_SAT_PER_KVB : CALM_SAT_PER_KVB * 2;
    this.#world.floorSatPerKvb = isSpike ? SPIKE_SAT_PER_KVB * 0.6 : 0;
  }

  /** Claims go to the mempool once, where no miner takes them, and are forgotten three blocks later. */
  #show(): void {
    for (const tx of this.#actor.show()) {
      const { txid } = storeTx(tx);
      if (this.#shown.has(txid)) continue;
      this.#world.unmined.add(txid);
      if (this.#world.offer(tx) !== undefined) continue;
      this.#shown.add(txid);
      this.#forgetAt.set(txid, { at: this.#world.height + 3, tx });
    }
    for (const [txid, { at, tx }] of this.#forgetAt) {
      if (this.#world.height < at) continue;
      this.#world.forget(tx);
      this.#forgetAt.delete(txid);
    }
  }

  readonly #forgetAt = new Map<string, { readonly at: number; readonly tx: Parameters<World['forget']>[0] }>();

  #touchesChannel(height: number): boolean {
    const block = this.#world.chain.chain.at(height);
    return (block?.transactions.length ?? 0) > 1;
  }

  async #start(writes: number | undefined): Promise<Process> {
    this.#processes += 1;
    this.#process = await Process.start(this.#machine, writes);
    return this.#process;
  }

  /** One look; with restarts, as many lives as it takes. */
  async #turn(): Promise<void> {
    if (this.#one.fault !== 'restart' || this.#closedAt === undefined) {
      await this.#process?.turn();
      return;
    }
    for (let lives = 0; lives < 6; lives++) {
      // Lives of one to five writes, each number now and then.
      this.#process?.kill();
      this.#machine.clock.advance(LEASE_MS + 1);
      const process = await this.#start(lives === 5 ? undefined : 1 + ((this.#processes * 7) % 5));
      await process.turn();
      if (!process.isDead) return;
    }
  }

  #isOver(): boolean {
    const { settlements, claims, sweeps } = this.#machine.state.settlement;
    const settlement = settlements.get(hexKey(this.scenario.channelId));
    return settlement?.stage === 'resolved' && claims.size === 0 && sweeps.size === 0;
  }

  /** Nothing is under way any more, and more blocks change nothing. */
  async #end(): Promise<void> {
    if (!this.#isOver()) {
      const { settlements, claims, sweeps } = this.#machine.state.settlement;
      const settlement = settlements.get(hexKey(this.scenario.channelId));
      this.#faults.push(
        `not over: ${settlement?.stage ?? 'no settlement'}, ${claims.size} claims, ${sweeps.size} sweeps: ${settlement?.summary ?? ''} ${[...claims.values()].map(({ kind, nextAction }) => `${kind}: ${nextAction}`).join('; ')}`,
      );
    }
    for (let i = 0; i < 110; i++) this.#world.mine();
    for (let i = 0; i < 8; i++) await this.#turn();
    if (this.#machine.state.broadcasts.size > 0)
      this.#faults.push(`${this.#machine.state.broadcasts.size} broadcasts are pending`);
  }

  #judge(initialSat: bigint): Ledger | undefined {
    const { state, refused } = this.#machine;
    const isWalletScript = (script: Uint8Array): boolean => state.addresses.has(hexKey(script));
    try {
      const { ledger, faults } = followMoney({
        one: this.#one,
        scenario: this.scenario,
        world: this.#world,
        theirs: this.#actor.txids,
        isWalletScript,
        initialSat,
      });
      this.#faults.push(...faults);
      this.#judgeUpstream();
      this.#judgeEvents();
      for (const { outcome, height } of refused)
        if (!isExpectedRefusal(outcome.reason))
          this.#faults.push(`refused at ${height}: ${outcome.reason} ${JSON.stringify(outcome.rejections)}`);
      const knownSat = [...state.utxos.values()].reduce(
        (sum, { spentBy, valueSat }) => (spentBy === undefined ? sum + valueSat : sum),
        0n,
      );
      if (knownSat !== ledger.balanceSat)
        this.#faults.push(`the wallet knows of ${knownSat} sat instead of ${ledger.balanceSat}`);
      return ledger;
    } catch (error) {
      this.#faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
      return undefined;
    }
  }

  #judgeUpstream(): void {
    for (const htlc of this.scenario.htlcs) {
      const { source } = htlc;
      if (source === undefined) continue;
      const what = `upstream of outbound ${htlc.id} (${htlc.role})`;
      const resolution = this.#manager.resolutions.get(sourceKey(source))?.resolution.outcome.type;
      const preimage = this.#manager.preimages.get(sourceKey(source));
      const expected = upstreamOf(this.#one, htlc);
      const is = resolution === undefined ? 'nothing' : resolution === 'fulfilled' ? 'fulfilled' : 'failed';
      if (is === 'nothing') this.#faults.push(`${what}: nothing was said`);
      else if (expected !== 'either' && is !== expected)
        this.#faults.push(`${what}: ${is} instead of ${expected}`);
      if ((is === 'fulfilled') !== (preimage !== undefined))
        this.#faults.push(`${what}: ${is}, and the preimage is ${preimage === undefined ? 'missing' : 'known'}`);
    }
  }

  #judgeEvents(): void {
    for (const { type, body } of this.#manager.outbox)
      if (type.includes('alarm')) this.#faults.push(`alarm: ${type} ${body}`);
  }
}

/** What a node may say to an honest broadcast: it knows it, or somebody else was first. */
function isExpectedRefusal(reason: string): boolean {
  return ['txn-already-in-mempool', 'txn-already-known'].includes(reason);
}

