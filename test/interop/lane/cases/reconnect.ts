/** The connection is cut, or the channel's owner dies, at every message of a conversation, on both sides. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Payment } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type CutKind, CutProxy, type Direction } from '../cut-proxy.ts';
import type { InteropPeer, PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { decoded } from './invoice-texts.ts';
import { describe, ensureSucceeded, invoiceOfFleet, NOT_SENT } from './support.ts';

const group = 'reconnect';

const AMOUNT_MSAT = 2_000_000n;
/** For a payment that is cut, found, sent again and failed back. */
const PAYMENT_TIMEOUT_MS = 120_000;
/** More pieces than any of these conversations has in one direction. */
const MAX_PIECES = 40;
/** The shortest conversation has these: what each side says to open or to close. */
const LEAST_PIECES = 2;
/** How long a peer that lost its connection may stay away. */
const DIAL_EVERY_MS = 500;

type OpeningOptions = Parameters<World['startOpening']>[2];

/** A peer whose connection to the fleet goes through the proxy. */
class Wire {
  readonly proxy: CutProxy;
  readonly peer: InteropPeer;
  readonly world: World;
  #connecting: Promise<void> | undefined;

  private constructor(world: World, peer: InteropPeer, proxy: CutProxy) {
    this.world = world;
    this.peer = peer;
    this.proxy = proxy;
  }

  static async start(world: World, kind: PeerKind): Promise<Wire> {
    const proxy = await CutProxy.start([...world.fleet.lightningPorts.values()]);
    const wire = new Wire(world, await world.peer(kind), proxy);
    await wire.connect();
    return wire;
  }

  /** The peer dials until both sides say that they are connected. */
  connect(): Promise<void> {
    this.#connecting ??= this.#connect().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  /**
   * Dials whenever the peer is away, until `work` is over: a connection may be cut when nothing is waited for, and for a
   * moment neither side knows.
   */
  async keepConnected<T>(work: () => Promise<T>): Promise<T> {
    let isOver = false;
    const keep = async (): Promise<void> => {
      while (!isOver) {
        await this.connect().catch(() => undefined);
        await pause(DIAL_EVERY_MS);
      }
    };
    const kept = keep();
    try {
      return await work();
    } finally {
      isOver = true;
      await kept;
    }
  }

  async #connect(): Promise<void> {
    await until(`${this.peer.name} is connected through the proxy`, async () => {
      if (!(await this.peer.isConnected(this.world.nodeId)))
        await this.peer.connect(this.world.nodeId, this.proxy.port);
      return (await this.world.isConnected(this.peer)) ? true : undefined;
    });
  }

  /** Begins an opening; again when the connection is replaced by another at that moment, as LND's own dialling may do. */
  async startOpening(by: 'peer' | 'fleet', options: OpeningOptions): Promise<void> {
    await until('an opening begins', async () => {
      await this.connect();
      await this.world.startOpening(this.peer, by, options);
      return true;
    });
  }
}

/** One way to disturb a conversation. */
interface Disturbance {
  readonly direction: Direction;
  readonly kind: CutKind;
}

type Conversation = (wire: Wire, what: string) => Promise<void>;

/**
 * Has the same conversation again and again, disturbed at one piece later each time, until one ends before its
 * disturbance came: then every piece was the victim once.
 */
async function disturbEach(
  wire: Wire,
  { direction, kind }: Disturbance,
  onPiece: () => Promise<void>,
  prepare: () => Promise<void>,
  converse: (what: string) => Promise<void>,
): Promise<void> {
  for (let pieces = 0; pieces < MAX_PIECES; pieces += 1) {
    await prepare();
    let disturbed: Promise<void> | undefined;
    wire.proxy.setTrap(direction, kind, pieces, () => {
      disturbed = onPiece();
      // Looked at below; until then it must not count as unhandled.
      disturbed.catch(() => undefined);
    });
    await converse(`disturbed at piece ${pieces}`);
    wire.proxy.disarm();
    await disturbed;
    if (disturbed !== undefined) continue;
    ensure(pieces >= LEAST_PIECES, `only ${pieces} pieces were disturbed`);
    return;
  }
}

async function withWire(world: World, kind: PeerKind, run: (wire: Wire) => Promise<void>): Promise<void> {
  const wire = await Wire.start(world, kind);
  try {
    await wire.keepConnected(() => run(wire));
  } finally {
    await wire.proxy.stop();
  }
}

async function converseAndAgree(wire: Wire, converse: Conversation, what: string): Promise<void> {
  await converse(wire, what);
  await wire.connect();
  await wire.world.usable(wire.peer);
  await wire.world.agree(wire.peer);
}

interface Ended {
  readonly status: string;
  readonly reason: string;
}

/**
 * The replica that was asked may die: the payment goes on without it. Nobody waits in the call, which the console would
 * repeat at another replica, and so try a payment anew that failed meanwhile.
 */
async function knownOrPaid(world: World, bolt11: string, paymentHash: Uint8Array): Promise<Payment> {
  try {
    return await world.node.payments.lookupPayment({ paymentHash }, world.node.auth());
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== 'not_found') throw error;
    return world.node.payments.sendPayment(
      { bolt11, amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: 60, wait: false },
      world.node.auth(),
    );
  }
}

async function send({ world, peer }: Wire, by: 'peer' | 'fleet', bolt11: string): Promise<Ended> {
  if (by === 'peer') {
    const payment = await peer.pay(bolt11);
    return { status: payment.status, reason: describe(payment) };
  }
  const { paymentHash } = decoded(bolt11);
  const { status, failureReason } = await until(
    'the fleet’s payment ends',
    async () => {
      const payment = await knownOrPaid(world, bolt11, paymentHash);
      return payment.status === 'pending' ? undefined : payment;
    },
    PAYMENT_TIMEOUT_MS,
  );
  return { status, reason: failureReason };
}

/** Asks again while the payer finds no way: the cut may come before the payment begins. */
function untilSent(wire: Wire, attempt: () => Promise<Ended>): Promise<Ended> {
  return until(
    'a payment is sent and ends',
    async () => {
      const ended = await attempt();
      if (ended.status === 'succeeded' || !NOT_SENT.test(ended.reason)) return ended;
      await wire.connect();
      return undefined;
    },
    PAYMENT_TIMEOUT_MS,
  );
}

function paid(wire: Wire, by: 'peer' | 'fleet', invoice: () => Promise<string>): Promise<Ended> {
  return untilSent(wire, async () => send(wire, by, await invoice()));
}

/** A payment that its recipient holds and then refuses. */
function refused(wire: Wire, by: 'peer' | 'fleet', recipient: InteropPeer): Promise<Ended> {
  return untilSent(wire, async () => {
    const { bolt11, paymentHash } = await recipient.invoice({ amountMsat: AMOUNT_MSAT, hold: 'hold' });
    let isOver = false;
    const [ended] = await Promise.all([
      send(wire, by, bolt11).finally(() => (isOver = true)),
      until(
        'the payment is held and cancelled, or ends',
        async () => {
          if (isOver) return true;
          if (!(await recipient.isHeld(paymentHash))) return undefined;
          await recipient.cancel(paymentHash);
          return true;
        },
        PAYMENT_TIMEOUT_MS,
      ),
    ]);
    return ended;
  });
}

const PAYMENTS: readonly (readonly [name: string, converse: Conversation])[] = [
  [
    'a payment by the peer',
    async (wire, what) => {
      const { status, reason } = await paid(wire, 'peer', () => invoiceOfFleet(wire.world, AMOUNT_MSAT));
      ensure(status === 'succeeded', `${what}: ${reason}`);
    },
  ],
  [
    'a payment by the fleet',
    async (wire, what) => {
      const invoice = async () => (await wire.peer.invoice({ amountMsat: AMOUNT_MSAT })).bolt11;
      const { status, reason } = await paid(wire, 'fleet', invoice);
      ensure(status === 'succeeded', `${what}: ${reason}`);
    },
  ],
  [
    'a payment by the peer to another, refused',
    async (wire, what) => {
      const { status, reason } = await refused(wire, 'peer', wire.world.hub);
      ensure(status === 'failed', `${what}: ${reason}`);
    },
  ],
  [
    'a payment by the fleet, refused',
    async (wire, what) => {
      const { status, reason } = await refused(wire, 'fleet', wire.peer);
      ensure(status === 'failed', `${what}: ${reason}`);
    },
  ],
];

const DISTURBANCES: readonly (Disturbance & { readonly text: string })[] = [
  { direction: 'from_peer', kind: 'before', text: 'cut before each piece of what the peer says' },
  { direction: 'to_peer', kind: 'before', text: 'cut before each piece of what the fleet says' },
  { direction: 'to_peer', kind: 'within', text: 'cut within each piece of what the fleet says' },
];

function disturbedPayment(
  name: string,
  converse: Conversation,
  disturbance: (typeof DISTURBANCES)[number],
): Case {
  return {
    group,
    name: `${name}, ${disturbance.text}`,
    over: 'peers',
    run: (world, kind) =>
      withWire(world, kind, async (wire) => {
        await world.open(wire.peer, 'peer');
        await disturbEach(
          wire,
          disturbance,
          () => wire.connect(),
          () => Promise.resolve(),
          (what) => converseAndAgree(wire, converse, what),
        );
      }),
  };
}

/** channel_ready and announcement_signatures: the channel confirms while the connection dies. */
function disturbedOpening(by: 'peer' | 'fleet', disturbance: (typeof DISTURBANCES)[number]): Case {
  return {
    group,
    name: `a channel opened by the ${by} becomes ready and announced, ${disturbance.text}`,
    over: 'peers',
    run: (world, kind) =>
      withWire(world, kind, async (wire) => {
        const { peer } = wire;
        let channels = 0;
        await disturbEach(
          wire,
          disturbance,
          () => wire.connect(),
          async () => {
            channels += 1;
            await wire.connect();
            await world.startOpening(peer, by, {
              announce: 'announced',
              fundingSat: 1_000_000n,
              pushMsat: 0n,
            });
          },
          async () => {
            await world.mine(6);
            await until(`${channels} channels are usable and announced`, async () => {
              await wire.connect();
              const theirs = (await peer.channels()).filter((one) => one.isUsable && one.isAnnounced);
              const ours = (await world.fleetChannels(peer)).filter(
                ({ phase, announced, peerConnected }) => phase === 'open' && announced && peerConnected,
              );
              return theirs.length === channels && ours.length === channels ? true : undefined;
            });
          },
        );
      }),
  };
}

async function askToClose(
  world: World,
  peer: InteropPeer,
  by: 'peer' | 'fleet',
  channelId: string,
): Promise<void> {
  if (by === 'peer') return peer.close(channelId, 'cooperative');
  await world.node.channels.closeChannel(
    { channelId: Buffer.from(channelId, 'hex'), force: false, scriptPubkey: undefined },
    world.node.auth(),
  );
}

async function closeTypeOf(world: World, channelId: string): Promise<string> {
  return until('the fleet lists the close', async () => {
    const { channels } = await world.node.channels.listClosingChannels(
      { includeResolved: true, limit: 100 },
      world.node.auth(),
    );
    return channels.find((one) => Buffer.from(one.channelId).toString('hex') === channelId)?.closeType;
  });
}

/** shutdown and closing_signed. */
function disturbedClose(by: 'peer' | 'fleet', disturbance: (typeof DISTURBANCES)[number]): Case {
  return {
    group,
    name: `a cooperative close by the ${by}, ${disturbance.text}`,
    over: 'peers',
    run: (world, kind) =>
      withWire(world, kind, async (wire) => {
        const { peer } = wire;
        await disturbEach(
          wire,
          disturbance,
          () => wire.connect(),
          async () => {
            await wire.startOpening('peer', {});
            await world.mine(6);
            await world.usable(peer);
          },
          async (what) => {
            const [channel] = await peer.channels();
            ensure(channel !== undefined, 'there is a channel');
            const { fundingTxid } = channel;
            let isAsked = false;
            const ask = (): void => {
              isAsked = true;
              askToClose(world, peer, by, channel.channelId).catch(() => (isAsked = false));
            };
            await until(`${what}: a close is in the mempool`, async () => {
              if (await world.isSpent(fundingTxid, channel.fundingOutputIndex)) return true;
              await wire.connect();
              // A user asks again when the request was refused because the connection was away.
              if (!isAsked) ask();
              return undefined;
            });
            await world.mine(1);
            const closeType = await closeTypeOf(world, channel.channelId);
            ensure(closeType === 'mutual', `${what}: the close is of type ${closeType}`);
          },
        );
      }),
  };
}

/** The replica that owns the channel dies as a piece of the peer's arrives; the channel lives on at another. */
function ownerKilled(name: string, converse: Conversation): Case {
  return {
    group,
    name: `${name}, the channel's owner killed at each piece of what the peer says`,
    over: 'peers',
    run: (world, kind) =>
      withWire(world, kind, async (wire) => {
        await world.open(wire.peer, 'peer');
        await disturbEach(
          wire,
          { direction: 'from_peer', kind: 'tell' },
          async () => {
            const owner = await until('the channel has an owner', async () => {
              const [channel] = await world.fleetChannels(wire.peer);
              return channel?.ownerReplicaId || undefined;
            });
            await world.fleet.kill9AndWait(owner);
            await wire.connect();
          },
          () => Promise.resolve(),
          (what) => converseAndAgree(wire, converse, what),
        );
      }),
  };
}

export const RECONNECT_CASES: readonly Case[] = [
  ...PAYMENTS.flatMap(([name, converse]) =>
    DISTURBANCES.map((disturbance) => disturbedPayment(name, converse, disturbance)),
  ),
  ...DISTURBANCES.flatMap((disturbance) => [
    disturbedOpening('peer', disturbance),
    disturbedOpening('fleet', disturbance),
    disturbedClose('peer', disturbance),
    disturbedClose('fleet', disturbance),
  ]),
  ...PAYMENTS.map(([name, converse]) => ownerKilled(name, converse)),
  {
    group,
    name: 'both managers are killed under payments',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, 'peer');
      for (const manager of world.fleet.services.filter((name) => name.startsWith('channel-manager'))) {
        const invoices = await Promise.all(
          Array.from({ length: 4 }, (_, i) => invoiceOfFleet(world, 3_000_000n + BigInt(i))),
        );
        const paying = invoices.map((bolt11) => peer.pay(bolt11));
        await world.fleet.kill9AndWait(manager);
        for (const payment of await Promise.all(paying)) ensureSucceeded(payment, `${manager} was killed`);
      }
      await world.usable(peer);
      await world.agree(peer);
    },
  },
];
