/** The NATS adapter of the hint bus: plain core NATS, reconnecting for ever, never waited for. */
import { connect, type NatsConnection, type Subscription } from 'nats';
import type { Bus } from './bus.ts';

export interface NatsBusOptions {
  readonly servers: readonly string[];
  readonly name: string;
  /** Told when the connection comes and goes. */
  readonly onStatus?: (connected: boolean) => void;
}

/** Pause between first attempts while no server answers; after that the client reconnects by itself. */
const RETRY_MS = 500;

/** Returns at once: hints begin to flow when the server answers. */
export function natsBus(options: NatsBusOptions): Bus {
  let connection: NatsConnection | undefined;
  let connected = false;
  let closed = false;
  let retry: NodeJS.Timeout | undefined;
  const subscriptions = new Set<{
    pattern: string;
    listener: (subject: string, payload: Uint8Array) => void;
    active?: Subscription;
  }>();

  const setConnected = (value: boolean): void => {
    if (connected === value) return;
    connected = value;
    options.onStatus?.(value);
  };

  const attach = (entry: {
    pattern: string;
    listener: (subject: string, payload: Uint8Array) => void;
    active?: Subscription;
  }): void => {
    if (connection === undefined) return;
    entry.active = connection.subscribe(entry.pattern, {
      callback: (error, message) => {
        if (error !== null) return;
        try {
          // A plain array, as every implementation of the port gives.
          entry.listener(message.subject, Uint8Array.from(message.data));
        } catch {
          // A hint is never worth a crash: what it hinted at is in the database.
        }
      },
    });
  };

  const open = async (): Promise<void> => {
    try {
      const made = await connect({
        servers: [...options.servers],
        name: options.name,
        maxReconnectAttempts: -1,
        reconnectTimeWait: RETRY_MS,
        timeout: 2_000,
        pingInterval: 5_000,
        maxPingOut: 2,
      });
      if (closed) return void made.close();
      connection = made;
      setConnected(true);
      for (const entry of subscriptions) attach(entry);
      void (async () => {
        for await (const status of made.status()) {
          if (status.type === 'disconnect') setConnected(false);
          if (status.type === 'reconnect') setConnected(true);
        }
      })();
      void made.closed().then(() => setConnected(false));
    } catch {
      if (!closed) retry = setTimeout(() => void open(), RETRY_MS);
    }
  };
  void open();

  return {
    get connected() {
      return connected;
    },
    publish: (subject, payload) => {
      // While disconnected the client would buffer without bound; hints of the past are worthless.
      if (connection === undefined || !connected || connection.isClosed()) return;
      try {
        connection.publish(subject, payload);
      } catch {
        setConnected(false);
      }
    },
    subscribe: (pattern, listener) => {
      const entry = { pattern, listener };
      subscriptions.add(entry);
      attach(entry);
      return () => {
        subscriptions.delete(entry);
        (entry as { active?: Subscription }).active?.unsubscribe();
      };
    },
    close: async () => {
      closed = true;
      clearTimeout(retry);
      await connection?.close();
    },
  };
}
