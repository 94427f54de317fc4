/**
 * Bitcoin Core's JSON-RPC over HTTP: keep-alive, a time limit for each call,
 * a bound on the answer's size, batches, and cookie or password
 * authentication.
 */
import { Buffer } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { ChainSourceError } from './source.ts';

/** How to prove who asks. The cookie is read again when the node refuses it, for it changes at each start. */
export type BitcoindAuth =
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  | { readonly kind: 'cookie'; readonly path: string };

/** Where the node is, and the bounds on a call. */
export interface BitcoindRpcConfig {
  readonly host: string;
  readonly port: number;
  readonly auth: BitcoindAuth;
  /** Milliseconds for one HTTP exchange; 30,000 unless given. */
  readonly timeoutMs?: number;
  /** Largest answer in bytes; 32 MiB unless given, which holds a block in hex several times over. */
  readonly maxResponseBytes?: number;
}

/** One call of a batch. */
export interface RpcCall {
  readonly method: string;
  readonly params: readonly unknown[];
}

/** The node understood the call and answered with an error. */
export interface RpcFailure {
  readonly code: number;
  readonly message: string;
}

export type RpcOutcome =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: RpcFailure };

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_MAX_RESPONSE_BYTES = 32 * 1024 * 1024;
const MAX_SOCKETS = 8;
/** RPC_IN_WARMUP: the node loads its index and refuses every call. */
const RPC_IN_WARMUP = -28;

/** A client of one node. Close it to let its sockets go. */
export class BitcoindRpc {
  readonly #config: BitcoindRpcConfig;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  #authorization: string | undefined;
  #nextId = 1;

  constructor(config: BitcoindRpcConfig) {
    this.#config = config;
  }

  /** Calls one method. @throws ChainSourceError, `refused` with the node's number for an error of the call itself. */
  async call(method: string, ...params: readonly unknown[]): Promise<unknown> {
    const outcome = await this.try(method, ...params);
    if (outcome.ok) return outcome.value;
    throw new ChainSourceError('refused', `${method}: ${outcome.error.message}`, outcome.error.code);
  }

  /** Calls one method; an error of the call itself is a value. @throws ChainSourceError when there is no answer. */
  async try(method: string, ...params: readonly unknown[]): Promise<RpcOutcome> {
    const id = this.#nextId++;
    return outcomeOf(await this.#exchange({ jsonrpc: '1.0', id, method, params }), id);
  }

  /** Calls several methods in one exchange; outcomes are in the calls' order. */
  async batch(calls: readonly RpcCall[]): Promise<readonly RpcOutcome[]> {
    if (calls.length === 0) return [];
    const first = this.#nextId;
    this.#nextId += calls.length;
    const answer = await this.#exchange(
      calls.map(({ method, params }, index) => ({ jsonrpc: '1.0', id: first + index, method, params })),
    );
    if (!Array.isArray(answer)) throw new ChainSourceError('malformed', 'a batch was not answered by a list');
    const byId = new Map<unknown, unknown>(
      answer.map((item: unknown) => [isRecord(item) ? item['id'] : undefined, item]),
    );
    return calls.map((_, index) => outcomeOf(byId.get(first + index), first + index));
  }

  /** Closes idle and busy sockets. */
  close(): void {
    this.#agent.destroy();
  }

  async #exchange(body: unknown): Promise<unknown> {
    const payload = Buffer.from(JSON.stringify(body));
    let response = await this.#post(payload);
    if (response.status === 401 && this.#config.auth.kind === 'cookie') {
      this.#authorization = undefined;
      response = await this.#post(payload);
    }
    if (response.status === 401 || response.status === 403)
      throw new ChainSourceError('unauthorized', `the node answered ${response.status}`);
    try {
      return JSON.parse(response.body.toString('utf8')) as unknown;
    } catch {
      // 503: the node's work queue is full; it answers in plain text.
      if (response.status === 503) throw new ChainSourceError('unreachable', 'the node is too busy');
      throw new ChainSourceError('malformed', `the answer (status ${response.status}) is not JSON`);
    }
  }

  async #authorize(): Promise<string> {
    if (this.#authorization !== undefined) return this.#authorization;
    const { auth } = this.#config;
    let credentials: string;
    if (auth.kind === 'password') {
      credentials = `${auth.user}:${auth.password}`;
    } else {
      try {
        credentials = (await readFile(auth.path, 'utf8')).trim();
      } catch {
        throw new ChainSourceError(
          'unreachable',
          'the cookie file cannot be read; the node may not be running',
        );
      }
    }
    this.#authorization = `Basic ${Buffer.from(credentials).toString('base64')}`;
    return this.#authorization;
  }

  async #post(payload: Buffer): Promise<{ status: number; body: Buffer }> {
    const authorization = await this.#authorize();
    const { host, port } = this.#config;
    const limit = this.#config.maxResponseBytes ?? DEFAULT_MAX_RESPONSE_BYTES;
    const timeoutMs = this.#config.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    return await new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(timeoutMs);
      const headers = { authorization, 'content-type': 'application/json', 'content-length': payload.length };
      const call = request(
        { host, port, method: 'POST', path: '/', agent: this.#agent, headers, signal },
        (response) => {
          const chunks: Buffer[] = [];
          let size = 0;
          response.on('data', (chunk: Buffer) => {
            size += chunk.length;
            if (size <= limit) {
              chunks.push(chunk);
              return;
            }
            // At once: the last chunk may end the answer before the request hears of its destruction.
            const error = new ChainSourceError('too-large', `the answer exceeds ${limit} bytes`);
            reject(error);
            call.destroy(error);
          });
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }),
          );
          response.on('error', (error) => reject(asChainSourceError(error, signal)));
        },
      );
      call.on('error', (error) => reject(asChainSourceError(error, signal)));
      call.end(payload);
    });
  }
}

function asChainSourceError(error: Error, signal: AbortSignal): ChainSourceError {
  if (error instanceof ChainSourceError) return error;
  if (signal.aborted) return new ChainSourceError('timeout', 'the node did not answer in time');
  return new ChainSourceError('unreachable', error.message);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function outcomeOf(answer: unknown, id: number): RpcOutcome {
  if (!isRecord(answer) || (answer['id'] !== id && answer['id'] !== null))
    throw new ChainSourceError('malformed', 'the answer is of another call');
  const error = answer['error'];
  if (error === undefined || error === null) return { ok: true, value: answer['result'] };
  if (!isRecord(error) || typeof error['code'] !== 'number')
    throw new ChainSourceError('malformed', 'the error has no number');
  const failure = { code: error['code'], message: String(error['message']) };
  if (failure.code === RPC_IN_WARMUP) throw new ChainSourceError('warming-up', failure.message, failure.code);
  return { ok: false, error: failure };
}
