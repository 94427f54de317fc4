/**
 * The transport of simulations: processes in one heap that call each other by
 * name. Every message passes through its protobuf encoding, every delivery
 * goes through a gate, so that a scheduler decides when, and whether, it
 * arrives.
 */
import { type AnyHandler, forCallers, type ServiceTerms } from './callers.ts';
import { BoundedQueue } from './queue.ts';
import { type AnyMethod, methodsOf } from './method.ts';
import {
  type CallContext,
  type CallOptions,
  type Client,
  type DuplexStream,
  type Handlers,
  type RpcConnector,
  RpcError,
  type RpcServer,
} from './transport.ts';

/** Decides when a message from one process reaches another; rejects when the link is cut. */
export type DeliveryGate = (from: string, to: string, what: string) => Promise<void>;

interface Endpoint {
  readonly handlers: Map<string, { method: AnyMethod; handler: AnyHandler }>;
  readonly connections: Set<AbortController>;
}

const STREAM_LIMIT = 64;

/** One network of named processes. */
export class MemoryNetwork {
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #gate: DeliveryGate;

  constructor(gate: DeliveryGate = () => Promise.resolve()) {
    this.#gate = gate;
  }

  /** The server side of a process. `address` is what others dial. */
  server(address: string): RpcServer {
    const endpoint: Endpoint = { handlers: new Map(), connections: new Set() };
    return {
      add: <S>(definition: S, handlers: Handlers<S>, terms?: ServiceTerms): void => {
        for (const [name, method] of methodsOf(definition as object)) {
          const handler = (handlers as Record<string, AnyHandler>)[name];
          if (handler === undefined) continue;
          endpoint.handlers.set(method.path, { method, handler: forCallers(method, handler, terms) });
        }
      },
      listen: () => {
        this.#endpoints.set(address, endpoint);
        return Promise.resolve(address);
      },
      stop: () => {
        this.crash(address, endpoint);
        return Promise.resolve();
      },
    };
  }

  /** Cuts every call of a process, as kill -9 does. */
  crash(address: string, only?: Endpoint): void {
    const endpoint = this.#endpoints.get(address);
    if (endpoint === undefined || (only !== undefined && only !== endpoint)) return;
    this.#endpoints.delete(address);
    for (const connection of endpoint.connections) connection.abort();
    endpoint.connections.clear();
  }

  /** The client side of a process. `capabilities` are the units of its certificate; `plaintext` alone when it has none. */
  connector(from: string, capabilities: Iterable<string>): RpcConnector & { crash(): void } {
    const caller = { from, capabilities: new Set(capabilities) };
    const mine = new Set<AbortController>();
    const cut = (): void => {
      for (const controller of mine) controller.abort();
      mine.clear();
    };
    return {
      client: <S>(definition: S, address: string): Client<S> => {
        const client: Record<string, unknown> = {};
        for (const [name, method] of methodsOf(definition as object)) {
          client[name] = method.requestStream
            ? method.responseStream
              ? (options?: CallOptions) => this.#duplex(caller, address, method, mine, options)
              : (requests: Iterable<unknown>, options?: CallOptions) =>
                  this.#clientStream(caller, address, method, requests, mine, options)
            : method.responseStream
              ? (request: unknown, options?: CallOptions) =>
                  this.#serverStream(caller, address, method, request, mine, options)
              : (request: unknown, options?: CallOptions) =>
                  this.#unary(caller, address, method, request, mine, options);
        }
        return client as Client<S>;
      },
      close: cut,
      crash: cut,
    };
  }

  #find(address: string, method: AnyMethod): { endpoint: Endpoint; handler: AnyHandler } {
    const endpoint = this.#endpoints.get(address);
    if (endpoint === undefined) throw new RpcError('unavailable', `nobody listens at ${address}`);
    const entry = endpoint.handlers.get(method.path);
    if (entry === undefined) throw new RpcError('unimplemented', method.path);
    return { endpoint, handler: entry.handler };
  }

  #open(
    address: string,
    method: AnyMethod,
    mine: Set<AbortController>,
    caller: Caller,
    options?: CallOptions,
  ): Opened {
    const { endpoint, handler } = this.#find(address, method);
    const controller = new AbortController();
    endpoint.connections.add(controller);
    mine.add(controller);
    const onAbort = (): void => controller.abort();
    controller.signal.addEventListener('abort', () => {
      endpoint.connections.delete(controller);
      mine.delete(controller);
      options?.signal?.removeEventListener('abort', onAbort);
    });
    options?.signal?.addEventListener('abort', onAbort);
    const context: CallContext = {
      capabilities: caller.capabilities,
      metadata: options?.metadata ?? {},
      signal: controller.signal,
    };
    return { handler, controller, context };
  }

  async #unary(
    caller: Caller,
    address: string,
    method: AnyMethod,
    request: unknown,
    mine: Set<AbortController>,
    options?: CallOptions,
  ): Promise<unknown> {
    const bytes = Buffer.from(method.requestSerialize(request));
    await this.#gate(caller.from, address, method.path);
    const opened = this.#open(address, method, mine, caller, options);
    return this.#answer(caller, address, method, opened, () => method.requestDeserialize(bytes));
  }

  #clientStream(
    caller: Caller,
    address: string,
    method: AnyMethod,
    requests: Iterable<unknown>,
    mine: Set<AbortController>,
    options?: CallOptions,
  ): Promise<unknown> {
    const toServer = new BoundedQueue<unknown>(STREAM_LIMIT);
    const fail = (error: RpcError): void => toServer.fail(error);
    const send = pump(toServer, this.#gate, caller.from, address, method.path, fail);
    const sendAll = async (): Promise<void> => {
      for (const request of requests) {
        if (toServer.closed) return;
        await send(method.requestDeserialize(Buffer.from(method.requestSerialize(request))));
      }
      toServer.end();
    };
    let opened: Opened;
    try {
      opened = this.#open(address, method, mine, caller, options);
    } catch (error) {
      return Promise.reject(asRpcError(error));
    }
    opened.controller.signal.addEventListener('abort', () =>
      fail(new RpcError('cancelled', 'the caller went away')),
    );
    sendAll().catch((error: unknown) => fail(asRpcError(error)));
    return this.#answer(caller, address, method, opened, () => toServer);
  }

  /** Has the handler answer once, and brings its answer back. */
  async #answer(
    caller: Caller,
    address: string,
    method: AnyMethod,
    { handler, controller, context }: Opened,
    request: () => unknown,
  ): Promise<unknown> {
    const broken = new Promise<never>((_, reject) => {
      controller.signal.addEventListener('abort', () =>
        reject(new RpcError('unavailable', `${address} is gone`)),
      );
    });
    try {
      const response = await Promise.race([toPromise(() => handler(request(), context)), broken]);
      const reply = Buffer.from(method.responseSerialize(response));
      await Promise.race([this.#gate(address, caller.from, method.path), broken]);
      return method.responseDeserialize(reply);
    } catch (error) {
      throw asRpcError(error);
    } finally {
      broken.catch(() => undefined);
      controller.abort();
    }
  }

  async *#serverStream(
    caller: Caller,
    address: string,
    method: AnyMethod,
    request: unknown,
    mine: Set<AbortController>,
    options?: CallOptions,
  ): AsyncGenerator<unknown> {
    const bytes = Buffer.from(method.requestSerialize(request));
    await this.#gate(caller.from, address, method.path);
    const { handler, controller, context } = this.#open(address, method, mine, caller, options);
    try {
      for await (const item of handler(method.requestDeserialize(bytes), context) as AsyncIterable<unknown>) {
        const reply = Buffer.from(method.responseSerialize(item));
        await this.#gate(address, caller.from, method.path);
        if (controller.signal.aborted) throw new RpcError('unavailable', `${address} is gone`);
        yield method.responseDeserialize(reply);
      }
    } catch (error) {
      throw asRpcError(error);
    } finally {
      controller.abort();
    }
  }

  #duplex(
    caller: Caller,
    address: string,
    method: AnyMethod,
    mine: Set<AbortController>,
    options?: CallOptions,
  ): DuplexStream<unknown, unknown> {
    const toServer = new BoundedQueue<unknown>(STREAM_LIMIT);
    const toClient = new BoundedQueue<unknown>(STREAM_LIMIT);
    const breakBoth = (error: RpcError): void => {
      toServer.fail(error);
      toClient.fail(error);
    };
    const clientPump = pump(toServer, this.#gate, caller.from, address, method.path, breakBoth);
    const serverPump = pump(toClient, this.#gate, address, caller.from, method.path, breakBoth);
    let controller: AbortController | undefined;
    try {
      const opened = this.#open(address, method, mine, caller, options);
      controller = opened.controller;
      controller.signal.addEventListener('abort', () =>
        breakBoth(new RpcError('unavailable', `${address} is gone`)),
      );
      const serverSide: DuplexStream<unknown, unknown> = {
        send: (message) =>
          serverPump(method.responseDeserialize(Buffer.from(method.responseSerialize(message)))),
        end: () => toClient.end(),
        cancel: (reason) => breakBoth(new RpcError('cancelled', reason)),
        [Symbol.asyncIterator]: () => toServer[Symbol.asyncIterator](),
      };
      toPromise(() => opened.handler(serverSide, opened.context)).then(
        () => toClient.end(),
        (error: unknown) => breakBoth(asRpcError(error)),
      );
    } catch (error) {
      breakBoth(asRpcError(error));
    }
    return {
      send: (message) => clientPump(method.requestDeserialize(Buffer.from(method.requestSerialize(message)))),
      end: () => toServer.end(),
      cancel: (reason) => {
        breakBoth(new RpcError('cancelled', reason));
        controller?.abort();
      },
      [Symbol.asyncIterator]: () => toClient[Symbol.asyncIterator](),
    };
  }
}

/** A call that reached its endpoint. */
interface Opened {
  readonly handler: AnyHandler;
  readonly controller: AbortController;
  readonly context: CallContext;
}

interface Caller {
  readonly from: string;
  readonly capabilities: ReadonlySet<string>;
}

/** Delivers in order: each message passes the gate before the next enters it. */
function pump(
  queue: BoundedQueue<unknown>,
  gate: DeliveryGate,
  from: string,
  to: string,
  what: string,
  fail: (error: RpcError) => void,
): (message: unknown) => Promise<void> {
  let tail: Promise<void> = Promise.resolve();
  return (message) => {
    if (queue.closed) return Promise.reject(new RpcError('unavailable', `${to} is gone`));
    tail = tail.then(async () => {
      await gate(from, to, what);
      await queue.push(message);
    });
    return tail.catch((error: unknown) => {
      const broken = asRpcError(error);
      fail(broken);
      throw broken;
    });
  };
}

function toPromise(run: () => unknown): Promise<unknown> {
  try {
    return Promise.resolve(run());
  } catch (error) {
    return Promise.reject(asRpcError(error));
  }
}

/** Errors cross as RpcError; anything else is `internal` and keeps its message. */
export function asRpcError(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  return new RpcError('internal', error instanceof Error ? error.message : String(error));
}
