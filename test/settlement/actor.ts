/**
 * What the counterparty does with a closed channel, block by block. It asks
 * the chain each time, so that a reorganisation makes it do the same again.
 * Its transactions reach the miner by hand, at whatever fee.
 */
import { type Tx, txid } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { storeTx } from '@fulmen/testing/devchain';
import type { Case } from './cases.ts';
import { type HtlcOutput, htlcOutputs } from './counterparty.ts';
import { type PlannedHtlc, type Scenario, OUTBOUND_EXPIRY_HEIGHT, showsPreimage } from './scenario.ts';
import type { World } from './world.ts';

/** Enough for every mempool of these tests. */
const FEE_SAT = 1_000n;

export class Actor {
  readonly #world: World;
  readonly #scenario: Scenario;
  readonly #case: Case;
  readonly #made = new Map<string, Tx>();
  /** By transaction: the outbound HTLC whose preimage it shows. */
  readonly #shows = new Map<string, bigint>();
  readonly #revealed = new Set<bigint>();

  constructor(world: World, scenario: Scenario, one: Case) {
    this.#world = world;
    this.#scenario = scenario;
    this.#case = one;
  }

  /** Ids of everything it made, in display order. */
  get txids(): ReadonlySet<string> {
    const { kept } = this.#scenario;
    const all = [...this.#made.values(), ...(kept === undefined ? [] : [kept.tx])];
    return new Set(all.map((tx) => storeTx(tx).txid));
  }

  /** A transaction of its own was seen by everybody. */
  seen(txid: string): void {
    const htlcId = this.#shows.get(txid);
    if (htlcId !== undefined) this.#revealed.add(htlcId);
  }

  /** Whether the preimage of an outbound HTLC was ever on the chain or in the mempool. */
  hasRevealed(htlcId: bigint): boolean {
    return this.#revealed.has(htlcId);
  }

  /** What the next block must contain. */
  byHand(): readonly Tx[] {
    const { kept } = this.#scenario;
    const closedAt = this.#confirmedAt();
    if (closedAt === undefined) return kept === undefined ? [] : [kept.tx];
    const next = this.#world.height + 1;
    return htlcOutputs(this.#scenario.built).flatMap((output) => {
      // It pays fees out of the output, or not at all.
      if (this.#isSpent(output) || output.valueSat <= FEE_SAT) return [];
      const htlc = this.#plannedOf(output);
      if (htlc.direction === 'inbound')
        return next > htlc.cltvExpiryHeight ? [this.#spend(output, undefined)] : [];
      return this.#claimsInBlock(htlc, next) ? [this.#spend(output, preimageOf(htlc.seed))] : [];
    });
  }

  #claimsInBlock(htlc: PlannedHtlc, next: number): boolean {
    if (!showsPreimage(this.#case, htlc)) return false;
    switch (this.#case.knowledge) {
      case 'known':
        return true;
      case 'late_block':
        // A punishment does not wait for an expiry: there the preimage comes as the first thing after the commitment.
        return this.#isRevoked || next >= OUTBOUND_EXPIRY_HEIGHT + 1;
      case 'late_mempool':
      case 'unknown':
        return false;
    }
  }

  get #isRevoked(): boolean {
    return this.#case.commitment === 'revoked_1' || this.#case.commitment === 'revoked_100';
  }

  /** Claims that are shown to the mempool, and that no miner takes. */
  show(): readonly Tx[] {
    if (this.#case.knowledge !== 'late_mempool' || this.#confirmedAt() === undefined) return [];
    return htlcOutputs(this.#scenario.built).flatMap((output) => {
      const htlc = this.#plannedOf(output);
      if (htlc.direction !== 'outbound' || this.#isSpent(output)) return [];
      if (!showsPreimage(this.#case, htlc)) return [];
      return [this.#spend(output, preimageOf(htlc.seed))];
    });
  }

  #confirmedAt(): number | undefined {
    const { fundingTx, built } = this.#scenario;
    const spender = this.#world.spenderOf(`${storeTx(fundingTx).txid}:0`);
    return spender !== undefined && Buffer.compare(txid(spender.stored.tx), built.txid) === 0
      ? spender.height
      : undefined;
  }

  #isSpent({ outputIndex }: HtlcOutput): boolean {
    const id = storeTx(this.#scenario.built.transaction).txid;
    return this.#world.spenderOf(`${id}:${outputIndex}`) !== undefined;
  }

  #plannedOf({ htlc }: HtlcOutput): PlannedHtlc {
    // The counterparty sees the fleet's outbound HTLCs as inbound.
    const direction = htlc.direction === 'inbound' ? 'outbound' : 'inbound';
    const found = this.#scenario.htlcs.find((one) => one.direction === direction && one.id === htlc.id);
    if (found === undefined) throw new TypeError('an HTLC that nobody planned');
    return found;
  }

  #spend(output: HtlcOutput, preimage: Uint8Array | undefined): Tx {
    const key = `${output.outputIndex} ${preimage === undefined ? 'timeout' : 'preimage'}`;
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const { kept, counterparty, built } = this.#scenario;
    const tx =
      kept === undefined
        ? counterparty.claim(built, output, preimage, { feeSat: FEE_SAT })
        : counterparty.secondStage(kept, output, preimage, {
            coin: this.#world.freshCoin(),
            feeSat: FEE_SAT,
          });
    this.#made.set(key, tx);
    if (preimage !== undefined) this.#shows.set(storeTx(tx).txid, output.htlc.id);
    return tx;
  }
}
