/** One gateway's gossip stream: its peers, what they say, and what is sent to them, a message each in turn. */
import { equalBytes } from '@fulmen/codec';
import type { GossipFromPeer, GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { DuplexStream } from '@fulmen/rpc';
import { RpcError } from '@fulmen/rpc';
import { decodeMessage } from '@fulmen/wire';
import type { RouterContext } from '../ports.ts';
import type { AnswerMemory } from './answer-memory.ts';
import { answerRange, answerScids } from './answers.ts';
import { Peer } from './peer.ts';
import type { Pipeline } from './pipeline.ts';
import type { GossipSync } from './sync.ts';

const NODE_ID_LENGTH = 33;
/** Peers on one stream; a gateway holds fewer. */
const MAX_PEERS = 10_000;
/** Messages sent between two looks at the event loop. */
const SENDS_IN_A_ROW = 256;
/** The three announcements of BOLT 7, which go through the pipeline. */
const FIRST_GOSSIP_TYPE = 256;
const LAST_GOSSIP_TYPE = 258;

export class GatewaySession {
  readonly peers = new Map<string, Peer>();
  readonly #context: RouterContext;
  readonly #stream: DuplexStream<GossipFromPeer, GossipToPeer>;
  readonly #pipeline: Pipeline;
  readonly #sync: GossipSync;
  readonly #answerMemory: AnswerMemory;
  readonly #ended = new AbortController();
  #wake: (() => void) | undefined;
  #hasWork = false;
  /** Gateways of an earlier version grant nothing: they drop what a slow peer leaves unread. */
  #pace: 'granted' | 'any' = 'any';

  constructor(
    context: RouterContext,
    stream: DuplexStream<GossipFromPeer, GossipToPeer>,
    pipeline: Pipeline,
    sync: GossipSync,
    answerMemory: AnswerMemory,
  ) {
    this.#context = context;
    this.#stream = stream;
    this.#pipeline = pipeline;
    this.#sync = sync;
    this.#answerMemory = answerMemory;
  }

  /** Breaks the stream. */
  cancel(reason: string): void {
    this.#end();
    this.#stream.cancel(reason);
  }

  /** Serves the stream until it ends or breaks. */
  async run(): Promise<void> {
    const sending = this.#send().catch((error: unknown) => {
      if (!(error instanceof RpcError)) throw error;
      this.#end();
    });
    try {
      for await (const { body } of this.#stream) {
        if (this.#ended.signal.aborted) break;
        await this.#receive(body);
      }
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      this.#context.logger.debug({ err: error }, 'a gossip stream broke');
    } finally {
      this.#end();
      for (const peer of this.peers.values()) {
        this.#sync.peerDown(peer);
        peer.close();
      }
      this.peers.clear();
    }
    await sending;
  }

  async #receive(body: GossipFromPeer['body']): Promise<void> {
    switch (body?.$case) {
      case undefined:
      case 'gatewayId':
        return;
      case 'peerUp':
        this.#peerUp(body.value);
        return;
      case 'peerDown':
        this.#peerDown(body.value);
        return;
      case 'sendsGrants':
        if (body.value) this.#pace = 'granted';
        return;
      case 'grant':
        this.peers
          .get(keyOf(body.value.peerNodeId))
          ?.grant(body.value.connectionId, Number(body.value.throughBytes));
        return;
      case 'message': {
        const peer = this.peers.get(keyOf(body.value.peerNodeId));
        if (peer !== undefined) await this.#message(peer, Uint8Array.from(body.value.message));
        return;
      }
    }
  }

  #peerUp(nodeId: Uint8Array): void {
    if (nodeId.length !== NODE_ID_LENGTH) return;
    this.#peerDown(nodeId);
    if (this.peers.size >= MAX_PEERS) {
      this.#context.metrics.dropped.inc({ what: 'peer' });
      return;
    }
    const peer = new Peer(Uint8Array.from(nodeId), this.#pace, {
      metrics: this.#context.metrics,
      answerMemory: this.#answerMemory,
      wake: () => this.#notify(),
    });
    this.peers.set(keyOf(nodeId), peer);
    this.#context.metrics.peers.inc();
    this.#sync.peerUp(peer);
  }

  #peerDown(nodeId: Uint8Array): void {
    const peer = this.peers.get(keyOf(nodeId));
    if (peer === undefined) return;
    this.peers.delete(keyOf(nodeId));
    this.#context.metrics.peers.dec();
    this.#sync.peerDown(peer);
    peer.close();
  }

  async #message(peer: Peer, raw: Uint8Array): Promise<void> {
    const type = ((raw[0] ?? 0) << 8) | (raw[1] ?? 0);
    if (type >= FIRST_GOSSIP_TYPE && type <= LAST_GOSSIP_TYPE) {
      await this.#pipeline.offer(peer, raw, this.#ended.signal);
      return;
    }
    const decoded = decodeMessage(raw);
    if (!decoded.ok) {
      peer.warn('malformed gossip message');
      return;
    }
    const { state, runtime, metrics } = this.#context;
    const message = decoded.value;
    switch (message.type) {
      case 'query_short_channel_ids':
      case 'query_channel_range':
        if (!peer.mayQuery(runtime.monotonicMs())) {
          metrics.dropped.inc({ what: 'query' });
          peer.warn('too many queries');
        } else if (message.type === 'query_channel_range') answerRange(state.graph, peer, message);
        else answerScids(state.graph, peer, message);
        return;
      case 'gossip_timestamp_filter':
        if (!equalBytes(message.chainHash, state.graph.chainHash)) return;
        if (peer.mayQuery(runtime.monotonicMs())) {
          peer.setFilter(message, runtime.monotonicMs(), () => state.graph);
        } else metrics.dropped.inc({ what: 'query' });
        return;
      case 'reply_channel_range':
        this.#sync.rangeReply(peer, message);
        return;
      case 'reply_short_channel_ids_end':
        this.#sync.idsEnd(peer);
        return;
      default:
        // Not gossip: the gateway should have sent it elsewhere.
        metrics.dropped.inc({ what: 'not_gossip' });
    }
  }

  async #send(): Promise<void> {
    const { runtime, metrics } = this.#context;
    let sent = 0;
    while (!this.#ended.signal.aborted) {
      this.#hasWork = false;
      for (const peer of this.peers.values()) {
        const next = peer.next();
        if (next === 'idle') continue;
        this.#hasWork = true;
        sent += 1;
        if (next !== 'later') {
          await this.#stream.send(next);
          metrics.sent.inc();
        }
        // A walk that finds nothing to send is work without a pause.
        if (next === 'later' || sent % SENDS_IN_A_ROW === 0) await runtime.sleep(0);
        if (this.#ended.signal.aborted) return;
      }
      if (this.#hasWork) continue;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #notify(): void {
    this.#hasWork = true;
    this.#wake?.();
  }

  #end(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    this.#context.metrics.peers.dec(this.peers.size);
    this.#notify();
  }
}

const keyOf = (nodeId: Uint8Array): string => String.fromCharCode(...nodeId.subarray(0, NODE_ID_LENGTH));
