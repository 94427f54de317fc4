/** Payments between the fleet and a peer over one channel. */
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { PeerKind } from '../peer.ts';
import type { World } from '../world.ts';

const group = 'pay';

/** Above and below every dust limit. */
const AMOUNTS_MSAT = [1_000n, 20_000n, 353_999n, 1_000_000n, 500_000_000n];

async function channelOf(world: World, kind: PeerKind) {
  const peer = await world.peer(kind);
  await world.connect(peer);
  await world.open(peer, 'peer');
  return peer;
}

export const PAY_CASES: readonly Case[] = [
  {
    group,
    name: 'the peer pays the fleet, from dust to half the channel',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await channelOf(world, kind);
      for (const amountMsat of AMOUNTS_MSAT) {
        const { bolt11 } = await world.node.invoices.createInvoice(
          {
            amountMsat,
            description: `${amountMsat}`,
            expirySeconds: 600,
            preimage: undefined,
            idempotencyKey: `${peer.name}-${amountMsat}`,
          },
          world.node.auth(),
        );
        const paid = await peer.pay(bolt11);
        ensure(paid.status === 'succeeded', `${amountMsat} msat: ${JSON.stringify(paid, textOf)}`);
      }
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'the fleet pays the peer, from dust to a quarter of the channel',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await channelOf(world, kind);
      for (const amountMsat of AMOUNTS_MSAT) {
        const { bolt11 } = await peer.invoice({ amountMsat, description: `${amountMsat}` });
        const payment = await pay(world, bolt11);
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
      const peer = await channelOf(world, kind);
      const theirs = await peer.invoice({ description: 'any' });
      const sent = await pay(world, theirs.bolt11, 70_000_000n);
      ensure(sent.status === 'succeeded', `the fleet: ${sent.failureReason}`);
      const ours = await world.node.invoices.createInvoice(
        {
          amountMsat: 0n,
          description: 'any',
          expirySeconds: 600,
          preimage: undefined,
          idempotencyKey: `${peer.name}-any`,
        },
        world.node.auth(),
      );
      const received = await peer.pay(ours.bolt11, 60_000_000n);
      ensure(received.status === 'succeeded', `the peer: ${JSON.stringify(received, textOf)}`);
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'a held payment is cancelled, another settled',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await channelOf(world, kind);
      for (const end of ['cancel', 'settle'] as const) {
        const { bolt11, paymentHash } = await peer.invoice({ amountMsat: 80_000_000n, hold: 'hold' });
        const paying = pay(world, bolt11);
        await world.waitUntilHeld(peer, paymentHash);
        await world.mine(2);
        await (end === 'settle' ? peer.settle(paymentHash) : peer.cancel(paymentHash));
        const payment = await paying;
        ensure(payment.status === (end === 'settle' ? 'succeeded' : 'failed'), `${end}: ${payment.status}`);
      }
      await world.agree(peer);
    },
  },
];

function pay(world: World, bolt11: string, amountMsat?: bigint) {
  return world.node.payments.sendPayment(
    { bolt11, amountMsat, maxFeeMsat: undefined, timeoutSeconds: 60, wait: true },
    world.node.auth(90_000),
  );
}

function textOf(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}
