/**
 * What stands before every method: the token and its scope, the rate and the
 * number of calls at once, the audit log, and one form of error. A refused call
 * costs one hash and reaches no other service.
 */
import { toHex } from '@fulmen/codec';
import { type CallContext, RpcError } from '@fulmen/rpc';
import { AbortedError, type Logger, type Metrics, type Runtime } from '@fulmen/service';
import type { Limits } from '../config.ts';
import { answered, refuse } from '../errors.ts';
import { type AuditFields, auditTo } from './audit.ts';
import { TokenBucket } from './token-bucket.ts';
import { bearerOf, findToken, type Scope, type TokenEntry } from './tokens.ts';

/** What the guard knows of a method. */
export interface Rule<Q, R> {
  /** "InvoiceService.CreateInvoice" */
  readonly name: string;
  readonly scope: Scope;
  /** For methods that change something: what the audit log says of a call. */
  readonly audit?: (request: Q, response: R | undefined) => AuditFields;
}

/** A call that was let in. */
export interface Call {
  readonly token: string;
  readonly signal: AbortSignal;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface GuardPorts {
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly limits: Limits;
}

/** What is put together from pieces is held in memory: some MiB each. */
const UPLOADS_OF_TOKEN = 2;
/** Bursts of this many seconds' calls are let through. */
const BURST_SECONDS = 4;
/** Lines a second about calls without a valid token: strangers must not fill the log. */
const REFUSALS_LOGGED_PER_SECOND = 1;

/** Where a request comes from: pieces are read once the caller is let in. */
type Source<Q> =
  | { readonly kind: 'whole'; readonly request: Q }
  | { readonly kind: 'pieces'; readonly collect: () => Promise<Q> };

interface Holder {
  readonly bucket: TokenBucket;
  calls: number;
  uploads: number;
}

/** A stream that is under way. */
interface OpenStream {
  readonly entry: TokenEntry;
  readonly rule: Pick<Rule<never, never>, 'name' | 'scope'>;
  /** Its reason is what the caller is told. */
  readonly revocation: AbortController;
}

const allows = ({ scopes }: TokenEntry, scope: Scope): boolean => scopes.has(scope) || scopes.has('admin');

export class Guard {
  readonly #runtime: Runtime;
  readonly #limits: Limits;
  readonly #logger: Logger;
  readonly #audit: ReturnType<typeof auditTo>;
  readonly #counter;
  readonly #refusals: TokenBucket;
  #entries: readonly TokenEntry[] = [];
  #holders = new Map<string, Holder>();
  readonly #streams = new Set<OpenStream>();
  #calls = 0;
  #subscribers = 0;

  constructor(ports: GuardPorts) {
    this.#runtime = ports.runtime;
    this.#limits = ports.limits;
    this.#logger = ports.logger;
    this.#audit = auditTo(ports.logger);
    this.#counter = ports.metrics.counter('console_calls_total', 'Calls of the public API', [
      'method',
      'outcome',
    ]);
    this.#refusals = new TokenBucket(10, REFUSALS_LOGGED_PER_SECOND, ports.runtime.monotonicMs());
  }

  /**
   * Replaces the tokens. Calls that were heard go on; streams end, and requests whose pieces still come do nothing, where
   * the token is gone or lost the scope.
   */
  setTokens(entries: readonly TokenEntry[]): void {
    this.#entries = entries;
    const names = new Set(entries.map(({ name }) => name));
    for (const [name, holder] of this.#holders)
      if (!names.has(name) && holder.calls === 0) this.#holders.delete(name);
    const known = new Map(entries.map((entry) => [toHex(entry.sha256), entry]));
    for (const { entry, rule, revocation } of this.#streams) {
      const now = known.get(toHex(entry.sha256));
      if (now !== undefined && allows(now, rule.scope)) continue;
      revocation.abort(
        refuse(
          'unauthenticated',
          `The token "${entry.name}" was revoked, or may no longer call ${rule.name}.`,
        ),
      );
    }
  }

  /** Wraps a method that answers once. */
  unary<Q, R>(
    rule: Rule<Q, R>,
    handler: (request: Q, call: Call) => Promise<R>,
  ): (request: Q, context: CallContext) => Promise<R> {
    return (request, context) => this.#answer(rule, { kind: 'whole', request }, handler, context);
  }

  /**
   * Wraps a method whose request comes in pieces, and which answers once. Nothing is read before the caller is let in.
   * @param collect puts the pieces together, within a bound of its own
   */
  upload<P, Q, R>(
    rule: Rule<Q, R>,
    collect: (pieces: AsyncIterable<P>) => Promise<Q>,
    handler: (request: Q, call: Call) => Promise<R>,
  ): (pieces: AsyncIterable<P>, context: CallContext) => Promise<R> {
    return (pieces, context) =>
      this.#answer(rule, { kind: 'pieces', collect: () => collect(pieces) }, handler, context);
  }

  async #answer<Q, R>(
    rule: Rule<Q, R>,
    source: Source<Q>,
    handler: (request: Q, call: Call) => Promise<R>,
    context: CallContext,
  ): Promise<R> {
    const begunMs = this.#runtime.monotonicMs();
    let token = '';
    let request = source.kind === 'whole' ? source.request : undefined;
    let response: R | undefined;
    try {
      const entry = this.#authenticate(context);
      token = entry.name;
      this.#authorize(entry, rule);
      const leave = this.#admit(entry, source.kind);
      try {
        const taken = source.kind === 'whole' ? source.request : await source.collect();
        request = taken;
        // Pieces may be long in coming: a token that was revoked meanwhile has no say any more.
        if (source.kind === 'pieces') this.#authorize(this.#authenticate(context), rule);
        response = await handler(taken, { token, signal: context.signal, metadata: context.metadata });
        this.#settle(rule, token, request, response, undefined, begunMs);
        return response;
      } finally {
        leave();
      }
    } catch (error) {
      const told = this.#tell(rule.name, error);
      this.#settle(rule, token, request, response, told, begunMs);
      throw told;
    }
  }

  /** Wraps a method that answers with a stream. */
  stream<Q, R>(
    rule: Rule<Q, R>,
    handler: (request: Q, call: Call) => AsyncIterable<R>,
  ): (request: Q, context: CallContext) => AsyncIterable<R> {
    return (request, context) => this.#stream(rule, handler, request, context);
  }

  async *#stream<Q, R>(
    rule: Rule<Q, R>,
    handler: (request: Q, call: Call) => AsyncIterable<R>,
    request: Q,
    context: CallContext,
  ): AsyncGenerator<R> {
    let outcome = 'ok';
    const leave: (() => unknown)[] = [];
    const revocation = new AbortController();
    try {
      const entry = this.#authenticate(context);
      this.#authorize(entry, rule);
      leave.push(this.#subscribe());
      leave.push(this.#admit(entry, 'whole'));
      const open = { entry, rule, revocation };
      this.#streams.add(open);
      leave.push(() => this.#streams.delete(open));
      const signal = AbortSignal.any([context.signal, revocation.signal]);
      for await (const item of handler(request, { token: entry.name, signal, metadata: context.metadata })) {
        revocation.signal.throwIfAborted();
        yield item;
      }
      revocation.signal.throwIfAborted();
    } catch (error) {
      const told = this.#tell(rule.name, revocation.signal.aborted ? revocation.signal.reason : error);
      outcome = told.code;
      throw told;
    } finally {
      for (const undo of leave) undo();
      this.#counter.inc({ method: rule.name, outcome });
    }
  }

  #subscribe(): () => void {
    if (this.#subscribers >= this.#limits.subscribers) {
      throw refuse(
        'resource_exhausted',
        `This console already serves ${this.#limits.subscribers} subscribers. Close one, or ask another replica.`,
      );
    }
    this.#subscribers += 1;
    return () => {
      this.#subscribers -= 1;
    };
  }

  #authenticate(context: CallContext): TokenEntry {
    const header = context.metadata['authorization'];
    const token = bearerOf(header);
    const entry = token === undefined ? undefined : findToken(this.#entries, token);
    if (entry !== undefined) return entry;
    if (header === undefined) {
      throw refuse(
        'unauthenticated',
        'This call needs a token. Send it as metadata "authorization: Bearer <token>".',
      );
    }
    if (token === undefined) {
      throw refuse(
        'unauthenticated',
        'The token is malformed: "authorization" must be "Bearer " and 64 hex digits.',
      );
    }
    throw refuse(
      'unauthenticated',
      'The node does not know this token. It may have been revoked, or be of another node.',
    );
  }

  #authorize(entry: TokenEntry, rule: Pick<Rule<never, never>, 'name' | 'scope'>): void {
    if (allows(entry, rule.scope)) return;
    throw refuse(
      'permission_denied',
      `The token "${entry.name}" may not call ${rule.name}: that needs the scope "${rule.scope}", and it has ` +
        `${entry.scopes.size === 0 ? 'none' : [...entry.scopes].join(', ')}.`,
    );
  }

  /** Counts the call in; returns what counts it out. */
  #admit(entry: TokenEntry, kind: Source<never>['kind']): () => void {
    const nowMs = this.#runtime.monotonicMs();
    let holder = this.#holders.get(entry.name);
    if (holder === undefined) {
      const rate = this.#limits.callsPerSecond;
      holder = { bucket: new TokenBucket(rate * BURST_SECONDS, rate, nowMs), calls: 0, uploads: 0 };
      this.#holders.set(entry.name, holder);
    }
    const admitted = holder;
    if (admitted.calls >= this.#limits.concurrentCallsOfToken) {
      throw refuse(
        'resource_exhausted',
        `The token "${entry.name}" already has ${admitted.calls} calls open. Wait for one to end.`,
      );
    }
    if (this.#calls >= this.#limits.concurrentCalls) {
      throw refuse(
        'resource_exhausted',
        'The console has too many calls open. Try again soon, or ask another replica.',
      );
    }
    const uploads = kind === 'pieces' ? 1 : 0;
    if (admitted.uploads + uploads > UPLOADS_OF_TOKEN) {
      throw refuse(
        'resource_exhausted',
        `The token "${entry.name}" already has ${admitted.uploads} long requests open. Wait for one to end.`,
      );
    }
    if (!admitted.bucket.take(nowMs)) {
      throw refuse(
        'resource_exhausted',
        `The token "${entry.name}" makes more than ${this.#limits.callsPerSecond} calls a second. Slow down.`,
      );
    }
    admitted.calls += 1;
    admitted.uploads += uploads;
    this.#calls += 1;
    return () => {
      admitted.calls -= 1;
      admitted.uploads -= uploads;
      this.#calls -= 1;
    };
  }

  #settle<Q, R>(
    rule: Rule<Q, R>,
    token: string,
    request: Q | undefined,
    response: R | undefined,
    error: RpcError | undefined,
    begunMs: number,
  ): void {
    const nowMs = this.#runtime.monotonicMs();
    const outcome = error?.code ?? 'ok';
    this.#counter.inc({ method: rule.name, outcome });
    if (token === '') {
      if (this.#refusals.take(nowMs)) this.#logger.warn({ method: rule.name }, 'call without a valid token');
      return;
    }
    if (rule.audit === undefined) return;
    this.#audit({
      token,
      method: rule.name,
      outcome,
      ...(error === undefined ? {} : { error: error.message }),
      durationMs: nowMs - begunMs,
      fields: request === undefined ? {} : rule.audit(request, response),
    });
  }

  /** Errors of ours keep their sentence; a defect is logged, and told without its insides. */
  #tell(method: string, error: unknown): RpcError {
    if (error instanceof RpcError) return answered(error);
    if (error instanceof AbortedError) return refuse('cancelled', 'The caller went away.');
    this.#logger.error({ method, err: error }, 'a call failed by a defect');
    return refuse('internal', `The console failed in ${method}. Its log says why.`);
  }
}
