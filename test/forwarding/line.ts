/**
 * A payer and a payee with a channel each at the fleet, which is the real
 * services on simulated ports. The payer offers what no honest payer would, and
 * reads what comes back with the keys of its own onion.
 */
import { NETWORKS } from '@fulmen/bitcoin';
import { assertNever, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { shardOfPeer } from '@fulmen/keys/shard';
import { buildOnion, encodeHopPayload, type UnwrappedFailure, unwrapFailure } from '@fulmen/onion';
import type { UpdateChannelPolicyRequest } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import { Prng, Scheduler } from '@fulmen/testing/simulation/index';
import { Fleet, MANAGERS } from '../simulation/fleet.ts';
import type { Payment } from '../simulation/payments.ts';
import { SimPeer } from '../simulation/peer.ts';

export class LineError extends Error {
  override readonly name = 'LineError';
}

type PayloadTlvs = Parameters<typeof encodeHopPayload>[0];

/** What the payer offers; the defaults are those of an honest payment. */
export interface Offer {
  readonly amountMsat: bigint;
  readonly feeMsat: bigint;
  /** The same for the payee's channel and its onion. */
  readonly outgoingCltvHeight: number;
  /** What the fleet keeps of the expiry. */
  readonly cltvDelta: number;
  readonly shortChannelId: bigint;
  readonly paymentHash: Uint8Array;
  readonly paymentSecret: Uint8Array;
  readonly totalMsat: bigint;
  /** Instead of the payload that the fleet would get. */
  readonly fleetPayload?: Uint8Array;
  /** Instead of the onion. */
  readonly change?: (packet: Uint8Array) => Uint8Array;
}

/** How a payment ended. */
export type End =
  | { readonly type: 'fulfilled' }
  | { readonly type: 'failed'; readonly unwrapped: UnwrappedFailure }
  | { readonly type: 'failed_malformed'; readonly failureCode: number; readonly sha256OfOnion: Uint8Array };

const MAX_EVENTS = 3_000_000;
const PATIENCE_MS = 120_000;
const POLL_MS = 20;
const FINAL_CLTV_DELTA = 144;
/** The fleet's terms: base 1,000 msat, 0.1 %, 72 blocks. */
const feeOf = (amountMsat: bigint): bigint => 1_000n + amountMsat / 1_000n;
const CLTV_DELTA = 72;

export class Line {
  readonly payer: SimPeer;
  readonly payee: SimPeer;
  readonly #scheduler: Scheduler;
  readonly #random: Prng;
  readonly #fleet: Fleet;
  readonly #faults: string[] = [];
  #payments = 0;

  private constructor(name: string) {
    this.#random = new Prng(name);
    this.#scheduler = new Scheduler(this.#random.fork('order'), undefined);
    const onViolation = (text: string): void => void this.#faults.push(text);
    this.#fleet = new Fleet({
      scheduler: this.#scheduler,
      random: this.#random.fork('fleet'),
      secp: secp256k1,
      latencyMs: 2,
      towers: 'none',
      onViolation,
      onLog: () => undefined,
    });
    const peer = (of: string): SimPeer =>
      new SimPeer(of, {
        scheduler: this.#scheduler,
        random: this.#random.fork(of),
        secp: secp256k1,
        sockets: this.#fleet.sockets.port(of),
        gateways: this.#fleet.gatewayAddresses,
        chain: this.#fleet.chain,
        chainHash: NETWORKS.regtest.chainHash,
        fleetNodeId: this.#fleet.nodeId,
        suits: (nodeId) => Fleet.isFree(shardOfPeer(nodeId)),
        onViolation,
      });
    this.payer = peer('payer');
    this.payee = peer('payee');
  }

  /** Plays a story on a line of its own; rejects when it does, or when the fleet breaks a rule. */
  static async play(name: string, story: (line: Line) => Promise<void>): Promise<void> {
    const line = new Line(name);
    let end: { readonly error?: unknown } | undefined;
    line.#live(story).then(
      () => (end = {}),
      (error: unknown) => (end = { error }),
    );
    await line.#scheduler.runUntil(() => end !== undefined || line.#faults.length > 0, MAX_EVENTS);
    if (line.#faults.length > 0) throw new LineError(line.#faults.join('; '));
    if (end === undefined) throw new LineError('the story did not end');
    if ('error' in end) throw end.error;
  }

  async #live(story: (line: Line) => Promise<void>): Promise<void> {
    // Invoices live in shards of their own; one that is not parked is enough.
    const free = Array.from({ length: 256 }, (_, shard) => shard).filter((shard) => Fleet.isFree(shard));
    this.#fleet.parkShards(
      new Set([shardOfPeer(this.payer.nodeId), shardOfPeer(this.payee.nodeId), ...free.slice(0, 4)]),
    );
    for (const peer of [this.payer, this.payee])
      peer.wish = { fundingSat: 1_000_000n, pushMsat: 300_000_000n };
    await this.#fleet.start();
    await this.until('both channels are open', () => this.payer.isOpen && this.payee.isOpen);
    await this.until('the fleet knows it', () => this.#phases().every((phase) => phase === 'open'));
    await story(this);
  }

  #phases(): readonly string[] {
    return [...this.#fleet.database.state.channels.values()].map(({ row }) => row.phase);
  }

  get nodeId(): Uint8Array {
    return this.#fleet.nodeId;
  }

  get height(): number {
    return this.#fleet.chain.height;
  }

  /** The fleet's channel with the payee: the name that onions use. */
  get outgoingScid(): bigint {
    const key = toHex(this.payee.channel?.channelId ?? new Uint8Array());
    const row = this.#fleet.database.state.channels.get(key)?.row;
    return row?.shortChannelId ?? row?.holderAliasScid ?? 0n;
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    const deadline = this.#scheduler.nowMs + PATIENCE_MS;
    while (!holds()) {
      if (this.#scheduler.nowMs >= deadline) throw new LineError(`not so: ${what}`);
      await this.#scheduler.delay(POLL_MS, 'look');
    }
  }

  /** From now on the fleet does not know the chain as it is; '' ends it. */
  doubtChain(reason: string): void {
    this.#fleet.chain.doubt(reason);
  }

  /** Simulated time. */
  get nowMs(): number {
    return this.#scheduler.nowMs;
  }

  async wait(ms: number): Promise<void> {
    await this.#scheduler.delay(ms, 'wait');
  }

  /** Asks one replica after the other: the shard may be the other's. */
  async #asOperator<T>(ask: (manager: ReturnType<Fleet['operator']>) => Promise<T>): Promise<T> {
    let last: unknown;
    for (const manager of MANAGERS) {
      try {
        return await ask(this.#fleet.operator(manager));
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        last = error;
      }
    }
    throw last;
  }

  /** Changes the terms of the channel with the payee. */
  async setTerms(terms: Partial<UpdateChannelPolicyRequest>): Promise<void> {
    const channelId = this.payee.channel?.channelId ?? new Uint8Array();
    await this.#asOperator((manager) => manager.updateChannelPolicy({ ...NO_CHANGE, ...terms, channelId }));
  }

  /** An invoice of the fleet itself: its hash and secret. */
  async invoice(amountMsat: bigint): Promise<string> {
    const { bolt11 } = await this.#asOperator((manager) =>
      manager.createInvoice({
        amountMsat,
        description: '',
        expirySeconds: undefined,
        preimage: undefined,
        idempotencyKey: '',
      }),
    );
    return bolt11;
  }

  /** The payer pays the payee through the fleet. */
  async pay(amountMsat: bigint, changes: Partial<Offer> = {}): Promise<End> {
    this.#payments += 1;
    const preimage = sha256(utf8Encode(`preimage ${this.#payments}`));
    const paymentHash = sha256(preimage);
    this.payee.preimages.set(toHex(paymentHash), preimage);
    const offer = this.#offer(amountMsat, { paymentHash, paymentSecret: paymentHash, ...changes });
    const common = { amtToForwardMsat: offer.amountMsat, outgoingCltvHeight: offer.outgoingCltvHeight };
    const forFleet =
      offer.fleetPayload ?? encodeHopPayload({ ...common, shortChannelId: offer.shortChannelId });
    const forPayee = encodeHopPayload({ ...common, paymentData: paymentDataOf(offer) });
    return this.#send(offer, offer.amountMsat + offer.feeMsat, [
      { nodeId: this.nodeId, payload: forFleet },
      { nodeId: this.payee.nodeId, payload: forPayee },
    ]);
  }

  /** The payer pays the fleet itself. `tlvs` change what the onion says. */
  async payFleet(amountMsat: bigint, changes: Partial<Offer>, tlvs: Partial<PayloadTlvs> = {}): Promise<End> {
    const offer = this.#offer(amountMsat, { feeMsat: 0n, cltvDelta: 0, ...changes });
    const payload = encodeHopPayload({
      amtToForwardMsat: offer.amountMsat,
      outgoingCltvHeight: offer.outgoingCltvHeight,
      paymentData: paymentDataOf(offer),
      ...tlvs,
    });
    return this.#send(offer, offer.amountMsat, [{ nodeId: this.nodeId, payload }]);
  }

  #offer(amountMsat: bigint, changes: Partial<Offer>): Offer {
    return {
      amountMsat,
      feeMsat: feeOf(amountMsat),
      outgoingCltvHeight: this.height + FINAL_CLTV_DELTA,
      cltvDelta: CLTV_DELTA,
      shortChannelId: this.outgoingScid,
      paymentHash: sha256(utf8Encode(`hash ${this.#payments}`)),
      paymentSecret: new Uint8Array(32),
      totalMsat: changes.amountMsat ?? amountMsat,
      ...changes,
    };
  }

  async #send(
    offer: Offer,
    incomingMsat: bigint,
    hops: readonly { readonly nodeId: Uint8Array; readonly payload: Uint8Array }[],
  ): Promise<End> {
    const built = buildOnion(secp256k1, {
      sessionKey: this.#random.bytes(32),
      associatedData: offer.paymentHash,
      hops,
    });
    if (!built.ok) throw new LineError(`no onion: ${built.error.kind}`);
    const { packet, sharedSecrets } = built.value;
    const payment: Payment = {
      paymentHash: offer.paymentHash,
      amountMsat: incomingMsat,
      feeMsat: 0n,
      payee: this.payee.nodeId,
      shortChannelId: offer.shortChannelId,
      expected: 'failed',
      state: 'waiting',
      prepared: {
        packet: offer.change?.(packet) ?? packet,
        sharedSecrets,
        cltvExpiryHeight: offer.outgoingCltvHeight + offer.cltvDelta,
      },
    };
    this.payer.pay(payment);
    await this.until('the payment ends', () => payment.state === 'fulfilled' || payment.state === 'failed');
    // Settled on both sides, so that the next payment finds the channel as the last one did.
    const here = [this.payer, this.payee].filter(({ presence }) => presence === 'here');
    await this.until('the channels are quiet', () => here.every(({ isQuiet }) => isQuiet));
    const { removal } = payment;
    if (removal === undefined) return { type: 'fulfilled' };
    switch (removal.type) {
      case 'failed':
        return {
          type: 'failed',
          unwrapped: unwrapFailure(sharedSecrets, { reason: removal.reason, attributionData: undefined }),
        };
      case 'failed_malformed':
        return removal;
    }
    return assertNever(removal);
  }
}

const NO_CHANGE: UpdateChannelPolicyRequest = {
  channelId: new Uint8Array(),
  feeBaseMsat: undefined,
  feeProportionalMillionths: undefined,
  cltvExpiryDelta: undefined,
  htlcMinimumMsat: undefined,
  htlcMaximumMsat: undefined,
};

function paymentDataOf({ paymentSecret, totalMsat }: Offer): NonNullable<PayloadTlvs['paymentData']> {
  return { paymentSecret, totalMsat };
}
