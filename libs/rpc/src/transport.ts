/**
 * The port through which processes talk. Services register handlers and hold
 * typed clients; whether messages cross gRPC or the memory of a simulation is
 * decided where the process is wired. Messages always pass through their
 * protobuf encoding, on memory too.
 */
import type { ServiceTerms } from './callers.ts';

/** A generated method of a ts-proto grpc-js service definition. */
export interface MethodDefinition<Q, R> {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (value: Q) => Uint8Array;
  readonly requestDeserialize: (value: Buffer) => Q;
  readonly responseSerialize: (value: R) => Uint8Array;
  readonly responseDeserialize: (value: Buffer) => R;
}
// eslint-disable-next-line -- `never` in both positions accepts every generated definition.
export type ServiceDefinition = Readonly<Record<string, MethodDefinition<never, never>>>;

/** gRPC's status codes, by name. */
export type RpcCode =
  | 'cancelled'
  | 'unknown'
  | 'invalid_argument'
  | 'deadline_exceeded'
  | 'not_found'
  | 'already_exists'
  | 'permission_denied'
  | 'resource_exhausted'
  | 'failed_precondition'
  | 'aborted'
  | 'out_of_range'
  | 'unimplemented'
  | 'internal'
  | 'unavailable'
  | 'data_loss'
  | 'unauthenticated';

/** What a call fails with, on both sides. `metadata` travels as trailers. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: RpcCode;
  readonly metadata: Readonly<Record<string, string>>;
  constructor(code: RpcCode, message: string, metadata: Readonly<Record<string, string>> = {}) {
    super(message);
    this.code = code;
    this.metadata = metadata;
  }
}

/** Who calls, as the transport proved it. */
export interface CallContext {
  /** Units of the client certificate (mutual TLS), or of the in-memory client; `plaintext` alone where there is no TLS. */
  readonly capabilities: ReadonlySet<string>;
  readonly metadata: Readonly<Record<string, string>>;
  /** Fires when the caller is gone or its deadline passed. */
  readonly signal: AbortSignal;
}

/** A stream in both directions with back-pressure: `send` waits while the other side is full. */
export interface DuplexStream<In, Out> extends AsyncIterable<In> {
  /** Rejects with RpcError when the stream is broken. */
  send(message: Out): Promise<void>;
  /** Ends our half. */
  end(): void;
  /** Breaks both halves now. */
  cancel(reason: string): void;
}

type Handler<M> = M extends {
  requestStream: infer QS;
  responseStream: infer RS;
  requestDeserialize: (value: Buffer) => infer Q;
  responseDeserialize: (value: Buffer) => infer R;
}
  ? QS extends true
    ? RS extends true
      ? (stream: DuplexStream<Q, R>, context: CallContext) => Promise<void>
      : (requests: AsyncIterable<Q>, context: CallContext) => Promise<R>
    : RS extends true
      ? (request: Q, context: CallContext) => AsyncIterable<R>
      : (request: Q, context: CallContext) => Promise<R>
  : never;

type ClientMethod<M> = M extends {
  requestStream: infer QS;
  responseStream: infer RS;
  requestDeserialize: (value: Buffer) => infer Q;
  responseDeserialize: (value: Buffer) => infer R;
}
  ? QS extends true
    ? RS extends true
      ? (options?: CallOptions) => DuplexStream<R, Q>
      : (requests: Iterable<Q>, options?: CallOptions) => Promise<R>
    : RS extends true
      ? (request: Q, options?: CallOptions) => AsyncIterable<R>
      : (request: Q, options?: CallOptions) => Promise<R>
  : never;

/** One handler for each method of a service. */
export type Handlers<S> = { readonly [K in keyof S]: Handler<S[K]> };
/** A typed client of a service. */
export type Client<S> = { readonly [K in keyof S]: ClientMethod<S[K]> };

export interface CallOptions {
  /** Default 10 000. Streams have none unless given. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Where a process offers its services. */
export interface RpcServer {
  /** Each method for its callers alone (`callers.ts`). */
  add<S>(definition: S, handlers: Handlers<S>, terms?: ServiceTerms): void;
  /** Binds; resolves with the address clients dial (host:port, or a memory name). */
  listen(): Promise<string>;
  /** Stops accepting, lets calls in flight end within `graceMs`, then breaks them. */
  stop(graceMs: number): Promise<void>;
}

/** How a process reaches others. */
export interface RpcConnector {
  /** Lazy, reconnecting with back-off; a call while unreachable fails with 'unavailable'. */
  client<S>(definition: S, address: string): Client<S>;
  close(): void;
}
