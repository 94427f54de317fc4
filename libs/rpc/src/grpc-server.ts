/** The gRPC adapter of `RpcServer`: grpc-js, mutual TLS, health and reflection. */
import { readFileSync } from 'node:fs';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { HealthImplementation } from 'grpc-health-check';
import { type AnyHandler, forCallers, type ServiceTerms } from './callers.ts';
import type { TlsIdentity } from './certificates.ts';
import { BoundedQueue } from './queue.ts';
import { fromMetadata, toStatus } from './grpc-errors.ts';
import { type AnyMethod, methodsOf, serviceNameOf } from './method.ts';
import { type CallContext, type DuplexStream, type Handlers, RpcError, type RpcServer } from './transport.ts';

export interface GrpcServerOptions {
  /** host:port; port 0 picks one. */
  readonly listenAddress: string;
  /** Absent: plaintext, for loopback and for networks that encrypt. */
  readonly tls?: TlsIdentity;
  /** Bytes of a message; default 4 MiB. */
  readonly maxMessageBytes?: number;
  /** Streams and calls open at once on one connection; default 256. */
  readonly maxConcurrentStreams?: number;
  /** Called for errors that are ours: those whose code is `internal`. */
  readonly onInternalError?: (path: string, error: unknown) => void;
}

/** What the three kinds of call share. */
type AnyCall = Pick<ServerUnaryCall<unknown, unknown>, 'getAuthContext' | 'metadata'> & {
  on(event: 'cancelled', listener: () => void): unknown;
};

const STREAM_LIMIT = 64;

/** Descriptors of every contract, for reflection; generated beside the code. */
function descriptors(): ReturnType<typeof loadFileDescriptorSetFromBuffer> {
  const url = new URL('../../../proto/gen/descriptors.bin', import.meta.url);
  return loadFileDescriptorSetFromBuffer(readFileSync(url));
}

export function grpcServer(options: GrpcServerOptions): RpcServer {
  const maxMessageBytes = options.maxMessageBytes ?? 4 * 1024 * 1024;
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_concurrent_streams': options.maxConcurrentStreams ?? 256,
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5_000,
    'grpc.keepalive_permit_without_calls': 1,
  });
  const services: string[] = [];
  let health: HealthImplementation | undefined;
  return {
    add: <S>(definition: S, handlers: Handlers<S>, terms?: ServiceTerms): void => {
      const methods = methodsOf(definition as object);
      services.push(serviceNameOf(definition as object));
      const implementation: UntypedServiceImplementation = {};
      for (const [name, method] of methods) {
        const handler = (handlers as Record<string, AnyHandler>)[name];
        if (handler === undefined) continue;
        implementation[name] = adapt(method, forCallers(method, handler, terms), options) as never;
      }
      server.addService(definition as never, implementation);
    },
    listen: async () => {
      health = new HealthImplementation({
        '': 'SERVING',
        ...Object.fromEntries(services.map((name) => [name, 'SERVING' as const])),
      });
      health.addToServer(server);
      new ReflectionService(descriptors(), { services }).addToServer(server);
      const credentials = options.tls?.serverCredentials() ?? ServerCredentials.createInsecure();
      const port = await new Promise<number>((resolve, reject) => {
        server.bindAsync(options.listenAddress, credentials, (error, bound) =>
          error ? reject(error) : resolve(bound),
        );
      });
      return `${options.listenAddress.slice(0, options.listenAddress.lastIndexOf(':'))}:${port}`;
    },
    stop: async (graceMs) => {
      for (const name of ['', ...services]) health?.setStatus(name, 'NOT_SERVING');
      await new Promise<void>((resolve) => {
        const force = setTimeout(() => {
          server.forceShutdown();
          resolve();
        }, graceMs);
        server.tryShutdown(() => {
          clearTimeout(force);
          resolve();
        });
      });
    },
  };
}

/**
 * Capabilities are the organizational units of the client certificate, which
 * may have none; a server without TLS grants `plaintext`, and no other does.
 */
function contextOf(call: AnyCall, options: GrpcServerOptions): CallContext {
  const controller = new AbortController();
  call.on('cancelled', () => controller.abort());
  return {
    capabilities: new Set(options.tls === undefined ? ['plaintext'] : unitsOf(call)),
    metadata: fromMetadata(call.metadata),
    signal: controller.signal,
  };
}

function unitsOf(call: AnyCall): readonly string[] {
  const subject = call.getAuthContext().sslPeerCertificate?.subject as { OU?: string | string[] } | undefined;
  const units = subject?.OU ?? [];
  // What the want of TLS is called is no unit.
  return (typeof units === 'string' ? [units] : units).filter((unit) => unit !== 'plaintext');
}

function adapt(method: AnyMethod, handler: AnyHandler, options: GrpcServerOptions): unknown {
  const report = (error: unknown): ReturnType<typeof toStatus> => {
    if (!(error instanceof RpcError) || error.code === 'internal')
      options.onInternalError?.(method.path, error);
    return toStatus(error);
  };
  if (method.requestStream && !method.responseStream) {
    return (call: ServerReadableStream<unknown, unknown>, callback: sendUnaryData<unknown>) => {
      Promise.resolve()
        .then(() => handler(requestsOf(call), contextOf(call, options)))
        .then(
          (response) => callback(null, response),
          (error: unknown) => callback(report(error)),
        );
    };
  }
  if (method.requestStream) {
    return (call: ServerDuplexStream<unknown, unknown>) => {
      const context = contextOf(call, options);
      const stream = duplexOf(call, context);
      Promise.resolve()
        .then(() => handler(stream, context))
        .then(
          () => call.end(),
          (error: unknown) => call.emit('error', report(error)),
        );
    };
  }
  if (method.responseStream) {
    return (call: ServerWritableStream<unknown, unknown>) => {
      const context = contextOf(call, options);
      const run = async (): Promise<void> => {
        for await (const item of handler(call.request, context) as AsyncIterable<unknown>) {
          if (context.signal.aborted) return;
          if (!call.write(item)) await drained(call, context.signal);
        }
      };
      run().then(
        () => call.end(),
        (error: unknown) => call.emit('error', report(error)),
      );
    };
  }
  return (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>) => {
    Promise.resolve()
      .then(() => handler(call.request, contextOf(call, options)))
      .then(
        (response) => callback(null, response),
        (error: unknown) => callback(report(error)),
      );
  };
}

/** Read as the handler asks for them: nothing is read of a call that is refused. */
async function* requestsOf(call: ServerReadableStream<unknown, unknown>): AsyncGenerator<unknown> {
  try {
    for await (const request of call) yield request;
  } catch {
    throw new RpcError('cancelled', 'the caller went away');
  }
}

interface WritableCall {
  once(event: 'drain' | 'close', listener: () => void): unknown;
  off(event: 'drain' | 'close', listener: () => void): unknown;
}

/** Of calls without room to write: however many write at once, a call is listened to once. */
const drains = new WeakMap<WritableCall, Promise<void>>();

/**
 * Waits for room to write, or for the end of the call.
 * @param signal that of the call
 */
export function drained(call: WritableCall, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  const waiting = drains.get(call);
  if (waiting !== undefined) return waiting;
  const drain = new Promise<void>((resolve) => {
    const done = (): void => {
      drains.delete(call);
      signal.removeEventListener('abort', done);
      call.off('drain', done);
      call.off('close', done);
      resolve();
    };
    call.once('drain', done);
    call.once('close', done);
    signal.addEventListener('abort', done, { once: true });
  });
  drains.set(call, drain);
  return drain;
}

function duplexOf(
  call: ServerDuplexStream<unknown, unknown>,
  context: CallContext,
): DuplexStream<unknown, unknown> {
  const inbound = new BoundedQueue<unknown>(STREAM_LIMIT);
  call.on('data', (message: unknown) => {
    if (inbound.offer(message)) return;
    // The queue is full: stop reading the transport until the consumer caught up.
    call.pause();
    inbound.push(message).then(
      () => call.resume(),
      () => undefined,
    );
  });
  call.on('end', () => inbound.end());
  call.on('error', () => inbound.fail(new RpcError('unavailable', 'the stream broke')));
  context.signal.addEventListener('abort', () =>
    inbound.fail(new RpcError('cancelled', 'the caller went away')),
  );
  return {
    send: async (message) => {
      if (context.signal.aborted || call.destroyed || call.writableEnded)
        throw new RpcError('unavailable', 'the stream is closed');
      if (!call.write(message)) await drained(call, context.signal);
    },
    end: () => {
      inbound.end();
      call.end();
    },
    cancel: (reason) => {
      inbound.fail(new RpcError('cancelled', reason));
      call.emit('error', toStatus(new RpcError('cancelled', reason)));
    },
    [Symbol.asyncIterator]: () => inbound[Symbol.asyncIterator](),
  };
}
