// Starts an LDK wallet process and speaks with it.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  decodeLine,
  encodeLine,
  type Handshake,
  type WalletEvent,
  type WalletMethod,
  type WalletMethods,
} from './protocol.ts';

/** How to start a wallet process. */
export type LdkWalletOptions = {
  readonly dataDir: string;
  /** JSON-RPC URL of the development chain or bitcoind, with user and password when it asks for them. */
  readonly chainUrl: string;
  /** 0 (default): a free port, kept over restarts. */
  readonly listenPort?: number;
  /** Default true. */
  readonly anchors?: boolean;
  readonly handshake?: Handshake;
  /** The wallet neither connects to peers nor listens. */
  readonly offline?: boolean;
  readonly pollMs?: number;
  readonly logLevel?: number;
};

type EventName = WalletEvent['event'];
/** The event of a name. */
export type EventOf<N extends EventName> = WalletEvent extends infer E
  ? E extends { readonly event: EventName }
    ? N extends E['event']
      ? E
      : never
    : never
  : never;

/** A failure that the wallet answered, or its death. */
export class LdkWalletError extends Error {
  override readonly name = 'LdkWalletError';
}

type Waiter = {
  readonly matches: (event: WalletEvent) => boolean;
  readonly resolve: (event: WalletEvent) => void;
};
type Pending = { readonly resolve: (value: unknown) => void; readonly reject: (error: Error) => void };

/** One wallet process. */
export class LdkWallet {
  readonly options: LdkWalletOptions;
  /** Every event so far, oldest first. */
  readonly events: WalletEvent[] = [];
  nodeId = '';
  port = 0;
  #child: ChildProcess | undefined;
  #nextId = 1;
  readonly #pending = new Map<number, Pending>();
  readonly #waiters = new Set<Waiter>();

  constructor(options: LdkWalletOptions) {
    this.options = options;
  }

  /** Starts the process and waits until it follows the chain's tip. */
  static async start(options: LdkWalletOptions): Promise<LdkWallet> {
    const wallet = new LdkWallet(options);
    await wallet.start();
    return wallet;
  }

  /** Starts it again on its data folder, after {@link stop} or {@link kill9}. */
  async start(): Promise<void> {
    const { dataDir, chainUrl, listenPort = 0, anchors = true, offline = false } = this.options;
    const { pollMs = 100, logLevel = 3, handshake = {} } = this.options;
    fs.mkdirSync(dataDir, { recursive: true });
    const main = fileURLToPath(new URL('./main.ts', import.meta.url));
    const args = [main, '--data', dataDir, '--chain', chainUrl, '--listen', String(listenPort)];
    args.push('--poll-ms', String(pollMs), '--log-level', String(logLevel));
    args.push('--handshake', encodeLine(handshake));
    if (!anchors) args.push('--no-anchors');
    if (offline) args.push('--offline');
    const stderr = fs.openSync(path.join(dataDir, 'stderr.log'), 'a');
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', stderr], detached: true });
    fs.closeSync(stderr);
    this.#child = child;
    child.stdin?.on('error', () => undefined);
    if (child.stdout !== null)
      readline.createInterface({ input: child.stdout }).on('line', (line) => this.#take(line));
    const ready = this.#next((event) => event.event === 'ready');
    const died = new Promise<never>((_resolve, reject) => {
      child.once('exit', (code, signal) => {
        const error = new LdkWalletError(`the wallet ended (${signal ?? code}); see ${dataDir}/stderr.log`);
        for (const { reject: rejectCall } of this.#pending.values()) rejectCall(error);
        this.#pending.clear();
        if (this.#child === child) this.#child = undefined;
        reject(error);
      });
    });
    died.catch(() => undefined);
    const event = (await Promise.race([ready, died])) as EventOf<'ready'>;
    this.nodeId = event.nodeId;
    this.port = event.port ?? 0;
  }

  /** Of the process, while it runs. */
  pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Calls a method; see WalletMethods. */
  async call<M extends WalletMethod>(
    method: M,
    ...[params]: Record<string, never> extends WalletMethods[M]['params']
      ? [params?: WalletMethods[M]['params']]
      : [params: WalletMethods[M]['params']]
  ): Promise<WalletMethods[M]['result']> {
    const child = this.#child;
    if (child === undefined) throw new LdkWalletError('the wallet is not running');
    const id = this.#nextId;
    this.#nextId += 1;
    const answered = new Promise<unknown>((resolve, reject) => this.#pending.set(id, { resolve, reject }));
    child.stdin?.write(`${encodeLine({ id, method, params: params ?? {} })}\n`);
    return (await answered) as WalletMethods[M]['result'];
  }

  /**
   * The first event of a name that `matches`, among those that came and those to come.
   * @throws LdkWalletError after `timeoutMs` (default 30 s)
   */
  async event<N extends EventName>(
    name: N,
    matches: (event: EventOf<N>) => boolean = () => true,
    timeoutMs = 30_000,
  ): Promise<EventOf<N>> {
    const test = (event: WalletEvent) => event.event === name && matches(event as EventOf<N>);
    const before = this.events.find(test);
    if (before !== undefined) return before as EventOf<N>;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        const seen = this.events.slice(-10).map(encodeLine).join('\n');
        reject(new LdkWalletError(`no event ${name} in ${timeoutMs} ms; the last ones:\n${seen}`));
      }, timeoutMs);
    });
    try {
      return (await Promise.race([this.#next(test), late])) as EventOf<N>;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Pays and waits for the outcome. */
  async payAndWait(
    params: WalletMethods['pay']['params'],
  ): Promise<EventOf<'payment_sent'> | EventOf<'payment_failed'>> {
    const { paymentId } = await this.call('pay', params);
    return await this.outcome(paymentId);
  }

  /** The outcome of a payment. */
  async outcome(
    paymentId: string,
    timeoutMs = 30_000,
  ): Promise<EventOf<'payment_sent'> | EventOf<'payment_failed'>> {
    return await Promise.race([
      this.event('payment_sent', (event) => event.paymentId === paymentId, timeoutMs),
      this.event('payment_failed', (event) => event.paymentId === paymentId, timeoutMs),
    ]);
  }

  /** Ends it cleanly. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.stdin?.end();
    await exited;
  }

  /** Ends it without notice. */
  async kill9(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await exited;
  }

  #take(line: string): void {
    const message = decodeLine(line) as WalletEvent | { id: number; result?: unknown; error?: string };
    if ('event' in message) {
      this.events.push(message);
      for (const waiter of this.#waiters) if (waiter.matches(message)) waiter.resolve(message);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    this.#pending.delete(message.id);
    if (message.error === undefined) pending.resolve(message.result);
    else pending.reject(new LdkWalletError(message.error));
  }

  #next(matches: (event: WalletEvent) => boolean): Promise<WalletEvent> {
    return new Promise((resolve) => {
      const waiter: Waiter = {
        matches,
        resolve: (event) => {
          this.#waiters.delete(waiter);
          resolve(event);
        },
      };
      this.#waiters.add(waiter);
    });
  }
}
