// Runs the fleet's processes on one machine: starts them with a log file each, waits until they are
// ready, restarts what crashes, kills on demand (crash tests), and ends everything in order.
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { pathToFileURL } from 'node:url';
import { guardChild } from './guard.ts';
import { repositoryRoot, SupportError } from './state.ts';

/** What a process says on stdout when it is ready: one line of JSON. */
export type ReadyLine = Readonly<Record<string, unknown>>;

/** How the supervisor learns that a process serves. */
export type Readiness =
  /** The first line of stdout that is a JSON object with `"ready": true`. */
  | { readonly kind: 'line' }
  /** Asked again and again until it gives true. */
  | { readonly kind: 'health'; readonly check: () => Promise<boolean> };

/** One process of the fleet. */
export type ProcessSpec = {
  /** Unique; names the log file. */
  readonly name: string;
  /** A TypeScript file of the repository, relative to its root, or a command with its arguments. */
  readonly program: { readonly file: string } | { readonly command: string };
  readonly args?: readonly string[];
  /** Added to this process' environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly readiness: Readiness;
  /** Default 60 s. */
  readonly readyTimeoutMs?: number;
  /** Time between SIGTERM and SIGKILL at a stop; default 15 s. */
  readonly stopTimeoutMs?: number;
  /** What to do after an end that nobody asked for; default 'restart'. */
  readonly onCrash?: 'restart' | 'leave';
  /** Node flags, such as `--max-old-space-size=512`. */
  readonly nodeArgs?: readonly string[];
};

/** What happens to the processes, for a display. */
export type SupervisorEvent =
  | { readonly kind: 'started'; readonly name: string; readonly pid: number }
  | { readonly kind: 'ready'; readonly name: string; readonly pid: number; readonly afterMs: number }
  | { readonly kind: 'exited'; readonly name: string; readonly how: string; readonly expected: boolean }
  | { readonly kind: 'restarting'; readonly name: string; readonly inMs: number }
  | { readonly kind: 'gave-up'; readonly name: string; readonly why: string };

/** State of one process. */
export type ProcessStatus = {
  readonly name: string;
  readonly phase: 'starting' | 'ready' | 'waiting' | 'stopped' | 'failed';
  readonly pid: number | undefined;
  readonly restarts: number;
  readonly ready: ReadyLine | undefined;
};

const BACKOFF_FIRST_MS = 100;
const BACKOFF_LAST_MS = 5_000;
// A process that lived this long is healthy: its next crash starts the back-off anew.
const BACKOFF_RESET_MS = 20_000;
const MAX_CRASHES_IN_A_ROW = 12;
const LOG_TAIL_BYTES = 4_000;

type Slot = {
  readonly spec: ProcessSpec;
  env: Readonly<Record<string, string>>;
  child: ChildProcess | undefined;
  phase: ProcessStatus['phase'];
  ready: ReadyLine | undefined;
  restarts: number;
  crashesInARow: number;
  wanted: boolean;
  timer: NodeJS.Timeout | undefined;
  waiters: { readonly resolve: (ready: ReadyLine) => void; readonly reject: (error: Error) => void }[];
};

/** The processes of one fleet. */
export class Supervisor {
  readonly #logsDir: string;
  readonly #slots = new Map<string, Slot>();
  readonly #events = new EventEmitter();

  /** @param options.logsDir folder of the log files, one a process; made when missing */
  constructor(options: { readonly logsDir: string }) {
    this.#logsDir = options.logsDir;
    fs.mkdirSync(options.logsDir, { recursive: true });
  }

  /** Calls back on every event, until the returned function is called. */
  onEvent(listener: (event: SupervisorEvent) => void): () => void {
    this.#events.on('event', listener);
    return () => this.#events.off('event', listener);
  }

  /**
   * Starts a process and waits until it is ready. A crash before that is not retried.
   * @throws SupportError with the end of its log
   */
  async start(spec: ProcessSpec): Promise<ReadyLine> {
    const before = this.#slots.get(spec.name);
    if (before !== undefined && before.wanted) throw new SupportError(`${spec.name} runs already`);
    const slot: Slot = {
      spec,
      env: spec.env ?? {},
      child: undefined,
      phase: 'stopped',
      ready: undefined,
      restarts: 0,
      crashesInARow: 0,
      wanted: true,
      timer: undefined,
      waiters: [],
    };
    // Set anew, not replaced, so that the order of stopAll is the order of the last starts.
    this.#slots.delete(spec.name);
    this.#slots.set(spec.name, slot);
    fs.writeFileSync(this.logFile(spec.name), '');
    const ready = this.#nextReady(slot);
    this.#spawn(slot, 'first');
    return await ready;
  }

  /** Ends one process cleanly (SIGTERM, later SIGKILL); it is not restarted. */
  async stop(name: string): Promise<void> {
    const slot = this.#slot(name);
    slot.wanted = false;
    clearTimeout(slot.timer);
    slot.timer = undefined;
    await this.#end(slot, 'SIGTERM');
    slot.phase = 'stopped';
    this.#reject(slot, `${name} was stopped`);
  }

  /** Starts a stopped process again, with other environment values when given. */
  async restart(name: string, env: Readonly<Record<string, string>> = {}): Promise<ReadyLine> {
    const slot = this.#slot(name);
    if (slot.wanted) await this.stop(name);
    slot.env = { ...slot.env, ...env };
    slot.wanted = true;
    slot.crashesInARow = 0;
    const ready = this.#nextReady(slot);
    this.#spawn(slot, 'again');
    return await ready;
  }

  /**
   * Kills a process with SIGKILL and waits for its end; it is restarted like after any crash.
   * @returns the id of the process that died
   */
  async kill9(name: string): Promise<number> {
    const slot = this.#slot(name);
    const pid = slot.child?.pid;
    if (pid === undefined) throw new SupportError(`${name} is not running`);
    // A death that was asked for says nothing against the program: it does not count towards giving up.
    slot.crashesInARow = 0;
    await this.#end(slot, 'SIGKILL');
    return pid;
  }

  /** Kills a process with SIGKILL and leaves it dead, until {@link restart}. */
  async kill9ForGood(name: string): Promise<void> {
    const slot = this.#slot(name);
    slot.wanted = false;
    clearTimeout(slot.timer);
    slot.timer = undefined;
    await this.#end(slot, 'SIGKILL');
    slot.phase = 'stopped';
    this.#reject(slot, `${name} was killed`);
  }

  /** Freezes a process (SIGSTOP), as a long pause or a wedged event loop would. */
  pause(name: string): void {
    this.#slot(name).child?.kill('SIGSTOP');
  }

  /** Lets a frozen process run on (SIGCONT). */
  resume(name: string): void {
    this.#slot(name).child?.kill('SIGCONT');
  }

  /** The ready line of a process, now or as soon as it is ready. */
  async whenReady(name: string): Promise<ReadyLine> {
    const slot = this.#slot(name);
    if (slot.phase === 'ready' && slot.ready !== undefined) return slot.ready;
    if (!slot.wanted) throw new SupportError(`${name} is not running`);
    return await this.#nextReady(slot);
  }

  /** Ends every process, the last started first. */
  async stopAll(): Promise<void> {
    for (const slot of this.#slots.values()) slot.wanted = false;
    for (const name of [...this.#slots.keys()].reverse()) await this.stop(name);
  }

  /** All processes in the order of their start. */
  status(): ProcessStatus[] {
    return [...this.#slots.values()].map((slot) => ({
      name: slot.spec.name,
      phase: slot.phase,
      pid: slot.child?.pid,
      restarts: slot.restarts,
      ready: slot.ready,
    }));
  }

  /** Path of a process' log file. */
  logFile(name: string): string {
    return path.join(this.#logsDir, `${name}.log`);
  }

  #slot(name: string): Slot {
    const slot = this.#slots.get(name);
    if (slot === undefined) throw new SupportError(`there is no process ${name}`);
    return slot;
  }

  #emit(event: SupervisorEvent): void {
    this.#events.emit('event', event);
  }

  #nextReady(slot: Slot): Promise<ReadyLine> {
    return new Promise((resolve, reject) => slot.waiters.push({ resolve, reject }));
  }

  #reject(slot: Slot, why: string): void {
    const waiters = slot.waiters.splice(0);
    if (waiters.length === 0) return;
    const tail = logTail(this.logFile(slot.spec.name));
    for (const waiter of waiters) waiter.reject(new SupportError(`${why}\n${tail}`));
  }

  #spawn(slot: Slot, attempt: 'first' | 'again'): void {
    const { spec } = slot;
    const startedMs = performance.now();
    const { command, args } = commandLine(spec);
    const log = fs.openSync(this.logFile(spec.name), 'a');
    // A process group of its own: only this supervisor passes signals on, in its order.
    const child = spawn(command, args, {
      cwd: repositoryRoot,
      detached: true,
      env: { ...process.env, ...slot.env, FULMEN_LAUNCHER_PID: String(process.pid) },
      stdio: ['ignore', 'pipe', log],
    });
    fs.closeSync(log);
    guardChild(child, 'TERM');
    slot.child = child;
    slot.phase = 'starting';
    slot.ready = undefined;
    if (child.pid !== undefined) this.#emit({ kind: 'started', name: spec.name, pid: child.pid });

    const timeoutMs = spec.readyTimeoutMs ?? 60_000;
    const late = setTimeout(() => {
      this.#reject(slot, `${spec.name} was not ready after ${timeoutMs / 1000} s`);
      child.kill('SIGKILL');
    }, timeoutMs);
    const becomeReady = (line: ReadyLine) => {
      if (slot.child !== child || slot.phase !== 'starting') return;
      clearTimeout(late);
      slot.phase = 'ready';
      slot.ready = line;
      const afterMs = Math.round(performance.now() - startedMs);
      this.#emit({ kind: 'ready', name: spec.name, pid: child.pid ?? 0, afterMs });
      for (const waiter of slot.waiters.splice(0)) waiter.resolve(line);
    };
    this.#followOutput(slot, child, becomeReady);
    if (spec.readiness.kind === 'health')
      pollHealth(spec.readiness.check, child, () => becomeReady({ ready: true }));

    let over = false;
    const ended = (how: string) => {
      if (over) return;
      over = true;
      clearTimeout(late);
      if (slot.child === child) slot.child = undefined;
      this.#emit({ kind: 'exited', name: spec.name, how, expected: !slot.wanted });
      if (slot.wanted) this.#afterCrash(slot, { attempt, how, livedMs: performance.now() - startedMs });
    };
    child.once('error', (error) => ended(error.message));
    child.once('exit', (code, signal) => ended(signal ?? `exit code ${code}`));
  }

  #followOutput(slot: Slot, child: ChildProcess, becomeReady: (line: ReadyLine) => void): void {
    if (child.stdout === null) return;
    const log = fs.createWriteStream(this.logFile(slot.spec.name), { flags: 'a' });
    const lines = readline.createInterface({ input: child.stdout });
    lines.on('line', (line) => {
      log.write(`${line}\n`);
      if (slot.phase !== 'starting' || slot.spec.readiness.kind !== 'line') return;
      const parsed = parseReady(line);
      if (parsed !== undefined) becomeReady(parsed);
    });
    lines.on('close', () => log.end());
  }

  #afterCrash(
    slot: Slot,
    crash: { readonly attempt: 'first' | 'again'; readonly how: string; readonly livedMs: number },
  ): void {
    const { name, onCrash } = slot.spec;
    const neverReady = crash.attempt === 'first' && slot.phase === 'starting';
    slot.crashesInARow = crash.livedMs > BACKOFF_RESET_MS ? 1 : slot.crashesInARow + 1;
    const why = `${name} ended (${crash.how})`;
    if (neverReady || onCrash === 'leave' || slot.crashesInARow > MAX_CRASHES_IN_A_ROW) {
      slot.wanted = false;
      slot.phase = 'failed';
      this.#emit({ kind: 'gave-up', name, why });
      this.#reject(slot, why);
      return;
    }
    const inMs = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** (slot.crashesInARow - 1));
    slot.phase = 'waiting';
    slot.restarts += 1;
    this.#emit({ kind: 'restarting', name, inMs });
    slot.timer = setTimeout(() => this.#spawn(slot, 'again'), inMs);
  }

  async #end(slot: Slot, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const { child } = slot;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    // A frozen process takes SIGTERM only when it runs on.
    if (signal === 'SIGTERM') child.kill('SIGCONT');
    const force = setTimeout(() => child.kill('SIGKILL'), slot.spec.stopTimeoutMs ?? 15_000);
    await exited;
    clearTimeout(force);
  }
}

function commandLine(spec: ProcessSpec): { command: string; args: string[] } {
  const args = spec.args ?? [];
  if ('command' in spec.program) return { command: spec.program.command, args: [...args] };
  const watchParent = path.join(repositoryRoot, 'deploy', 'bootstrap', 'watch-parent.mjs');
  const file = path.resolve(repositoryRoot, spec.program.file);
  // The child also ends by itself when this process is gone.
  const node = [...(spec.nodeArgs ?? []), '--import', pathToFileURL(watchParent).href, file];
  return { command: process.execPath, args: [...node, ...args] };
}

function parseReady(line: string): ReadyLine | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed === 'object' && parsed !== null && 'ready' in parsed && parsed.ready === true) {
      return parsed as ReadyLine;
    }
  } catch {
    // A line of text that begins with a brace.
  }
  return undefined;
}

function pollHealth(check: () => Promise<boolean>, child: ChildProcess, healthy: () => void): void {
  const ask = () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    check().then(
      (answer) => (answer ? healthy() : void setTimeout(ask, 50)),
      () => void setTimeout(ask, 50),
    );
  };
  ask();
}

function logTail(file: string): string {
  try {
    const text = fs.readFileSync(file, 'utf8').slice(-LOG_TAIL_BYTES);
    return `end of ${file}:\n${text.trim().split('\n').slice(-15).join('\n')}`;
  } catch {
    return `no log at ${file}`;
  }
}
