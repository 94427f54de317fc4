/**
 * A TCP proxy before one gateway after the other that can leave a connection half open: the peer's side ends, and the
 * fleet's side stays, silent, as when a router in between forgets it.
 */
import net from 'node:net';

export class HalfOpenProxy {
  readonly #server: net.Server;
  readonly #clients = new Set<net.Socket>();
  readonly #targets = new Set<net.Socket>();

  private constructor(server: net.Server) {
    this.#server = server;
  }

  /**
   * @param targetPort where the next connection goes
   * @param host where it listens
   */
  static async start(targetPort: () => number, host = '127.0.0.1'): Promise<HalfOpenProxy> {
    const server = net.createServer({ noDelay: true });
    const proxy = new HalfOpenProxy(server);
    server.on('connection', (client) => proxy.#join(client, targetPort()));
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  #join(client: net.Socket, port: number): void {
    const target = net.connect({ host: '127.0.0.1', port, noDelay: true });
    this.#clients.add(client);
    this.#targets.add(target);
    client.on('data', (bytes) => target.write(bytes));
    target.on('data', (bytes) => client.writable && client.write(bytes));
    for (const socket of [client, target]) socket.on('error', () => undefined);
    client.on('close', () => {
      // Gone unless it was left half open before.
      if (this.#clients.delete(client)) target.destroy();
    });
    target.on('close', () => {
      this.#targets.delete(target);
      client.destroy();
    });
  }

  /** Ends the peer's side of every connection, and says nothing to the fleet. */
  leaveHalfOpen(): void {
    const clients = [...this.#clients];
    this.#clients.clear();
    for (const client of clients) client.destroy();
  }

  async stop(): Promise<void> {
    for (const socket of [...this.#clients, ...this.#targets]) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
