/** Payments between the fleet and a peer over one channel. */
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { HINT_CASES } from './hints.ts';
import { INVOICE_CASES } from './invoices.ts';
import { LIMIT_CASES } from './limits.ts';
import { MPP_CASES } from './mpp.ts';
import { describe, ensureSucceeded, invoiceOfFleet, payByFleet, peerWithChannel } from './support.ts';

const group = 'pay';

/** Above and below every dust limit. */
const AMOUNTS_MSAT = [1_000n, 20_000n, 353_999n, 1_000_000n, 500_000_000n];
const MANY = 30;

export const PAY_CASES: readonly Case[] = [
  {
    group,
    name: 'the peer pays the fleet, from dust to a sixth of its balance',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      for (const amountMsat of AMOUNTS_MSAT)
        ensureSucceeded(await peer.pay(await invoiceOfFleet(world, amountMsat)), `${amountMsat} msat`);
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'the fleet pays the peer, from dust to a quarter of its balance',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      for (const amountMsat of AMOUNTS_MSAT) {
        const { bolt11 } = await peer.invoice({ amountMsat, description: `${amountMsat}` });
        const payment = await payByFleet(world, bolt11);
        ensure(payment.status === 'succeeded', `${amountMsat} msat: ${payment.failureReason}`);
      }
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'an invoice without an amount, both ways',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const theirs = await peer.invoice({ description: 'any' });
      const sent = await payByFleet(world, theirs.bolt11, 70_000_000n);
      ensure(sent.status === 'succeeded', `the fleet: ${sent.failureReason}`);
      ensureSucceeded(await peer.pay(await invoiceOfFleet(world, 0n), 60_000_000n), 'the peer');
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'a held payment is cancelled, another settled',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      for (const end of ['cancel', 'settle'] as const) {
        const { bolt11, paymentHash } = await peer.invoice({ amountMsat: 80_000_000n, hold: 'hold' });
        const paying = payByFleet(world, bolt11);
        await world.waitUntilHeld(peer, paymentHash);
        await world.mine(2);
        await (end === 'settle' ? peer.settle(paymentHash) : peer.cancel(paymentHash));
        const payment = await paying;
        ensure(payment.status === (end === 'settle' ? 'succeeded' : 'failed'), `${end}: ${payment.status}`);
      }
      await world.agree(peer);
    },
  },
  {
    group,
    name: `${MANY} payments each way at once`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const fromPeer = Array.from({ length: MANY }, async (_, i) =>
        peer.pay(await invoiceOfFleet(world, 1_000_000n + BigInt(i) * 50_000n)),
      );
      const fromFleet = Array.from({ length: MANY }, async (_, i) => {
        const { bolt11 } = await peer.invoice({ amountMsat: 900_000n + BigInt(i) * 50_000n });
        return payByFleet(world, bolt11);
      });
      for (const payment of await Promise.all(fromPeer)) ensureSucceeded(payment, 'of the peer');
      for (const payment of await Promise.all(fromFleet))
        ensure(payment.status === 'succeeded', `of the fleet: ${payment.failureReason}`);
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'an invoice that the fleet does not know is refused',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const other = await world.peer(kind);
      await world.connect(other);
      await world.open(other, 'fleet');
      // Held and cancelled: the hash is unknown to the recipient from then on.
      const { bolt11, paymentHash } = await other.invoice({ amountMsat: 5_000_000n, hold: 'hold' });
      const paying = peer.pay(bolt11);
      await world.waitUntilHeld(other, paymentHash);
      await other.cancel(paymentHash);
      const payment = await paying;
      ensure(payment.status === 'failed', describe(payment));
      ensure(/incorrect/i.test(payment.failure), describe(payment));
      await world.agree(peer);
    },
  },
  ...INVOICE_CASES,
  ...HINT_CASES,
  ...LIMIT_CASES,
  ...MPP_CASES,
];
