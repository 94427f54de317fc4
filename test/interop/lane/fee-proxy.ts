/**
 * A proxy before bitcoind: everything passes, except that estimatesmartfee answers what a case has set. On regtest the
 * node itself knows no feerates. Requests are cut out of the stream and answers pass as bytes: hundreds of calls a
 * second go through here, beside everything else that the lane does.
 */
import net from 'node:net';

interface Call {
  readonly method?: unknown;
  readonly id?: unknown;
}

/** BTC per 1000 bytes, as Bitcoin Core answers, for sat per 1000 weight. */
const btcPerKvB = (feerateSatPerKw: number): number => (feerateSatPerKw * 4) / 1e8;

const END_OF_HEAD = '\r\n\r\n';
/** No request of a node's is as long. */
const MAX_REQUEST_BYTES = 32 * 2 ** 20;

export class FeeProxy {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  /** What every estimate answers, in sat per 1000 weight; undefined: what the node says. */
  feerateSatPerKw: number | undefined;

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = net.createServer({ noDelay: true }, (client) => this.#serve(client, target));
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

  #serve(client: net.Socket, target: { readonly host: string; readonly port: number }): void {
    const node = net.connect({ ...target, noDelay: true });
    // Each sees what it would see of the other: a connection that ends or breaks.
    for (const [one, other] of [
      [client, node],
      [node, client],
    ] as const) {
      this.#sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    node.pipe(client);
    let waiting: Buffer = Buffer.alloc(0);
    client.on('data', (part: Buffer) => {
      waiting = waiting.length === 0 ? part : Buffer.concat([waiting, part]);
      for (;;) {
        const bytes = requestBytes(waiting);
        if (bytes > MAX_REQUEST_BYTES) return void client.destroy();
        if (bytes === 0 || bytes > waiting.length) return;
        const request = waiting.subarray(0, bytes);
        waiting = waiting.subarray(bytes);
        // Nobody asks again before the answer is there: it cannot come between two others.
        const answer = this.#answer(request);
        if (answer === undefined) node.write(request);
        else client.write(answer);
      }
    });
  }

  /** The whole answer to a request for estimates alone. */
  #answer(request: Buffer): string | undefined {
    const { feerateSatPerKw } = this;
    if (feerateSatPerKw === undefined || !request.includes('estimatesmartfee')) return undefined;
    const calls = JSON.parse(request.subarray(request.indexOf(END_OF_HEAD)).toString()) as
      | Call
      | readonly Call[];
    const answerOf = ({ id }: Call): object => ({
      result: { feerate: btcPerKvB(feerateSatPerKw), blocks: 6 },
      error: null,
      id,
    });
    const isOne = 'method' in calls;
    const asked = isOne ? [calls] : (calls as readonly Call[]);
    if (!asked.every(({ method }) => method === 'estimatesmartfee')) return undefined;
    const answers = asked.map(answerOf);
    const body = JSON.stringify(isOne ? answers[0] : answers);
    return `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}${END_OF_HEAD}${body}`;
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** How many bytes the first request has, of which the head is here; 0: it is not. */
function requestBytes(waiting: Buffer): number {
  const head = waiting.indexOf(END_OF_HEAD);
  if (head < 0) return 0;
  const length = /^content-length: *(\d+)/im.exec(waiting.subarray(0, head).toString('latin1'))?.[1];
  return head + END_OF_HEAD.length + Number(length ?? 0);
}
