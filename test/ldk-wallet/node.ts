// The LDK node: its parts, its chain, its saved state, and the loop that drives it.
//
// Every input (bytes of a peer, a block, a request) ends in one turn of the loop: events are handled,
// messages are made, the state is saved, and only then do the messages leave.
import fs from 'node:fs';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { Block, Transaction } from 'bitcoinjs-lib';
import { type ChainBlock, ChainFollower, ChainRpc, type ChainStep, RpcError } from './chain.ts';
import { userConfig } from './config.ts';
import { handleEvent } from './events.ts';
import {
  fromDisplayHash,
  fromHex,
  isNull,
  ldk,
  must,
  safely,
  scidToText,
  toDisplayHash,
  toHex,
} from './ldk.ts';
import { OnchainWallet, type OnchainState, SATISFACTION_WEIGHT } from './onchain.ts';
import { Peers, type WantedPeer } from './peers.ts';
import {
  decodeLine,
  encodeLine,
  type Handshake,
  type OpenAnswer,
  type PaymentInfo,
  type WalletEvent,
} from './protocol.ts';
import { Storage } from './storage.ts';

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
  readonly unconfirmed: readonly (readonly [string, string, number])[];
  readonly nextUserChannelId: number;
  readonly port: number | null;
};

/** What a failed onion said, from LDK's log: the event itself does not carry it. */
type OnionFailure = { readonly nodeId: string; readonly name: string; readonly code: number };

const REBROADCAST_BLOCKS = 300;
// A transaction whose input is gone for this many blocks lost against another one.
const LOST_BLOCKS = 6;

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
  readonly #unconfirmed = new Map<string, { readonly hex: string; readonly sinceHeight: number }>();
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
    for (const [txid, hex, sinceHeight] of meta?.unconfirmed ?? [])
      this.#unconfirmed.set(txid, { hex, sinceHeight });
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
        unconfirmed: [...this.#unconfirmed].map(([txid, one]) => [txid, one.hex, one.sinceHeight] as const),
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
      for (const transaction of transactions) this.#unconfirmed.delete(transaction.getId());
      for (const listener of listeners) listener.block_connected(step.raw, height);
    } else {
      this.onchain.disconnect(height);
      for (const listener of listeners) listener.block_disconnected(fromHex(headerHex, 80), height);
    }
    this.chain.apply(step);
    this.#metaDirty = true;
    if (this.peerManager !== undefined) this.turn();
    this.emit({ event: step.kind === 'connect' ? 'block' : 'reorg', height, blockHash: hash });
    this.#rebroadcast();
  }

  /** Sends a transaction, and again at every block until one has it. */
  broadcast(raw: Uint8Array): string {
    const transaction = Transaction.fromBuffer(raw);
    const txid = transaction.getId();
    this.#unconfirmed.set(txid, { hex: toHex(raw), sinceHeight: this.chain.tip.height });
    this.#metaDirty = true;
    this.emit({ event: 'broadcast', txid });
    void this.#send([toHex(raw)]);
    return txid;
  }

  /** A package of LDK's: parents first. Below the mempool's floor the parent enters only with its child. */
  #broadcastPackage(transactions: readonly Uint8Array[]): void {
    for (const raw of transactions) {
      const txid = Transaction.fromBuffer(raw).getId();
      this.#unconfirmed.set(txid, { hex: toHex(raw), sinceHeight: this.chain.tip.height });
      this.emit({ event: 'broadcast', txid });
    }
    this.#metaDirty = true;
    void this.#send(transactions.map(toHex));
  }

  async #send(hexes: readonly string[]): Promise<void> {
    const refused: string[] = [];
    for (const hex of hexes) {
      try {
        await this.chain.rpc.call('sendrawtransaction', hex);
      } catch (error) {
        refused.push(error instanceof RpcError ? error.message : String(error));
      }
    }
    if (refused.length > 0 && hexes.length > 1) {
      try {
        await this.chain.rpc.call('submitpackage', hexes);
        return;
      } catch (error) {
        refused.push(error instanceof Error ? error.message : String(error));
      }
    }
    for (const text of refused) this.#log.write(`INFO broadcast refused: ${text}\n`);
    if (hexes.length === 1 && refused.some((text) => text.includes('missingorspent'))) {
      for (const [txid, one] of this.#unconfirmed) {
        if (one.hex === hexes[0] && one.sinceHeight < this.chain.tip.height - LOST_BLOCKS)
          this.#unconfirmed.delete(txid);
      }
    }
  }

  #rebroadcast(): void {
    for (const [txid, one] of this.#unconfirmed) {
      if (one.sinceHeight < this.chain.tip.height - REBROADCAST_BLOCKS) this.#unconfirmed.delete(txid);
      else if (one.sinceHeight < this.chain.tip.height) void this.#send([one.hex]);
    }
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
    const fees = this.#keep(
      ldk.FeeEstimator.new_impl({
        get_est_sat_per_1000_weight: safely(
          this.report,
          () => 253,
          (target: ldk.ConfirmationTarget) => this.#feerate(target),
        ),
      }),
    );
    const broadcaster = this.#keep(
      ldk.BroadcasterInterface.new_impl({
        broadcast_transactions: safely(
          this.report,
          () => undefined,
          (transactions: Uint8Array[]) =>
            this.#broadcastPackage(transactions.map((one) => Uint8Array.from(one))),
        ),
      }),
    );
    const entropy = this.keys.as_EntropySource();
    const nodeSigner = this.keys.as_NodeSigner();
    const signerProvider = this.keys.as_SignerProvider();
    this.monitor = ldk.ChainMonitor.constructor_new(
      ldk.Option_FilterZ.constructor_none(),
      broadcaster,
      logger,
      fees,
      this.#keep(this.#persister()),
    );
    this.network = this.#graph(saved?.graph, logger);
    const router = this.#router(logger, entropy);
    const messageRouter = ldk.DefaultMessageRouter.constructor_new(this.network, entropy).as_MessageRouter();
    const watch = this.monitor.as_Watch();
    const config = userConfig({ anchors: this.options.anchors, ...this.options.handshake });

    if (saved === undefined) {
      const { tip, tipTime } = this.chain;
      const best = ldk.BestBlock.constructor_new(fromDisplayHash(tip.hash), tip.height);
      const parameters = ldk.ChainParameters.constructor_new(ldk.Network.LDKNetwork_Regtest, best);
      this.manager = ldk.ChannelManager.constructor_new(
        fees,
        watch,
        broadcaster,
        router,
        messageRouter,
        logger,
        entropy,
        nodeSigner,
        signerProvider,
        config,
        parameters,
        tipTime,
      );
    } else {
      const monitors = [...saved.monitors].map(([key, bytes]) => {
        const read = ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelMonitorZ_read(
          bytes,
          entropy,
          signerProvider,
        );
        return must<ldk.TwoTuple_ThirtyTwoBytesChannelMonitorZ>(read, `monitor ${key}`).get_b();
      });
      const read = ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelManagerZ_read(
        saved.manager,
        entropy,
        nodeSigner,
        signerProvider,
        fees,
        watch,
        broadcaster,
        router,
        messageRouter,
        logger,
        config,
        monitors,
      );
      this.manager = must<ldk.TwoTuple_ThirtyTwoBytesChannelManagerZ>(read, 'manager').get_b();
      // The manager was saved with the wallet's tip; a monitor may be some blocks behind.
      for (const monitor of monitors) await this.#catchUp(monitor, { broadcaster, fees, logger });
      for (const monitor of monitors)
        must(watch.watch_channel(monitor.get_funding_txo().get_a(), monitor), 'monitor');
    }

    const source = this.#keep(this.#walletSource());
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
    for (const { hex } of this.#unconfirmed.values()) void this.#send([hex]);
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

  #feerate(target: ldk.ConfirmationTarget): number {
    const base = this.feerateSatPerKw;
    switch (target) {
      case ldk.ConfirmationTarget.LDKConfirmationTarget_MaximumFeeEstimate:
        return base * 20;
      case ldk.ConfirmationTarget.LDKConfirmationTarget_UrgentOnChainSweep:
        return base * 2;
      case ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedAnchorChannelRemoteFee:
      case ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedNonAnchorChannelRemoteFee:
      case ldk.ConfirmationTarget.LDKConfirmationTarget_ChannelCloseMinimum:
        return 253;
      case ldk.ConfirmationTarget.LDKConfirmationTarget_AnchorChannelFee:
      case ldk.ConfirmationTarget.LDKConfirmationTarget_NonAnchorChannelFee:
      case ldk.ConfirmationTarget.LDKConfirmationTarget_OutputSpendingFee:
        return base;
    }
  }

  #persister(): ldk.Persist {
    const completed = () => ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_Completed;
    // The write itself happens at the end of the turn, before anything leaves: see storage.ts.
    const put = (funding: ldk.OutPoint, monitor: ldk.ChannelMonitor) => {
      this.#dirtyMonitors.set(fundingKey(funding), monitor.write());
      return completed();
    };
    const broken = () => ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_UnrecoverableError;
    return ldk.Persist.new_impl({
      persist_new_channel: safely(this.report, broken, put),
      update_persisted_channel: safely(
        this.report,
        broken,
        (funding: ldk.OutPoint, _update: ldk.ChannelMonitorUpdate, monitor: ldk.ChannelMonitor) =>
          put(funding, monitor),
      ),
      archive_persisted_channel: safely(
        this.report,
        () => undefined,
        (funding: ldk.OutPoint) => {
          this.#dirtyMonitors.set(fundingKey(funding), null);
        },
      ),
    });
  }

  #graph(bytes: Uint8Array | undefined, logger: ldk.Logger): ldk.NetworkGraph {
    if (bytes !== undefined) {
      const read = ldk.NetworkGraph.constructor_read(bytes, logger);
      if (read instanceof ldk.Result_NetworkGraphDecodeErrorZ_OK) return read.res;
    }
    return ldk.NetworkGraph.constructor_new(ldk.Network.LDKNetwork_Regtest, logger);
  }

  /** LDK's router, except that a hand-made route is given out when one waits for the payment. */
  #router(logger: ldk.Logger, entropy: ldk.EntropySource): ldk.Router {
    const decay = ldk.ProbabilisticScoringDecayParameters.constructor_default();
    const scorer = ldk.ProbabilisticScorer.constructor_new(decay, this.network, logger);
    const lockable = this.#keep(ldk.MultiThreadedLockableScore.constructor_new(scorer.as_Score()));
    const parameters = ldk.ProbabilisticScoringFeeParameters.constructor_default();
    const own = this.#keep(
      ldk.DefaultRouter.constructor_new(
        this.network,
        logger,
        entropy,
        lockable.as_LockableScore(),
        parameters,
      ),
    );
    const found = this.#keep(own.as_Router());
    const none = () =>
      ldk.Result_RouteLightningErrorZ.constructor_err(
        ldk.LightningError.constructor_new('the router failed', ldk.ErrorAction.constructor_ignore_error()),
      );
    return this.#keep(
      ldk.Router.new_impl({
        find_route: safely(this.report, none, (payer, route, hops, inFlight) =>
          found.find_route(payer, route, hops, inFlight),
        ),
        find_route_with_id: safely(this.report, none, (payer, route, hops, inFlight, hash, id) => {
          const raw = this.rawRoutes.get(toHex(hash));
          if (raw === undefined) return found.find_route_with_id(payer, route, hops, inFlight, hash, id);
          return ldk.Result_RouteLightningErrorZ.constructor_ok(ldk.Route.constructor_new([raw], route));
        }),
        create_blinded_payment_paths: safely(
          this.report,
          () => ldk.Result_CVec_BlindedPaymentPathZNoneZ.constructor_err(),
          (recipient, hops, tlvs, amount) =>
            found.create_blinded_payment_paths(recipient, hops, tlvs, amount),
        ),
      }),
    );
  }

  #walletSource(): ldk.WalletSource {
    return ldk.WalletSource.new_impl({
      list_confirmed_utxos: safely(
        this.report,
        () => ldk.Result_CVec_UtxoZNoneZ.constructor_err(),
        () =>
          ldk.Result_CVec_UtxoZNoneZ.constructor_ok(
            this.onchain.spendable().map((coin) => {
              const outpoint = ldk.OutPoint.constructor_new(fromDisplayHash(coin.txid), coin.index);
              const output = ldk.TxOut.constructor_new(BigInt(coin.valueSat), this.onchain.scriptOf(coin));
              return ldk.Utxo.constructor_new(outpoint, output, SATISFACTION_WEIGHT);
            }),
          ),
      ),
      get_change_script: safely(
        this.report,
        () => ldk.Result_CVec_u8ZNoneZ.constructor_err(),
        () => ldk.Result_CVec_u8ZNoneZ.constructor_ok(this.onchain.changeScript),
      ),
      sign_psbt: safely(
        this.report,
        () => ldk.Result_TransactionNoneZ.constructor_err(),
        (psbt: Uint8Array) =>
          ldk.Result_TransactionNoneZ.constructor_ok(Uint8Array.from(this.onchain.signPsbt(psbt).toBuffer())),
      ),
    });
  }

  async #catchUp(
    monitor: ldk.ChannelMonitor,
    parts: { broadcaster: ldk.BroadcasterInterface; fees: ldk.FeeEstimator; logger: ldk.Logger },
  ): Promise<void> {
    const { broadcaster, fees, logger } = parts;
    for (;;) {
      const best = monitor.current_best_block();
      const hash = toDisplayHash(best.get_block_hash());
      const height = best.get_height();
      if (this.chain.at(height)?.hash !== hash) {
        const stale = this.chain.stale(hash);
        if (stale === undefined)
          throw new Error(`a monitor is at block ${hash}, which the wallet does not know`);
        monitor.block_disconnected(fromHex(stale.headerHex, 80), height, broadcaster, fees, logger);
        continue;
      }
      const next = this.chain.at(height + 1);
      if (next === undefined) return;
      const raw = await this.chain.rpc.block(next.hash);
      const transactions = (Block.fromBuffer(raw).transactions ?? []).map((one, index) =>
        ldk.TwoTuple_usizeTransactionZ.constructor_new(index, Uint8Array.from(one.toBuffer())),
      );
      monitor.block_connected(raw.slice(0, 80), transactions, height + 1, broadcaster, fees, logger);
    }
  }
}

function ok(): ldk.Result_NoneReplayEventZ {
  return ldk.Result_NoneReplayEventZ.constructor_ok();
}

function fundingKey(funding: ldk.OutPoint): string {
  return `${toDisplayHash(funding.get_txid())}:${funding.get_index()}`;
}

function loadSeed(file: string): Uint8Array {
  try {
    return fromHex(fs.readFileSync(file, 'utf8').trim(), 32);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const seed = Uint8Array.from(randomBytes(32));
  fs.writeFileSync(`${file}.part`, `${toHex(seed)}\n`, { mode: 0o600 });
  fs.renameSync(`${file}.part`, file);
  return seed;
}

/** A getter's value, or null where LDK has none. */
export function orNull<T extends object>(value: T): T | null {
  return isNull(value) ? null : value;
}
