/**
 * The port for byte streams to counterparties. Reading is pulled, so that who
 * does not read slows the other side down; writing waits while the socket's
 * buffer is full. The in-memory twin for simulations is in the test library;
 * one suite holds both.
 */

/** A place to dial, or where a connection came from. */
export interface SocketAddress {
  readonly host: string;
  readonly port: number;
}

/** One byte stream. */
export interface Socket {
  readonly counterpartyAddress: SocketAddress;
  /** Settles, never rejecting, once nothing more comes or goes. */
  readonly closed: Promise<void>;
  /** The next bytes in any pieces; undefined when the counterparty ended. One read at a time. Rejects when broken. */
  read(): Promise<Uint8Array | undefined>;
  /** Resolves when the bytes are handed over and there is room again. Rejects when broken. */
  write(bytes: Uint8Array): Promise<void>;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes at once; what was written may be lost. */
  reset(): void;
}

export interface SocketListener {
  readonly address: SocketAddress;
  /** Accepts no more. Connections made stay. */
  close(): Promise<void>;
}

export interface SocketPort {
  /** Port 0 picks one. */
  listen(address: SocketAddress, onConnection: (socket: Socket) => void): Promise<SocketListener>;
  /** Rejects when nobody answers or the signal fires. */
  connect(address: SocketAddress, signal?: AbortSignal): Promise<Socket>;
}

/** The stream is broken, or was never made. */
export class SocketError extends Error {
  override readonly name = 'SocketError';
}
