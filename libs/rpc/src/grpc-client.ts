/** The gRPC adapter of `RpcConnector`: one grpc-js client for each address, made lazily. */
import { isIP } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import {
  type CallOptions as GrpcCallOptions,
  type ClientDuplexStream,
  Client as GrpcClient,
  credentials,
} from '@grpc/grpc-js';
import { BoundedQueue } from './queue.ts';
import { fromServiceError, toMetadata } from './grpc-errors.ts';
import type { TlsIdentity } from './certificates.ts';
import { drained } from './grpc-server.ts';
import { type AnyMethod, methodsOf } from './method.ts';
import {
  type CallOptions,
  type Client,
  type DuplexStream,
  type RpcConnector,
  RpcError,
} from './transport.ts';

const DEFAULT_DEADLINE_MS = 10_000;
const STREAM_LIMIT = 64;

export interface GrpcConnectorOptions {
  readonly tls?: TlsIdentity;
  /** Name on the servers' certificates when they are dialled by IP address. */
  readonly serverName?: string;
  /** Bytes of a message; default 4 MiB. */
  readonly maxMessageBytes?: number;
}

export function grpcConnector(options: GrpcConnectorOptions = {}): RpcConnector {
  const clients = new Map<string, GrpcClient>();
  const clientOf = (address: string): GrpcClient => {
    let client = clients.get(address);
    if (client === undefined) {
      const channelCredentials = options.tls?.channelCredentials() ?? credentials.createInsecure();
      client = new GrpcClient(address, channelCredentials, {
        'grpc.max_receive_message_length': options.maxMessageBytes ?? 4 * 1024 * 1024,
        'grpc.initial_reconnect_backoff_ms': 50,
        'grpc.min_reconnect_backoff_ms': 50,
        'grpc.max_reconnect_backoff_ms': 1000,
        'grpc.keepalive_time_ms': 10_000,
        'grpc.keepalive_timeout_ms': 5_000,
        // Two connectors of one process never share a connection, nor does a dead server's back-off.
        'grpc.use_local_subchannel_pool': 1,
        ...serverNameOptions(options, address),
      });
      clients.set(address, client);
    }
    return client;
  };
  return {
    client: <S>(definition: S, address: string): Client<S> => {
      const result: Record<string, unknown> = {};
      for (const [name, method] of methodsOf(definition as object)) {
        result[name] = method.requestStream
          ? method.responseStream
            ? (call?: CallOptions) => duplex(clientOf(address), method, call)
            : (requests: Iterable<unknown>, call?: CallOptions) =>
                clientStream(clientOf(address), method, requests, call)
          : method.responseStream
            ? (request: unknown, call?: CallOptions) => serverStream(clientOf(address), method, request, call)
            : (request: unknown, call?: CallOptions) => unary(clientOf(address), method, request, call);
      }
      return result as Client<S>;
    },
    close: () => {
      for (const client of clients.values()) client.close();
      clients.clear();
    },
  };
}

/** TLS knows no IP addresses as server names: the certificates of the fleet carry `localhost` for them. */
function serverNameOptions(options: GrpcConnectorOptions, address: string): Record<string, string> {
  const isIpAddress = isIP(address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '')) !== 0;
  const name = options.serverName ?? (options.tls !== undefined && isIpAddress ? 'localhost' : undefined);
  return name === undefined ? {} : { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name };
}

function grpcOptions(call: CallOptions | undefined, defaultDeadlineMs: number | undefined): GrpcCallOptions {
  const deadlineMs = call?.deadlineMs ?? defaultDeadlineMs;
  return deadlineMs === undefined ? {} : { deadline: new Date(Date.now() + deadlineMs) };
}

const serializer = (method: AnyMethod) => (value: unknown) => method.requestSerialize(value) as Buffer;

function unary(
  client: GrpcClient,
  method: AnyMethod,
  request: unknown,
  call?: CallOptions,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    // A caller's signal may outlive thousands of its calls.
    const onAbort = (): void => pending.cancel();
    const pending = client.makeUnaryRequest(
      method.path,
      serializer(method),
      method.responseDeserialize,
      request,
      toMetadata(call?.metadata ?? {}),
      grpcOptions(call, DEFAULT_DEADLINE_MS),
      (error, response) => {
        call?.signal?.removeEventListener('abort', onAbort);
        if (error === null) resolve(response);
        else reject(fromServiceError(error));
      },
    );
    call?.signal?.addEventListener('abort', onAbort, { once: true });
  });
}

async function clientStream(
  client: GrpcClient,
  method: AnyMethod,
  requests: Iterable<unknown>,
  call?: CallOptions,
): Promise<unknown> {
  const over = new AbortController();
  const { promise: answer, resolve, reject } = Promise.withResolvers<unknown>();
  const stream = client.makeClientStreamRequest(
    method.path,
    serializer(method),
    method.responseDeserialize,
    toMetadata(call?.metadata ?? {}),
    grpcOptions(call, DEFAULT_DEADLINE_MS),
    (error, response) => {
      over.abort();
      if (error === null) resolve(response);
      else reject(fromServiceError(error));
    },
  );
  const send = async (): Promise<void> => {
    for (const request of requests) {
      if (stream.write(request)) continue;
      await drained(stream, over.signal);
      // A server that has answered reads no more. A closed stream takes what is written at once: its answer must come between.
      await setImmediate();
      if (over.signal.aborted) return;
    }
    stream.end();
  };
  const onAbort = (): void => stream.cancel();
  call?.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const [response] = await Promise.all([answer, send()]);
    return response;
  } finally {
    call?.signal?.removeEventListener('abort', onAbort);
    if (!over.signal.aborted) stream.cancel();
  }
}

async function* serverStream(
  client: GrpcClient,
  method: AnyMethod,
  request: unknown,
  call?: CallOptions,
): AsyncGenerator<unknown> {
  const stream = client.makeServerStreamRequest(
    method.path,
    serializer(method),
    method.responseDeserialize,
    request,
    toMetadata(call?.metadata ?? {}),
    grpcOptions(call, undefined),
  );
  // As with unary calls, the caller's signal may outlive many.
  const onAbort = (): void => stream.cancel();
  call?.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const item of stream) yield item;
  } catch (error) {
    throw fromServiceError(error);
  } finally {
    call?.signal?.removeEventListener('abort', onAbort);
    stream.cancel();
  }
}

function duplex(client: GrpcClient, method: AnyMethod, call?: CallOptions): DuplexStream<unknown, unknown> {
  const stream: ClientDuplexStream<unknown, unknown> = client.makeBidiStreamRequest(
    method.path,
    serializer(method),
    method.responseDeserialize,
    toMetadata(call?.metadata ?? {}),
    grpcOptions(call, undefined),
  );
  const inbound = new BoundedQueue<unknown>(STREAM_LIMIT);
  const closed = new AbortController();
  const fail = (error: RpcError): void => {
    inbound.fail(error);
    closed.abort();
  };
  stream.on('data', (message: unknown) => {
    if (inbound.offer(message)) return;
    stream.pause();
    inbound.push(message).then(
      () => stream.resume(),
      () => undefined,
    );
  });
  stream.on('end', () => {
    inbound.end();
    closed.abort();
  });
  stream.on('error', (error) => fail(fromServiceError(error)));
  call?.signal?.addEventListener('abort', () => stream.cancel(), { once: true });
  return {
    send: async (message) => {
      if (closed.signal.aborted) throw new RpcError('unavailable', 'the stream is closed');
      if (!stream.write(message)) await drained(stream, closed.signal);
    },
    end: () => stream.end(),
    cancel: (reason) => {
      fail(new RpcError('cancelled', reason));
      stream.cancel();
    },
    [Symbol.asyncIterator]: () => inbound[Symbol.asyncIterator](),
  };
}
