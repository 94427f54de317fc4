/** A console on an in-memory network, with fake services behind it and a clock that waits for nobody. */
import { MemoryBusHub } from '@fulmen/bus';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { utf8Encode } from '@fulmen/codec';
import { ManagerServiceService } from '@fulmen/proto/manager/v1/manager';
import { type Handlers, MemoryNetwork, type RpcConnector, RpcError, type RpcServer } from '@fulmen/rpc';
import { type Logger, Metrics, type Runtime, spawnTask } from '@fulmen/service';
import type { Scope, TokenEntry } from '../auth/tokens.ts';
import type { ConsoleConfig } from '../config.ts';
import type { EventReader, StoredEvent } from '../events/reader.ts';
import { type ConsolePorts, startConsole } from '../start.ts';

export type ManagerHandlers = Handlers<typeof ManagerServiceService>;

/**
 * Time moves when somebody sleeps: a sleep ends at once, after other work that
 * is ready. Background tasks do not sleep at all, they end: their clocks are
 * moved by the tests.
 */
export function fastRuntime(): Runtime {
  let nowMs = 1_000_000;
  return {
    wallClockMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async (ms) => {
      nowMs += ms;
      await new Promise<void>((resolve) => setImmediate(resolve));
    },
    randomBytes: (length) => new Uint8Array(length).fill(7),
    spawn: (name) =>
      spawnTask(
        name,
        () => Promise.resolve(),
        () => undefined,
      ),
  };
}

export const tokenText = (digit: string): string => digit.repeat(64);

export function tokenEntry(name: string, token: string, scopes: readonly Scope[]): TokenEntry {
  return { name, scopes: new Set(scopes), sha256: sha256(utf8Encode(token)) };
}

/** Handlers that refuse, but for those given. */
export function manager(handlers: Partial<ManagerHandlers>): ManagerHandlers {
  const refusing = Object.fromEntries(
    Object.keys(ManagerServiceService).map((name) => [
      name,
      () => Promise.reject(new RpcError('unimplemented', name)),
    ]),
  );
  return { ...(refusing as unknown as ManagerHandlers), ...handlers };
}

export const redirect = (owner: string): Promise<never> =>
  Promise.reject(new RpcError('failed_precondition', 'not mine', { 'fulmen-owner-address': owner }));

/** An event log in memory; `append` may be told to be silent, as a lost hint is. */
export class MemoryEvents implements EventReader {
  readonly events: StoredEvent[] = [];
  reads = 0;

  append(type: string): void {
    const position = BigInt(this.events.length + 1);
    this.events.push({
      position,
      event: { type, timeUnixMs: 1_700_000_000_000, body: `{"n":"${position}"}` },
    });
  }

  readEvents(afterPosition: bigint, limit: number): Promise<readonly StoredEvent[]> {
    this.reads += 1;
    return Promise.resolve(this.events.filter(({ position }) => position > afterPosition).slice(0, limit));
  }
}

/** A logger that keeps its lines. */
export function keepingLogger(lines: { message: string; fields: Record<string, unknown> }[]): Logger {
  const make = (base: object): Logger => {
    const keep = (fields: object, message: string): void =>
      void lines.push({ message, fields: { ...base, ...fields } });
    return {
      debug: keep,
      info: keep,
      warn: keep,
      error: keep,
      child: (fields) => make({ ...base, ...fields }),
    };
  };
  return make({});
}

export const CONFIG: ConsoleConfig = {
  fleet: {
    managers: ['manager-a', 'manager-b'],
    chain: ['chain'],
    routers: ['router'],
    signers: [],
    gateways: [],
  },
  alias: 'ada',
  publicAddresses: ['node.example.com:9735'],
  limits: { callsPerSecond: 50, concurrentCallsOfToken: 8, concurrentCalls: 16, subscribers: 2 },
};

export const ADMIN = tokenText('a');
export const READER = tokenText('b');
export const PAYER = tokenText('c');

export interface TestConsoleOptions {
  readonly config?: Partial<ConsoleConfig>;
  readonly runtime?: Runtime;
  /** Instead of the in-memory one, for tests that need a socket. */
  readonly server?: RpcServer;
  /** To the fleet, instead of the in-memory one. */
  readonly connector?: RpcConnector;
}

export async function startTestConsole(options: TestConsoleOptions = {}) {
  const network = new MemoryNetwork();
  const hub = new MemoryBusHub();
  const lines: { message: string; fields: Record<string, unknown> }[] = [];
  const events = new MemoryEvents();
  let tokens = [
    tokenEntry('admin', ADMIN, ['admin']),
    tokenEntry('dashboard', READER, ['read']),
    tokenEntry('bot', PAYER, ['read', 'pay', 'invoices']),
  ];
  const ports: ConsolePorts = {
    runtime: options.runtime ?? fastRuntime(),
    logger: keepingLogger(lines),
    metrics: new Metrics('console'),
    server: options.server ?? network.server('console'),
    connectorOf: () => options.connector ?? network.connector('console', ['console']),
    bus: hub.connect('console'),
    events,
    tokens: { load: () => Promise.resolve(tokens) },
    curve: secp256k1,
  };
  const service = await startConsole({ ...CONFIG, ...options.config }, ports);
  const serve = async (address: string, handlers: Partial<ManagerHandlers>): Promise<RpcServer> => {
    const server = network.server(address);
    server.add(ManagerServiceService, manager(handlers));
    await server.listen();
    return server;
  };
  return {
    network,
    service,
    events,
    serve,
    audit: () => lines.filter(({ fields }) => fields['log'] === 'audit').map(({ fields }) => fields),
    lines,
    /** What the tokens' file says from now on; it is read when the console reloads it. */
    setTokens: (entries: TokenEntry[]) => void (tokens = entries),
    hint: () => hub.connect('manager').publish('fulmen.event'),
    client: <S>(definition: S) => network.connector('user', []).client(definition, 'console'),
  };
}

export const as = (token: string) => ({ metadata: { authorization: `Bearer ${token}` } });
