/**
 * Brings home what closed channels leave on the chain. At every block, and
 * whenever the claims change, it plans from the claims that can be made now;
 * what is new or raised is signed, stored, and only then broadcast, so that
 * whatever dies in between, the same transaction goes out again. What waits is
 * broadcast again at every block, and every half minute.
 */
import { type Tx, displayHash, encodeTx, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import type { Logger, Runtime } from '@fulmen/service';
import {
  type ChannelClaims,
  type PlannedSweep,
  type SweepFeerates,
  type SweepPlan,
  type SweepPolicy,
  outPointKeyOf,
  planSweeps,
} from '@fulmen/settlement/sweep/index';
import type { SweepRecord, WalletOutPoint } from '@fulmen/store/chain/chain-store';
import { type FeeEstimator, NoFeeEstimateError } from '../fees/estimator.ts';
import type { ChainMetrics } from '../metrics.ts';
import type { SignerClient } from '../ports.ts';
import type { Writer } from '../state/writer.ts';
import type { AddressBook } from '../wallet/address-book.ts';
import { keepBooks, stateOf, storeSweep, tellUnsigned } from './books.ts';
import { SweepBroadcaster } from './broadcast.ts';
import { planInputOf } from './planning.ts';
import { findContests } from './rivals.ts';
import { ClaimsRefusedError, SweepSigningError, encodeSweep, signSweep } from './signing.ts';

/** Plans made at once: a transaction refused for its fee is raised in the same block, one that is not signed made anew. */
const MAX_ROUNDS = 4;
/** The longest of the signer's words that are kept. */
const MAX_REASON_LENGTH = 200;
/** Pause after the signer or the node did not answer. */
const RETRY_MS = 5_000;
/** Bitcoin Core's default: 1,000 sat per 1,000 vbytes. */
const INCREMENTAL_RELAY_SAT_PER_KW = 250;

/** Where sweeps go and who signs them, in place of the wallet and its signer. */
export interface SweepHome {
  /** The same for every sweep. */
  readonly script: Uint8Array;
  /** @throws RpcError when it is not signed; SweepSigningError */
  readonly sign: (planned: PlannedSweep, homeScript: Uint8Array) => Promise<Tx>;
}

export interface SweeperPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly signer: Pick<SignerClient, 'signClaim' | 'signPsbt'>;
  readonly fees: Pick<FeeEstimator, 'estimateSatPerKw'>;
  readonly runtime: Pick<Runtime, 'monotonicMs' | 'wallClockMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  readonly book: () => AddressBook | undefined;
  /** Absent: the wallet. */
  readonly home?: SweepHome;
  readonly policy: SweepPolicy;
  readonly rebroadcastMs: number;
  /** There is something to do. */
  readonly wake: () => void;
}

export class Sweeper {
  readonly #ports: SweeperPorts;
  readonly #broadcaster: SweepBroadcaster;
  /** What the last plan was made from; another one means another plan. */
  #planned = '';
  #retryAtMs = Number.POSITIVE_INFINITY;
  /** Addresses handed out for sweeps that were not signed then. */
  #spareScripts: Uint8Array[] = [];
  /** By `outPointKeyOf`: claims that the signer refused to this process. */
  #unsignable = new Set<string>();

  constructor(ports: SweeperPorts) {
    this.#ports = ports;
    this.#broadcaster = new SweepBroadcaster(ports);
  }

  /** Everything that is due, for all channels that have something to claim. @throws ChainSourceError */
  async run(channels: readonly ChannelClaims[]): Promise<void> {
    const { writer, runtime } = this.#ports;
    // What was stored before this process came goes out before anything that counts on it.
    await this.#broadcaster.repeat(channels, 'untried');
    const state = await writer.exclusive(async (view) =>
      channels.length + view.sweeps.size + view.claims.size === 0 ? undefined : stateOf(view, channels),
    );
    // A plan is due when something moved, or when the last one could not be carried out.
    if (state !== undefined && (state !== this.#planned || runtime.monotonicMs() >= this.#retryAtMs)) {
      this.#retryAtMs = Number.POSITIVE_INFINITY;
      for (let round = 1; ; round++) {
        const outcomes = await this.#plan(channels);
        if (outcomes.has('incomplete')) this.#retryAtMs = runtime.monotonicMs() + RETRY_MS;
        if (!outcomes.has('refused') || round === MAX_ROUNDS) break;
      }
      this.#planned = await writer.exclusive(async (view) => stateOf(view, channels));
    }
    await this.#broadcaster.repeat(channels, 'due');
  }

  /**
   * An operator wants a claim to pay at least this, from now on. The feerate may exceed the budget, but never what the
   * claim is worth.
   *
   * @throws RpcError not_found when no such output is being claimed.
   */
  async bump(outPoint: WalletOutPoint, feerateSatPerKw: number): Promise<void> {
    await this.#ports.writer.turn((draft) => {
      const claim = draft.settlement.claim(outPointKeyOf(outPoint));
      if (claim === undefined)
        throw new RpcError(
          'not_found',
          `nothing claims ${displayHash(outPoint.txid)}:${outPoint.outputIndex}`,
        );
      const requested = Math.max(claim.requestedFeerateSatPerKw ?? 0, feerateSatPerKw);
      draft.settlement.putClaim({ ...claim, requestedFeerateSatPerKw: requested });
    });
    this.#planned = '';
    this.#ports.wake();
  }

  /** refused: something can be made anew, for another fee or without a claim; incomplete: something did not answer. */
  async #plan(channels: readonly ChannelClaims[]): Promise<ReadonlySet<'refused' | 'incomplete'>> {
    const { source, writer, policy, metrics } = this.#ports;
    const feerates = await this.#feerates();
    const ours = await writer.exclusive(
      async (view) => new Set([...view.sweeps.values()].map(({ txid }) => toHex(txid))),
    );
    const contests = await findContests(
      source,
      channels.flatMap(({ claims }) => claims),
      (txid) => ours.has(toHex(txid)),
    );
    const unsignable = this.#unsignable;
    const plan = await writer.exclusive(async (view) =>
      planSweeps(planInputOf({ view, channels, feerates, policy, contests, unsignable })),
    );
    // Those that are gone need not be remembered.
    const planned = new Set(plan.claims.map(({ outPoint }) => outPointKeyOf(outPoint)));
    this.#unsignable = new Set([...unsignable].filter((key) => planned.has(key)));
    await writer.turn((draft) => keepBooks(draft, plan));
    metrics.sweepClaims.set(plan.claims.length);
    metrics.sweeps.set(plan.sweeps.length + plan.kept.length);
    const outcomes = new Set<'refused' | 'incomplete'>();
    for (const sweep of plan.sweeps) {
      const made = await this.#make(plan, sweep);
      if (typeof made === 'string') {
        outcomes.add(made);
        continue;
      }
      const refusal = await this.#broadcaster.broadcast(made, made.parents);
      if (refusal === 'fee') outcomes.add('refused');
    }
    return outcomes;
  }

  async #feerates(): Promise<SweepFeerates> {
    const { source, fees } = this.#ports;
    const mempoolMinimumSatPerKw = await source.mempoolMinFeerateSatPerKw();
    const estimate = async (target: 'output_spending_fee' | 'urgent_on_chain_sweep'): Promise<number> => {
      try {
        return await fees.estimateSatPerKw(target);
      } catch (error) {
        if (!(error instanceof NoFeeEstimateError)) throw error;
        // The least that relays is better than nothing: it rises with the deadline.
        return mempoolMinimumSatPerKw;
      }
    };
    return {
      mempoolMinimumSatPerKw,
      normalSatPerKw: await estimate('output_spending_fee'),
      urgentSatPerKw: await estimate('urgent_on_chain_sweep'),
      incrementalRelaySatPerKw: INCREMENTAL_RELAY_SAT_PER_KW,
    };
  }

  /** Signs and stores. refused: the signer takes it without some of its claims; incomplete: it is tried again. */
  async #make(plan: SweepPlan, planned: PlannedSweep): Promise<SweepRecord | 'refused' | 'incomplete'> {
    const { logger, metrics, writer, runtime } = this.#ports;
    try {
      const signed = await this.#sign(planned);
      // Nothing to pay home to yet.
      if (signed === undefined) return 'incomplete';
      const { tx, homeScript } = signed;
      const record: SweepRecord = {
        sweepId: planned.sweepId,
        txid: txidOf(tx),
        transaction: encodeSweep(tx),
        parents: planned.parent === undefined ? [] : [encodeTx(planned.parent)],
        claims: planned.inputs.flatMap((one) => (one.type === 'claim' ? [one.claimed.claim.outPoint] : [])),
        walletInputs: planned.inputs.flatMap((one) => (one.type === 'coin' ? [one.coin.outPoint] : [])),
        feeSat: planned.feeSat,
        feerateSatPerKw: planned.feerateSatPerKw,
        createdHeight: writer.view?.tip?.height ?? 0,
      };
      const stored = await writer.turn((draft) =>
        storeSweep(draft, { plan, planned, record, timeUnixMs: runtime.wallClockMs() }),
      );
      if (stored === 'overtaken') return 'incomplete';
      this.#spareScripts = this.#spareScripts.filter((script) => !equalBytes(script, homeScript));
      for (const at of record.claims) this.#unsignable.delete(outPointKeyOf(at));
      return record;
    } catch (error) {
      const isExpected =
        error instanceof RpcError ||
        error instanceof SweepSigningError ||
        error instanceof ClaimsRefusedError;
      if (!isExpected) throw error;
      metrics.sweepFailures.inc();
      logger.error(
        { sweep: planned.sweepId, error: error.name, reason: error.message },
        'a sweep could not be signed; tried again',
      );
      const words = `the signer did not sign (${error.message.slice(0, MAX_REASON_LENGTH)}): tried again`;
      await writer.turn((draft) => tellUnsigned(draft, plan, planned, words));
      return error instanceof ClaimsRefusedError ? this.#leaveOut(planned, error) : 'incomplete';
    }
  }

  /** refused: what the sweep holds besides can go without what the signer refuses. */
  #leaveOut({ inputs }: PlannedSweep, { claims }: ClaimsRefusedError): 'refused' | 'incomplete' {
    for (const at of claims) this.#unsignable.add(outPointKeyOf(at));
    const held = inputs.filter(({ type }) => type === 'claim').length;
    return held > claims.length ? 'refused' : 'incomplete';
  }

  async #sign(
    planned: PlannedSweep,
  ): Promise<{ readonly tx: Tx; readonly homeScript: Uint8Array } | undefined> {
    const { signer, writer, home } = this.#ports;
    if (home !== undefined) return { tx: await home.sign(planned, home.script), homeScript: home.script };
    const book = this.#ports.book();
    if (book === undefined) return undefined;
    const homeScript = planned.homeScript ?? (await this.#freshScript(book));
    const addressOf = (script: Uint8Array) => writer.view?.addresses.get(toHex(script));
    return { tx: await signSweep({ signer, book, addressOf }, planned, homeScript), homeScript };
  }

  async #freshScript(book: AddressBook): Promise<Uint8Array> {
    const [spare] = this.#spareScripts;
    if (spare !== undefined) return spare;
    const script = await this.#ports.writer.turn((draft) => {
      book.extend(draft);
      return book.handOut(draft, 'p2wpkh', 'change').script;
    });
    this.#spareScripts.push(script);
    return script;
  }
}
