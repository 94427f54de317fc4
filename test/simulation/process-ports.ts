/** RPC, hints and sockets as one simulated process sees them: nothing settles after its death, or while it is stopped. */
import type { Bus } from '@fulmen/bus';
import {
  type CallContext,
  type CallOptions,
  type Client,
  type DuplexStream,
  type Handlers,
  type RpcConnector,
  RpcError,
  type RpcServer,
  type ServiceTerms,
} from '@fulmen/rpc';
import type { Incarnation, Scheduler } from '@fulmen/testing/simulation/index';
import type { Socket, SocketPort } from '@fulmen/testing/socket';

/** As the real transport's default. */
const DEADLINE_MS = 10_000;

type AnyMethod = { readonly requestStream: boolean; readonly responseStream: boolean };
type AnyCall = (...given: unknown[]) => unknown;

function duplexFor<In, Out>(process: Incarnation, stream: DuplexStream<In, Out>): DuplexStream<In, Out> {
  return {
    send: (message) => process.guard(stream.send(message)),
    end: () => stream.end(),
    cancel: (reason) => stream.cancel(reason),
    [Symbol.asyncIterator]: () => iteratorFor(process, stream[Symbol.asyncIterator]()),
  };
}

function iteratorFor<T>(process: Incarnation, iterator: AsyncIterator<T>): AsyncIterator<T> {
  return {
    next: () => process.guard(iterator.next()),
    return: () => process.guard(iterator.return?.() ?? Promise.resolve({ done: true, value: undefined })),
  };
}

function requestsFor<T>(process: Incarnation, requests: AsyncIterable<T>): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: () => iteratorFor(process, requests[Symbol.asyncIterator]()) };
}

/** The client side; a unary call has the deadline that the real transport gives it. */
export function connectorFor(process: Incarnation, scheduler: Scheduler, inner: RpcConnector): RpcConnector {
  const unary =
    (call: AnyCall, what: string) =>
    (request: unknown, options: CallOptions = {}) => {
      const abort = new AbortController();
      const deadlineMs = options.deadlineMs ?? DEADLINE_MS;
      const given =
        options.signal === undefined ? abort.signal : AbortSignal.any([options.signal, abort.signal]);
      const answer = new Promise((resolve, reject) => {
        const timer = scheduler.schedule(deadlineMs, `deadline ${process.name} ${what}`, () => {
          reject(new RpcError('deadline_exceeded', `no answer within ${deadlineMs} ms`));
          abort.abort();
        });
        (call(request, { ...options, signal: given }) as Promise<unknown>)
          .then(resolve, reject)
          .finally(() => timer.cancel());
      });
      return process.guard(answer);
    };
  return {
    client: <S>(definition: S, address: string): Client<S> => {
      const client = inner.client(definition, address) as Record<string, AnyCall>;
      const guarded: Record<string, unknown> = {};
      for (const [name, method] of Object.entries(definition as Record<string, AnyMethod>)) {
        const call = client[name];
        if (call === undefined) continue;
        if (method.requestStream && method.responseStream)
          guarded[name] = (...given: unknown[]) =>
            duplexFor(process, call(...given) as DuplexStream<unknown, unknown>);
        else if (method.responseStream) {
          guarded[name] = (...given: unknown[]) => ({
            [Symbol.asyncIterator]: () =>
              iteratorFor(process, (call(...given) as AsyncIterable<unknown>)[Symbol.asyncIterator]()),
          });
        } else guarded[name] = unary(call, name);
      }
      return guarded as Client<S>;
    },
    close: () => inner.close(),
  };
}

/** The server side: a call enters the process, its answer leaves it. */
export function serverFor(process: Incarnation, inner: RpcServer): RpcServer {
  const contextFor = (context: CallContext): CallContext => {
    const mine = new AbortController();
    context.signal.addEventListener('abort', () => process.enter(() => mine.abort()));
    return { ...context, signal: mine.signal };
  };
  return {
    add: <S>(definition: S, handlers: Handlers<S>, terms?: ServiceTerms): void => {
      const guarded: Record<string, AnyCall> = {};
      for (const [name, method] of Object.entries(definition as Record<string, AnyMethod>)) {
        const handler = (handlers as Record<string, AnyCall | undefined>)[name];
        if (handler === undefined) continue;
        guarded[name] = (request, context) => {
          const asked = !method.requestStream
            ? request
            : method.responseStream
              ? duplexFor(process, request as DuplexStream<unknown, unknown>)
              : requestsFor(process, request as AsyncIterable<unknown>);
          return new Promise((resolve, reject) => {
            process.enter(() => {
              (handler(asked, contextFor(context as CallContext)) as Promise<unknown>).then(resolve, reject);
            });
          });
        };
      }
      inner.add(definition, guarded as Handlers<S>, terms);
    },
    listen: () => process.guard(inner.listen()),
    stop: (graceMs) => process.guard(inner.stop(graceMs)),
  };
}

export function busFor(process: Incarnation, inner: Bus): Bus {
  return {
    get connected() {
      return inner.connected;
    },
    publish: (subject, payload) => inner.publish(subject, payload),
    subscribe: (pattern, listener) =>
      inner.subscribe(pattern, (subject, payload) => process.enter(() => listener(subject, payload))),
    close: () => process.guard(inner.close()),
  };
}

export function socketsFor(process: Incarnation, inner: SocketPort): SocketPort {
  const socketFor = (socket: Socket): Socket => ({
    counterpartyAddress: socket.counterpartyAddress,
    closed: process.guard(socket.closed),
    read: () => process.guard(socket.read()),
    write: (bytes) => process.guard(socket.write(bytes)),
    end: () => socket.end(),
    reset: () => socket.reset(),
  });
  return {
    listen: (address, onConnection) =>
      process.guard(inner.listen(address, (socket) => process.enter(() => onConnection(socketFor(socket))))),
    connect: (address, signal) => process.guard(inner.connect(address, signal).then(socketFor)),
  };
}
