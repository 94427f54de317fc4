/** Payments in several parts (basic_mpp, BOLT 4), by the fleet, to it, and through it. */
import { secp256k1 } from '@fulmen/crypto/default';
import { decodeInvoice } from '@fulmen/invoice';
import type { Payment, PaymentAttempt } from '@fulmen/proto/manager/v1/manager';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type InteropPeer, NotApplicable, type PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { decoded, hex } from './invoice-texts.ts';
import { describe, ensureSucceeded, hintedInvoice, invoiceOfFleet, peerWithChannel } from './support.ts';

const group = 'pay in parts';

/** Either side of each channel can send nearly a million, or half a million, satoshis. */
const CHANNEL = { fundingSat: 1_500_000n, pushMsat: 500_000_000n };
/** More than one such channel carries from the fleet's side, less than two. */
const AMOUNT_MSAT = 1_500_000_000n;
const MANAGERS = ['channel-manager-1', 'channel-manager-2'];

const TENTH = 'ldk-node lets a tenth of a channel be in flight, which two channels do not make up';

/** A peer with some channels that the fleet opened. */
async function peerWithChannels(
  world: World,
  kind: PeerKind,
  channels: readonly (typeof CHANNEL)[] = [CHANNEL, CHANNEL],
): Promise<InteropPeer> {
  if (kind === 'ldk-node') throw new NotApplicable(TENTH);
  const peer = await world.peer(kind);
  await world.connect(peer);
  for (const channel of channels) await world.startOpening(peer, 'fleet', channel);
  await world.mine(6);
  await until(`${channels.length} usable channels of ${peer.name}`, async () => {
    const theirs = (await peer.channels()).filter(({ isUsable }) => isUsable);
    const ours = (await world.fleetChannels(peer)).filter(
      ({ phase, peerConnected }) => phase === 'open' && peerConnected,
    );
    return theirs.length === channels.length && ours.length === channels.length ? true : undefined;
  });
  return peer;
}

/** Both sides agree on every channel to the millisatoshi, with nothing in flight. */
async function agreeOnAll(world: World, peer: InteropPeer): Promise<void> {
  await until(`agreement with ${peer.name} on every channel`, async () => {
    const theirs = await peer.channels();
    const ours = await world.fleetChannels(peer);
    const agreed = ours.every((channel) => {
      const id = Buffer.from(channel.channelId).toString('hex');
      const other = theirs.find(({ channelId }) => channelId === id);
      if (other === undefined || other.htlcsInFlight > 0 || channel.htlcsInFlight > 0) return false;
      const difference = other.balanceMsat - channel.counterpartyBalanceMsat;
      // LND shows whole satoshis.
      const tolerance = peer.kind === 'lnd' ? 1_000n : 0n;
      return difference <= tolerance && -difference <= tolerance;
    });
    return agreed ? true : undefined;
  });
}

/** Begins a payment of the fleet's; resolves at once. */
function begin(world: World, bolt11: string, maxParts?: number): Promise<Payment> {
  return world.node.payments.sendPayment(
    { bolt11, amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: 60, maxParts, wait: false },
    world.node.auth(),
  );
}

/** The end of a payment of the fleet's, all its HTLCs included. */
async function endOf(world: World, paymentHash: Uint8Array): Promise<Payment> {
  return until('the payment and all its parts have ended', async () => {
    const payment = await world.node.payments.lookupPayment({ paymentHash }, world.node.auth());
    const isOver =
      payment.status !== 'pending' && payment.attemptRecords.every(({ status }) => status !== 'in_flight');
    return isOver ? payment : undefined;
  });
}

/** The parts that paid make up the amount, and left by so many channels at least. */
function ensurePaid(payment: Payment, amountMsat: bigint, channels: number): void {
  ensure(payment.status === 'succeeded', `the payment ${payment.status}: ${payment.failureReason}`);
  const paid = payment.attemptRecords.filter(({ status }) => status === 'succeeded');
  ensure(sum(paid, (part) => part.amountMsat) === amountMsat, 'the parts make up the amount');
  ensure(sum(paid, (part) => part.feeMsat) === payment.feeMsat, 'the fee is that of the parts');
  const left = new Set(paid.map(({ route }) => route[0]?.shortChannelId));
  ensure(left.size >= channels, `the parts left by ${left.size} channels`);
}

function sum(parts: readonly PaymentAttempt[], of: (part: PaymentAttempt) => bigint): bigint {
  return parts.reduce((total, part) => total + of(part), 0n);
}

/** Whether an invoice has a route hint over this node. */
function tellsOf(bolt11: string, nodeId: string): boolean {
  const invoice = decodeInvoice(secp256k1, bolt11);
  return (
    invoice.ok &&
    invoice.value.routeHints.some((path) =>
      path.some((hint) => Buffer.from(hint.nodeId).toString('hex') === nodeId),
    )
  );
}

/** BOLT 4: "MUST fail all HTLCs in the HTLC set after some reasonable timeout […] with mpp_timeout". */
const NEVER_WHOLE: Case = {
  group,
  name: 'a part whose fellows never come is failed with mpp_timeout after a minute, though both managers are killed',
  over: 'peers',
  run: async (world, kind) => {
    const payer = await peerWithChannel(world, kind);
    const amountMsat = 8_000_000n;
    const invoice = decoded(await invoiceOfFleet(world, amountMsat));
    const paying = payer.payAlong({
      hops: [{ nodeId: world.nodeId, feeMsat: amountMsat / 2n, cltvDelta: 80 }],
      totalMsat: amountMsat,
      paymentHash: hex(invoice.paymentHash),
      paymentSecret: hex(invoice.paymentSecret),
    });
    paying.catch(() => undefined);
    await Promise.race([
      paying,
      until('the part is there', async () => {
        const [channel] = await world.fleetChannels(payer);
        return channel?.htlcsInFlight === 1 ? true : undefined;
      }),
    ]);
    for (const name of MANAGERS) await world.fleet.kill9AndWait(name);
    const payment = await paying;
    ensure(payment.status === 'failed', describe(payment));
    ensure(payment.failure === 'mpp_timeout' && payment.failureHop === 1, describe(payment));
    const { status } = await world.node.invoices.lookupInvoice(
      { paymentHash: invoice.paymentHash },
      world.node.auth(),
    );
    ensure(status === 'open', `the invoice is ${status}`);
    await world.untilConnected(payer);
    await world.agree(payer);
  },
};

export const MPP_CASES: readonly Case[] = [
  {
    group,
    name: 'over two channels, what neither carries, both ways; and not at all when it may not be split',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannels(world, kind);
      const { bolt11 } = await peer.invoice({ amountMsat: AMOUNT_MSAT });
      const whole = await endOf(world, (await begin(world, bolt11, 1)).paymentHash);
      ensure(whole.status === 'failed' && whole.attempts === 0, `unsplit: ${whole.status}`);
      ensurePaid(await endOf(world, (await begin(world, bolt11)).paymentHash), AMOUNT_MSAT, 2);
      await agreeOnAll(world, peer);
      // The peer has 2,500,000 sat now, and at most 1,500,000 in one channel.
      ensureSucceeded(await peer.pay(await invoiceOfFleet(world, 1_800_000_000n)), 'the peer in parts');
      await agreeOnAll(world, peer);
    },
  },
  {
    group,
    name: 'held in parts: both managers are killed, then it settles; another is cancelled, and failed once',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannels(world, kind);
      for (const end of ['cancel', 'settle'] as const) {
        const { bolt11, paymentHash: hash } = await peer.invoice({ amountMsat: AMOUNT_MSAT, hold: 'hold' });
        const { paymentHash } = await begin(world, bolt11);
        await world.waitUntilHeld(peer, hash);
        if (end === 'settle') {
          await Promise.all(MANAGERS.map((name) => world.fleet.kill9AndWait(name)));
          await world.untilConnected(peer);
        }
        await (end === 'settle' ? peer.settle(hash) : peer.cancel(hash));
        const payment = await endOf(world, paymentHash);
        if (end === 'settle') ensurePaid(payment, AMOUNT_MSAT, 2);
        else {
          ensure(payment.failureReason === 'recipient_rejected', `cancelled: ${payment.failureReason}`);
          ensure(
            payment.attemptRecords.every(({ failure }) => failure?.sourceIndex === 1),
            'every part was failed by the payee',
          );
        }
        await agreeOnAll(world, peer);
      }
    },
  },
  {
    group,
    name: 'a part fails at a node between, and is sent anew in smaller parts while the others wait',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannels(world, kind, [CHANNEL, { ...CHANNEL, fundingSat: 1_100_000n }]);
      const { hub } = world;
      // The hub can pass on a little of what it seems to carry.
      await peer.connect(hub.nodeId, hub.port);
      await until(`${peer.name} is connected to the hub`, async () =>
        (await peer.isConnected(hub.nodeId)) && (await hub.isConnected(peer.nodeId)) ? true : undefined,
      );
      await peer.open({ nodeId: hub.nodeId, fundingSat: 1_000_000n, pushMsat: 200_000_000n });
      await world.minedUntil('the hub’s channel is usable', async () => {
        const usable = (channels: Awaited<ReturnType<InteropPeer['channels']>>, nodeId: string) =>
          channels.some((channel) => channel.isUsable && channel.counterpartyNodeId === nodeId);
        return usable(await peer.channels(), hub.nodeId) && usable(await hub.channels(), peer.nodeId)
          ? true
          : undefined;
      });
      // Both direct channels together carry less than this.
      const amountMsat = 1_690_000_000n;
      const { bolt11 } = await until('an invoice that tells of the hub', async () => {
        const made = await peer.invoice({ amountMsat });
        return tellsOf(made.bolt11, hub.nodeId) ? made : undefined;
      });
      const payment = await endOf(world, (await begin(world, bolt11)).paymentHash);
      ensurePaid(payment, amountMsat, 3);
      ensure(
        payment.attemptRecords.some(({ failure }) => failure?.code === 'temporary_channel_failure'),
        'a part came back from the hub',
      );
      await agreeOnAll(world, peer);
    },
  },
  {
    group,
    name: 'forwarded by the fleet in parts, over two channels in and two out',
    over: 'pairs',
    run: async (world, kind, other) => {
      if (other === 'ldk-node') throw new NotApplicable(TENTH);
      // Whatever part fits a channel of the payer fits one to the payee, whose room the payer cannot know; both channels
      // are needed on either side.
      const out = { ...CHANNEL, pushMsat: 100_000_000n };
      const payee = await peerWithChannels(world, other, [out, out]);
      const into = { ...CHANNEL, pushMsat: 1_000_000_000n };
      const payer = await peerWithChannels(world, kind, [into, into]);
      const { bolt11 } = await hintedInvoice(payee, { amountMsat: 1_600_000_000n });
      ensureSucceeded(await payer.pay(bolt11), 'through the fleet');
      await agreeOnAll(world, payer);
      await agreeOnAll(world, payee);
    },
  },
  NEVER_WHOLE,
];
