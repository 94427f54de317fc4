/**
 * The stream to the router. Gossip never delays a channel: what the router
 * does not take in time is dropped, the oldest first, and peers ask again.
 * What the router sends waits there until the peer has room for it: grants
 * say how far it may go.
 */
import type { Client, DuplexStream } from '@fulmen/rpc';
import type { GossipFromPeer, GossipServiceService, GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { Logger, Runtime } from '@fulmen/service';
import { GOSSIP_QUEUE_BYTES, GOSSIP_QUEUE_EVENTS, LINK_RETRY_MAX_MS, LINK_RETRY_MIN_MS } from '../limits.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { Signal } from '../signal.ts';
import { GossipQueue } from './gossip-queue.ts';
import { GossipGrants, type GossipPeer } from './grants.ts';

export interface GossipHandler {
  /** Peers that are up now. */
  peers(): Iterable<GossipPeer>;
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
  readonly #grants = new GossipGrants();
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

  peerUp(peer: GossipPeer): void {
    if (this.#stream === undefined) return;
    this.#push({ body: { $case: 'peerUp', value: peer.nodeId } });
    this.#grants.open(peer);
    this.#pushGrant(peer);
  }

  peerDown(peer: GossipPeer): void {
    this.#grants.close(peer);
    this.#push({ body: { $case: 'peerDown', value: peer.nodeId } });
  }

  /** A message of the router's came for this peer. */
  received(peer: GossipPeer, bytes: number): void {
    this.#grants.received(peer, bytes);
  }

  /** Some of the peer's gossip waits no more. */
  taken(peer: GossipPeer): void {
    if (this.#grants.isDue(peer)) this.#pushGrant(peer);
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
      this.#grants.clear();
      this.#stream = stream;
      this.#queue.pushEvent({ body: { $case: 'gatewayId', value: gatewayId } });
      this.#queue.pushEvent({ body: { $case: 'sendsGrants', value: true } });
      for (const peer of this.#handler.peers()) {
        this.peerUp(peer);
        // Said once a connection: a router that came later would never hear it.
        if (peer.timestampFilter !== undefined) this.forward(peer.nodeId, peer.timestampFilter);
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
        await stream.send(this.#filledIn(next));
      } catch {
        // The reader of the stream sees the same break and reports it.
        return;
      }
    }
  }

  /** A grant waits in its place in the queue, and says what holds when it leaves. */
  #pushGrant({ nodeId: peerNodeId, connectionId }: GossipPeer): void {
    this.#push({ body: { $case: 'grant', value: { peerNodeId, connectionId, throughBytes: 0n } } });
  }

  #filledIn(item: GossipFromPeer): GossipFromPeer {
    if (item.body?.$case !== 'grant') return item;
    const throughBytes = BigInt(this.#grants.take(item.body.value.connectionId));
    return { body: { $case: 'grant', value: { ...item.body.value, throughBytes } } };
  }

  #push(event: GossipFromPeer): void {
    if (this.#stream === undefined) return;
    if (this.#queue.events >= GOSSIP_QUEUE_EVENTS) {
      // A router that reads nothing starts anew with the peers of that time.
      this.#stream.cancel('the router does not read');
      return;
    }
    this.#queue.pushEvent(event);
    this.#changed.notify();
  }
}
