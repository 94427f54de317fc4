/**
 * A TCP proxy before the gateways that can cut a connection, or tell, at any piece of what passes. Frames are encrypted
 * and so are their lengths, but nodes write a message, or a few of one turn, at once: acting at the first, second,
 * third… piece of either direction acts at every message of a conversation. A cut within a piece lets its first half
 * pass, so that of several messages in one piece the first arrive and the last does not.
 */
import net from 'node:net';

export type Direction = 'from_peer' | 'to_peer';

/** What happens to the piece: lost with the connection, half of it lost with the connection, or delivered and told. */
export type CutKind = 'before' | 'within' | 'tell';

interface Trap {
  readonly direction: Direction;
  readonly kind: CutKind;
  readonly onPiece: () => void;
  left: number;
}

export class CutProxy {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #trap: Trap | undefined;

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
    from.on('data', (piece: Buffer) => {
      const trap = this.#sprung(direction);
      if (trap === undefined || trap.kind === 'tell') to.write(piece);
      else if (trap.kind === 'within') to.write(piece.subarray(0, piece.length >> 1), () => this.cut());
      else this.cut();
      trap?.onPiece();
    });
    const end = (): void => {
      this.#sockets.delete(from);
      to.destroy();
    };
    from.on('close', end);
    from.on('error', end);
  }

  /** The trap, if this piece is the one that it waits for. */
  #sprung(direction: Direction): Trap | undefined {
    const trap = this.#trap;
    if (trap === undefined || trap.direction !== direction) return undefined;
    if (trap.left > 0) {
      trap.left -= 1;
      return undefined;
    }
    this.#trap = undefined;
    return trap;
  }

  /** Lets `pieces` more pieces of a direction pass, and acts at the next. */
  setTrap(direction: Direction, kind: CutKind, pieces: number, onPiece: () => void): void {
    this.#trap = { direction, kind, left: pieces, onPiece };
  }

  disarm(): void {
    this.#trap = undefined;
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
