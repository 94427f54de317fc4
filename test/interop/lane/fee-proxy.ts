/**
 * An HTTP proxy before bitcoind: everything passes, except that estimatesmartfee answers what a case has set. On regtest
 * the node itself knows no feerates.
 */
import http from 'node:http';

interface Call {
  readonly method?: unknown;
  readonly id?: unknown;
}

/** BTC per 1000 bytes, as Bitcoin Core answers, for sat per 1000 weight. */
const btcPerKvB = (feerateSatPerKw: number): number => (feerateSatPerKw * 4) / 1e8;

export class FeeProxy {
  readonly #server: http.Server;
  readonly #agent = new http.Agent({ keepAlive: true });
  /** What every estimate answers, in sat per 1000 weight; undefined: what the node says. */
  feerateSatPerKw: number | undefined;

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = http.createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('error', () => response.destroy());
      request.on('end', () => {
        const body = Buffer.concat(parts);
        const answer = this.#answer(body);
        if (answer === undefined) this.#pass(target, request, body, response);
        else response.writeHead(200, { 'content-type': 'application/json' }).end(answer);
      });
    });
    // Clients keep their connections for as long as they like.
    this.#server.keepAliveTimeout = 0;
    this.#server.requestTimeout = 0;
  }

  static async start(target: { readonly host: string; readonly port: number }): Promise<FeeProxy> {
    const proxy = new FeeProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  #answer(body: Buffer): string | undefined {
    const { feerateSatPerKw } = this;
    if (feerateSatPerKw === undefined || !body.includes('estimatesmartfee')) return undefined;
    const calls = JSON.parse(body.toString()) as Call | readonly Call[];
    const answerOf = ({ id }: Call): object => ({
      result: { feerate: btcPerKvB(feerateSatPerKw), blocks: 6 },
      error: null,
      id,
    });
    if (!('method' in calls))
      return (calls as readonly Call[]).every(({ method }) => method === 'estimatesmartfee')
        ? JSON.stringify((calls as readonly Call[]).map(answerOf))
        : undefined;
    return calls.method === 'estimatesmartfee' ? JSON.stringify(answerOf(calls)) : undefined;
  }

  #pass(
    target: { readonly host: string; readonly port: number },
    { method, url, headers }: http.IncomingMessage,
    body: Buffer,
    response: http.ServerResponse,
  ): void {
    const onward = http.request(
      { ...target, ...(method !== undefined && { method }), path: url ?? '/', headers, agent: this.#agent },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    // The client sees what it would see of the node itself: a connection that breaks.
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    onward.end(body);
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
