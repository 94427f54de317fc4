/**
 * HTTP to an Esplora server: keep-alive, a time limit for each request, a
 * bound on the answer's size and on requests under way.
 */
import { Buffer } from 'node:buffer';
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { ChainSourceError } from './source.ts';

/** Where the server is, and the bounds on a request. */
export interface EsploraConfig {
  /** Base address of the API, such as `http://127.0.0.1:3000` or `https://host/api`. */
  readonly url: string;
  /** Milliseconds for one exchange; 30,000 unless given. */
  readonly timeoutMs?: number;
  /** Largest answer in bytes; 16 MiB unless given. */
  readonly maxResponseBytes?: number;
}

/** The server's refusal of what was posted. */
export type PostOutcome =
  | { readonly kind: 'ok'; readonly body: string }
  | { readonly kind: 'refused'; readonly status: number; readonly body: string };

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_MAX_RESPONSE_BYTES = 16 * 1024 * 1024;
/** Requests under way at once. */
export const MAX_CONCURRENT_REQUESTS = 8;
/** Longest refusal that is passed on. */
const MAX_REFUSAL_LENGTH = 500;

export class EsploraHttp {
  readonly #base: URL;
  readonly #timeoutMs: number;
  readonly #maxResponseBytes: number;
  readonly #agent: HttpAgent;

  /** @throws ChainSourceError `refused` for an address that is none. */
  constructor(config: EsploraConfig) {
    const base = URL.parse(config.url);
    if (base === null || !['http:', 'https:'].includes(base.protocol))
      throw new ChainSourceError('refused', 'the address of the Esplora server must begin with http(s)://');
    this.#base = base;
    this.#timeoutMs = config.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#maxResponseBytes = config.maxResponseBytes ?? DEFAULT_MAX_RESPONSE_BYTES;
    const options = { keepAlive: true, maxSockets: MAX_CONCURRENT_REQUESTS };
    this.#agent = base.protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options);
  }

  close(): void {
    this.#agent.destroy();
  }

  /** The text, or undefined where the server has nothing. @throws ChainSourceError */
  async text(path: string): Promise<string | undefined> {
    const { status, body } = await this.#exchange('GET', path);
    if (status === 404) return undefined;
    if (status !== 200) throw failure(status, body);
    return body.trim();
  }

  /** The value of a JSON answer, or undefined where the server has nothing. @throws ChainSourceError */
  async json(path: string): Promise<unknown> {
    const body = await this.text(path);
    if (body === undefined) return undefined;
    try {
      return JSON.parse(body) as unknown;
    } catch {
      throw new ChainSourceError('malformed', `the answer to ${path} is not JSON`);
    }
  }

  /** @throws ChainSourceError when there is no answer */
  async post(path: string, payload: string): Promise<PostOutcome> {
    const { status, body } = await this.#exchange('POST', path, payload);
    if (status === 200) return { kind: 'ok', body: body.trim() };
    if (status >= 400 && status < 500 && ![401, 403, 429].includes(status))
      return { kind: 'refused', status, body: body.trim().slice(0, MAX_REFUSAL_LENGTH) };
    throw failure(status, body);
  }

  async #exchange(
    method: 'GET' | 'POST',
    path: string,
    payload?: string,
  ): Promise<{ readonly status: number; readonly body: string }> {
    const target = new URL(this.#base);
    target.pathname = `${this.#base.pathname.replace(/\/+$/, '')}${path}`;
    const send = target.protocol === 'https:' ? httpsRequest : httpRequest;
    const limit = this.#maxResponseBytes;
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(this.#timeoutMs);
      const headers =
        payload === undefined
          ? {}
          : { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(payload) };
      const call = send(target, { method, headers, agent: this.#agent, signal }, (response) => {
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
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
        );
        response.on('error', (error) => reject(asChainSourceError(error, signal)));
      });
      call.on('error', (error) => reject(asChainSourceError(error, signal)));
      call.end(payload);
    });
  }
}

function failure(status: number, body: string): ChainSourceError {
  const said = body.trim().slice(0, 200);
  if (status === 401 || status === 403)
    return new ChainSourceError('unauthorized', `the server answered ${status}`);
  // Too many requests, or trouble of its own: it may be over soon.
  if (status === 429 || status >= 500)
    return new ChainSourceError('unreachable', `the server answered ${status}: ${said}`);
  return new ChainSourceError('refused', `the server answered ${status}: ${said}`);
}

function asChainSourceError(error: Error, signal: AbortSignal): ChainSourceError {
  if (error instanceof ChainSourceError) return error;
  if (signal.aborted) return new ChainSourceError('timeout', 'the server did not answer in time');
  return new ChainSourceError('unreachable', error.message);
}

/** Runs `work` for each, a bounded number at once; results are in the items' order. */
export async function mapBounded<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<readonly R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) results[at] = await work(items[at] as T);
  };
  await Promise.all(Array.from({ length: Math.min(MAX_CONCURRENT_REQUESTS, items.length) }, lane));
  return results;
}
