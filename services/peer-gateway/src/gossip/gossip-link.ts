/**
 * The stream to the router. Gossip never delays a channel: what the router
 * does not take in time is dropped, the oldest first, and peers ask again.
 */
import type { Client, DuplexStream } from '@fulmen/rpc';
import type { GossipFromPeer, GossipServiceService, GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { Logger, Runtime } from '@fulmen/service';
import { GOSSIP_QUEUE_BYTES, GOSSIP_QUEUE_EVENTS, LINK_RETRY_MAX_MS, LINK_RETRY_MIN_MS } from '../limits.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { Signal } from '../signal.ts';
import { GossipQueue } from './gossip-queue.ts';

export interface GossipHandler {
  /** Peers that are up now, with the filter that each set last. */
  peers(): Iterable<{ readonly nodeId: Uint8Array; readonly timestampFilter: Uint8Array | undefined }>;
  message(message: GossipToPeer): void;
}

type GossipStream = DuplexStream<GossipToPeer, GossipFromPeer>;

export class GossipLink {
  readonly #client: Client<GossipServiceService>;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #metrics: GatewayMetrics;
  readonly #handler: GossipHandler;
  readonly #queue = new GossipQueue(GOSSIP_QUEUE_BYTES);
  readonly #changed = new Signal();
  #stream: GossipStream | undefined;

  constructor(
    client: Client<GossipServiceService>,
    ports: { readonly runtime: Runtime; readonly logger: Logger; readonly metrics: GatewayMetrics },
    handler: GossipHandler,
  ) {
    this.#client = client;
    this.#runtime = ports.runtime;
    this.#logger = ports.logger;
    this.#metrics = ports.metrics;
    this.#handler = handler;
  }

  peerUp(nodeId: Uint8Array): void {
    this.#push({ body: { $case: 'peerUp', value: nodeId } });
  }

  peerDown(nodeId: Uint8Array): void {
    this.#push({ body: { $case: 'peerDown', value: nodeId } });
  }

  forward(peerNodeId: Uint8Array, message: Uint8Array): void {
    if (this.#stream === undefined) {
      this.#metrics.dropped.inc({ reason: 'gossip_no_router' });
      return;
    }
    const dropped = this.#queue.pushMessage(
      { body: { $case: 'message', value: { peerNodeId, message } } },
      message.length,
    );
    if (dropped > 0) this.#metrics.dropped.inc({ reason: 'gossip_queue' }, dropped);
    this.#changed.notify();
  }

  /** Dials and pumps until the signal fires. */
  async run(gatewayId: string, signal: AbortSignal): Promise<void> {
    let retryMs = LINK_RETRY_MIN_MS;
    while (!signal.aborted) {
      const stream = this.#client.gossip();
      const cancel = (): void => stream.cancel('stopping');
      signal.addEventListener('abort', cancel, { once: true });
      this.#queue.clear();
      this.#stream = stream;
      this.#queue.pushEvent({ body: { $case: 'gatewayId', value: gatewayId } });
      for (const { nodeId, timestampFilter } of this.#handler.peers()) {
        this.peerUp(nodeId);
        // Said once a connection: a router that came later would never hear it.
        if (timestampFilter !== undefined) this.forward(nodeId, timestampFilter);
      }
      this.#metrics.gossipUp.set(1);
      const writing = this.#write(stream);
      try {
        for await (const message of stream) {
          retryMs = LINK_RETRY_MIN_MS;
          this.#handler.message(message);
        }
      } catch (error) {
        this.#logger.debug(
          { reason: error instanceof Error ? error.message : 'broken' },
          'the gossip stream broke',
        );
      }
      signal.removeEventListener('abort', cancel);
      stream.cancel('replaced');
      this.#stream = undefined;
      this.#metrics.gossipUp.set(0);
      this.#changed.notify();
      await writing;
      if (signal.aborted) return;
      await this.#runtime.sleep(retryMs, signal);
      retryMs = Math.min(retryMs * 2, LINK_RETRY_MAX_MS);
    }
  }

  async #write(stream: GossipStream): Promise<void> {
    while (this.#stream === stream) {
      const next = this.#queue.shift();
      this.#metrics.gossipQueueBytes.set(this.#queue.bytes);
      if (next === undefined) {
        await this.#changed.wait();
        continue;
      }
      try {
        await stream.send(next);
      } catch {
        // The reader of the stream sees the same break and reports it.
        return;
      }
    }
  }

  #push(event: GossipFromPeer): void {
    if (this.#stream === undefined) return;
    if (this.#queue.length >= GOSSIP_QUEUE_EVENTS) {
      // A router that reads nothing starts anew with the peers of that time.
      this.#stream.cancel('the router does not read');
      return;
    }
    this.#queue.pushEvent(event);
    this.#changed.notify();
  }
}
