/**
 * Byte streams between named hosts of one heap: the twin of the gateway's
 * sockets for simulations. Every piece passes a gate, so that a scheduler
 * decides when, and whether, it arrives.
 */

export interface SocketAddress {
  readonly host: string;
  readonly port: number;
}

/** Same shape and promises as the gateway's socket port; `socketCompliance` holds both. */
export interface Socket {
  readonly counterpartyAddress: SocketAddress;
  readonly closed: Promise<void>;
  read(): Promise<Uint8Array | undefined>;
  write(bytes: Uint8Array): Promise<void>;
  end(): void;
  reset(): void;
}

export interface SocketListener {
  readonly address: SocketAddress;
  close(): Promise<void>;
}

export interface SocketPort {
  listen(address: SocketAddress, onConnection: (socket: Socket) => void): Promise<SocketListener>;
  connect(address: SocketAddress, signal?: AbortSignal): Promise<Socket>;
}

/** A memory stream is broken, or was never made. */
export class MemorySocketError extends Error {
  override readonly name = 'MemorySocketError';
}

/** Decides when bytes of one host reach another; a promise that never settles is a dead network. */
export type SocketGate = (from: string, to: string, bytes: number) => Promise<void>;

/** Bytes that may be on their way, or unread, before a writer waits. */
const WINDOW_BYTES = 64 * 1024;
const FIRST_EPHEMERAL_PORT = 49_152;

/** One direction: what was written and not yet read. */
class Pipe {
  readonly #chunks: Uint8Array[] = [];
  readonly #gate: (bytes: number) => Promise<void>;
  #unreadBytes = 0;
  #tail: Promise<void> = Promise.resolve();
  #endWritten = false;
  #ended = false;
  #broken: MemorySocketError | undefined;
  #wake: (() => void)[] = [];

  constructor(gate: (bytes: number) => Promise<void>) {
    this.#gate = gate;
  }

  get finished(): boolean {
    return this.#ended || this.#broken !== undefined;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#mustBeWhole();
    if (this.#endWritten) throw new MemorySocketError('the connection is closed');
    const copy = new Uint8Array(bytes);
    this.#unreadBytes += copy.length;
    this.#after(copy.length, () => this.#chunks.push(copy));
    while (this.#unreadBytes >= WINDOW_BYTES) {
      await new Promise<void>((resolve) => this.#wake.push(resolve));
      this.#mustBeWhole();
    }
  }

  end(): void {
    if (this.#endWritten) return;
    this.#endWritten = true;
    this.#after(0, () => (this.#ended = true));
  }

  fail(error: MemorySocketError): void {
    if (this.#broken !== undefined) return;
    this.#broken = error;
    this.#chunks.length = 0;
    this.#notify();
  }

  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#unreadBytes -= chunk.length;
        this.#notify();
        return chunk;
      }
      this.#mustBeWhole();
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  /** Resolves once finished. */
  async whenFinished(): Promise<void> {
    while (!this.finished) await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  #after(bytes: number, deliver: () => void): void {
    this.#tail = this.#tail.then(async () => {
      await this.#gate(bytes);
      if (this.#broken !== undefined) return;
      deliver();
      this.#notify();
    });
    this.#tail.catch((error: unknown) => {
      this.fail(new MemorySocketError(error instanceof Error ? error.message : 'cut'));
    });
  }

  #mustBeWhole(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  #notify(): void {
    const waiting = this.#wake;
    this.#wake = [];
    for (const wake of waiting) wake();
  }
}

interface Endpoint {
  readonly host: string;
  readonly reset: (reason: string) => void;
}

/** One network of named hosts. */
export class MemorySockets {
  readonly #gate: SocketGate;
  readonly #listeners = new Map<string, (socket: Socket) => void>();
  readonly #endpoints = new Set<Endpoint>();
  #nextPort = FIRST_EPHEMERAL_PORT;

  constructor(gate: SocketGate = () => Promise.resolve()) {
    this.#gate = gate;
  }

  /** The network as a host sees it. Its listeners are dialled by the host that they listen on. */
  port(host: string): SocketPort {
    return {
      listen: (address, onConnection) => {
        const port = address.port === 0 ? this.#nextPort++ : address.port;
        const key = `${address.host}:${port}`;
        if (this.#listeners.has(key)) return Promise.reject(new MemorySocketError(`${key} is taken`));
        this.#listeners.set(key, onConnection);
        return Promise.resolve({
          address: { host: address.host, port },
          close: () => {
            this.#listeners.delete(key);
            return Promise.resolve();
          },
        });
      },
      connect: (address, signal) => this.#connect(host, address, signal),
    };
  }

  /** Cuts every connection of a host and its listeners, as kill -9 does. */
  crash(host: string): void {
    for (const key of [...this.#listeners.keys()]) {
      if (key.startsWith(`${host}:`)) this.#listeners.delete(key);
    }
    for (const endpoint of [...this.#endpoints])
      if (endpoint.host === host) endpoint.reset(`${host} crashed`);
  }

  async #connect(from: string, address: SocketAddress, signal?: AbortSignal): Promise<Socket> {
    const aborted = new Promise<never>((_, reject) => {
      const abort = (): void => reject(new MemorySocketError('the dial was aborted'));
      if (signal?.aborted) abort();
      signal?.addEventListener('abort', abort, { once: true });
    });
    await Promise.race([aborted, this.#gate(from, address.host, 0)]);
    const accept = this.#listeners.get(`${address.host}:${address.port}`);
    if (accept === undefined) {
      throw new MemorySocketError(`nobody listens at ${address.host}:${address.port}`);
    }
    const there = new Pipe((bytes) => this.#gate(from, address.host, bytes));
    const back = new Pipe((bytes) => this.#gate(address.host, from, bytes));
    const reset = (reason: string): void => {
      there.fail(new MemorySocketError(reason));
      back.fail(new MemorySocketError(reason));
    };
    const closed = Promise.all([there.whenFinished(), back.whenFinished()]).then(() => undefined);
    for (const host of [from, address.host]) {
      const endpoint: Endpoint = { host, reset };
      this.#endpoints.add(endpoint);
      void closed.then(() => this.#endpoints.delete(endpoint));
    }
    accept(
      socketOf({ host: from, port: this.#nextPort++ }, { incoming: there, outgoing: back, closed, reset }),
    );
    return socketOf(address, { incoming: back, outgoing: there, closed, reset });
  }
}

function socketOf(
  counterpartyAddress: SocketAddress,
  pipes: {
    readonly incoming: Pipe;
    readonly outgoing: Pipe;
    readonly closed: Promise<void>;
    readonly reset: (reason: string) => void;
  },
): Socket {
  return {
    counterpartyAddress,
    closed: pipes.closed,
    read: async () => {
      const bytes = await pipes.incoming.read();
      // As TCP without half-open streams: an end is answered by an end.
      if (bytes === undefined) pipes.outgoing.end();
      return bytes;
    },
    write: (bytes) => pipes.outgoing.write(bytes),
    end: () => pipes.outgoing.end(),
    reset: () => pipes.reset('the connection was reset'),
  };
}
