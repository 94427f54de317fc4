/**
 * What an Esplora server says of registered things while its best block
 * stays the same. Every question is asked once for a tip, so that catching up
 * with many blocks costs as much as one.
 */
import { sha256 } from '@fulmen/crypto';
import { toHex } from '@fulmen/bitcoin/bytes';
import { hashOf, heightOf, listOf, malformed, record } from './answers.ts';
import type { EsploraHttp } from './esplora-http.ts';
import { mapBounded } from './esplora-http.ts';
import type { ChainFilter } from './filter.ts';
import type { ChainOutPoint, MempoolSpend } from './source.ts';
import { ChainSourceError } from './source.ts';

/** A confirmed transaction, as the server says. */
export interface Sighting {
  readonly txid: string;
  readonly blockHash: string;
  readonly height: number;
}

/** What spends an output. */
export type Spend =
  | { readonly kind: 'confirmed'; readonly sighting: Sighting }
  | { readonly kind: 'waiting'; readonly txid: string };

/** From this many outputs of one transaction on, all its spends are asked for at once. */
const SPENDS_AT_ONCE = 4;
/** Transactions of one page of a script's history. */
const PAGE_LENGTH = 25;
/** Longest history of one script that is read: 10,000 transactions. */
const MAX_PAGES = 400;

interface History {
  /** Complete from this height on. */
  readonly fromHeight: number;
  readonly sightings: readonly Sighting[];
}

export class Sightings {
  readonly tip: string;
  readonly #http: EsploraHttp;
  readonly #transactions = new Map<string, Sighting | undefined>();
  readonly #spends = new Map<string, Sighting | undefined>();
  readonly #histories = new Map<string, History>();

  constructor(http: EsploraHttp, tip: string) {
    this.#http = http;
    this.tip = tip;
  }

  /** Asks what is not known yet; of scripts, what concerns blocks of this height and above. */
  async learn(filter: ChainFilter, fromHeight: number): Promise<void> {
    const txids = [...filter.txids].filter((txid) => !this.#transactions.has(txid));
    await mapBounded(
      txids,
      async (txid) => void this.#transactions.set(txid, await confirmation(this.#http, txid)),
    );
    const outPoints = [...filter.outPoints].filter(([key]) => !this.#spends.has(key));
    const spends = await spendsOf(
      this.#http,
      outPoints.map(([, outPoint]) => outPoint),
    );
    for (const [key] of outPoints) {
      const spend = spends.get(key);
      this.#spends.set(key, spend?.kind === 'confirmed' ? spend.sighting : undefined);
    }
    const scripts = [...filter.scripts].filter(([key]) => {
      const history = this.#histories.get(key);
      return history === undefined || history.fromHeight > fromHeight;
    });
    await mapBounded(scripts, async ([key, script]) => {
      const sightings = await historyOf(this.#http, script, fromHeight);
      this.#histories.set(key, { fromHeight, sightings });
    });
  }

  /** Transactions of this block that the filter asks for. */
  inBlock(filter: ChainFilter, blockHash: string): ReadonlySet<string> {
    const found = new Set<string>();
    const take = (sighting: Sighting | undefined): void => {
      if (sighting?.blockHash === blockHash) found.add(sighting.txid);
    };
    for (const txid of filter.txids) take(this.#transactions.get(txid));
    for (const key of filter.outPoints.keys()) take(this.#spends.get(key));
    for (const key of filter.scripts.keys()) this.#histories.get(key)?.sightings.forEach(take);
    return found;
  }

  /** Blocks below a height that hold registered transactions or spends, lowest first. */
  below(filter: ChainFilter, height: number): readonly { readonly hash: string; readonly height: number }[] {
    const found = new Map<string, number>();
    const take = (sighting: Sighting | undefined): void => {
      if (sighting !== undefined && sighting.height < height) found.set(sighting.blockHash, sighting.height);
    };
    for (const txid of filter.txids) take(this.#transactions.get(txid));
    for (const key of filter.outPoints.keys()) take(this.#spends.get(key));
    return [...found].map(([hash, at]) => ({ hash, height: at })).toSorted((a, b) => a.height - b.height);
  }
}

/** The block of a `status`, or undefined while unconfirmed. */
function blockOf(value: unknown): { readonly blockHash: string; readonly height: number } | undefined {
  const status = record(value, 'status');
  if (status['confirmed'] !== true) return undefined;
  return { blockHash: hashOf(status['block_hash'], 'block'), height: heightOf(status['block_height']) };
}

/** Where a transaction confirmed. */
export async function confirmation(http: EsploraHttp, txid: string): Promise<Sighting | undefined> {
  const status = await http.json(`/tx/${txid}/status`);
  const block = status === undefined ? undefined : blockOf(status);
  return block === undefined ? undefined : { txid, ...block };
}

function spendOf(value: unknown): Spend | undefined {
  const outspend = record(value, 'spend');
  if (outspend['spent'] !== true) return undefined;
  const txid = hashOf(outspend['txid'], 'spending txid');
  const block = blockOf(outspend['status']);
  return block === undefined
    ? { kind: 'waiting', txid }
    : { kind: 'confirmed', sighting: { txid, ...block } };
}

/** What spends these outputs, by `txid:vout`; those that nothing spends are left out. */
export async function spendsOf(
  http: EsploraHttp,
  outPoints: readonly ChainOutPoint[],
): Promise<ReadonlyMap<string, Spend>> {
  const byTxid = new Map<string, Set<number>>();
  for (const { txid, vout } of outPoints) {
    const known = byTxid.get(txid);
    if (known === undefined) byTxid.set(txid, new Set([vout]));
    else known.add(vout);
  }
  const found = new Map<string, Spend>();
  const note = (txid: string, vout: number, value: unknown): void => {
    const spend = value === undefined ? undefined : spendOf(value);
    if (spend !== undefined) found.set(`${txid}:${vout}`, spend);
  };
  const few: ChainOutPoint[] = [];
  const many: string[] = [];
  for (const [txid, vouts] of byTxid) {
    if (vouts.size >= SPENDS_AT_ONCE) many.push(txid);
    else for (const vout of vouts) few.push({ txid, vout });
  }
  await mapBounded(few, async ({ txid, vout }) =>
    note(txid, vout, await http.json(`/tx/${txid}/outspend/${vout}`)),
  );
  await mapBounded(many, async (txid) => {
    const answer = await http.json(`/tx/${txid}/outspends`);
    const spends = answer === undefined ? [] : listOf(answer, 'list of spends');
    for (const vout of byTxid.get(txid) ?? []) note(txid, vout, spends[vout]);
  });
  return found;
}

/** A request's name of a script. */
export function scriptPath(script: Uint8Array): string {
  return `/scripthash/${toHex(sha256(script))}`;
}

/** Confirmed transactions that concern a script, from a height on. */
async function historyOf(
  http: EsploraHttp,
  script: Uint8Array,
  fromHeight: number,
): Promise<readonly Sighting[]> {
  const sightings: Sighting[] = [];
  let after = '';
  for (let page = 0; page < MAX_PAGES; page++) {
    const answer = await http.json(`${scriptPath(script)}/txs/chain${after}`);
    const transactions = answer === undefined ? [] : listOf(answer, 'history');
    for (const item of transactions) {
      const tx = record(item, 'transaction');
      const block = blockOf(tx['status']);
      if (block === undefined) throw malformed('status');
      sightings.push({ txid: hashOf(tx['txid'], 'txid'), ...block });
    }
    // Newest first.
    const last = sightings.at(-1);
    if (transactions.length < PAGE_LENGTH || last === undefined || last.height < fromHeight) return sightings;
    after = `/${last.txid}`;
  }
  throw new ChainSourceError('too-large', 'the history of a script of the wallet is too long');
}

/** Waiting transactions that concern a script, by txid. */
export async function waitingTxids(http: EsploraHttp, script: Uint8Array): Promise<readonly string[]> {
  const answer = await http.json(`${scriptPath(script)}/txs/mempool`);
  const transactions = answer === undefined ? [] : listOf(answer, 'mempool');
  return transactions.map((item) => hashOf(record(item, 'transaction')['txid'], 'txid'));
}

/** Of these outputs, those that a waiting transaction spends, in the order of the question. */
export async function waitingSpends(
  http: EsploraHttp,
  outPoints: readonly ChainOutPoint[],
): Promise<readonly MempoolSpend[]> {
  const spends = await spendsOf(http, outPoints);
  const asked = new Map(outPoints.map(({ txid, vout }) => [`${txid}:${vout}`, { txid, vout }]));
  return [...asked].flatMap(([key, outPoint]): readonly MempoolSpend[] => {
    const spend = spends.get(key);
    return spend?.kind === 'waiting' ? [{ ...outPoint, spendingTxid: spend.txid }] : [];
  });
}
