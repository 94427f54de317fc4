/** Starts a development chain that listens on loopback. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { DevChain } from './devchain.ts';
import type { MempoolPolicy } from './policy.ts';
import { createRpcServer } from './rpc-server.ts';

/** Configuration of `startDevChain`. */
export interface StartDevChainOptions {
  /** Folder of its journal; without one it forgets everything at the end. */
  readonly dataDir?: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly rpcUser: string;
  readonly rpcPassword: string;
  /** Only `regtest` exists: anything else is refused, lest somebody believes to be on a real network. */
  readonly network: string;
  readonly policy?: Partial<MempoolPolicy>;
  readonly host?: string;
}

/** A running development chain. */
export interface RunningDevChain {
  readonly port: number;
  readonly host: string;
  /** The chain itself, for tests in the same process. */
  readonly devChain: DevChain;
  /** Resolves when a client asked it to stop, or `stop` was called. */
  readonly stopped: Promise<void>;
  stop(): Promise<void>;
}

/** The configuration cannot be served. */
export class DevChainConfigError extends Error {
  override readonly name = 'DevChainConfigError';
}

/** Starts the chain and its RPC server. @throws DevChainConfigError for a network other than regtest. */
export async function startDevChain(options: StartDevChainOptions): Promise<RunningDevChain> {
  if (options.network !== 'regtest')
    throw new DevChainConfigError(`the development chain is regtest only, not ${options.network}`);
  if (options.rpcUser === '' || options.rpcPassword === '')
    throw new DevChainConfigError('the development chain needs an RPC user and password');
  const { dataDir, policy } = options;
  const devChain = new DevChain({
    ...(dataDir === undefined ? {} : { dataDir }),
    ...(policy === undefined ? {} : { policy }),
  });
  let finish: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => (finish = resolve));
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    const closed = once(server, 'close');
    server.close();
    server.closeIdleConnections();
    // Calls are answered at once, so what is still open afterwards waits for its client.
    setImmediate(() => server.closeAllConnections());
    await closed;
    devChain.close();
    finish();
  };
  const stop = (): Promise<void> => (closing ??= close());
  const server = createRpcServer(devChain, {
    rpcUser: options.rpcUser,
    rpcPassword: options.rpcPassword,
    onStop: () => void setImmediate(stop),
  });
  const host = options.host ?? '127.0.0.1';
  server.listen(options.port, host);
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, host, devChain, stopped, stop };
}
