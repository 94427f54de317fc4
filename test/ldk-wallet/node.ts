// The LDK node: its parts, its chain, its saved state, and the loop that drives it.
//
// Every input (bytes of a peer, a block, a request) ends in one turn of the loop: events are handled,
// messages are made, the state is saved, and only then do the messages leave. That is why all of it is
// one class: what marks the state as changed, and the turn that saves it, must not come apart.
import fs from 'node:fs';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { Block, Transaction } from 'bitcoinjs-lib';
import { type ChainBlock, ChainFollower, ChainRpc, type ChainStep } from './chain.ts';
import { Broadcasts, type SavedBroadcast } from './broadcasts.ts';
import { userConfig } from './config.ts';
import { handleEvent } from './events.ts';
import { fromHex, ldk, safely, scidToText, toHex } from './ldk.ts';
import { OnchainWallet, type OnchainState } from './onchain.ts';
import {
  broadcasterOf,
  feeEstimatorOf,
  graphOf,
  managerOf,
  persisterOf,
  routerOf,
  walletSourceOf,
} from './parts.ts';
import { Peers, type WantedPeer } from './peers.ts';
import {
  decodeLine,
  encodeLine,
  type Handshake,
  type OpenAnswer,
  type PaymentInfo,
  type WalletEvent,
} from './protocol.ts';
import { loadSeed, Storage } from './storage.ts';

/** How to start a wallet. */
export type NodeOptions = {
  readonly dataDir: string;
  readonly chainUrl: string;
  /** undefined: the wallet does not listen. 0: the system chooses, once; the choice is kept. */
  readonly listenPort?: number;
  readonly anchors: boolean;
  readonly handshake: Handshake;
  /** Neither connects to peers nor listens. */
  readonly offline: boolean;
  readonly pollMs: number;
  /** Lowest level that is written to `ldk.log`; 3 is info, 2 debug, 0 everything. */
  readonly logLevel: number;
  readonly onEvent: (event: WalletEvent) => void;
};

type Meta = {
  readonly chain: { readonly recent: readonly ChainBlock[]; readonly stale: readonly ChainBlock[] };
  readonly onchain: OnchainState;
  /** Payments as the protocol writes them (64-bit amounts as text). */
  readonly payments: string;
  readonly peers: readonly WantedPeer[];
  readonly held: readonly (readonly [string, string])[];
  readonly unconfirmed: readonly SavedBroadcast[];
  readonly nextUserChannelId: number;
  readonly port: number | null;
};

/** What a failed onion said, from LDK's log: the event itself does not carry it. */
type OnionFailure = { readonly nodeId: string; readonly name: string; readonly code: number };

/** One wallet. Build it with {@link startNode}. */
export class Node {
  readonly options: NodeOptions;
  readonly onchain: OnchainWallet;
  readonly keys: ldk.KeysManager;
  readonly chain: ChainFollower;
  manager!: ldk.ChannelManager;
  monitor!: ldk.ChainMonitor;
  peerManager!: ldk.PeerManager;
  bumpHandler!: ldk.BumpTransactionEventHandler;
  network!: ldk.NetworkGraph;
  peers!: Peers;
  feerateSatPerKw = 1_000;
  /** What an open_channel of a counterparty gets. */
  openAnswer: OpenAnswer = { how: 'accept' };
  port: number | null;
  /** Hand-made routes, by payment hash, for the router to give out. */
  readonly rawRoutes = new Map<string, ldk.Path>();

  readonly #storage: Storage<Meta>;
  readonly #kept: object[] = [];
  readonly #payments = new Map<string, PaymentInfo>();
  readonly #held: Map<string, string>;
  readonly #broadcasts: Broadcasts;
  readonly #onionFailures = new Map<string, OnionFailure>();
  readonly #dirtyMonitors = new Map<string, Uint8Array | null>();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #wantedBefore: readonly WantedPeer[];
  #nextUserChannelId: number;
  #metaDirty = true;
  #graphDirty = false;
  #turning = false;
  #wakeAgain = false;
  #wakeQueued = false;
  #stopping = false;
  #followed: Promise<void> = Promise.resolve();
  #connectedBefore = new Set<string>();
  #log: fs.WriteStream;

  private constructor(
    options: NodeOptions,
    parts: { seed: Uint8Array; chain: ChainFollower; storage: Storage<Meta>; meta: Meta | undefined },
  ) {
    const { meta } = parts;
    this.options = options;
    this.chain = parts.chain;
    this.#storage = parts.storage;
    this.#log = fs.createWriteStream(path.join(options.dataDir, 'ldk.log'), { flags: 'a' });
    this.onchain = new OnchainWallet(parts.seed, meta?.onchain);
    this.onchain.setHeight(parts.chain.tip.height);
    // The time only keeps keys of two starts apart; it is the one use of the machine's clock.
    const nowMs = Date.now();
    this.keys = ldk.KeysManager.constructor_new(
      parts.seed,
      BigInt(Math.floor(nowMs / 1000)),
      (nowMs % 1000) * 1_000_000,
    );
    for (const payment of (decodeLine(meta?.payments ?? '[]') as PaymentInfo[]) ?? []) {
      this.#payments.set(payment.paymentId, payment);
    }
    this.#held = new Map(meta?.held ?? []);
    this.#broadcasts = new Broadcasts(
      parts.chain,
      meta?.unconfirmed ?? [],
      (txid) => {
        this.#metaDirty = true;
        this.emit({ event: 'broadcast', txid });
      },
      (line) => void this.#log.write(line),
    );
    this.#wantedBefore = meta?.peers ?? [];
    this.#nextUserChannelId = meta?.nextUserChannelId ?? 1;
    this.port = meta?.port ?? null;
  }

  /** Loads or makes the wallet of a data folder, follows the chain to its tip, and connects. */
  static async start(options: NodeOptions): Promise<Node> {
    fs.mkdirSync(options.dataDir, { recursive: true });
    const storage = new Storage<Meta>(path.join(options.dataDir, 'state'));
    const saved = storage.load();
    const seed = loadSeed(path.join(options.dataDir, 'seed'));
    const rpc = new ChainRpc(options.chainUrl);
    const chain =
      saved === undefined ? await ChainFollower.fromTip(rpc) : new ChainFollower(rpc, saved.meta.chain);
    const node = new Node(options, { seed, chain, storage, meta: saved?.meta });
    await node.#assemble(saved);
    await node.sync();
    await node.#open();
    return node;
  }

  get nodeId(): string {
    return toHex(this.manager.get_our_node_id());
  }

  emit(event: WalletEvent): void {
    this.options.onEvent(event);
  }

  readonly report = (error: unknown): void => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#log.write(`ERROR ${text}\n`);
    this.emit({ event: 'error', text: error instanceof Error ? error.message : String(error) });
  };

  // --- Payments and other state of the wallet itself -------------------------------------------

  payments(): PaymentInfo[] {
    return [...this.#payments.values()];
  }

  putPayment(payment: PaymentInfo): void {
    this.#payments.set(payment.paymentId, payment);
    this.#metaDirty = true;
  }

  changePayment(paymentId: string, change: Partial<PaymentInfo>): void {
    const payment = this.#payments.get(paymentId);
    if (payment !== undefined) this.putPayment({ ...payment, ...change });
  }

  hold(paymentHash: string): void {
    this.#held.set(paymentHash, '');
    this.#metaDirty = true;
  }

  isHeld(paymentHash: string): boolean {
    return this.#held.has(paymentHash);
  }

  keepPreimage(paymentHash: string, preimage: string): void {
    this.#held.set(paymentHash, preimage);
    this.#metaDirty = true;
  }

  takeHeld(paymentHash: string): string | undefined {
    const preimage = this.#held.get(paymentHash);
    this.#held.delete(paymentHash);
    this.#metaDirty = true;
    return preimage;
  }

  nextUserChannelId(): bigint {
    const id = this.#nextUserChannelId;
    this.#nextUserChannelId += 1;
    this.#metaDirty = true;
    return BigInt(id);
  }

  touch(): void {
    this.#metaDirty = true;
    this.wake();
  }

  takeOnionFailure(paymentHash: string): OnionFailure | undefined {
    const found = this.#onionFailures.get(paymentHash) ?? this.#onionFailures.get('');
    this.#onionFailures.delete(paymentHash);
    this.#onionFailures.delete('');
    return found;
  }

  scidText(scid: bigint): string {
    return scidToText(scid);
  }

  releaseCoinsOf(transaction: Uint8Array): void {
    this.onchain.release(Transaction.fromBuffer(transaction));
    this.#metaDirty = true;
  }

  // --- The loop ----------------------------------------------------------------------------------

  /** Forwards (for a wallet: receives) what waits, in the next turn; LDK forbids it inside an event. */
  forwardSoon(): void {
    setImmediate(() => {
      if (this.#stopping) return;
      this.manager.process_pending_htlc_forwards();
      this.wake();
    });
  }

  /** Asks for a turn; many asks before it are one. */
  wake(): void {
    if (this.#wakeQueued || this.#stopping) return;
    this.#wakeQueued = true;
    setImmediate(() => {
      this.#wakeQueued = false;
      if (!this.#stopping) this.turn();
    });
  }

  /** One turn: events, messages, save, send. */
  turn(): void {
    if (this.#turning) {
      this.#wakeAgain = true;
      return;
    }
    this.#turning = true;
    try {
      do {
        this.#wakeAgain = false;
        const handler = this.#keep(
          ldk.EventHandler.new_impl({
            handle_event: safely(this.report, ok, (event: ldk.Event) => {
              handleEvent(this, event);
              return ok();
            }),
          }),
        );
        this.manager.as_EventsProvider().process_pending_events(handler);
        this.monitor.as_EventsProvider().process_pending_events(handler);
        this.#kept.pop();
        this.peerManager.process_events();
        this.#save();
        this.peers.flush();
      } while (this.#wakeAgain);
      this.#tellPeers();
    } finally {
      this.#turning = false;
    }
  }

  #save(): void {
    const managerDirty = Boolean(this.manager.get_and_clear_needs_persistence());
    if (!managerDirty && !this.#metaDirty && !this.#graphDirty && this.#dirtyMonitors.size === 0) return;
    const monitors = new Map(this.#dirtyMonitors);
    this.#dirtyMonitors.clear();
    this.#storage.save({
      manager: this.manager.write(),
      monitors,
      ...(this.#graphDirty ? { graph: this.network.write() } : {}),
      meta: {
        chain: this.chain.save(),
        onchain: this.onchain.save(),
        payments: encodeLine(this.payments()),
        peers: this.peers.wanted(),
        held: [...this.#held],
        unconfirmed: this.#broadcasts.save(),
        nextUserChannelId: this.#nextUserChannelId,
        port: this.port,
      },
    });
    this.#metaDirty = false;
    this.#graphDirty = false;
  }

  #tellPeers(): void {
    const now = new Set(this.peers.connected());
    for (const nodeId of now)
      if (!this.#connectedBefore.has(nodeId)) this.emit({ event: 'peer_connected', nodeId });
    for (const nodeId of this.#connectedBefore)
      if (!now.has(nodeId)) this.emit({ event: 'peer_disconnected', nodeId });
    this.#connectedBefore = now;
  }

  /** Copies seed and saved state; nothing is written meanwhile, for the copy is made in one go. */
  snapshot(dir: string): void {
    this.#metaDirty = true;
    this.turn();
    fs.mkdirSync(dir, { recursive: true });
    for (const name of ['seed', 'state'])
      fs.cpSync(path.join(this.options.dataDir, name), path.join(dir, name), { recursive: true });
  }

  /** Saves, closes the connections and ends the timers. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await this.#followed.catch(() => undefined);
    this.#graphDirty = true;
    this.turn();
    this.#stopping = true;
    this.peers.stop();
    await new Promise<void>((resolve) => this.#log.end(resolve));
  }

  // --- The chain -----------------------------------------------------------------------------------

  /** Follows the chain to its tip. Calls are one after another. */
  sync(): Promise<void> {
    this.#followed = this.#followed.catch(() => undefined).then(() => this.#follow());
    return this.#followed;
  }

  async #follow(): Promise<void> {
    for (;;) {
      const step = await this.chain.next();
      if (step === undefined) return;
      this.#apply(step);
    }
  }

  #apply(step: ChainStep): void {
    const { height, hash, headerHex } = step.block;
    const listeners = [this.monitor.as_Listen(), this.manager.as_Listen()];
    if (step.kind === 'connect') {
      const transactions = Block.fromBuffer(step.raw).transactions ?? [];
      this.onchain.connect(transactions, height);
      for (const transaction of transactions) this.#broadcasts.confirmed(transaction.getId());
      for (const listener of listeners) listener.block_connected(step.raw, height);
    } else {
      this.onchain.disconnect(height);
      for (const listener of listeners) listener.block_disconnected(fromHex(headerHex, 80), height);
    }
    this.chain.apply(step);
    this.#metaDirty = true;
    if (this.peerManager !== undefined) this.turn();
    this.emit({ event: step.kind === 'connect' ? 'block' : 'reorg', height, blockHash: hash });
    this.#broadcasts.sendAgain();
  }

  /** Sends a transaction, and again at every block until one has it. */
  broadcast(raw: Uint8Array): string {
    this.#broadcasts.send([raw]);
    return Transaction.fromBuffer(raw).getId();
  }

  // --- Assembly --------------------------------------------------------------------------------------

  /** Callbacks are held weakly by the WebAssembly's side: this side must keep them. */
  #keep<T extends object>(value: T): T {
    this.#kept.push(value);
    return value;
  }

  async #assemble(saved: ReturnType<Storage<Meta>['load']>): Promise<void> {
    const logger = this.#keep(
      ldk.Logger.new_impl({ log: safely(this.report, () => undefined, this.#logRecord) }),
    );
    const fees = this.#keep(feeEstimatorOf(() => this.feerateSatPerKw, this.report));
    const broadcaster = this.#keep(broadcasterOf((raw) => this.#broadcasts.send(raw), this.report));
    const entropy = this.keys.as_EntropySource();
    const nodeSigner = this.keys.as_NodeSigner();
    const signerProvider = this.keys.as_SignerProvider();
    this.monitor = ldk.ChainMonitor.constructor_new(
      ldk.Option_FilterZ.constructor_none(),
      broadcaster,
      logger,
      fees,
      this.#keep(persisterOf(this.report, (key, bytes) => void this.#dirtyMonitors.set(key, bytes))),
    );
    this.network = graphOf(saved?.graph, logger);
    const router = routerOf(
      { network: this.network, logger, entropy, rawRoutes: this.rawRoutes, report: this.report },
      (value) => this.#keep(value),
    );
    const messageRouter = ldk.DefaultMessageRouter.constructor_new(this.network, entropy).as_MessageRouter();
    const watch = this.monitor.as_Watch();

    this.manager = await managerOf(saved, this.chain, {
      fees,
      watch,
      broadcaster,
      router,
      messageRouter,
      logger,
      entropy,
      nodeSigner,
      signerProvider,
      config: userConfig({ anchors: this.options.anchors, ...this.options.handshake }),
    });

    const source = this.#keep(walletSourceOf(this.onchain, this.report));
    const coins = ldk.Wallet.constructor_new(source, logger).as_CoinSelectionSource();
    this.bumpHandler = ldk.BumpTransactionEventHandler.constructor_new(
      broadcaster,
      coins,
      signerProvider,
      logger,
    );
    const gossip = ldk.P2PGossipSync.constructor_new(
      this.network,
      ldk.Option_UtxoLookupZ.constructor_none(),
      logger,
    );
    const ignore = ldk.IgnoringMessageHandler.constructor_new();
    const messenger = ldk.OnionMessenger.constructor_new(
      entropy,
      nodeSigner,
      logger,
      this.manager.as_NodeIdLookUp(),
      messageRouter,
      this.manager.as_OffersMessageHandler(),
      this.manager.as_AsyncPaymentsMessageHandler(),
      this.manager.as_DNSResolverMessageHandler(),
      ignore.as_CustomOnionMessageHandler(),
    );
    this.peerManager = ldk.PeerManager.constructor_new(
      this.manager.as_ChannelMessageHandler(),
      gossip.as_RoutingMessageHandler(),
      messenger.as_OnionMessageHandler(),
      ignore.as_CustomMessageHandler(),
      Math.floor(Date.now() / 1000),
      Uint8Array.from(randomBytes(32)),
      logger,
      nodeSigner,
    );
    this.#keep([coins, gossip, ignore, messenger, router, messageRouter, watch]);
    this.peers = new Peers({ manager: this.peerManager, wake: () => this.wake(), report: this.report });
  }

  async #open(): Promise<void> {
    this.turn();
    if (this.options.listenPort !== undefined && !this.options.offline) {
      const wished = this.options.listenPort === 0 ? (this.port ?? 0) : this.options.listenPort;
      this.port = await this.peers.listen('127.0.0.1', wished);
    }
    if (!this.options.offline) for (const peer of this.#wantedBefore) this.peers.want(peer);
    this.#broadcasts.sendAll();
    const every = (ms: number, work: () => void) => this.#timers.push(setInterval(work, ms));
    every(
      this.options.pollMs,
      () => void this.sync().catch((error) => this.#log.write(`INFO chain: ${String(error)}\n`)),
    );
    every(500, () => this.wake());
    every(10_000, () => this.peerManager.timer_tick_occurred());
    every(30_000, () => this.monitor.rebroadcast_pending_claims());
    every(60_000, () => {
      this.manager.timer_tick_occurred();
      this.#graphDirty = true;
      this.wake();
    });
    this.#metaDirty = true;
    this.turn();
  }

  readonly #logRecord = (record: ldk.Record): void => {
    const level = record.get_level() as unknown as number;
    if (level < Math.min(this.options.logLevel, 3)) return;
    const text = record.get_args();
    const failure = /Onion Error\[from ([0-9a-f]{66}): (\w+)\(0x([0-9a-f]+)\)/.exec(text);
    if (failure !== null) {
      const [, nodeId = '', name = '', code = '0'] = failure;
      const hash = record.get_payment_hash();
      const key = 'some' in hash ? toHex(hash.some as Uint8Array) : '';
      this.#onionFailures.set(key, { nodeId, name, code: Number.parseInt(code, 16) });
    }
    if (level >= this.options.logLevel) this.#log.write(`${level} ${record.get_module_path()}: ${text}\n`);
  };
}

function ok(): ldk.Result_NoneReplayEventZ {
  return ldk.Result_NoneReplayEventZ.constructor_ok();
}
