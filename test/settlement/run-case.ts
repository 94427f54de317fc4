/**
 * Plays one case of the matrix to its end: a fleet whose only living process
 * is chain-monitor (and the signer it asks), the counterparty, the chain, and
 * the faults of the case. Then the oracle looks.
 */
import { displayHash } from '@fulmen/bitcoin';
import { sourceKey } from '@fulmen/store/manager/source';
import { storeTx } from '@fulmen/testing/devchain';
import { Actor } from './actor.ts';
import { type Case, nameOf } from './cases.ts';
import type { FleetSigner } from './fleet-signer.ts';
import { type Ledger, endHeight, followMoney, isTiny, upstreamOf } from './oracle.ts';
import { scenarioOf } from './scenario.ts';
import { CALM_SAT_PER_KVB, INITIAL_SAT, Stage } from './stage.ts';
import type { World, WorldEvent } from './world.ts';

const BLOCK_MS = 40_000;
/** Blocks after which everything must have ended. */
const MAX_BLOCKS = 320;
/** Blocks mined at once while the last spends are only buried. */
const BURIED_BLOCKS = 12;
const SPIKE_SAT_PER_KVB = 80_000;
const SPIKE_BLOCKS = 30;
/** From when on fees are as low as they ever were. */
const QUIET_AFTER_BLOCKS = 150;
/** What is shown in the mempool stays there for so many blocks. */
const SHOWN_BLOCKS = 3;
/** Less than what is final. */
const SWITCH_DEPTH = 4;
/** LDK's ANTI_REORG_DELAY. */
const REASONABLE_DEPTH = 6;
/** What a case may cost while fees are low and nothing goes wrong. */
const CALM_FEES_SAT = 10_000n;
/** Lives within one look: all but the last die after one to five writes. */
const LIVES = 6;

export interface Outcome {
  readonly name: string;
  readonly faults: readonly string[];
  readonly ledger: Ledger | undefined;
  readonly blocks: number;
  readonly processes: number;
  readonly reorgs: number;
  /** How often chain-monitor handed something to the node. */
  readonly broadcasts: number;
  /** The blocks, and what chain-monitor broadcast between them. */
  readonly events: readonly WorldEvent[];
  /** Warnings and errors of its log. */
  readonly complaints: readonly string[];
}

export async function runCase(one: Case, signer: FleetSigner): Promise<Outcome> {
  const scenario = scenarioOf(one);
  await signer.learn(scenario.signer);
  // With anchors, a spike lifts what a mempool takes above the feerate of the commitment.
  const isSpiking = one.feerate === 'spiking' && one.format === 'anchors';
  return new Run(
    one,
    new Stage(scenario, signer, {
      minRelayFeerateSatPerKvb: isSpiking ? 2_000 : 1_000,
      ...(one.sees === undefined ? {} : { sees: one.sees }),
    }),
  ).play();
}

class Run {
  readonly #one: Case;
  readonly #stage: Stage;
  readonly #world: World;
  readonly #actor: Actor;
  readonly #faults: string[] = [];
  readonly #confirmed = new Set<string>();
  readonly #failed = new Set<bigint>();
  readonly #shown = new Map<
    string,
    { readonly until: number; readonly tx: Parameters<World['forget']>[0] }
  >();
  #reorgs = 0;
  #closedAt: number | undefined;

  constructor(one: Case, stage: Stage) {
    this.#one = one;
    this.#stage = stage;
    this.#world = stage.world;
    this.#actor = new Actor(stage.world, stage.scenario, one);
  }

  async play(): Promise<Outcome> {
    let blocks = 0;
    const attempt = async <T>(what: () => T | Promise<T>): Promise<T | undefined> => {
      try {
        return await what();
      } catch (error) {
        this.#faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
        return undefined;
      }
    };
    const world = this.#world;
    await attempt(async () => {
      await this.#stage.open();
      this.#closedAt = this.#world.height;
      if (this.#one.commitment === 'holder') await this.#stage.forceClose();
      if (this.#one.fault === 'switch') await this.#switch();
      while (blocks < MAX_BLOCKS && !this.#stage.isOver()) {
        // Nobody acts any more: such blocks need no look at each.
        for (; this.#stage.isOnlyBurying() && blocks % BURIED_BLOCKS !== 0; blocks++) world.mine();
        await this.#block();
        blocks += 1;
      }
      await this.#end();
    });
    const ledger = await attempt(() => this.#judge());
    this.#stage.process.kill();
    const { broadcasts, complaints } = this.#stage.machine;
    const { events } = this.#world;
    return {
      name: nameOf(this.#one),
      faults: this.#faults,
      ledger,
      blocks,
      processes: this.#stage.processes,
      reorgs: this.#reorgs,
      broadcasts: broadcasts.length,
      events,
      complaints,
    };
  }

  /** Another commitment confirms, and what can be claimed of it is; then nothing of that ever happened. */
  async #switch(): Promise<void> {
    const { alternative } = this.#stage.scenario;
    await this.#turn();
    this.#world.mine([alternative.tx]);
    await this.#turn();
    for (let i = 1; i < SWITCH_DEPTH; i++) {
      this.#world.mine();
      await this.#turn();
    }
    this.#world.reorg(SWITCH_DEPTH);
    this.#reorgs += 1;
    this.#world.forget(alternative.tx);
    this.#stage.machine.clock.advance(BLOCK_MS);
    await this.#turn();
  }

  async #block(): Promise<void> {
    const world = this.#world;
    this.#weather();
    this.#show();
    await this.#turn();
    for (const { txid } of world.mine(this.#actor.byHand()).transactions) this.#actor.seen(txid);
    this.#stage.machine.clock.advance(BLOCK_MS);
    // What is shown is shown before the fleet sees the block: a race that it must win all the same.
    this.#show();
    await this.#turn();
    if (this.#one.fault === 'reorg' && this.#isNews(world.height)) {
      this.#reorgs += 1;
      const depth = Math.min(this.#reorgs % 3 === 0 ? 6 : 1, world.height - (this.#closedAt ?? world.height));
      if (depth > 0) world.reorg(depth);
      await this.#turn();
    }
  }

  /** Estimates, and what miners ask for. */
  #weather(): void {
    if (this.#one.feerate === 'calm') return;
    const sinceClose = this.#world.height - (this.#closedAt ?? 0);
    const isSpike = sinceClose < SPIKE_BLOCKS;
    const afterwards = sinceClose < QUIET_AFTER_BLOCKS ? CALM_SAT_PER_KVB * 2 : CALM_SAT_PER_KVB / 2;
    this.#world.chain.feerateEstimateSatPerKvb = isSpike ? SPIKE_SAT_PER_KVB : afterwards;
    this.#world.floorSatPerKvb = isSpike ? SPIKE_SAT_PER_KVB * 0.6 : 0;
  }

  /** Claims go to the mempool once, where no miner takes them, and are forgotten some blocks later. */
  #show(): void {
    for (const tx of this.#actor.show()) {
      const { txid } = storeTx(tx);
      if (this.#shown.has(txid)) continue;
      this.#world.unmined.add(txid);
      if (this.#world.offer(tx) !== undefined) continue;
      this.#actor.seen(txid);
      this.#shown.set(txid, { until: this.#world.height + SHOWN_BLOCKS, tx });
    }
    for (const { until, tx } of this.#shown.values()) if (this.#world.height >= until) this.#world.forget(tx);
  }

  /** Whether a transaction confirms in this block that never did before. */
  #isNews(height: number): boolean {
    const txids =
      this.#world.chain.chain
        .at(height)
        ?.transactions.slice(1)
        .map(({ txid }) => txid) ?? [];
    const fresh = txids.filter((txid) => !this.#confirmed.has(txid));
    for (const txid of fresh) this.#confirmed.add(txid);
    return fresh.length > 0;
  }

  /** One look; with restarts, as many lives as it takes. */
  async #turn(): Promise<void> {
    const isMortal = this.#one.fault === 'restart' && this.#closedAt !== undefined;
    for (let life = 1; ; life++) {
      const { process } = this.#stage;
      // The last life of a look is spared, so that the next block finds somebody.
      if (isMortal && life < LIVES) process.dieAfter(1 + ((this.#stage.processes * 7) % 5));
      await process.turn();
      if (!process.isDead) break;
      await this.#stage.restart();
    }
    this.#lookAtClaims();
    this.#lookUpstream();
  }

  /** A preimage goes upstream with the look that finds it; a failure only when what it follows from is deep. */
  #lookUpstream(): void {
    const { scenario, manager } = this.#stage;
    for (const htlc of scenario.htlcs) {
      const { source, endedOffChain } = htlc;
      if (source === undefined || endedOffChain !== undefined) continue;
      const said = manager.resolutions.get(sourceKey(source))?.resolution.outcome.type;
      if (this.#actor.hasRevealed(htlc.id) && said !== 'fulfilled')
        this.#faults.push(
          `at ${this.#world.height} the preimage of ${htlc.id} was shown, and upstream heard ${said}`,
        );
      if (said === undefined || said === 'fulfilled' || this.#failed.has(htlc.id)) continue;
      this.#failed.add(htlc.id);
      if (isTiny(this.#one, htlc)) continue;
      const height = endHeight(scenario, this.#world, htlc.id);
      // BOLT 5: "once the commitment transaction has reached reasonable depth"
      if (height === undefined || this.#world.height - height + 1 < REASONABLE_DEPTH)
        this.#faults.push(
          `at ${this.#world.height} outbound ${htlc.id} failed upstream: its end is at ${height}`,
        );
    }
  }

  /** LDK's invalid claims: after every block no pending claim has a spent input. */
  #lookAtClaims(): void {
    for (const what of this.#stage.spentClaims())
      this.#faults.push(`at ${this.#world.height} a spent output is still claimed: ${what}`);
  }

  /** Nothing is under way any more, and more blocks change nothing. */
  async #end(): Promise<void> {
    const { claims } = this.#stage.machine.state.settlement;
    if (!this.#stage.isOver()) {
      const waiting = [...claims.values()].map(({ kind, nextAction }) => `${kind}: ${nextAction}`).join('; ');
      const { settlement } = this.#stage;
      this.#faults.push(
        `not over: ${settlement?.stage ?? 'no settlement'} ${settlement?.summary ?? ''} ${waiting}`,
      );
    }
    for (let i = 0; i < 110; i++) this.#world.mine();
    for (let i = 0; i < 8; i++) await this.#turn();
    const { broadcasts } = this.#stage.machine.state;
    if (broadcasts.size > 0) this.#faults.push(`${broadcasts.size} broadcasts are pending`);
  }

  #judge(): Ledger {
    const { scenario, machine } = this.#stage;
    const { ledger, faults } = followMoney({
      one: this.#one,
      scenario,
      world: this.#world,
      theirs: this.#actor.txids,
      isWalletScript: (script) => this.#stage.isWalletScript(script),
      initialSat: INITIAL_SAT,
    });
    this.#faults.push(...faults);
    const { feerate, fault } = this.#one;
    if (feerate === 'calm' && fault === 'none' && ledger.feesSat > CALM_FEES_SAT)
      this.#faults.push(`fees of ${ledger.feesSat} sat`);
    this.#judgeUpstream();
    this.#judgeRefusals();
    this.#judgeAlarms();
    const knownSat = [...machine.state.utxos.values()].reduce(
      (sum, { spentBy, valueSat }) => (spentBy === undefined ? sum + valueSat : sum),
      0n,
    );
    if (knownSat !== ledger.balanceSat)
      this.#faults.push(`the wallet knows of ${knownSat} sat instead of ${ledger.balanceSat}`);
    return ledger;
  }

  /** A node refuses nothing that the fleet hands it, but what it has, and a commitment that nobody pays for yet. */
  #judgeRefusals(): void {
    const commitmentId = displayHash(this.#stage.scenario.built.txid);
    const unexpected = new Map<string, { first: number; times: number }>();
    for (const { outcome, height } of this.#stage.machine.refused) {
      const ids = outcome.rejections.map(({ txid }) => txid).join(' ');
      const isUnpaid = outcome.reason === 'min relay fee not met' && ids === commitmentId;
      // After a reorganisation the mempool has what the fleet broadcast before, with a fee as good as the new one's.
      const isRepeated = this.#reorgs > 0 && outcome.reason === 'insufficient fee';
      if (isUnpaid || isRepeated || EXPECTED_REFUSALS.has(outcome.reason)) continue;
      const key = `${outcome.reason} ${ids}`;
      const known = unexpected.get(key);
      if (known === undefined) unexpected.set(key, { first: height, times: 1 });
      else known.times += 1;
    }
    for (const [what, { first, times }] of unexpected)
      this.#faults.push(`refused ${times} times, first at ${first}: ${what}`);
  }

  /** Nothing alarms, but a breach. */
  #judgeAlarms(): void {
    const isRevoked = this.#one.commitment.startsWith('revoked');
    for (const { type, body } of this.#stage.manager.outbox)
      if (type.includes('alarm') && !isRevoked) this.#faults.push(`alarm: ${type} ${body}`);
    for (const line of this.#stage.machine.complaints)
      if (line.includes('ALARM') && !(isRevoked && line.includes('revoked'))) this.#faults.push(line);
  }

  #judgeUpstream(): void {
    const { scenario, manager } = this.#stage;
    for (const htlc of scenario.htlcs) {
      const { source } = htlc;
      if (source === undefined) continue;
      const what = `upstream of outbound ${htlc.id} (${htlc.role})`;
      const resolution = manager.resolutions.get(sourceKey(source))?.resolution.outcome.type;
      const preimage = manager.preimages.get(sourceKey(source));
      const expected = upstreamOf(this.#one, htlc, this.#actor.hasRevealed(htlc.id));
      const is = resolution === undefined ? 'nothing' : resolution === 'fulfilled' ? 'fulfilled' : 'failed';
      if (is === 'nothing') this.#faults.push(`${what}: nothing was said`);
      else if (expected !== 'either' && is !== expected)
        this.#faults.push(`${what}: ${is} instead of ${expected}`);
      if ((is === 'fulfilled') !== (preimage !== undefined))
        this.#faults.push(
          `${what}: ${is}, and the preimage is ${preimage === undefined ? 'missing' : 'known'}`,
        );
    }
  }
}

/** What a node may say to an honest broadcast: that it knows it. */
const EXPECTED_REFUSALS: ReadonlySet<string> = new Set(['txn-already-in-mempool', 'txn-already-known']);
