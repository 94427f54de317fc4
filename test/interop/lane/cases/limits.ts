/** Amounts at the edges of a channel, as many HTLCs as it carries, and feerates that change under load. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { Ldk } from '../ldk.ts';
import { type InteropPeer, NotApplicable, type PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { describe, ensureSucceeded, invoiceOfFleet, payByFleet } from './support.ts';

const group = 'pay';
/** LND sends no HTLC below a satoshi unless it is told to. */
const LND_SENDS_MSAT = ['--bitcoin.minhtlcout=1'];
const BELOW_A_SATOSHI_MSAT = [1n, 999n, 1_001n];
/** BOLT 2: the most HTLCs that one side of a channel may offer. */
const MOST_HTLCS = 483;
/** LDK's default, which ldk-node leaves. */
const LDK_MOST_HTLCS = 50;
/** Not trimmed with anchors, and cheap enough for hundreds. */
const SMALL_MSAT = 1_000_000n;
/** Of a payment that no channel with the payee has room for; the fleet has others, which lead nowhere. */
const NO_ROOM = /^(insufficient_outbound|no_route)$/;
/** That empty a channel. */
const MOST_PAYMENTS = 12;
/** Calls of one peer's API at once. */
const AT_ONCE = 40;

async function peerWith(
  world: World,
  kind: PeerKind,
  options: {
    readonly by: 'peer' | 'fleet';
    readonly fundingSat?: bigint;
    readonly pushMsat?: bigint;
    readonly lnd?: readonly string[];
    readonly maxAcceptedHtlcs?: number;
  },
): Promise<InteropPeer> {
  const { by, lnd, maxAcceptedHtlcs, ...channel } = options;
  const peer = await world.peer(
    kind,
    lnd,
    maxAcceptedHtlcs === undefined ? {} : { handshake: { maxAcceptedHtlcs } },
  );
  await world.connect(peer);
  await world.open(peer, by, channel);
  return peer;
}

async function balances(world: World, peer: InteropPeer) {
  await world.agree(peer);
  const { ours } = await world.usable(peer);
  return ours;
}

/** Everything that the API says can be sent and received; a little more is refused by whoever would have to send it. */
async function drain(world: World, kind: PeerKind, by: 'peer' | 'fleet'): Promise<void> {
  const peer = await peerWith(world, kind, { by, fundingSat: 1_000_000n, pushMsat: 400_000_000n });
  const before = await balances(world, peer);
  const { bolt11 } = await peer.invoice({ description: 'everything' });
  const tooMuch = await payByFleet(world, bolt11, before.outboundCapacityMsat + 1n);
  ensure(NO_ROOM.test(tooMuch.failureReason), `1 msat too much: ${tooMuch.failureReason}`);
  const all = await payByFleet(world, bolt11, before.outboundCapacityMsat);
  ensure(all.status === 'succeeded', `${before.outboundCapacityMsat} msat: ${all.failureReason}`);

  let emptied = await balances(world, peer);
  // A peer may let a part of the channel alone be in flight at once: ldk-node a tenth.
  for (
    let payments = 1;
    payments < MOST_PAYMENTS && emptied.outboundCapacityMsat >= SMALL_MSAT;
    payments += 1
  ) {
    const amountMsat = emptied.outboundCapacityMsat;
    const rest = await payByFleet(world, (await peer.invoice({ amountMsat })).bolt11);
    ensure(rest.status === 'succeeded', `${amountMsat} msat of the rest: ${rest.failureReason}`);
    emptied = await balances(world, peer);
  }
  ensure(emptied.outboundCapacityMsat < SMALL_MSAT, `${emptied.outboundCapacityMsat} msat are left`);
  const more = await peer.invoice({ amountMsat: SMALL_MSAT });
  const refused = await payByFleet(world, more.bolt11);
  ensure(NO_ROOM.test(refused.failureReason), `near the reserve: ${refused.failureReason}`);

  // The other way: what the fleet says can be received arrives, and not what the peer must keep.
  const receivableMsat = emptied.inboundCapacityMsat;
  const reserveMsat = emptied.capacitySat * 10n;
  const beyond = await invoiceOfFleet(world, emptied.counterpartyBalanceMsat - reserveMsat + 1n);
  const failed = await peer.pay(beyond);
  ensure(failed.status === 'failed', `the peer sends of its reserve: ${describe(failed)}`);
  ensureSucceeded(await peer.pay(await invoiceOfFleet(world, receivableMsat)), `${receivableMsat} msat`);
  const back = await balances(world, peer);
  ensure(back.inboundCapacityMsat < SMALL_MSAT, `${back.inboundCapacityMsat} msat more could be received`);
  const again = await peer.invoice({ amountMsat: SMALL_MSAT });
  const paid = await payByFleet(world, again.bolt11);
  ensure(paid.status === 'succeeded', `after the drain: ${paid.failureReason}`);
  await world.agree(peer);
}

/** Runs over all items, a few at once. */
async function each<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++)
      results[index] = await work(items[index] as T);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

async function untilInFlight(world: World, peer: InteropPeer, count: number): Promise<void> {
  await until(
    `${count} HTLCs in flight with ${peer.name}`,
    async () => {
      const [ours] = await world.fleetChannels(peer);
      const [theirs] = await peer.channels();
      return ours?.htlcsInFlight === count && theirs?.htlcsInFlight === count ? true : undefined;
    },
    120_000,
  );
}

/** Payments one after the other, both ways, until `work` is done. */
async function underLoad(world: World, peer: InteropPeer, work: () => Promise<void>): Promise<void> {
  let busy = true;
  const fromPeer = async (): Promise<void> => {
    while (busy) ensureSucceeded(await peer.pay(await invoiceOfFleet(world, 2_000_000n)), 'the peer');
  };
  const fromFleet = async (): Promise<void> => {
    while (busy) {
      const { bolt11 } = await peer.invoice({ amountMsat: 2_100_000n });
      const payment = await payByFleet(world, bolt11);
      ensure(payment.status === 'succeeded', `the fleet: ${payment.failureReason}`);
    }
  };
  const load = Promise.all([fromPeer(), fromPeer(), fromFleet(), fromFleet()]);
  try {
    // A payment that fails ends the wait.
    await Promise.race([work(), load.then(() => undefined)]);
  } finally {
    busy = false;
  }
  await load;
}

async function untilFeerate(peer: InteropPeer, feerateSatPerKw: number, push: () => Promise<unknown>) {
  await until(`${feerateSatPerKw} sat/kW in the commitments of ${peer.name}`, async () => {
    await push();
    const [channel] = await peer.channels();
    return channel?.feerateSatPerKw === feerateSatPerKw ? true : undefined;
  });
}

/** Payments under way allow for a few blocks, and no more; LDK leaves a peer that owes an answer for two of its ticks. */
const PUSH_EVERY_MS = 3_000;

/** Does it when it was not done for a while. */
function slowly(work: () => Promise<unknown>): () => Promise<unknown> {
  let didMs = Number.NEGATIVE_INFINITY;
  return async () => {
    if (performance.now() - didMs < PUSH_EVERY_MS) return;
    didMs = performance.now();
    await work();
  };
}

export const LIMIT_CASES: readonly Case[] = [
  {
    group,
    name: 'amounts below a satoshi, both ways',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWith(world, kind, { by: 'peer', lnd: LND_SENDS_MSAT });
      for (const amountMsat of BELOW_A_SATOSHI_MSAT) {
        ensureSucceeded(await peer.pay(await invoiceOfFleet(world, amountMsat)), `${amountMsat} msat`);
        const { bolt11 } = await peer.invoice({ amountMsat });
        const payment = await payByFleet(world, bolt11);
        ensure(payment.status === 'succeeded', `${amountMsat} msat: ${payment.failureReason}`);
      }
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'all that a channel of the peer’s carries and no more, both ways',
    over: 'peers',
    run: (world, kind) => drain(world, kind, 'peer'),
  },
  {
    group,
    name: 'all that a channel of the fleet’s carries and no more, both ways',
    over: 'peers',
    run: (world, kind) => drain(world, kind, 'fleet'),
  },
  {
    group,
    name: `as many HTLCs at once as the peer takes, ${MOST_HTLCS} where that can be set, and no more`,
    over: 'peers',
    run: async (world, kind) => {
      const most = kind === 'ldk-node' ? LDK_MOST_HTLCS : MOST_HTLCS;
      const peer = await peerWith(world, kind, { by: 'peer', maxAcceptedHtlcs: MOST_HTLCS });
      const invoices = await each(Array.from({ length: most }), () =>
        peer.invoice({ amountMsat: SMALL_MSAT, hold: 'hold' }),
      );
      const paying = await each(invoices, async ({ bolt11 }) => ({
        payment: await world.node.payments.sendPayment(
          { bolt11, timeoutSeconds: 120, wait: false },
          world.node.auth(60_000),
        ),
      }));
      await untilInFlight(world, peer, most);
      const oneMore = await peer.invoice({ amountMsat: SMALL_MSAT });
      const refused = await payByFleet(world, oneMore.bolt11);
      ensure(NO_ROOM.test(refused.failureReason), `one more: ${refused.failureReason}`);
      // The other direction still carries payments.
      ensureSucceeded(await peer.pay(await invoiceOfFleet(world, SMALL_MSAT)), 'the peer');
      await each(invoices, ({ paymentHash }) => peer.settle(paymentHash));
      await untilInFlight(world, peer, 0);
      for (const { payment } of paying) {
        const { status, failureReason } = await until('its end', async () => {
          const found = await world.node.payments.lookupPayment(
            { paymentHash: payment.paymentHash },
            world.node.auth(),
          );
          return found.status === 'pending' ? undefined : found;
        });
        ensure(status === 'succeeded', failureReason);
      }
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'the fleet changes the feerate of its channel under load',
    over: 'peers',
    run: async (world, kind) => {
      const { fees } = world.chain;
      const peer = await peerWith(world, kind, { by: 'fleet' });
      try {
        const mine = slowly(() => world.mine(1));
        await underLoad(world, peer, async () => {
          for (const feerateSatPerKw of [3_000, 4_500, 500]) {
            fees.feerateSatPerKw = feerateSatPerKw;
            await untilFeerate(peer, feerateSatPerKw, mine);
          }
        });
        await world.agree(peer);
      } finally {
        fees.feerateSatPerKw = undefined;
        // The estimates of a moment ago are forgotten with the process: other cases begin as they would have.
        await world.fleet.kill9AndWait('chain-monitor');
        await world.mine(1);
      }
    },
  },
  {
    group,
    name: 'the peer changes the feerate of its channel under load',
    over: 'peers',
    run: async (world, kind) => {
      if (kind === 'lnd')
        throw new NotApplicable(
          'LND looks at the feerate every 10 to 60 minutes, and no setting makes it sooner',
        );
      const peer = await peerWith(world, kind, { by: 'peer' });
      if (!(peer instanceof Ldk)) throw new NotApplicable('the clock of ldk-node is its own');
      const tick = slowly(() => peer.wallet.call('tick', { minutes: 1 }));
      await underLoad(world, peer, async () => {
        for (const feerateSatPerKw of [3_000, 4_500, 500]) {
          await peer.wallet.call('setFeerate', { feerateSatPerKw });
          await untilFeerate(peer, feerateSatPerKw, tick);
        }
      });
      await world.agree(peer);
    },
  },
];
