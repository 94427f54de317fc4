/**
 * An Esplora-speaking front of a node: the HTTP API that
 * `EsploraChainSource` uses, answered from the node's RPC. It stands before
 * the development chain and before a real bitcoind alike.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { BitcoindRpc } from '@fulmen/chain';
import { sha256d } from '@fulmen/crypto';
import type { IndexedTx } from './esplora-index.ts';
import { EsploraIndex, merkleBranch, rawHex } from './esplora-index.ts';

/** An answer; a body that is no string is sent as JSON. */
export interface EsploraAnswer {
  readonly status: number;
  readonly body: unknown;
}

export interface EsploraFrontOptions {
  readonly rpc: BitcoindRpc;
  /** 0, the default, takes any free port. */
  readonly port?: number;
  /** Called with each answer before it is sent; a test may put a lie in its place. */
  readonly alter?: (path: string, answer: EsploraAnswer) => EsploraAnswer;
}

export interface RunningEsploraFront {
  /** Base address of the API. */
  readonly url: string;
  /** Requests that were answered. */
  readonly requests: () => number;
  stop(): Promise<void>;
}

const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
const PAGE_LENGTH = 25;
const ESTIMATED_TARGETS: readonly number[] = [
  ...Array.from({ length: 25 }, (_, at) => at + 1),
  144,
  504,
  1008,
];

const found = (body: unknown): EsploraAnswer => ({ status: 200, body });
const missing = (what: string): EsploraAnswer => ({ status: 404, body: `${what} not found` });

function statusOf(tx: IndexedTx | undefined): Record<string, unknown> {
  if (tx?.block === undefined) return { confirmed: false };
  return { confirmed: true, block_height: tx.block.height, block_hash: tx.block.hash };
}

/** The API over one node. */
class EsploraApi {
  readonly #rpc: BitcoindRpc;
  readonly #index: EsploraIndex;

  constructor(rpc: BitcoindRpc) {
    this.#rpc = rpc;
    this.#index = new EsploraIndex(rpc);
  }

  async get(path: string): Promise<EsploraAnswer> {
    await this.#index.sync();
    const [kind = '', name = '', what, detail] = path.split('/').slice(1);
    switch (kind) {
      case 'blocks':
        if (name !== 'tip') return missing('endpoint');
        return found(what === 'hash' ? this.#index.tip.hash : String(this.#index.tip.height));
      case 'block-height': {
        const hash = this.#index.hashAt(Number(name));
        return hash === undefined ? missing('Block') : found(hash);
      }
      case 'block':
        return this.#block(name, what, detail);
      case 'tx':
        return this.#transaction(name, what, detail);
      case 'scripthash':
        return what === 'txs' ? this.#history(path, name, detail) : missing('endpoint');
      case 'mempool':
        return name === 'txids' ? found(this.#index.waitingTxids()) : missing('endpoint');
      case 'fee-estimates':
        return found(await this.#estimates());
      default:
        return missing('endpoint');
    }
  }

  async #block(hash: string, what: string | undefined, detail: string | undefined): Promise<EsploraAnswer> {
    if (what === 'txid') {
      const txid = this.#index.block(hash)?.block.txids[Number(detail)];
      return txid === undefined ? missing('Transaction') : found(Buffer.from(txid).reverse().toString('hex'));
    }
    const header = await this.#rpc.try('getblockheader', hash, true);
    if (what === 'status') {
      const confirmations = header.ok ? (header.value as { confirmations: number }).confirmations : -1;
      return found({ in_best_chain: confirmations >= 0 });
    }
    if (!header.ok) return missing('Block');
    if (what === 'header') return found(await this.#rpc.call('getblockheader', hash, false));
    const json = header.value as Record<string, unknown>;
    return found({
      id: hash,
      height: json['height'],
      timestamp: json['time'],
      mediantime: json['mediantime'],
      previousblockhash: json['previousblockhash'] ?? null,
    });
  }

  #transaction(txid: string, what: string | undefined, detail: string | undefined): EsploraAnswer {
    const tx = this.#index.transaction(txid);
    switch (what) {
      // As the real server does, also for transactions that it does not know.
      case 'status':
        return found(statusOf(tx));
      case 'outspend':
        return found(this.#spend(txid, Number(detail)));
      case 'hex':
        return tx === undefined ? missing('Transaction') : found(rawHex(tx.tx));
      case 'outspends':
        return tx === undefined
          ? missing('Transaction')
          : found(tx.tx.outputs.map((_, vout) => this.#spend(txid, vout)));
      case 'merkle-proof': {
        const block = tx?.block === undefined ? undefined : this.#index.block(tx.block.hash);
        if (tx?.block === undefined || block === undefined) return missing('Transaction');
        return found({
          block_height: tx.block.height,
          merkle: merkleBranch(block.block.txids, tx.block.index, sha256d),
          pos: tx.block.index,
        });
      }
      default:
        return missing('endpoint');
    }
  }

  #spend(txid: string, vout: number): Record<string, unknown> {
    const spend = this.#index.spend(txid, vout);
    if (spend === undefined) return { spent: false };
    return { spent: true, ...spend, status: statusOf(this.#index.transaction(spend.txid)) };
  }

  #history(path: string, scriptHash: string, part: string | undefined): EsploraAnswer {
    const json = (tx: IndexedTx): Record<string, unknown> => ({ txid: tx.txid, status: statusOf(tx) });
    if (part === 'mempool') return found(this.#index.waitingHistory(scriptHash).map(json));
    const all = this.#index.history(scriptHash);
    const after = path.split('/')[5];
    const from = after === undefined ? 0 : all.findIndex(({ txid }) => txid === after) + 1;
    return found(all.slice(from, from + PAGE_LENGTH).map(json));
  }

  /** sat/vB by target. */
  async #estimates(): Promise<Record<string, number>> {
    const outcomes = await this.#rpc.batch(
      ESTIMATED_TARGETS.map((target) => ({ method: 'estimatesmartfee', params: [target] })),
    );
    const estimates: Record<string, number> = {};
    for (const [at, target] of ESTIMATED_TARGETS.entries()) {
      const outcome = outcomes[at];
      const feerate = outcome?.ok === true ? (outcome.value as { feerate?: number }).feerate : undefined;
      if (feerate !== undefined) estimates[target] = feerate * 1e5;
    }
    return estimates;
  }

  async post(path: string, body: string): Promise<EsploraAnswer> {
    const isPackage = path === '/txs/package';
    if (!isPackage && path !== '/tx') return missing('endpoint');
    const method = isPackage ? 'submitpackage' : 'sendrawtransaction';
    const outcome = await this.#rpc.try(method, isPackage ? (JSON.parse(body) as unknown) : body);
    if (outcome.ok) return found(outcome.value);
    return { status: 400, body: `${method} RPC error ${outcome.error.code}: ${outcome.error.message}` };
  }
}

async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_REQUEST_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Starts a front on loopback. The client of the node stays its owner's. */
export async function startEsploraFront(options: EsploraFrontOptions): Promise<RunningEsploraFront> {
  const api = new EsploraApi(options.rpc);
  const alter = options.alter ?? ((_, answer) => answer);
  let requests = 0;
  const server = createServer((request, response) => {
    const serve = async (): Promise<void> => {
      const path = request.url ?? '/';
      const body = await bodyOf(request);
      let answer: EsploraAnswer;
      try {
        if (body === undefined) answer = { status: 413, body: 'Request body too large' };
        else if (request.method === 'POST') answer = await api.post(path, body);
        else answer = await api.get(path);
      } catch (error) {
        answer = { status: 500, body: error instanceof Error ? error.message : String(error) };
      }
      requests += 1;
      const { status, body: value } = alter(path, answer);
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      response.writeHead(status, { 'content-length': Buffer.byteLength(text) }).end(text);
    };
    // A client that goes away in the middle of its request needs no answer.
    serve().catch(() => response.destroy());
  });
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: () => requests,
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
