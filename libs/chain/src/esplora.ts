/**
 * The chain as an Esplora server shows it: of each block the header and what
 * was registered, proven by merkle branches. Nothing it says of a block's
 * content is taken without proof; that it hides nothing cannot be proven, so
 * what it tells too late is reported as `earlier`.
 */
import {
  FEERATE_FLOOR_SAT_PER_KW,
  NETWORKS,
  type NetworkName,
  blockHash,
  decodeBlockHeader,
  decodeTx,
  displayHash,
  feerateSatPerKwFromSatPerVb,
  isCoinbase,
  txidHex,
} from '@fulmen/bitcoin';
import { toHex } from '@fulmen/bitcoin/bytes';
import {
  KNOWN_REASONS,
  MAX_FEERATE_SAT_PER_VB,
  bytesOf,
  hashOf,
  heightOf,
  integer,
  listOf,
  malformed,
  packageOutcome,
  record,
  upTo,
} from './answers.ts';
import { provenTx } from './blocks.ts';
import type { EsploraConfig } from './esplora-http.ts';
import { EsploraHttp, mapBounded } from './esplora-http.ts';
import { Sightings, confirmation, spendsOf, waitingSpends, waitingTxids } from './esplora-sightings.ts';
import type { ChainFilter } from './filter.ts';
import type {
  BroadcastOutcome,
  ChainHeader,
  ChainOutPoint,
  ChainTip,
  ChainTransaction,
  ChainUtxo,
  FeeEstimateMode,
  FilteredBlock,
  FilteredBlockSource,
  MempoolSpend,
  ProvenTransaction,
} from './source.ts';
import { ChainSourceError } from './source.ts';

/** Headers that are kept. */
const MAX_HEADERS = 1_024;
/** How often a question is asked again because the best block changed under it. */
const ATTEMPTS = 3;
/** Longest merkle branch: a block has fewer than 2^16 transactions. */
const MAX_BRANCH = 16;
const OP_RETURN = 0x6a;

/** The server's node says in other words that it has the transaction. */
const IN_CHAIN = /already in (utxo set|block chain)/i;

interface KnownHeader {
  readonly raw: Uint8Array;
  readonly height: number;
  readonly time: number;
  readonly medianTime: number;
  readonly prevHash: string | undefined;
}

/** A `ChainSource` over the Esplora HTTP API. */
export class EsploraChainSource implements FilteredBlockSource {
  readonly #http: EsploraHttp;
  readonly #headers = new Map<string, KnownHeader>();
  #sightings: Sightings | undefined;

  constructor(config: EsploraConfig) {
    this.#http = new EsploraHttp(config);
  }

  /** Lets the sockets go. */
  close(): void {
    this.#http.close();
  }

  async networkName(): Promise<NetworkName> {
    const genesis = await this.getBlockHash(0);
    const network = Object.values(NETWORKS).find(({ chainHash }) => displayHash(chainHash) === genesis);
    if (network === undefined) throw malformed('network');
    return network.name;
  }

  async #tipHash(): Promise<string> {
    return hashOf(await this.#http.text('/blocks/tip/hash'), 'best block');
  }

  async getBestBlock(): Promise<ChainTip> {
    const hash = await this.#tipHash();
    const header = await this.#header(hash);
    // It announced a block that it does not have: between two states, or one of several servers is behind.
    if (header === undefined) throw new ChainSourceError('unreachable', 'the best block is not there');
    return { hash, height: header.height };
  }

  async getBlockHash(height: number): Promise<string | undefined> {
    const hash = await this.#http.text(`/block-height/${height}`);
    return hash === undefined ? undefined : hashOf(hash, 'block hash');
  }

  /** A header, which its hash proves; height and median time are the server's word. */
  async #header(hash: string): Promise<KnownHeader | undefined> {
    const known = this.#headers.get(hash);
    if (known !== undefined) return known;
    const [raw, answer] = await Promise.all([
      this.#http.text(`/block/${hash}/header`),
      this.#http.json(`/block/${hash}`),
    ]);
    if (raw === undefined || answer === undefined) return undefined;
    const bytes = bytesOf(raw, 'header');
    const header = decodeBlockHeader(bytes);
    if (!header.ok || displayHash(blockHash(header.value)) !== hash) throw malformed('header');
    const block = record(answer, 'block');
    const height = heightOf(block['height']);
    const made: KnownHeader = {
      raw: bytes,
      height,
      time: header.value.time,
      medianTime: integer(block['mediantime'], 'median time'),
      prevHash: height === 0 ? undefined : displayHash(header.value.prevHash),
    };
    this.#headers.set(hash, made);
    const [oldest] = this.#headers.keys();
    if (this.#headers.size > MAX_HEADERS && oldest !== undefined) this.#headers.delete(oldest);
    return made;
  }

  async #isInBestChain(hash: string): Promise<boolean> {
    const status = await this.#http.json(`/block/${hash}/status`);
    return status !== undefined && record(status, 'status')['in_best_chain'] === true;
  }

  async getBlockHeader(hash: string): Promise<ChainHeader | undefined> {
    const header = await this.#header(hash);
    if (header === undefined) return undefined;
    const { prevHash, height, time, medianTime } = header;
    return { hash, prevHash, height, time, medianTime, inBestChain: await this.#isInBestChain(hash) };
  }

  async getFilteredBlock(hash: string, filter: ChainFilter): Promise<FilteredBlock | undefined> {
    const header = await this.#header(hash);
    if (header === undefined) return undefined;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const sightings = await this.#sightingsAt(await this.#tipHash());
      await sightings.learn(filter, header.height);
      // All answers are of one chain when its tip was the same before and after.
      if (!(await this.#isInBestChain(hash))) return undefined;
      if ((await this.#tipHash()) !== sightings.tip) continue;
      const proven = await this.#prove([...sightings.inBlock(filter, hash)], header.height);
      const previous = header.prevHash === undefined ? undefined : (await this.#header(header.prevHash))?.raw;
      if (proven === undefined) continue;
      return {
        header: header.raw,
        ...(previous !== undefined && { previousHeader: previous }),
        transactions: proven,
        earlier: sightings.below(filter, header.height),
      };
    }
    return undefined;
  }

  async #sightingsAt(tip: string): Promise<Sightings> {
    if (this.#sightings?.tip !== tip) this.#sightings = new Sightings(this.#http, tip);
    return this.#sightings;
  }

  /** Undefined when one is not in the block any more. */
  async #prove(txids: readonly string[], height: number): Promise<readonly ProvenTransaction[] | undefined> {
    const proven = await mapBounded(txids, async (txid) => this.#proof(txid, height));
    const found = proven.filter((one) => one !== undefined);
    if (found.length < proven.length) return undefined;
    return found.toSorted((a, b) => a.index - b.index);
  }

  async #proof(txid: string, height: number): Promise<ProvenTransaction | undefined> {
    const answer = await this.#http.json(`/tx/${txid}/merkle-proof`);
    const tx = await this.#transaction(txid);
    if (answer === undefined || tx === undefined) return undefined;
    const proof = record(answer, 'proof');
    if (heightOf(proof['block_height']) !== height) return undefined;
    const branch = listOf(proof['merkle'], 'proof');
    if (branch.length > MAX_BRANCH) throw malformed('proof');
    return {
      tx,
      index: integer(proof['pos'], 'position'),
      merkleBranch: branch.map((hash) => hashOf(hash, 'proof')),
    };
  }

  /** Raw bytes of any transaction that the server knows; they are of this id. */
  async #transaction(txid: string): Promise<Uint8Array | undefined> {
    const raw = await this.#http.text(`/tx/${txid}/hex`);
    if (raw === undefined) return undefined;
    const bytes = bytesOf(raw, 'transaction');
    const tx = decodeTx(bytes);
    if (!tx.ok || txidHex(tx.value) !== txid) throw malformed('transaction');
    return bytes;
  }

  async getFilteredMempool(filter: ChainFilter): Promise<readonly Uint8Array[]> {
    const scripts = [...filter.scripts.values()];
    const txids = new Set((await mapBounded(scripts, (script) => waitingTxids(this.#http, script))).flat());
    const found = await mapBounded([...txids], (txid) => this.#transaction(txid));
    return found.filter((raw) => raw !== undefined);
  }

  async getTxByBlockAndIndex(height: number, index: number): Promise<ChainTransaction | undefined> {
    const hash = await this.getBlockHash(height);
    if (hash === undefined || !Number.isSafeInteger(index) || index < 0) return undefined;
    const answer = await this.#http.text(`/block/${hash}/txid/${index}`);
    if (answer === undefined) return undefined;
    const txid = hashOf(answer, 'txid');
    const [proven, header] = await Promise.all([this.#proof(txid, height), this.#header(hash)]);
    if (proven === undefined || header === undefined) return undefined;
    const decoded = decodeBlockHeader(header.raw);
    if (!decoded.ok || proven.index !== index || provenTx(proven, decoded.value) === undefined)
      throw malformed('proof');
    return { txid, blockHash: hash, tx: proven.tx };
  }

  async getUtxo(txid: string, vout: number): Promise<ChainUtxo | undefined> {
    const best = await this.getBestBlock();
    const [sighting, raw, spends] = await Promise.all([
      confirmation(this.#http, txid),
      this.#transaction(txid),
      spendsOf(this.#http, [{ txid, vout }]),
    ]);
    if (sighting === undefined || raw === undefined) return undefined;
    if (spends.get(`${txid}:${vout}`)?.kind === 'confirmed') return undefined;
    const tx = decodeTx(raw);
    const output = tx.ok ? tx.value.outputs[vout] : undefined;
    if (!tx.ok || output === undefined || output.script[0] === OP_RETURN) return undefined;
    const confirmations = best.height - sighting.height + 1;
    // It confirmed after the best block was asked for.
    if (confirmations < 1) return undefined;
    const { valueSat, script } = output;
    return { valueSat, script, confirmations, coinbase: isCoinbase(tx.value) };
  }

  async getRawMempool(): Promise<readonly string[]> {
    return listOf(await this.#http.json('/mempool/txids'), 'mempool').map((txid) => hashOf(txid, 'txid'));
  }

  async getMempoolTransaction(txid: string): Promise<Uint8Array | undefined> {
    const raw = await this.#transaction(txid);
    if (raw === undefined) return undefined;
    return (await confirmation(this.#http, txid)) === undefined ? raw : undefined;
  }

  async getMempoolSpends(outPoints: readonly ChainOutPoint[]): Promise<readonly MempoolSpend[]> {
    return waitingSpends(this.#http, outPoints);
  }

  async broadcastPackage(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome> {
    const txids = transactions.map((raw) => {
      const tx = decodeTx(raw);
      if (!tx.ok) throw new ChainSourceError('refused', tx.error.message);
      return txidHex(tx.value);
    });
    const [only] = transactions;
    if (only === undefined) return { kind: 'accepted', txids };
    if (transactions.length === 1) {
      const outcome = await this.#http.post('/tx', toHex(only));
      if (outcome.kind === 'ok') return { kind: 'accepted', txids };
      const reason = reasonOf(outcome.body);
      return KNOWN_REASONS.has(reason) || IN_CHAIN.test(outcome.body)
        ? { kind: 'accepted', txids }
        : { kind: 'rejected', reason, rejections: txids.map((txid) => ({ txid, reason })) };
    }
    const outcome = await this.#http.post('/txs/package', JSON.stringify(transactions.map(toHex)));
    if (outcome.kind === 'refused') {
      const reason =
        outcome.status === 404 || outcome.status === 405
          ? 'the server relays no packages'
          : reasonOf(outcome.body);
      return { kind: 'rejected', reason, rejections: txids.map((txid) => ({ txid, reason })) };
    }
    let answer: unknown;
    try {
      answer = JSON.parse(outcome.body);
    } catch {
      throw malformed('package verdict');
    }
    return packageOutcome(answer, txids);
  }

  async estimateFeerateSatPerKw(
    confirmationTarget: number,
    _mode: FeeEstimateMode,
  ): Promise<number | undefined> {
    const estimates = Object.entries(record(await this.#http.json('/fee-estimates'), 'estimates'))
      .map(([blocks, feerate]) => ({ blocks: Number(blocks), feerate }))
      .filter(({ blocks }) => Number.isSafeInteger(blocks) && blocks > 0)
      .toSorted((a, b) => a.blocks - b.blocks);
    // Of the targets that are told, the slowest that is not slower than the question; the fastest when all are.
    const found = estimates.findLast(({ blocks }) => blocks <= confirmationTarget) ?? estimates[0];
    if (found === undefined) return undefined;
    return feerateSatPerKwFromSatPerVb(upTo(MAX_FEERATE_SAT_PER_VB, found.feerate, 'estimate'));
  }

  /** The API does not tell it: the floor of relaying. */
  async mempoolMinFeerateSatPerKw(): Promise<number> {
    return FEERATE_FLOOR_SAT_PER_KW;
  }
}

/** The node's reason out of the server's words: `sendrawtransaction RPC error -26: reason, details`, or with JSON. */
function reasonOf(body: string): string {
  const json = /"message":\s*"((?:[^"\\]|\\.)*)"/.exec(body)?.[1];
  const text = /RPC error:? ?-?\d*:? ?([^{].*)$/s.exec(body)?.[1];
  const [reason] = (json ?? text ?? body).split(', ');
  const trimmed = (reason ?? '').trim();
  return trimmed === 'bad-txns-inputs-missingorspent' ? 'missing-inputs' : trimmed;
}
