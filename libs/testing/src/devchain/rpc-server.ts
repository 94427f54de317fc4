/** Bitcoin Core's JSON-RPC over HTTP, spoken by a development chain. */
import { Buffer } from 'node:buffer';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { constantTimeEqual } from '@fulmen/crypto';
import type { DevChain } from './devchain.ts';
import { txJson } from './rpc-format.ts';
import type { Json } from './rpc-format.ts';
import * as chain from './rpc-chain.ts';
import { Params, RPC, RpcError, txOf } from './rpc-error.ts';
import * as mempool from './rpc-mempool.ts';

interface Method {
  /** Names of the parameters, for calls that name them. */
  readonly names: readonly string[];
  readonly run: (dev: DevChain, params: Params) => unknown;
}

/** How to serve. */
export interface RpcServerOptions {
  readonly rpcUser: string;
  readonly rpcPassword: string;
  /** Called when a client asks the node to stop. */
  readonly onStop?: () => void;
}

const MAX_REQUEST_BYTES = 64 * 1024 * 1024;

function methods(started: number, options: RpcServerOptions): ReadonlyMap<string, Method> {
  const table: Record<string, [string, Method['run']]> = {
    getblockchaininfo: ['', chain.getBlockchainInfo],
    getbestblockhash: ['', (dev) => dev.chain.tip.hash],
    getblockcount: ['', (dev) => dev.chain.tip.height],
    getblockhash: ['height', chain.getBlockHash],
    getblockheader: ['blockhash verbose', chain.getBlockHeader],
    getblock: ['blockhash verbosity', chain.getBlock],
    getchaintips: ['', chain.getChainTips],
    gettxout: ['txid n include_mempool', chain.getTxOut],
    scantxoutset: ['action scanobjects', chain.scanTxOutSet],
    getrawmempool: ['verbose mempool_sequence', mempool.getRawMempool],
    getmempoolentry: ['txid', mempool.getMempoolEntry],
    getmempoolancestors: ['txid verbose', mempool.getMempoolAncestors],
    getmempooldescendants: ['txid verbose', mempool.getMempoolDescendants],
    getmempoolinfo: ['', mempool.getMempoolInfo],
    gettxspendingprevout: ['outputs', mempool.getTxSpendingPrevout],
    getrawtransaction: ['txid verbosity blockhash', mempool.getRawTransaction],
    decoderawtransaction: ['hexstring', (_, params) => decoded(params)],
    sendrawtransaction: ['hexstring maxfeerate maxburnamount', mempool.sendRawTransaction],
    testmempoolaccept: ['rawtxs maxfeerate', mempool.testMempoolAccept],
    submitpackage: ['package maxfeerate maxburnamount', mempool.submitPackage],
    estimatesmartfee: ['conf_target estimate_mode', chain.estimateSmartFee],
    devsetfeeestimate: ['feerate', chain.setFeeEstimate],
    generatetoaddress: ['nblocks address maxtries', chain.generateToAddress],
    generateblock: ['output transactions submit', chain.generateBlock],
    submitblock: ['hexdata', chain.submitBlock],
    invalidateblock: ['blockhash', chain.invalidateBlock],
    reconsiderblock: ['blockhash', chain.reconsiderBlock],
    setmocktime: ['timestamp', (dev, params) => (dev.setMockTime(params.integer(0)), null)],
    validateaddress: ['address', (_, params) => chain.validateAddress(params)],
    getnetworkinfo: ['', chain.getNetworkInfo],
    getconnectioncount: ['', () => 0],
    getpeerinfo: ['', () => []],
    getzmqnotifications: ['', () => []],
    getindexinfo: ['', (dev) => ({ txindex: { synced: true, best_block_height: dev.chain.tip.height } })],
    uptime: ['', () => Math.floor((performance.now() - started) / 1000)],
    stop: ['', () => (options.onStop?.(), 'Bitcoin Core stopping')],
    help: ['command', () => Object.keys(table).toSorted().join('\n')],
  };
  return new Map(
    Object.entries(table).map(([name, [names, run]]) => [
      name,
      { names: names.split(' ').filter((n) => n !== ''), run },
    ]),
  );
}

function decoded(params: Params): Json {
  const { hex: _, ...json } = txJson(txOf(params.raw(0), 'TX decode failed'));
  return json;
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Runs one call; never throws. */
function dispatch(
  dev: DevChain,
  table: ReadonlyMap<string, Method>,
  call: unknown,
): { readonly reply: Json; readonly status: number } {
  const id = isRecord(call) ? (call['id'] ?? null) : null;
  const version2 = isRecord(call) && call['jsonrpc'] === '2.0';
  const reply = (result: unknown, error: unknown): Json => {
    if (!version2) return { result, error, id };
    return error === null ? { jsonrpc: '2.0', result, id } : { jsonrpc: '2.0', error, id };
  };
  try {
    if (!isRecord(call) || typeof call['method'] !== 'string')
      throw new RpcError(RPC.INVALID_REQUEST, 'Invalid Request object');
    const method = table.get(call['method']);
    if (method === undefined) throw new RpcError(RPC.METHOD_NOT_FOUND, 'Method not found');
    const given = call['params'] ?? [];
    let values: readonly unknown[];
    if (Array.isArray(given)) {
      values = given;
    } else if (isRecord(given)) {
      const unknown = Object.keys(given).find((name) => name !== 'args' && !method.names.includes(name));
      if (unknown !== undefined)
        throw new RpcError(RPC.INVALID_PARAMETER, `Unknown named parameter ${unknown}`);
      const positional = Array.isArray(given['args']) ? given['args'] : [];
      values = method.names.map((name, index) => given[name] ?? positional[index]);
    } else {
      throw new RpcError(RPC.INVALID_REQUEST, 'Params must be an array or object');
    }
    if (values.length > method.names.length)
      throw new RpcError(RPC.MISC, `${call['method']} ${method.names.join(' ')}`);
    return { reply: reply(method.run(dev, new Params(values)), null), status: 200 };
  } catch (error) {
    // Anything else is a fault of ours; a client of a real node would see the same number.
    const failure =
      error instanceof RpcError
        ? error
        : new RpcError(RPC.MISC, error instanceof Error ? error.message : String(error));
    const status =
      failure.code === RPC.INVALID_REQUEST ? 400 : failure.code === RPC.METHOD_NOT_FOUND ? 404 : 500;
    return {
      reply: reply(null, { code: failure.code, message: failure.message }),
      status: version2 ? 200 : status,
    };
  }
}

function isAuthorized(request: IncomingMessage, expected: Uint8Array): boolean {
  return constantTimeEqual(Buffer.from(request.headers.authorization ?? ''), expected);
}

async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_REQUEST_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Makes the server; it does not listen yet. */
export function createRpcServer(dev: DevChain, options: RpcServerOptions): Server {
  const table = methods(performance.now(), options);
  const expected = Buffer.from(
    `Basic ${Buffer.from(`${options.rpcUser}:${options.rpcPassword}`).toString('base64')}`,
  );
  const answer = (response: ServerResponse, status: number, body: unknown): void => {
    const payload = Buffer.from(body === undefined ? '' : `${JSON.stringify(body)}\n`);
    response
      .writeHead(status, { 'content-type': 'application/json', 'content-length': payload.length })
      .end(payload);
  };
  return createServer((request, response) => {
    const serve = async (): Promise<void> => {
      if (!isAuthorized(request, expected)) {
        response.setHeader('www-authenticate', 'Basic realm="jsonrpc"');
        answer(response, 401, undefined);
        return;
      }
      if (request.method !== 'POST') {
        answer(response, 405, undefined);
        return;
      }
      const body = await bodyOf(request);
      if (body === undefined) {
        answer(response, 413, undefined);
        return;
      }
      let call: unknown;
      try {
        call = JSON.parse(body.toString('utf8'));
      } catch {
        answer(response, 500, { result: null, error: { code: RPC.PARSE, message: 'Parse error' }, id: null });
        return;
      }
      if (Array.isArray(call)) {
        answer(
          response,
          200,
          call.map((item) => dispatch(dev, table, item).reply),
        );
        return;
      }
      const { reply, status } = dispatch(dev, table, call);
      answer(response, status, reply);
    };
    // A client that goes away in the middle of its request needs no answer.
    serve().catch(() => response.destroy());
  });
}
