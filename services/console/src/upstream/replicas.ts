/**
 * Calls to a service that runs as several replicas.
 *
 * Any replica answers what it can; a command about a shard that another one
 * owns is refused with the owner's address, and goes there. While ownership
 * moves (a deploy, a crash), calls wait and try again within a bound. Every
 * call that may be repeated here is one that the fleet does at most once: by its
 * idempotency key, or because doing it twice is doing it once.
 */
import { type CallOptions, type Client, type RpcConnector, RpcError } from '@fulmen/rpc';
import type { Runtime } from '@fulmen/service';
import { refuse } from '../errors.ts';

/** Trailer of a refusal: where the shard's owner listens; empty while it has none. */
export const OWNER_ADDRESS = 'fulmen-owner-address';
/** The same of chain-monitor, whose wallet has one writer. */
const WRITER_ADDRESS = 'fulmen-writer-address';
/** Redirects followed in a row before the call waits and begins anew. */
const MAX_HOPS = 3;
/** How long a call waits for a shard to find its owner: longer than a lease. */
const SETTLE_MS = 20_000;
/** How long a question looks for a replica that answers; a command waits as for an owner. */
const UNREACHABLE_MS = 5_000;
const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 500;

export interface CallTerms {
  /** For the whole call, redirects and retries included. */
  readonly deadlineMs: number;
  /** For one replica's answer; another is asked afterwards. Only for what changes nothing. */
  readonly attemptMs?: number;
  /** The owner's address, where it is known already: it is asked first. */
  readonly owner?: string;
  readonly signal: AbortSignal;
}

export interface ReplicaSetOptions<S> {
  /** As sentences name it: "channel-manager". */
  readonly service: string;
  readonly definition: S;
  readonly addresses: readonly string[];
  readonly connector: RpcConnector;
  readonly runtime: Runtime;
}

type Verdict =
  | { readonly type: 'redirect'; readonly owner: string }
  | { readonly type: 'moving' }
  | { readonly type: 'unreachable' }
  | { readonly type: 'final' };

export class ReplicaSet<S> {
  readonly #options: ReplicaSetOptions<S>;
  /** Index of the replica that answered last. */
  #preferred = 0;

  constructor(options: ReplicaSetOptions<S>) {
    this.#options = options;
  }

  /**
   * Runs `attempt` against one replica after the other until one decides.
   * Rejects with its error, `unavailable` when none answers, `deadline_exceeded`.
   */
  async run<R>(
    attempt: (client: Client<S>, options: CallOptions) => Promise<R>,
    terms: CallTerms,
  ): Promise<R> {
    const { runtime, connector, definition, addresses, service } = this.#options;
    if (addresses.length === 0) throw refuse('unavailable', `No address of a ${service} is configured.`);
    const begunMs = runtime.monotonicMs();
    const elapsedMs = (): number => runtime.monotonicMs() - begunMs;
    let index = this.#preferred;
    let owner = terms.owner;
    let hops = 0;
    let pauses = 0;
    let unreachable = 0;
    const patienceMs = terms.attemptMs === undefined ? SETTLE_MS : UNREACHABLE_MS;
    for (;;) {
      const address = owner ?? addresses[index % addresses.length] ?? '';
      const leftMs = terms.deadlineMs - elapsedMs();
      if (leftMs <= 0) throw refuse('deadline_exceeded', `The ${service} did not answer in time.`);
      const deadlineMs = Math.ceil(Math.min(leftMs, terms.attemptMs ?? leftMs));
      try {
        const result = await attempt(connector.client(definition, address), {
          deadlineMs,
          signal: terms.signal,
        });
        if (owner === undefined) this.#preferred = index % addresses.length;
        return result;
      } catch (error) {
        if (terms.signal.aborted) throw refuse('cancelled', 'The caller went away.');
        const verdict = judge(error, terms, leftMs);
        switch (verdict.type) {
          case 'final':
            throw ofService(service, error);
          case 'redirect':
            if (verdict.owner !== address && hops < MAX_HOPS) {
              hops += 1;
              owner = verdict.owner;
              continue;
            }
            break;
          case 'unreachable':
            unreachable += 1;
            index += 1;
            // The other replicas are tried at once; only a full round of silence waits.
            if (owner === undefined && unreachable % addresses.length !== 0) continue;
            if (owner === undefined && elapsedMs() >= patienceMs) throw nobody(service, addresses, error);
            break;
          case 'moving':
            break;
        }
        if (elapsedMs() >= SETTLE_MS) {
          throw refuse(
            'unavailable',
            `No ${service} owns what this call is about just now. Try again in some seconds.`,
          );
        }
        owner = undefined;
        hops = 0;
        await runtime.sleep(Math.min(FIRST_PAUSE_MS * 2 ** pauses, LONGEST_PAUSE_MS), terms.signal);
        pauses = Math.min(pauses + 1, 10);
      }
    }
  }
}

function judge(error: unknown, terms: CallTerms, leftMs: number): Verdict {
  if (!(error instanceof RpcError)) return { type: 'final' };
  const owner = error.metadata[OWNER_ADDRESS];
  if (error.code === 'failed_precondition' && owner !== undefined)
    return owner === '' ? { type: 'moving' } : { type: 'redirect', owner };
  const writer = error.metadata[WRITER_ADDRESS];
  if (error.code === 'unavailable' && writer !== undefined) return { type: 'redirect', owner: writer };
  if (error.code === 'aborted') return { type: 'moving' };
  if (error.code === 'unavailable') return { type: 'unreachable' };
  const silent =
    error.code === 'deadline_exceeded' && terms.attemptMs !== undefined && terms.attemptMs < leftMs;
  return silent ? { type: 'unreachable' } : { type: 'final' };
}

/** A refusal of the console's own certificate must not look like one of the caller's token. */
function ofService(service: string, error: unknown): unknown {
  if (!(error instanceof RpcError)) return error;
  if (error.code !== 'unauthenticated' && error.code !== 'permission_denied') return error;
  return refuse(
    'internal',
    `The ${service} refuses the console: ${error.message} (check the console's certificate).`,
  );
}

function nobody(service: string, addresses: readonly string[], last: unknown): RpcError {
  const why = last instanceof Error ? ` (${last.message.slice(0, 200)})` : '';
  return refuse(
    'unavailable',
    `No ${service} could answer at ${addresses.join(', ')}${why}. "fulmen fleet" shows which services are up.`,
  );
}
