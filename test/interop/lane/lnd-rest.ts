/** LND's REST interface: calls, streams, and refusals as errors. */
import { once } from 'node:events';
import fs from 'node:fs';
import type { ClientRequest, IncomingMessage } from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { PeerError } from './peer.ts';

/** An attempt to pay may wait a minute at the payee, which fails it then. */
const CALL_TIMEOUT_MS = 90_000;

export type Json = Readonly<Record<string, unknown>>;

/** gRPC's canceled and unavailable. */
const CUT_CODES = [1, 14];

class LndRefusal extends PeerError {
  readonly #code: number | undefined;

  /** @param code gRPC's, where LND's proxy says one */
  constructor(message: string, code: number | undefined) {
    super(message);
    this.#code = code;
  }

  get isCut(): boolean {
    return CUT_CODES.includes(this.#code ?? 0) || this.message.includes('server shutting down');
  }
}

/** Whether LND refused, and was not stopped over it. */
export function isRefusal(error: unknown): error is PeerError {
  return error instanceof PeerError && !(error instanceof LndRefusal && error.isCut);
}

export class LndRest {
  readonly #name: string;
  readonly #dataDir: string;
  readonly #port: number;
  /** Polls reuse their connections; a restart closes them. */
  #agent = new https.Agent({ keepAlive: true });

  constructor(options: { readonly name: string; readonly dataDir: string; readonly port: number }) {
    this.#name = options.name;
    this.#dataDir = options.dataDir;
    this.#port = options.port;
  }

  /** Ends the connections: the process does. */
  reset(): void {
    this.#agent.destroy();
    this.#agent = new https.Agent({ keepAlive: true });
  }

  /** @throws PeerError when LND refuses, or does not answer in time */
  async call(method: 'GET' | 'POST' | 'DELETE', route: string, body?: Json): Promise<Json> {
    const parsed = JSON.parse(await this.#request(method, route, body)) as Json;
    return parsed;
  }

  /** Every line of a stream that ends by itself; said once, whatever becomes of it: a payment is one. */
  async stream(method: 'GET' | 'POST', route: string, body?: Json): Promise<readonly Json[]> {
    const text = await this.#textOf(
      await this.#ask(this.#open(method, route, new https.Agent()), route, body),
      route,
    );
    return text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .flatMap((line): readonly Json[] => {
        const { result } = JSON.parse(line) as { readonly result?: Json };
        return result === undefined ? [] : [result];
      });
  }

  /** Resolves with the first line of a stream that stays open. */
  async firstLine(method: string, route: string): Promise<void> {
    const request = this.#open(method, route);
    request.end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    try {
      for await (const part of response) {
        const text = String(part);
        if (response.statusCode !== 200 || text.includes('"error"')) throw new PeerError(`${route}: ${text}`);
        return;
      }
    } finally {
      request.destroy();
    }
  }

  async #request(method: string, route: string, body: Json | undefined): Promise<string> {
    return this.#textOf(await this.#responseTo(method, route, body), route);
  }

  async #textOf(response: IncomingMessage, route: string): Promise<string> {
    const parts: Buffer[] = [];
    for await (const part of response) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString();
    if (response.statusCode !== 200) {
      const { message = text, error } = JSON.parse(text) as {
        readonly message?: string;
        readonly error?: { readonly code?: number; readonly message?: string };
      };
      throw new LndRefusal(`${this.#name} refuses ${route}: ${error?.message ?? message}`, error?.code);
    }
    return text;
  }

  /** Asks again on a new connection where LND had ended the idle one: it has not seen the call then. */
  async #responseTo(method: string, route: string, body: Json | undefined): Promise<IncomingMessage> {
    for (;;) {
      const request = this.#open(method, route);
      try {
        return await this.#ask(request, route, body);
      } catch (error) {
        const isReset = error instanceof Error && 'code' in error && error.code === 'ECONNRESET';
        if (!isReset || !request.reusedSocket) throw error;
      }
    }
  }

  async #ask(request: ClientRequest, route: string, body: Json | undefined): Promise<IncomingMessage> {
    request.setTimeout(CALL_TIMEOUT_MS, () => request.destroy(new PeerError(`${route}: no answer`)));
    request.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    return response;
  }

  #open(method: string, route: string, agent = this.#agent): ClientRequest {
    const macaroon = fs
      .readFileSync(path.join(this.#dataDir, 'data/chain/bitcoin/regtest/admin.macaroon'))
      .toString('hex');
    return https.request({
      host: '127.0.0.1',
      port: this.#port,
      path: route,
      method,
      ca: fs.readFileSync(path.join(this.#dataDir, 'tls.cert')),
      headers: { 'Grpc-Metadata-macaroon': macaroon },
      agent,
    });
  }
}
