/**
 * A TCP proxy before a gateway that can cut a connection after any piece of
 * what passes. Frames are encrypted and so are their lengths, but nodes write a
 * message, or a few of one turn, at once: cutting after the first, second,
 * third… piece of either direction cuts at every message of a dance.
 */
import net from 'node:net';

export type Direction = 'from_peer' | 'to_peer';

export class CutProxy {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #armed: { readonly direction: Direction; left: number; readonly onCut: () => void } | undefined;

  private constructor(server: net.Server) {
    this.#server = server;
  }

  /** @param targetPorts tried in turn: a gateway may be away. */
  static async start(targetPorts: readonly number[]): Promise<CutProxy> {
    const server = net.createServer({ noDelay: true });
    const proxy = new CutProxy(server);
    let turn = 0;
    server.on('connection', (client) => {
      const target = net.connect({
        host: '127.0.0.1',
        port: targetPorts[turn++ % targetPorts.length] ?? 0,
        noDelay: true,
      });
      proxy.#join(client, target, 'from_peer');
      proxy.#join(target, client, 'to_peer');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  #join(from: net.Socket, to: net.Socket, direction: Direction): void {
    this.#sockets.add(from);
    from.on('data', (piece) => {
      if (this.#takes(direction)) {
        this.cut();
        return;
      }
      to.write(piece);
    });
    const end = (): void => {
      this.#sockets.delete(from);
      to.destroy();
    };
    from.on('close', end);
    from.on('error', end);
  }

  /** Whether this piece is the one that is lost. */
  #takes(direction: Direction): boolean {
    const armed = this.#armed;
    if (armed === undefined || armed.direction !== direction) return false;
    if (armed.left > 0) {
      armed.left -= 1;
      return false;
    }
    this.#armed = undefined;
    armed.onCut();
    return true;
  }

  /** Lets `pieces` more pieces of a direction pass; the next is lost and the connection cut. */
  cutAfter(direction: Direction, pieces: number, onCut: () => void = () => undefined): void {
    this.#armed = { direction, left: pieces, onCut };
  }

  /** Whether the cut that was asked for has not come. */
  get isArmed(): boolean {
    return this.#armed !== undefined;
  }

  disarm(): void {
    this.#armed = undefined;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
