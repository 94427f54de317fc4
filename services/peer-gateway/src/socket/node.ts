/** The socket port over TCP. */
import { connect, createServer, type Server, type Socket as TcpSocket } from 'node:net';
import {
  type Socket,
  type SocketAddress,
  SocketError,
  type SocketListener,
  type SocketPort,
} from './port.ts';

/** Bytes read ahead of the reader before the kernel is left to push back. */
const READ_AHEAD_BYTES = 64 * 1024;
/** How often the kernel probes an idle connection. */
const KEEP_ALIVE_MS = 60_000;

class NodeSocket implements Socket {
  readonly counterpartyAddress: SocketAddress;
  readonly closed: Promise<void>;
  readonly #tcp: TcpSocket;
  readonly #chunks: Uint8Array[] = [];
  #chunkBytes = 0;
  #ended = false;
  #broken: SocketError | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeWriters: (() => void)[] = [];

  constructor(tcp: TcpSocket) {
    this.#tcp = tcp;
    // BOLT 8: small messages must not wait for each other.
    tcp.setNoDelay(true);
    tcp.setKeepAlive(true, KEEP_ALIVE_MS);
    this.counterpartyAddress = { host: plainHost(tcp.remoteAddress ?? ''), port: tcp.remotePort ?? 0 };
    this.closed = new Promise((resolve) => tcp.once('close', () => resolve()));
    tcp.on('data', (chunk: Buffer) => {
      this.#chunks.push(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
      this.#chunkBytes += chunk.byteLength;
      if (this.#chunkBytes >= READ_AHEAD_BYTES) tcp.pause();
      this.#wakeReader?.();
    });
    tcp.on('end', () => {
      this.#ended = true;
      this.#wakeReader?.();
    });
    tcp.on('drain', () => this.#releaseWriters());
    tcp.on('error', (error) => (this.#broken ??= new SocketError(error.message)));
    tcp.on('close', () => {
      if (!this.#ended) this.#broken ??= new SocketError('the connection is closed');
      this.#ended = true;
      this.#wakeReader?.();
      this.#releaseWriters();
    });
  }

  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#chunkBytes -= chunk.length;
        if (this.#chunkBytes < READ_AHEAD_BYTES && this.#tcp.isPaused()) this.#tcp.resume();
        return chunk;
      }
      if (this.#broken !== undefined) throw this.#broken;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => (this.#wakeReader = resolve));
      this.#wakeReader = undefined;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#tcp.destroyed || this.#tcp.writableEnded) {
      throw this.#broken ?? new SocketError('the connection is closed');
    }
    if (this.#tcp.write(bytes)) return;
    await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
    if (this.#tcp.destroyed) throw this.#broken ?? new SocketError('the connection is closed');
  }

  end(): void {
    // What nobody will read any more must not hold up the close.
    this.#tcp.end(() => this.#tcp.resume());
  }

  reset(): void {
    this.#broken ??= new SocketError('the connection was reset');
    this.#chunks.length = 0;
    this.#tcp.resetAndDestroy();
  }

  #releaseWriters(): void {
    const writers = this.#wakeWriters;
    this.#wakeWriters = [];
    for (const wake of writers) wake();
  }
}

/** IPv4 addresses of a dual-stack listener arrive mapped into IPv6. */
function plainHost(host: string): string {
  return host.startsWith('::ffff:') && host.includes('.') ? host.slice('::ffff:'.length) : host;
}

/** TCP with TCP_NODELAY. */
export function nodeSockets(): SocketPort {
  return {
    listen: (address, onConnection) => listen(address, onConnection),
    connect: (address, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(new SocketError('the dial was aborted'));
        const tcp = connect({ host: address.host, port: address.port, noDelay: true });
        const abort = (): void => {
          tcp.destroy();
          reject(new SocketError('the dial was aborted'));
        };
        const fail = (error: Error): void => {
          signal?.removeEventListener('abort', abort);
          reject(new SocketError(error.message));
        };
        tcp.once('error', fail);
        tcp.once('connect', () => {
          signal?.removeEventListener('abort', abort);
          tcp.removeListener('error', fail);
          resolve(new NodeSocket(tcp));
        });
        signal?.addEventListener('abort', abort, { once: true });
      }),
  };
}

async function listen(
  address: SocketAddress,
  onConnection: (socket: Socket) => void,
): Promise<SocketListener> {
  const server: Server = createServer({ noDelay: true }, (tcp) => onConnection(new NodeSocket(tcp)));
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new SocketError(error.message)));
    server.listen(address.port, address.host, resolve);
  });
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
  return {
    address: { host: address.host, port },
    // Resolves at once: the callback of close() waits for connections, which have owners of their own.
    close: () => {
      server.close();
      return Promise.resolve();
    },
  };
}
