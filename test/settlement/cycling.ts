/**
 * Replacement cycling: the counterparty takes the fleet's claim of an HTLC out
 * of every mempool, by replacing it with a claim of its own (which shows the
 * preimage) and that one with a payment to itself; the HTLC is then unclaimed,
 * and the fleet's claim forgotten. Each cycle costs it more than the fleet's
 * claim would have paid. It does so before each block, as long as its budget
 * lasts.
 */
import { displayHash, type Tx, txid as txidOf } from '@fulmen/bitcoin';
import { spendAnyone } from '@fulmen/chain/compliance';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { InternalError } from '@fulmen/codec';
import { sourceKey } from '@fulmen/store/manager/source';
import { type StoredTx, storeRawTx, storeTx } from '@fulmen/testing/devchain';
import type { CommitmentKind } from './cases.ts';
import { type FeeCoin, type HtlcOutput, htlcOutputs } from './counterparty.ts';
import type { FleetSigner } from './fleet-signer.ts';
import { OUTBOUND_EXPIRY_HEIGHT, scenarioOf } from './scenario.ts';
import { Stage } from './stage.ts';
import { inputsOf } from './world.ts';

/** What a mempool asks of a replacement beyond what it replaces, in sat per vbyte. */
const INCREMENT_SAT_PER_VBYTE = 1n;
/** What the signatures of a claim may differ by. */
const SIGNATURES_VBYTES = 2n;
const BLOCK_MS = 40_000;
const MAX_BLOCKS_AFTER_EXPIRY = 100;

export interface CyclingPlan {
  readonly commitment: Extract<CommitmentKind, 'holder' | 'counterparty'>;
  /** What the counterparty spends on fees at most. */
  readonly budgetSat: bigint;
  /** seen: the fleet looks into the mempool between the two replacements; unseen: never. */
  readonly looks: 'seen' | 'unseen';
}

export interface CyclingOutcome {
  readonly htlcSat: bigint;
  /** Of the block with the fleet's claim. */
  readonly claimedHeight: number | undefined;
  readonly cycles: number;
  readonly spentSat: bigint;
  /** Of the fleet's claims of the HTLC, in sat per 1000 weight, in order of their broadcast. */
  readonly feeratesSatPerKw: readonly number[];
  /** What upstream was told by the end of the first cycle, and in the end. */
  readonly upstreamAfterCycle: string | undefined;
  readonly upstream: string | undefined;
}

export async function playCycling(signer: FleetSigner, plan: CyclingPlan): Promise<CyclingOutcome> {
  const scenario = scenarioOf({
    format: 'anchors',
    commitment: plan.commitment,
    htlcs: 'offered',
    knowledge: 'unknown',
    feerate: 'calm',
    fault: 'none',
  });
  await signer.learn(scenario.signer);
  return new Cycling(new Stage(scenario, signer, { minRelayFeerateSatPerKvb: 1_000 }), plan).play();
}

class Cycling {
  readonly #stage: Stage;
  readonly #plan: CyclingPlan;
  readonly #output: HtlcOutput;
  readonly #outPoint: string;
  #coin: FeeCoin;
  #cycles = 0;
  #spentSat = 0n;
  readonly #own = new Set<string>();

  constructor(stage: Stage, plan: CyclingPlan) {
    this.#stage = stage;
    this.#plan = plan;
    const { built, htlcs } = stage.scenario;
    const subject = htlcs.find(({ role }) => role === 'subject');
    const output = htlcOutputs(built).find(({ htlc }) => htlc.id === subject?.id);
    if (output === undefined) throw new InternalError('no such output');
    this.#output = output;
    this.#outPoint = `${displayHash(built.txid)}:${output.outputIndex}`;
    this.#coin = stage.world.freshCoin();
  }

  async play(): Promise<CyclingOutcome> {
    const { world, scenario, machine, process } = await this.#begin();
    let upstreamAfterCycle: string | undefined;
    const last = OUTBOUND_EXPIRY_HEIGHT + MAX_BLOCKS_AFTER_EXPIRY;
    while (world.height < last && world.spenderOf(this.#outPoint) === undefined) {
      await process.turn();
      // Whatever the fleet puts back before the block is taken out again.
      while (await this.#cycle()) {
        upstreamAfterCycle ??= this.#upstream();
        await process.turn();
      }
      const { kept } = scenario;
      const isClosed = world.spenderOf(`${storeTx(scenario.fundingTx).txid}:0`) !== undefined;
      world.mine(kept !== undefined && !isClosed ? [kept.tx] : []);
      machine.clock.advance(BLOCK_MS);
    }
    const spender = world.spenderOf(this.#outPoint);
    for (let i = 0; i < 8; i++) {
      world.mine();
      await process.turn();
    }
    process.kill();
    return {
      htlcSat: this.#output.valueSat,
      claimedHeight:
        spender !== undefined && !this.#own.has(spender.stored.txid) ? spender.height : undefined,
      cycles: this.#cycles,
      spentSat: this.#spentSat,
      feeratesSatPerKw: this.#feerates(),
      upstreamAfterCycle,
      upstream: this.#upstream(),
    };
  }

  async #begin(): Promise<Stage> {
    await this.#stage.open();
    if (this.#plan.commitment === 'holder') await this.#stage.forceClose();
    return this.#stage;
  }

  /** Takes the fleet's claim out of the mempool; false when it is not there, or too dear. */
  async #cycle(): Promise<boolean> {
    const { chain } = this.#stage.world;
    const spender = chain.mempool.spender(this.#outPoint);
    if (spender === undefined || this.#own.has(spender)) return false;
    const victims = chain.mempool.withDescendants([spender]);
    const entry = chain.mempool.get(spender);
    if (entry === undefined) return false;
    // At the victim's feerate at least, and above everything that it evicts.
    const draft = this.#claim(1n);
    // With another fee the signatures are others, and may be a byte longer each.
    const size = BigInt(storeTx(draft).vsize) + SIGNATURES_VBYTES;
    const atFeerate = (entry.feeSat * size) / BigInt(entry.stored.vsize) + 1n;
    const above = chain.mempool.feesOf(victims) + size * INCREMENT_SAT_PER_VBYTE;
    const claimFeeSat = atFeerate > above ? atFeerate : above;
    const payment = (feeSat: bigint): Tx =>
      spendAnyone(
        [{ txid: displayHash(this.#coin.txid), vout: this.#coin.vout }],
        [this.#coin.valueSat - feeSat],
      );
    const paymentSize = BigInt(storeTx(payment(1n)).vsize);
    const paymentFeeSat = claimFeeSat + paymentSize * INCREMENT_SAT_PER_VBYTE;
    if (this.#spentSat + paymentFeeSat > this.#plan.budgetSat) return false;
    const claim = this.#claim(claimFeeSat);
    this.#own.add(storeTx(claim).txid);
    this.#mustOffer(claim);
    if (this.#plan.looks === 'seen') await this.#stage.process.turn();
    const last = payment(paymentFeeSat);
    this.#mustOffer(last);
    this.#own.add(storeTx(last).txid);
    this.#spentSat += paymentFeeSat;
    this.#coin = { txid: txidOf(last), vout: 0, valueSat: this.#coin.valueSat - paymentFeeSat };
    this.#cycles += 1;
    return true;
  }

  #claim(feeSat: bigint): Tx {
    const { kept, counterparty, built, htlcs } = this.#stage.scenario;
    const preimage = preimageOf(htlcs[0]?.seed ?? 0);
    const fee = { coin: this.#coin, feeSat };
    return kept === undefined
      ? counterparty.claim(built, this.#output, preimage, fee)
      : counterparty.secondStage(kept, this.#output, preimage, fee);
  }

  #mustOffer(tx: Tx): void {
    const reason = this.#stage.world.offer(tx);
    // The fleet may have been quicker with a claim that pays more: then this cycle is lost, and the next one begins.
    if (reason !== undefined && !reason.startsWith('insufficient fee'))
      throw new InternalError(`the attack is refused: ${reason}`);
  }

  #upstream(): string | undefined {
    const source = this.#stage.scenario.htlcs[0]?.source;
    return source === undefined
      ? undefined
      : this.#stage.manager.resolutions.get(sourceKey(source))?.resolution.outcome.type;
  }

  #feerates(): number[] {
    const feerates: number[] = [];
    for (const packaged of this.#stage.machine.broadcasts) {
      const claim = packaged
        .map(storeRawTx)
        .find((tx) => tx !== undefined && inputsOf(tx).includes(this.#outPoint));
      if (claim !== undefined) feerates.push(this.#feerateOf(claim));
    }
    return feerates;
  }

  #feerateOf({ tx, weight }: StoredTx): number {
    const { world } = this.#stage;
    const inSat = tx.inputs.reduce(
      (sum, { txid, vout }) => sum + (world.outputOf(displayHash(txid), vout)?.valueSat ?? 0n),
      0n,
    );
    const outSat = tx.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
    return Math.floor((Number(inSat - outSat) * 1000) / weight);
  }
}
