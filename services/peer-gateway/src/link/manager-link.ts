/** The stream to one channel-manager replica: dialled for ever, its queue bounded. */
import type { Logger, Runtime } from '@fulmen/service';
import type { Client, DuplexStream } from '@fulmen/rpc';
import type { GatewayToManager } from '@fulmen/proto/link/v1/link';
import {
  type GatewayHello,
  type ManagerToGateway,
  type PeerLinkServiceService,
} from '@fulmen/proto/link/v1/link';
import {
  FRAME_OVERHEAD_BYTES,
  LINK_LIMIT_BYTES,
  LINK_PAUSE_BYTES,
  LINK_RETRY_MAX_MS,
  LINK_RETRY_MIN_MS,
} from '../limits.ts';
import type { GatewayMetrics } from '../metrics.ts';

export type LinkInput = NonNullable<ManagerToGateway['body']>;
export type LinkOutput = NonNullable<GatewayToManager['body']>;

export interface LinkHandler {
  message(link: ManagerLink, body: LinkInput): void;
  /** The stream is gone; the link dials again by itself. */
  broken(link: ManagerLink, reason: string): void;
  /** There is room again. */
  drained(link: ManagerLink): void;
}

export class ManagerLink {
  readonly address: string;
  readonly #client: Client<PeerLinkServiceService>;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #metrics: GatewayMetrics;
  readonly #handler: LinkHandler;
  #stream: DuplexStream<ManagerToGateway, GatewayToManager> | undefined;
  #queuedBytes = 0;
  /** Counts streams, so that a send of an old one settles on nobody's account. */
  #streamNumber = 0;

  constructor(
    address: string,
    client: Client<PeerLinkServiceService>,
    ports: { readonly runtime: Runtime; readonly logger: Logger; readonly metrics: GatewayMetrics },
    handler: LinkHandler,
  ) {
    this.address = address;
    this.#client = client;
    this.#runtime = ports.runtime;
    this.#logger = ports.logger.child({ manager: address });
    this.#metrics = ports.metrics;
    this.#handler = handler;
  }

  /** Peers whose frames go here are not read until it has room. */
  get isFull(): boolean {
    return this.#queuedBytes >= LINK_PAUSE_BYTES;
  }

  /** Sends in order without waiting; nothing is sent while the stream is broken. */
  send(body: LinkOutput): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    const message: GatewayToManager = { body };
    const bytes = (body.$case === 'inbound' ? body.value.message.length : 0) + FRAME_OVERHEAD_BYTES;
    this.#queuedBytes += bytes;
    this.#metrics.linkQueueBytes.set({ manager: this.address }, this.#queuedBytes);
    const number = this.#streamNumber;
    stream.send(message).then(
      () => this.#settled(number, bytes),
      // The reader of the stream sees the same break and reports it.
      () => undefined,
    );
    if (this.#queuedBytes >= LINK_LIMIT_BYTES) stream.cancel('the manager does not read');
  }

  /** Dials and listens until the signal fires. */
  async run(hello: GatewayHello, signal: AbortSignal): Promise<void> {
    let retryMs = LINK_RETRY_MIN_MS;
    while (!signal.aborted) {
      const stream = this.#client.link();
      const cancel = (): void => stream.cancel('stopping');
      signal.addEventListener('abort', cancel, { once: true });
      this.#streamNumber += 1;
      this.#queuedBytes = 0;
      this.#stream = stream;
      this.send({ $case: 'hello', value: hello });
      let reason = 'ended by the manager';
      try {
        for await (const message of stream) {
          retryMs = LINK_RETRY_MIN_MS;
          if (message.body !== undefined) this.#handler.message(this, message.body);
        }
      } catch (error) {
        reason = error instanceof Error ? error.message : 'broken';
      }
      signal.removeEventListener('abort', cancel);
      stream.cancel('replaced');
      this.#stream = undefined;
      this.#queuedBytes = 0;
      if (signal.aborted) return;
      this.#logger.debug({ reason }, 'the link to the manager broke');
      this.#handler.broken(this, reason);
      await this.#runtime.sleep(retryMs, signal);
      retryMs = Math.min(retryMs * 2, LINK_RETRY_MAX_MS);
    }
  }

  #settled(streamNumber: number, bytes: number): void {
    if (streamNumber !== this.#streamNumber || this.#stream === undefined) return;
    const wasFull = this.isFull;
    this.#queuedBytes -= bytes;
    this.#metrics.linkQueueBytes.set({ manager: this.address }, this.#queuedBytes);
    if (wasFull && !this.isFull) this.#handler.drained(this);
  }
}
