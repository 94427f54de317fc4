/**
 * Peer storage (BOLT 1), both ways: this node keeps a blob for each peer that
 * has a channel with it and returns it at every connection, and has its own
 * backup kept by the peers that offer the same.
 */
import { fitted, openBackup, SALT_LENGTH, sealBackup } from '@fulmen/backup';
import { equalBytes, toHex } from '@fulmen/codec';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import { type BackupStore, MAX_PEER_STORAGE_BYTES } from '@fulmen/store/manager/backup/backup-store';
import { encodeMessage, make } from '@fulmen/wire';
import type { Peer } from '../peers/peer.ts';
import type { BackupKeeper } from './keeper.ts';

/** BOLT 1: "MAY delay storage to ratelimit peer to no more than one update per minute." Both ways. */
const UPDATE_INTERVAL_MS = 60_000;
/** BOLT 1: "when all channels with that peer are closed: SHOULD wait at least 2016 blocks before deleting the blob." */
const KEEP_BLOCKS = 2_016;

/** Of a peer that is connected, or whose blob waits to be stored. */
interface PeerState {
  /** The latest blob, while it waits for its minute. */
  waiting?: Uint8Array;
  storedMs: number;
  /** Number of our backup that the peer has, as far as we know. */
  sequence?: bigint;
  sentMs: number;
}

export interface PeerStoragePorts {
  readonly store: BackupStore;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class PeerStorage {
  readonly #ports: PeerStoragePorts;
  readonly #keeper: BackupKeeper;
  readonly #blockHeight: () => number;
  readonly #peers = new Map<string, PeerState>();
  readonly #returnedUnknown: { inc(): void };

  constructor(ports: PeerStoragePorts, keeper: BackupKeeper, blockHeight: () => number) {
    this.#ports = ports;
    this.#keeper = keeper;
    this.#blockHeight = blockHeight;
    this.#returnedUnknown = ports.metrics.counter(
      'manager_backups_returned_unknown_total',
      'Backups that peers gave back with channels that this node does not know',
    );
  }

  /**
   * What the peer gave us to keep. It is sent before any channel hears of the connection.
   * BOLT 1: "MUST send peer_storage_retrieval again after reconnection, after exchanging init messages"; "should not be
   * sent after channel_reestablish because then the user wouldn't have an option to recover the node".
   */
  kept(peerNodeId: Uint8Array): Promise<Uint8Array | undefined> {
    const waiting = this.#peers.get(toHex(peerNodeId))?.waiting;
    return waiting === undefined ? this.#ports.store.peerStorage(peerNodeId) : Promise.resolve(waiting);
  }

  /** A new connection: what the peer has is learnt anew. */
  connected(peer: Peer): void {
    const state = this.#peers.get(peer.key);
    if (state !== undefined) delete state.sequence;
  }

  /** peer_storage. BOLT 1: "if it has an open channel with the sender: MUST store the message." Of others nothing is kept. */
  received(peer: Peer, blob: Uint8Array): void {
    if (peer.channels.size === 0 || blob.length > MAX_PEER_STORAGE_BYTES) return;
    // BOLT 1: "MUST replace the old blob with the latest received."
    this.#stateOf(peer).waiting = blob;
  }

  /** peer_storage_retrieval: ours, or nothing to us. */
  async returned(peer: Peer, blob: Uint8Array): Promise<void> {
    const { store, logger } = this.#ports;
    const opened = openBackup(await this.#keeper.secret(), blob);
    if (!opened.ok) {
      logger.info({ peer: peer.key }, 'a peer returned a blob that is not ours');
      return;
    }
    const theirs = opened.value;
    this.#stateOf(peer).sequence = theirs.sequence;
    const current = await this.#keeper.refresh();
    const known = new Set(current?.backup.channels.map(({ channelId }) => toHex(channelId)));
    const missing = theirs.channels
      .map(({ channelId }) => channelId)
      .filter((channelId) => !known.has(toHex(channelId)));
    const closed = await store.closedChannels(missing);
    const unknown = missing.filter((channelId) => !closed.some((one) => equalBytes(one, channelId)));
    if (unknown.length === 0) return;
    this.#returnedUnknown.inc();
    logger.error(
      { peer: peer.key, sequence: theirs.sequence, channels: unknown },
      'ALARM: a peer keeps a backup of this node with channels that the database does not know: recover them from it',
    );
    await store.putReturnedBackup(peer.fence, peer.nodeId, blob);
  }

  /** Stores what came, and sends what changed, for the peers of this replica. */
  async run(peers: readonly Peer[]): Promise<void> {
    for (const peer of peers) {
      await this.#storeWaiting(peer);
      await this.#sendNewest(peer);
    }
    const connected = new Set(
      peers.filter(({ connection }) => connection !== undefined).map(({ key }) => key),
    );
    const ours = new Set(peers.map(({ key }) => key));
    for (const [key, { waiting }] of this.#peers) {
      // The shard left with a blob that waited: the peer sends its next one to the new owner.
      if (!ours.has(key) || (waiting === undefined && !connected.has(key))) this.#peers.delete(key);
    }
  }

  async prune(): Promise<void> {
    await this.#ports.store.prunePeerStorage(this.#blockHeight(), KEEP_BLOCKS);
  }

  #stateOf(peer: Peer): PeerState {
    let state = this.#peers.get(peer.key);
    if (state === undefined) {
      state = { storedMs: Number.NEGATIVE_INFINITY, sentMs: Number.NEGATIVE_INFINITY };
      this.#peers.set(peer.key, state);
    }
    return state;
  }

  async #storeWaiting(peer: Peer): Promise<void> {
    const state = this.#peers.get(peer.key);
    const waiting = state?.waiting;
    if (state === undefined || waiting === undefined) return;
    const nowMs = this.#ports.runtime.monotonicMs();
    if (nowMs - state.storedMs < UPDATE_INTERVAL_MS) return;
    const outcome = await this.#ports.store.putPeerStorage(
      peer.fence,
      peer.nodeId,
      waiting,
      this.#blockHeight(),
    );
    if (outcome !== 'ok') return;
    state.storedMs = nowMs;
    // Another may have come meanwhile.
    if (state.waiting === waiting) delete state.waiting;
  }

  async #sendNewest(peer: Peer): Promise<void> {
    const { connection } = peer;
    const { current } = this.#keeper;
    if (connection === undefined || !connection.offersStorage || peer.channels.size === 0) return;
    if (current === undefined) return;
    const state = this.#stateOf(peer);
    const nowMs = this.#ports.runtime.monotonicMs();
    if (state.sequence === current.backup.sequence || nowMs - state.sentMs < UPDATE_INTERVAL_MS) return;
    const part = fitted(current.backup, peer.nodeId, MAX_PEER_STORAGE_BYTES);
    const salt = this.#ports.runtime.randomBytes(SALT_LENGTH);
    // BOLT 1: "SHOULD pad the blob to ensure its length is always exactly 65531 bytes."
    const blob = sealBackup(await this.#keeper.secret(), salt, part, MAX_PEER_STORAGE_BYTES);
    if (!peer.sendBytes(encodeMessage(make('peer_storage', { blob })), connection.generation)) return;
    state.sequence = current.backup.sequence;
    state.sentMs = nowMs;
  }
}
