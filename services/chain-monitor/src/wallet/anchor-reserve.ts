/**
 * What the wallet keeps back so that it can pay when a channel with anchors is
 * closed by force: its commitment and its second stages carry no fee of their
 * own. A wallet that was emptied would have to watch HTLCs expire.
 */
import { decodeTx } from '@fulmen/bitcoin';
import { equalBytes, toHex } from '@fulmen/codec';
import type {
  ChainStore,
  FundingRecord,
  LoadedMonitor,
  SettlementRecord,
  WalletOutPoint,
} from '@fulmen/store/chain/chain-store';
import { eachMonitor } from '@fulmen/store/chain/chain-store';
import { MonitorFaultError, monitorOf } from '../monitors/drain.ts';
import { type SummaryOutput, decodeSummary } from '../settlement/summary.ts';
import { outPointKey } from '../state/keys.ts';
import type { ChainView } from '../state/view.ts';
import { transactionOf } from './sign-reservation.ts';
import { spendable } from './spendable.ts';

export interface AnchorReserveLimits {
  readonly perChannelSat: bigint;
  /** Beyond so many channels nothing more is kept back: they do not all close at once. */
  readonly maximumChannels: number;
}

/** Monitors read at once while channels with anchors are counted. */
const PAGE = 64;

export class AnchorReserve {
  readonly #store: Pick<ChainStore, 'loadMonitors'>;
  readonly #limits: AnchorReserveLimits;
  /** A channel's format never changes. By channel id; only those that the chain watches. */
  #formats = new Map<string, 'anchors' | 'other'>();

  constructor(store: Pick<ChainStore, 'loadMonitors'>, limits: AnchorReserveLimits) {
    this.#store = store;
    this.#limits = limits;
  }

  /** For the channels there are, and so many more. */
  async requiredSat(view: ChainView, moreChannels: number): Promise<bigint> {
    const { perChannelSat, maximumChannels } = this.#limits;
    if (perChannelSat === 0n) return 0n;
    const channels = moreChannels + (await this.#count(view, maximumChannels - moreChannels));
    return perChannelSat * BigInt(Math.min(channels, maximumChannels));
  }

  /** What is missing to keep back as much for one more channel. */
  async missingSat(view: ChainView): Promise<bigint> {
    const requiredSat = await this.requiredSat(view, 1);
    const availableSat = spendableSat(view, new Set()) + comingChangeSat(view);
    return requiredSat > availableSat ? requiredSat - availableSat : 0n;
  }

  /** Channels with anchors that may still need the wallet; no more than `enough` are counted. */
  async #count(view: ChainView, enough: number): Promise<number> {
    const open = [...view.fundings].filter(([id, funding]) => mayNeedFees(funding, view.settlements.get(id)));
    if (this.#formats.size > 2 * view.fundings.size + PAGE)
      this.#formats = new Map([...this.#formats].filter(([id]) => view.fundings.has(id)));
    let count = 0;
    for (let from = 0; from < open.length && count < enough; from += PAGE) {
      const page = open.slice(from, from + PAGE);
      const unknown = page.filter(([id]) => !this.#formats.has(id)).map(([, { channelId }]) => channelId);
      for await (const monitor of eachMonitor(this.#store, unknown)) {
        const format = formatOf(monitor);
        if (format !== undefined) this.#formats.set(toHex(monitor.channelId), format);
      }
      count += page.filter(([id]) => this.#formats.get(id) === 'anchors').length;
    }
    return Math.min(count, Math.max(0, enough));
  }
}

/** Until its commitment confirms, and after that, if it is the holder's, until no HTLC is left on it. */
function mayNeedFees(
  { spent, settledHeight }: FundingRecord,
  settlement: SettlementRecord | undefined,
): boolean {
  if (spent === undefined) return true;
  // Spent, and nobody looked yet by what.
  if (settlement === undefined) return settledHeight === undefined;
  return (
    settlement.stage === 'closed' &&
    settlement.closeType === 'holder' &&
    decodeSummary(settlement.summary).some(({ kind, status }) => isHtlc(kind) && status !== 'spent')
  );
}

function isHtlc(kind: SummaryOutput['kind']): boolean {
  return kind === 'htlc_offered_by_holder' || kind === 'htlc_offered_by_counterparty';
}

/** Undefined: the channel has no monitor yet. */
function formatOf(loaded: LoadedMonitor): 'anchors' | 'other' | undefined {
  if (loaded.snapshot === undefined && loaded.birth === undefined) return undefined;
  try {
    return monitorOf(loaded).parameters.commitmentFormat === 'anchors' ? 'anchors' : 'other';
  } catch (error) {
    if (!(error instanceof MonitorFaultError)) throw error;
    // An operator has to look at it; until then it counts.
    return 'anchors';
  }
}

/**
 * Change of payments that are not seen yet: it comes back, and must not seem to be missing meanwhile. Once an input is
 * spent the change is an output of the wallet, perhaps spent in its turn, or never comes.
 */
function comingChangeSat(view: ChainView): bigint {
  let sum = 0n;
  for (const reservation of view.reservations.values()) {
    const { changeScript, inputs } = reservation;
    if (changeScript === undefined || !inputs.every((input) => isUnspent(view, input))) continue;
    const tx = decodeTx(transactionOf(reservation));
    if (!tx.ok) continue;
    for (const { script, valueSat } of tx.value.outputs)
      if (equalBytes(script, changeScript)) sum += valueSat;
  }
  return sum;
}

function isUnspent(view: ChainView, { txid, outputIndex }: WalletOutPoint): boolean {
  const utxo = view.utxos.get(outPointKey(txid, outputIndex));
  return utxo !== undefined && utxo.spentBy === undefined;
}

/** What the wallet could spend now, but for these outputs. */
export function spendableSat(view: ChainView, without: ReadonlySet<string>): bigint {
  return spendable(view)
    .filter(({ txid, outputIndex }) => !without.has(outPointKey(txid, outputIndex)))
    .reduce((sum, { valueSat }) => sum + valueSat, 0n);
}
