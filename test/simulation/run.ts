/**
 * One simulated run: the fleet and two peers live a short life in which A pays B
 * (and B pays A) through the fleet while the seed's faults strike; afterwards
 * everything must have ended well. The seed decides everything.
 */
import { NETWORKS } from '@fulmen/bitcoin';
import { primaryFunding, restore } from '@fulmen/channel';
import { counterpartySpec, holderSpec } from '@fulmen/channel/updates/spec';
import type { CommitmentSpec, EstablishedChannel } from '@fulmen/channel';
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shardOfPeer } from '@fulmen/keys/shard';
import { RpcError } from '@fulmen/rpc';
import { Prng, Scheduler, SimulationError } from '@fulmen/testing/simulation/index';
import { Fleet, MANAGERS } from './fleet.ts';
import { drawFaults, type Fault, strike } from './faults.ts';
import type { Payment } from './payments.ts';
import { SimPeer } from './peer.ts';

export interface RunOptions {
  readonly faults: 'none' | 'seeded';
  /** Every event, and what the services log. */
  readonly onLine?: (line: string) => void;
}

export interface RunReport {
  readonly seed: number;
  readonly traceHash: string;
  readonly events: number;
  readonly virtualMs: number;
  readonly payments: number;
  readonly fulfilled: number;
  readonly faults: readonly string[];
}

/** Something that must not happen, happened; or what must happen did not. */
export class ViolationError extends Error {
  override readonly name = 'ViolationError';
}

const MAX_EVENTS = 400_000;
const OPEN_TIMEOUT_MS = 60_000;
const SETTLE_TIMEOUT_MS = 120_000;
const POLL_MS = 50;
const PAYMENT_WINDOW_MS = 6_000;
const OPENING_WINDOW_MS = 4_000;
const FEE_BASE_MSAT = 1_000n;
const FEE_MILLIONTHS = 1_000n;

export async function run(seed: number, options: RunOptions): Promise<RunReport> {
  const random = new Prng(`fulmen simulation ${seed}`);
  const { onLine } = options;
  const scheduler = new Scheduler(
    random.fork('order'),
    onLine === undefined ? undefined : (nowMs, label) => onLine(`${nowMs.toFixed(3)} ${label}`),
  );
  const violations: string[] = [];
  const onViolation = (text: string): void => {
    scheduler.note(`VIOLATION ${text}`);
    violations.push(`at ${scheduler.nowMs.toFixed(1)} ms: ${text}`);
  };
  const fleet = new Fleet({
    scheduler,
    random: random.fork('fleet'),
    secp: fakeSecp256k1,
    latencyMs: random.fork('latency').pick([2, 8, 30]),
    towers: random.fork('whether towers').chance(0.4) ? 'some' : 'none',
    onViolation,
    onLog: (line) => onLine?.(line),
  });
  let outcome: { readonly ok: true } | { readonly ok: false; readonly error: unknown } | undefined;
  const life = new Life(random, scheduler, fleet, options, onViolation);
  life.live().then(
    () => (outcome = { ok: true }),
    (error: unknown) => (outcome = { ok: false, error }),
  );
  const fail = (text: string): never => {
    throw new ViolationError(
      `seed ${seed}: ${text}; faults: ${life.faults.map(({ text: fault }) => fault).join(', ') || 'none'}`,
    );
  };
  try {
    await scheduler.runUntil(() => outcome !== undefined || violations.length > 0, MAX_EVENTS);
  } catch (error) {
    if (!(error instanceof SimulationError)) throw error;
    fail(error.message);
  }
  if (violations.length > 0) fail(violations.join('; '));
  if (outcome?.ok === false) {
    if (!(outcome.error instanceof ViolationError)) throw outcome.error;
    fail(outcome.error.message);
  }
  return {
    seed,
    traceHash: scheduler.traceHash,
    events: scheduler.events,
    virtualMs: Math.round(scheduler.nowMs),
    payments: life.payments.length,
    fulfilled: life.payments.filter(({ state }) => state === 'fulfilled').length,
    faults: life.faults.map(({ text }) => text),
  };
}

class Life {
  faults: readonly Fault[] = [];
  readonly #random: Prng;
  readonly #scheduler: Scheduler;
  readonly #fleet: Fleet;
  readonly #options: RunOptions;
  readonly #alice: SimPeer;
  readonly #bob: SimPeer;
  #underWay = 0;

  constructor(
    random: Prng,
    scheduler: Scheduler,
    fleet: Fleet,
    options: RunOptions,
    onViolation: (text: string) => void,
  ) {
    this.#random = random.fork('life');
    this.#scheduler = scheduler;
    this.#fleet = fleet;
    this.#options = options;
    const peer = (name: string): SimPeer =>
      new SimPeer(name, {
        scheduler,
        random: random.fork(name),
        secp: fakeSecp256k1,
        sockets: fleet.sockets.port(name),
        gateways: fleet.gatewayAddresses,
        chain: fleet.chain,
        chainHash: NETWORKS.regtest.chainHash,
        fleetNodeId: fleet.nodeId,
        suits: (nodeId) => Fleet.isFree(shardOfPeer(nodeId)),
        onViolation,
      });
    this.#alice = peer('alice');
    this.#bob = peer('bob');
    for (const one of [this.#alice, this.#bob]) this.#holdToTowers(one, onViolation);
  }

  /** No revocation and no signature before enough towers have what is behind it. */
  #holdToTowers(peer: SimPeer, onViolation: (text: string) => void): void {
    const { towers } = this.#fleet;
    if (towers === undefined) return;
    peer.onMessage = (message) => {
      const { channel } = peer;
      if (channel === undefined) return;
      const { changes, channelId } = channel;
      const early =
        message.type === 'revoke_and_ack'
          ? towers.early(channelId, 'latest_holder_commitment', changes.counterpartySecrets.count + 1n)
          : message.type === 'commitment_signed'
            ? towers.early(channelId, 'latest_counterparty_commitment', changes.holderCommitmentNumber + 1n)
            : undefined;
      if (early !== undefined) onViolation(`${peer.name} got ${message.type} too early: ${early}`);
    };
  }

  get payments(): readonly Payment[] {
    return [...this.#alice.payments, ...this.#bob.payments];
  }

  async live(): Promise<void> {
    this.#alice.wish = { fundingSat: 1_000_000n, pushMsat: 300_000_000n };
    // Now and then the replicas share all shards, as they do in life.
    if (this.#random.chance(0.9))
      this.#fleet.parkShards(new Set([this.#alice, this.#bob].map((peer) => shardOfPeer(peer.nodeId))));
    await this.#fleet.start();
    if (this.#options.faults === 'seeded' && this.#random.chance(0.3))
      this.#strike('opening', MANAGERS, OPENING_WINDOW_MS);
    await this.#openToBob();
    await this.#until(
      'both channels are open',
      OPEN_TIMEOUT_MS,
      () => this.#alice.isOpen && this.#bob.isOpen && this.#rowsAre('open'),
    );
    const scids = { alice: this.#scidOf(this.#alice), bob: this.#scidOf(this.#bob) };
    this.#scheduler.note('both channels are open');
    this.#payForAWhile(scids);
    if (this.#options.faults === 'seeded') {
      const owners = [this.#alice, this.#bob].map(
        (peer) => this.#fleet.database.state.shards.get(shardOfPeer(peer.nodeId))?.owner ?? MANAGERS[0],
      );
      this.#strike('paying', owners, PAYMENT_WINDOW_MS);
    }
    await this.#until('every fault is over', SETTLE_TIMEOUT_MS, () => this.#underWay === 0);
    await this.#until('every payment has ended', SETTLE_TIMEOUT_MS, () =>
      this.payments.every(({ state }) => state === 'fulfilled' || state === 'failed'),
    );
    // The fleet must still be of use.
    const last = this.#payment(this.#bob, scids.bob, 50_000_000n, 'paid');
    this.#alice.pay(last);
    await this.#until(
      'a last payment has ended',
      SETTLE_TIMEOUT_MS,
      () => last.state === 'fulfilled' || last.state === 'failed',
    );
    await this.#until(
      'the channels are quiet',
      SETTLE_TIMEOUT_MS,
      () => this.#alice.isQuiet && this.#bob.isQuiet && this.#fleetIsQuiet(),
    );
    this.#check(last);
  }

  /** Faults of one part of the run, from now on. */
  #strike(part: string, victims: readonly string[], windowMs: number): void {
    const faults = drawFaults(this.#random.fork(`faults while ${part}`), victims, windowMs);
    this.faults = [...this.faults, ...faults];
    const field = { fleet: this.#fleet, scheduler: this.#scheduler, alice: this.#alice, bob: this.#bob };
    for (const fault of faults) {
      this.#underWay += 1;
      void strike(fault, field).then(() => (this.#underWay -= 1));
    }
  }

  /** The operator asks for a channel with B, of whichever replica owns B, until it is there. */
  async #openToBob(): Promise<void> {
    let manager: string = MANAGERS[0];
    let attempt = 1;
    const request = {
      nodeId: this.#bob.nodeId,
      fundingSat: 1_000_000n,
      pushMsat: 300_000_000n,
      announce: false,
      fundingFeerateSatPerKw: undefined,
    };
    for (;;) {
      try {
        await this.#fleet.operator(manager).openChannel({ ...request, idempotencyKey: `attempt ${attempt}` });
        return;
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        this.#scheduler.note(`openChannel: ${error.code} ${error.message}`);
        if (this.#rowOf(this.#bob) !== undefined) return;
        const owner = error.metadata['fulmen-owner-address'];
        // A definitive no is the answer to its key for ever; so is that nobody knows.
        if (owner === undefined && error.code !== 'unavailable' && error.code !== 'deadline_exceeded')
          attempt += 1;
        manager = owner ?? manager;
        await this.#scheduler.delay(200, 'operator tries again');
        if (this.#scheduler.nowMs > OPEN_TIMEOUT_MS)
          throw new ViolationError(`the operator cannot open a channel: ${error.message}`);
      }
    }
  }

  #payForAWhile(scids: { readonly alice: bigint; readonly bob: bigint }): void {
    const count = this.#random.integer(4, 12);
    for (let i = 0; i < count; i += 1) {
      const fromAlice = this.#random.chance(0.7);
      const [payer, payee, scid] = fromAlice
        ? ([this.#alice, this.#bob, scids.bob] as const)
        : ([this.#bob, this.#alice, scids.alice] as const);
      const amountMsat = BigInt(
        this.#random.pick([50_000, 400_000, 3_000_000, 20_000_000]) + this.#random.integer(0, 999),
      );
      const kind = this.#random.chance(0.65)
        ? 'paid'
        : this.#random.pick(['unknown hash', 'too little fee', 'unknown channel']);
      const payment = this.#payment(payee, kind === 'unknown channel' ? 12_345n : scid, amountMsat, kind);
      this.#underWay += 1;
      this.#scheduler.schedule(this.#random.fraction() * PAYMENT_WINDOW_MS, `${payer.name} pays`, () => {
        this.#underWay -= 1;
        payer.pay(payment);
      });
    }
  }

  #payment(payee: SimPeer, shortChannelId: bigint, amountMsat: bigint, kind: string): Payment {
    const preimage = this.#random.bytes(32);
    const paymentHash = sha256(preimage);
    if (kind === 'paid') payee.preimages.set(toHex(paymentHash), preimage);
    const feeMsat =
      kind === 'too little fee' ? 10n : FEE_BASE_MSAT + (amountMsat * FEE_MILLIONTHS) / 1_000_000n;
    return {
      paymentHash,
      amountMsat,
      feeMsat,
      payee: payee.nodeId,
      shortChannelId,
      state: 'waiting',
      expected: kind === 'paid' ? 'fulfilled' : 'failed',
    };
  }

  async #until(what: string, timeoutMs: number, holds: () => boolean): Promise<void> {
    const deadline = this.#scheduler.nowMs + timeoutMs;
    while (!holds()) {
      if (this.#scheduler.nowMs >= deadline)
        throw new ViolationError(`not so after ${timeoutMs} ms: ${what}. ${this.#describe()}`);
      await this.#scheduler.delay(POLL_MS, 'look');
    }
  }

  #describe(): string {
    const channels = [this.#alice, this.#bob].map(({ name, node, isConnected, channel }) => {
      const htlcs =
        channel?.changes.htlcs.map(({ body, state }) => `${body.direction} ${body.id} ${state}`).join(', ') ??
        '';
      return `${name}: ${isConnected ? 'connected' : 'away'}, ${node.state?.type === 'established' ? `${node.state.phase.type} ${node.state.connection.type}` : node.state?.type} [${htlcs}]`;
    });
    const rows = [...this.#fleet.database.state.channels.values()].map(
      ({ row }) => `${toHex(row.channelId).slice(0, 8)} ${row.phase} ${row.htlcsInFlight} in flight`,
    );
    const payments = this.payments.map(
      ({ state, expected, htlcId, failure }) => `${htlcId} ${state}/${expected} ${failure ?? ''}`,
    );
    return [...channels, ...rows, ...payments].join('; ');
  }

  #rowOf(peer: SimPeer) {
    const { channel } = peer;
    if (channel === undefined) return undefined;
    return this.#fleet.database.state.channels.get(toHex(channel.channelId));
  }

  #rowsAre(phase: string): boolean {
    return this.#rowOf(this.#alice)?.row.phase === phase && this.#rowOf(this.#bob)?.row.phase === phase;
  }

  #scidOf(peer: SimPeer): bigint {
    const row = this.#rowOf(peer)?.row;
    const scid = row?.shortChannelId ?? row?.holderAliasScid;
    if (scid === undefined) throw new ViolationError(`the channel with ${peer.name} has no scid`);
    return scid;
  }

  #fleetIsQuiet(): boolean {
    const { state } = this.#fleet.database;
    const isTaken = [...state.resolutions.values()].every(
      ({ taken, resolution }) => taken || resolution.source.type !== 'htlc',
    );
    return isTaken && [this.#alice, this.#bob].every((peer) => this.#rowOf(peer)?.row.htlcsInFlight === 0);
  }

  // ---------------------------------------------------------------- invariants

  #check(last: Payment): void {
    const wrong = (text: string): never => {
      throw new ViolationError(text);
    };
    if (last.state !== 'fulfilled') wrong(`the last payment ${last.state}: ${last.failure}`);
    for (const payment of this.payments) {
      if (payment.state === 'fulfilled' && payment.expected === 'failed')
        wrong('a payment to a hash that nobody knows was fulfilled');
      if (this.#options.faults === 'none' && payment.state !== payment.expected)
        wrong(`a payment ${payment.state} (${payment.failure}) and should be ${payment.expected}`);
    }
    this.#checkMoney(wrong);
    this.#checkAgreement(this.#alice, wrong);
    this.#checkAgreement(this.#bob, wrong);
    const { broadcasts } = this.#fleet.database.state;
    const closed = broadcasts
      .filter(({ kind }) => kind !== 'funding')
      .map(({ channelId }) => toHex(channelId));
    const lost = [this.#alice, this.#bob].some(({ channel }) =>
      closed.includes(toHex(channel?.channelId ?? new Uint8Array())),
    );
    if (lost) wrong('the fleet closes a channel');
    const refusals = this.#fleet.signerDatabase.refusals.filter(({ kind }) => kind === 'policy');
    if (refusals.length > 0)
      wrong(`the signer refused: ${refusals.map(({ policy, reason }) => `${policy}: ${reason}`).join('; ')}`);
  }

  /** No msat lost: what a payer lost, a payee or the fleet's fees won. */
  #checkMoney(wrong: (text: string) => never): void {
    const paid = this.payments.filter(({ state }) => state === 'fulfilled');
    const fees = paid.reduce((sum, { feeMsat }) => sum + feeMsat, 0n);
    const earned = this.#alice.node.earnedMsat + this.#bob.node.earnedMsat;
    if (earned + fees !== 0n)
      wrong(`the peers together have ${earned} msat more, and ${fees} msat of fees were paid`);
    for (const peer of [this.#alice, this.#bob]) {
      const won = paid
        .filter(({ payee }) => toHex(payee) === toHex(peer.nodeId))
        .reduce((sum, { amountMsat }) => sum + amountMsat, 0n);
      const lost = peer.payments
        .filter(({ state }) => state === 'fulfilled')
        .reduce((sum, { amountMsat, feeMsat }) => sum + amountMsat + feeMsat, 0n);
      if (peer.node.earnedMsat !== won - lost)
        wrong(`${peer.name} earned ${peer.node.earnedMsat} msat instead of ${won - lost}`);
    }
  }

  /** Both sides hold the same commitments. */
  #checkAgreement(peer: SimPeer, wrong: (text: string) => never): void {
    const { channel } = peer;
    const entry = this.#rowOf(peer);
    if (channel === undefined || entry === undefined) return wrong(`${peer.name} has no channel`);
    const restored = restore({
      hot: entry.hot,
      cold: entry.cold,
      htlcs: [...entry.htlcs.values()],
      removals: [...entry.removals.values()],
      secretBuckets: [...entry.secrets.values()],
      holderSignatures: entry.holderSignatures,
    });
    if (!restored.ok || restored.value.type !== 'established')
      return wrong('the rows of a channel cannot be read');
    const fleet = restored.value;
    if (fleet.phase.type !== 'open' || channel.phase.type !== 'open')
      wrong(`phases ${fleet.phase.type} and ${channel.phase.type}`);
    if (
      !agree(holderSpec(fleet), counterpartySpec(channel)) ||
      !agree(counterpartySpec(fleet), holderSpec(channel))
    ) {
      wrong(`the fleet and ${peer.name} do not agree: ${text(fleet)} and ${text(channel)}`);
    }
    const { toHolderMsat, toCounterpartyMsat } = holderSpec(fleet);
    if (toHolderMsat + toCounterpartyMsat !== primaryFunding(fleet).fundingValueSat * 1_000n)
      wrong('the balances are not the capacity');
  }
}

/** One commitment as its two sides see it. */
function agree(ours: CommitmentSpec, theirs: CommitmentSpec): boolean {
  return (
    ours.commitmentNumber === theirs.commitmentNumber &&
    ours.feerateSatPerKw === theirs.feerateSatPerKw &&
    ours.toHolderMsat === theirs.toCounterpartyMsat &&
    ours.toCounterpartyMsat === theirs.toHolderMsat &&
    ours.htlcs.length === theirs.htlcs.length
  );
}

function text(state: EstablishedChannel): string {
  return [holderSpec(state), counterpartySpec(state)]
    .map(
      ({ commitmentNumber, toHolderMsat, toCounterpartyMsat, htlcs }) =>
        `#${commitmentNumber} ${toHolderMsat}/${toCounterpartyMsat} ${htlcs.length} HTLCs`,
    )
    .join(' | ');
}
