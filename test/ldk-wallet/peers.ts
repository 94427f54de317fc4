// TCP for LDK's PeerManager, and connections that are kept.
//
// Written here rather than taken from `lightningdevkit-node-net`, for two reasons: that package stops
// sending for good after the first full socket buffer, and what goes out must wait until the state
// behind it is saved. So bytes are gathered, and `flush` sends them after the save.
import net from 'node:net';
import { ldk, fromHex, safely, toHex } from './ldk.ts';

/** A peer that the wallet keeps connected to. */
export type WantedPeer = { readonly nodeId: string; readonly host: string; readonly port: number };

const SEND_BUFFER_BYTES = 1 << 20;
const RECONNECT_FIRST_MS = 100;
const RECONNECT_LAST_MS = 5_000;

type Connection = {
  readonly socket: net.Socket;
  readonly descriptor: ldk.SocketDescriptor;
  queue: Uint8Array[];
  queuedBytes: number;
  waiting: boolean;
  /** The handler has been told that it is over, or has asked for it. */
  over: boolean;
};

/** What the network needs of the wallet. */
export type PeersHost = {
  readonly manager: ldk.PeerManager;
  /** Something arrived: process it, save, then flush. */
  wake(): void;
  report(error: unknown): void;
};

/** Sockets and the peers that are wanted. */
export class Peers {
  readonly #host: PeersHost;
  readonly #connections = new Set<Connection>();
  readonly #wanted = new Map<
    string,
    WantedPeer & { retryMs: number; timer: NodeJS.Timeout | undefined; dialing: boolean }
  >();
  #server: net.Server | undefined;
  #nextId = 0n;
  #stopped = false;

  constructor(host: PeersHost) {
    this.#host = host;
  }

  /** Listens; gives the port, which the system chose when 0 was asked for. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const server = net.createServer((socket) => {
        const connection = this.#add(socket);
        const accepted = this.#host.manager.new_inbound_connection(connection.descriptor, noAddress());
        if (!accepted.is_ok()) this.#drop(connection);
        this.#host.wake();
      });
      server.once('error', reject);
      server.listen(port, host, () => resolve((server.address() as net.AddressInfo).port));
      this.#server = server;
    });
  }

  connected(): string[] {
    return this.#host.manager.list_peers().map((peer) => toHex(peer.get_counterparty_node_id()));
  }

  wanted(): WantedPeer[] {
    return [...this.#wanted.values()].map(({ nodeId, host, port }) => ({ nodeId, host, port }));
  }

  /** Connects, and again whenever the connection is lost. */
  want(peer: WantedPeer): void {
    this.#clear(peer.nodeId);
    this.#wanted.set(peer.nodeId, { ...peer, retryMs: RECONNECT_FIRST_MS, timer: undefined, dialing: false });
    this.#dial(peer.nodeId);
  }

  /** Ends the connection and does not come back. */
  unwant(nodeId: string): void {
    this.#clear(nodeId);
    this.#host.manager.disconnect_by_node_id(fromHex(nodeId, 33));
  }

  /** Sends what was gathered. Call it after the state was saved. */
  flush(): void {
    for (const connection of this.#connections) {
      const { queue } = connection;
      if (queue.length === 0) continue;
      connection.queue = [];
      connection.queuedBytes = 0;
      if (!connection.socket.destroyed) connection.socket.write(Buffer.concat(queue));
      if (connection.waiting) this.#roomAgain(connection);
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const nodeId of this.#wanted.keys()) this.#clear(nodeId);
    this.#server?.close();
    this.#host.manager.disconnect_all_peers();
    for (const connection of this.#connections) connection.socket.destroy();
  }

  #clear(nodeId: string): void {
    clearTimeout(this.#wanted.get(nodeId)?.timer);
    this.#wanted.delete(nodeId);
  }

  #dial(nodeId: string): void {
    const peer = this.#wanted.get(nodeId);
    if (peer === undefined || peer.dialing || this.#stopped) return;
    peer.dialing = true;
    const socket = net.connect({ host: peer.host, port: peer.port, noDelay: true });
    socket.once('error', () => undefined);
    socket.once('connect', () => {
      const connection = this.#add(socket);
      const started = this.#host.manager.new_outbound_connection(
        fromHex(nodeId, 33),
        connection.descriptor,
        noAddress(),
      );
      if (started instanceof ldk.Result_CVec_u8ZPeerHandleErrorZ_OK) {
        connection.queue.push(Uint8Array.from(started.res));
        peer.retryMs = RECONNECT_FIRST_MS;
      } else this.#drop(connection);
      this.#host.wake();
    });
    socket.once('close', () => {
      peer.dialing = false;
      if (this.#wanted.get(nodeId) !== peer || this.#stopped) return;
      peer.timer = setTimeout(() => {
        // The peer may have connected to the wallet meanwhile.
        if (this.connected().includes(nodeId))
          peer.timer = setTimeout(() => this.#dial(nodeId), RECONNECT_LAST_MS);
        else this.#dial(nodeId);
      }, peer.retryMs);
      peer.retryMs = Math.min(RECONNECT_LAST_MS, peer.retryMs * 2);
    });
  }

  #add(socket: net.Socket): Connection {
    const id = (this.#nextId += 1n);
    const { report } = this.#host;
    const descriptor = ldk.SocketDescriptor.new_impl({
      send_data: safely(
        report,
        () => 0,
        (data: Uint8Array, resumeRead: boolean) => {
          if (resumeRead) socket.resume();
          if (connection.queuedBytes + socket.writableLength > SEND_BUFFER_BYTES) {
            connection.waiting = true;
            return 0;
          }
          // The bytes belong to the caller's memory: copy.
          connection.queue.push(Uint8Array.from(data));
          connection.queuedBytes += data.length;
          return data.length;
        },
      ),
      disconnect_socket: safely(
        report,
        () => undefined,
        () => {
          connection.over = true;
          // What was said before the end (an error message) still goes out.
          if (!socket.destroyed) socket.end(Buffer.concat(connection.queue));
          connection.queue = [];
          socket.destroySoon();
        },
      ),
      eq: safely(
        report,
        () => false,
        (other: ldk.SocketDescriptor) => other.hash() === id,
      ),
      hash: () => id,
    });
    const connection: Connection = {
      socket,
      descriptor,
      queue: [],
      queuedBytes: 0,
      waiting: false,
      over: false,
    };
    this.#connections.add(connection);
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    socket.on('drain', () => this.#roomAgain(connection));
    socket.on('data', (chunk: Buffer) => {
      const read = this.#host.manager.read_event(descriptor, Uint8Array.from(chunk));
      if (!(read instanceof ldk.Result_boolPeerHandleErrorZ_OK)) this.#drop(connection);
      else if (read.res) socket.pause();
      this.#host.wake();
    });
    socket.on('close', () => {
      this.#connections.delete(connection);
      if (!connection.over) this.#host.manager.socket_disconnected(descriptor);
      connection.over = true;
      this.#host.wake();
    });
    return connection;
  }

  #roomAgain(connection: Connection): void {
    if (!connection.waiting || connection.over) return;
    connection.waiting = false;
    if (!this.#host.manager.write_buffer_space_avail(connection.descriptor).is_ok()) this.#drop(connection);
    this.#host.wake();
  }

  /** LDK refused the connection: it must not be told about its end. */
  #drop(connection: Connection): void {
    connection.over = true;
    connection.socket.destroySoon();
  }
}

function noAddress(): ldk.Option_SocketAddressZ {
  return ldk.Option_SocketAddressZ.constructor_none();
}
