/**
 * A short life of the fleet with two peers: an honest one, and one that does
 * what it likes. The fleet is the real services on simulated ports; signatures
 * are real. After the hostile act the fleet's reaction is what counts.
 */
import { NETWORKS } from '@fulmen/bitcoin';
import type { ChannelInput, EstablishedChannel, PeerMessage } from '@fulmen/channel';
import { equalBytes, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { shardOfPeer } from '@fulmen/keys/shard';
import { RpcError } from '@fulmen/rpc';
import { Prng, Scheduler } from '@fulmen/testing/simulation/index';
import type { TestPeer } from '@fulmen/testing/peer';
import { Fleet, MANAGERS } from '../simulation/fleet.ts';
import type { Payment } from '../simulation/payments.ts';
import { SimPeer } from '../simulation/peer.ts';
import type { Heard, Outcome, Play, Reaction, Stage, Wire } from './play.ts';

export class SceneError extends Error {
  override readonly name = 'SceneError';
}

const MAX_EVENTS = 400_000;
const PATIENCE_MS = 60_000;
const POLL_MS = 20;
/** Long enough for an answer, an error and a reconnection. */
const AFTERMATH_MS = 2_500;
/** A little more than the time between two blocks. */
const BLOCK_MS = 1_600;

export class Scene {
  readonly hostile: SimPeer;
  readonly honest: SimPeer;
  /** What the hostile peer was sent since the act began. */
  readonly heard: Heard[] = [];
  /** What the funder gives to the other side of the hostile peer's channel. */
  pushMsat = 300_000_000n;
  fundingSat = 1_000_000n;
  /** Scenes that an act left as it found them, by their stage. */
  static readonly #shared = new Map<Stage, Scene>();
  #isStarted = false;
  readonly #scheduler: Scheduler;
  readonly #fleet: Fleet;
  readonly #faults: string[] = [];
  readonly #stage: Stage;
  #connection: TestPeer | undefined;

  constructor(name: string, stage: Stage) {
    const random = new Prng(name);
    this.#stage = stage;
    this.#scheduler = new Scheduler(random.fork('order'), undefined);
    const onViolation = (text: string): void => void this.#faults.push(text);
    this.#fleet = new Fleet({
      scheduler: this.#scheduler,
      random: random.fork('fleet'),
      secp: secp256k1,
      latencyMs: 2,
      towers: 'none',
      onViolation,
      onLog: () => undefined,
    });
    const peer = (of: string, faults: (text: string) => void): SimPeer =>
      new SimPeer(of, {
        scheduler: this.#scheduler,
        random: random.fork(of),
        secp: secp256k1,
        sockets: this.#fleet.sockets.port(of),
        gateways: this.#fleet.gatewayAddresses,
        chain: this.#fleet.chain,
        chainHash: NETWORKS.regtest.chainHash,
        fleetNodeId: this.#fleet.nodeId,
        suits: (nodeId) => Fleet.isFree(shardOfPeer(nodeId)),
        onViolation: faults,
      });
    this.honest = peer('alice', onViolation);
    // What it complains about itself is of no interest.
    this.hostile = peer('mallory', () => undefined);
    this.hostile.onMessage = (message) => {
      const text = 'data' in message ? Buffer.from(message.data as Uint8Array).toString() : '';
      this.heard.push({ type: String(message.type), text, message });
    };
  }

  /** Runs `act` at its stage and resolves with the fleet's reaction, and what was said. */
  static async play(name: string, play: Play): Promise<Outcome> {
    if (play.shares === undefined) return new Scene(name, play.stage).#perform(play);
    const scene = Scene.#shared.get(play.stage) ?? new Scene(`shared ${play.stage}`, play.stage);
    Scene.#shared.delete(play.stage);
    const outcome = await scene.#perform(play);
    if (scene.#isReady()) Scene.#shared.set(play.stage, scene);
    return outcome;
  }

  async #perform(play: Play): Promise<Outcome> {
    let outcome: { readonly reaction: Reaction } | { readonly error: unknown } | undefined;
    this.#live(play).then(
      (reaction) => (outcome = { reaction }),
      (error: unknown) => (outcome = { error }),
    );
    await this.#scheduler.runUntil(() => outcome !== undefined || this.#faults.length > 0, MAX_EVENTS);
    const heard = this.heard.map(({ type, text }) => (text === '' ? type : `${type}: ${text}`));
    if (this.#faults.length > 0)
      throw new SceneError(`${this.#faults.join('; ')} (heard ${heard.join(', ')})`);
    if (outcome === undefined) throw new SceneError(`the scene did not end (heard ${heard.join(', ')})`);
    if ('error' in outcome) throw outcome.error;
    return { reaction: outcome.reaction, heard, scene: this };
  }

  async #live({ prepare, act }: Play): Promise<Reaction> {
    const opensLater = this.#stage.startsWith('opening');
    if (!this.#isStarted) {
      this.#isStarted = true;
      prepare?.(this);
      if (opensLater) await act(this);
      await this.#start();
    }
    if (!opensLater) {
      await this.until(this.#stage, () => this.#isReady());
      this.heard.length = 0;
      this.#connection = [...this.hostile.connections].at(-1);
      await act(this);
    }
    await this.#scheduler.delay(AFTERMATH_MS, 'aftermath');
    return this.#reaction();
  }

  async #start(): Promise<void> {
    const { hostile, honest } = this;
    this.#fleet.parkShards(new Set([hostile, honest].map((peer) => shardOfPeer(peer.nodeId))));
    honest.wish = { fundingSat: 1_000_000n, pushMsat: 300_000_000n };
    if (this.#stage.endsWith('by_peer'))
      hostile.wish = { fundingSat: this.fundingSat, pushMsat: this.pushMsat };
    await this.#fleet.start();
    await this.until('connected', () => hostile.isConnected && honest.isConnected);
    this.watchConnection();
    if (this.#stage.endsWith('by_fleet')) await this.#openByFleet();
  }

  #isReady(): boolean {
    const { hostile, honest } = this;
    if (this.#stage.startsWith('unconfirmed'))
      return hostile.channel !== undefined && this.#phase() === 'awaiting_funding_confirmations';
    return hostile.isOpen && hostile.isQuiet && honest.isOpen && this.#phase() === 'open';
  }

  async #openByFleet(): Promise<void> {
    const request = {
      nodeId: this.hostile.nodeId,
      fundingSat: this.fundingSat,
      pushMsat: this.pushMsat,
      announce: false,
      fundingFeerateSatPerKw: undefined,
    };
    let manager: string = MANAGERS[0];
    for (let attempt = 1; attempt < 60; attempt += 1) {
      try {
        await this.#fleet.operator(manager).openChannel({ ...request, idempotencyKey: `attempt ${attempt}` });
        return;
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        // The peer's bad answer is the end of the opening.
        if (this.#stage === 'opening_by_fleet' && this.heard.some(({ type }) => type === 'open_channel')) {
          this.refusal = error;
          return;
        }
        manager = error.metadata['fulmen-owner-address'] ?? manager;
        await this.#scheduler.delay(100, 'operator tries again');
      }
    }
  }

  #phase(): string | undefined {
    const { channel } = this.hostile;
    return channel === undefined
      ? undefined
      : this.#fleet.database.state.channels.get(toHex(channel.channelId))?.row.phase;
  }

  #reaction(): Reaction {
    const said = (type: string): boolean => this.heard.some((message) => message.type === type);
    const ended = this.#connection !== undefined && !this.hostile.connections.has(this.#connection);
    const phases = this.phases();
    const closed = phases.includes('closing_force');
    const isPassive = phases.includes('passive');
    const isElsewhere = this.heard.every(
      ({ message }) => message.type !== 'error' || this.#isOfAnother(message.channelId),
    );
    if (said('error') && !this.#stage.startsWith('opening') && isElsewhere && !closed) return 'refusal';
    if (said('error')) {
      if (isPassive) return 'error_passive';
      if (!this.#stage.startsWith('opening') && !closed)
        throw new SceneError(`an error, and the channel is ${phases.join(', ')}`);
      return 'error';
    }
    if (closed || isPassive) throw new SceneError(`the channel is ${phases.join()}, and nothing was said`);
    if (said('warning')) return ended ? 'warning_disconnect' : 'warning';
    if (phases.includes('closing_mutual')) return 'closed';
    return ended ? 'disconnect' : 'ignore';
  }

  #isOfAnother(channelId: Uint8Array): boolean {
    const { channel } = this.hostile;
    return channel === undefined || !equalBytes(channelId, channel.channelId);
  }

  // ---------------------------------------------------------------- for checks

  /** What the operator heard of an opening that came to nothing. */
  refusal: RpcError | undefined;

  /** Phases of the hostile peer's channels, as they are stored. */
  phases(): readonly string[] {
    return [...this.#fleet.database.state.channels.values()]
      .filter(({ row }) => toHex(row.counterpartyNodeId) === toHex(this.hostile.nodeId))
      .map(({ row }) => row.phase);
  }

  /** Whether the fleet ordered a transaction of this kind. */
  hasOrdered(kind: 'funding' | 'mutual_close' | 'force_close'): boolean {
    return this.#fleet.database.state.broadcasts.some((order) => order.kind === kind);
  }

  // ---------------------------------------------------------------- for acts

  /** A secret of the fleet's on the hostile peer's channel that it never revealed. */
  fleetSecret(commitmentNumber: bigint): Uint8Array {
    const row = this.#fleet.database.state.channels.get(toHex(this.channelId))?.row;
    if (row === undefined) throw new SceneError('the fleet has no such channel');
    return this.#fleet.commitmentSecret(row.channelKeysId, commitmentNumber);
  }

  get channel(): EstablishedChannel {
    const { channel } = this.hostile;
    if (channel === undefined) throw new SceneError('there is no channel');
    return channel;
  }

  get channelId(): Uint8Array {
    return this.channel.channelId;
  }

  get height(): number {
    return this.#fleet.chain.height;
  }

  /** Sends as it is. */
  send(...messages: readonly Wire[]): void {
    for (const message of messages) this.hostile.inject(message);
  }

  /** From now on messages of a type go out changed; those of `dropped` not at all. */
  change<T extends PeerMessage['type']>(
    type: T,
    change: (message: Extract<PeerMessage, { type: T }>) => Wire | readonly Wire[],
    ...dropped: readonly PeerMessage['type'][]
  ): void {
    this.hostile.tamper = (message) => {
      if (message.type !== type) return dropped.includes(message.type) ? [] : [message];
      const changed = change(message as Extract<PeerMessage, { type: T }>);
      return changed instanceof Uint8Array || !('length' in changed) ? [changed] : changed;
    };
  }

  /** From now on the fleet's messages of these types are lost on their way. */
  lose(...types: readonly PeerMessage['type'][]): void {
    this.hostile.receives = ({ type }) => !types.some((lost) => lost === type);
  }

  /** Everything goes its ordinary way again. */
  behave(): void {
    this.hostile.tamper = (message) => [message];
    this.hostile.receives = () => true;
  }

  /** What the core of the hostile peer is made to do of its own. */
  drive(input: ChannelInput): void {
    const error = this.hostile.drive(input);
    if (error !== undefined) throw new SceneError(`${input.type}: ${error.message}`);
  }

  /** So many blocks at once; the next one brings the news of them. */
  async mine(blocks: number): Promise<void> {
    this.#fleet.chain.height += blocks;
    await this.pause(BLOCK_MS);
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    const deadline = this.#scheduler.nowMs + PATIENCE_MS;
    while (!holds()) {
      if (this.#scheduler.nowMs >= deadline)
        throw new SceneError(`not so: ${what} (heard ${this.heard.map(({ type }) => type).join(', ')})`);
      await this.#scheduler.delay(POLL_MS, 'look');
    }
  }

  async pause(ms: number): Promise<void> {
    await this.#scheduler.delay(ms, 'pause');
  }

  /** The hostile peer pays the honest one. */
  pay(amountMsat: bigint, changes: Pick<Payment, 'cltvExpiryHeight'> = {}): Payment {
    const payment = { ...this.#payment(this.honest, amountMsat), ...changes };
    this.hostile.pay(payment);
    return payment;
  }

  /** The same, until it is through and both sides are quiet again. */
  async payThrough(amountMsat: bigint): Promise<void> {
    const payment = this.pay(amountMsat);
    await this.until('a payment is fulfilled', () => payment.state === 'fulfilled' && this.hostile.isQuiet);
  }

  /** The honest peer pays the hostile one. */
  payHostile(amountMsat: bigint): Payment {
    const payment = this.#payment(this.hostile, amountMsat);
    this.honest.pay(payment);
    return payment;
  }

  /** The honest peer pays the hostile one, which keeps the HTLC; resolves with its id once it is committed. */
  async receive(amountMsat: bigint): Promise<{ readonly id: bigint; readonly preimage: Uint8Array }> {
    this.hostile.answers = 'holds';
    const known = new Set(this.#inbound().map(({ body }) => body.id));
    const payment = this.payHostile(amountMsat);
    const arrived = () =>
      this.#inbound().find(({ body, state }) => !known.has(body.id) && state === 'committed');
    await this.until('an HTLC arrives', () => arrived() !== undefined);
    // The fleet, too, has it for good.
    await this.pause(100);
    this.heard.length = 0;
    const id = arrived()?.body.id ?? 0n;
    return { id, preimage: this.hostile.preimages.get(toHex(payment.paymentHash)) ?? new Uint8Array(32) };
  }

  #inbound() {
    return this.channel.changes.htlcs.filter(({ body }) => body.direction === 'inbound');
  }

  #payment(payee: SimPeer, amountMsat: bigint): Payment {
    const preimage = sha256(utf8Encode(`preimage ${payee.name} ${amountMsat}`));
    payee.preimages.set(toHex(sha256(preimage)), preimage);
    const row = this.#fleet.database.state.channels.get(
      toHex(payee.channel?.channelId ?? new Uint8Array()),
    )?.row;
    return {
      paymentHash: sha256(preimage),
      amountMsat,
      feeMsat: 1_000n + amountMsat / 1_000n,
      payee: payee.nodeId,
      shortChannelId: row?.shortChannelId ?? row?.holderAliasScid ?? 0n,
      state: 'waiting',
      expected: 'fulfilled',
    };
  }

  /** Cuts the hostile peer's connection; it comes back by itself. */
  async reconnect(): Promise<void> {
    this.#connection = undefined;
    this.hostile.cut();
    await this.pause(20);
    await this.until('reconnected', () => this.#connection !== undefined || this.hostile.isConnected);
    this.#connection ??= [...this.hostile.connections].at(-1);
  }

  /** What follows on the present connection is the reaction, though it may be over before anybody looks. */
  watchConnection(): void {
    this.#connection ??= [...this.hostile.connections].at(-1);
  }
}
