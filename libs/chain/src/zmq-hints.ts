/**
 * Hints that a block arrived, from Bitcoin Core's ZeroMQ publisher.
 *
 * A hint only saves waiting for the next poll: it may be lost, repeated or
 * false, so it carries nothing and the caller asks the node. The native
 * package loads only when hints are used.
 */
import { ChainSourceError } from './source.ts';

/** A subscription; `close` ends it and waits for its loop. */
export interface ChainHints {
  close(): Promise<void>;
}

/**
 * Calls `onHint` after every block that the node announces on `endpoint`
 * (its `zmqpubhashblock`, such as `tcp://127.0.0.1:28332`). The socket
 * reconnects by itself.
 *
 * @throws ChainSourceError `refused` when the native package cannot load or the endpoint is invalid.
 */
export async function subscribeBlockHints(endpoint: string, onHint: () => void): Promise<ChainHints> {
  let socket: import('zeromq').Subscriber;
  try {
    const zeromq = await import('zeromq');
    socket = new zeromq.Subscriber({ receiveHighWaterMark: 16 });
    socket.connect(endpoint);
    socket.subscribe('hashblock');
  } catch (error) {
    throw new ChainSourceError(
      'refused',
      `no block hints from ${endpoint}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  let closed = false;
  const loop = (async () => {
    try {
      for await (const _ of socket) onHint();
    } catch (error) {
      if (!closed) throw error;
    }
  })();
  return {
    async close() {
      closed = true;
      socket.close();
      await loop;
    },
  };
}
