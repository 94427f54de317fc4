/** One peer pays another through the fleet. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { InteropPeer, PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { describe, ensureSucceeded, peerWithChannel } from './support.ts';

const group = 'forward';

async function line(
  world: World,
  kind: PeerKind,
  other: PeerKind,
): Promise<{ readonly payer: InteropPeer; readonly payee: InteropPeer }> {
  const payer = await peerWithChannel(world, kind);
  const payee = await world.peer(other);
  await world.connect(payee);
  await world.open(payee, 'fleet');
  return { payer, payee };
}

export const FORWARD_CASES: readonly Case[] = [
  {
    group,
    name: 'payments above and below the dust limits',
    over: 'pairs',
    run: async (world, kind, other) => {
      const { payer, payee } = await line(world, kind, other);
      for (const amountMsat of [20_000n, 400_000n, 3_000_000n, 300_000_000n]) {
        const { bolt11 } = await payee.invoice({ amountMsat });
        ensureSucceeded(await payer.pay(bolt11), `${amountMsat} msat`);
      }
      await world.agree(payer);
      await world.agree(payee);
    },
  },
  {
    group,
    name: 'the recipient refuses: its code arrives',
    over: 'pairs',
    run: async (world, kind, other) => {
      const { payer, payee } = await line(world, kind, other);
      const { bolt11, paymentHash } = await payee.invoice({ amountMsat: 5_000_000n, hold: 'hold' });
      const paying = payer.pay(bolt11);
      await world.waitUntilHeld(payee, paymentHash);
      await payee.cancel(paymentHash);
      const payment = await paying;
      ensure(payment.status === 'failed' && /incorrect/i.test(payment.failure), describe(payment));
      if (payment.failureHop !== undefined) ensure(payment.failureHop === 2, describe(payment));
      await world.agree(payer);
      await world.agree(payee);
    },
  },
  {
    group,
    name: 'held for ten blocks, then settled',
    over: 'pairs',
    run: async (world, kind, other) => {
      const { payer, payee } = await line(world, kind, other);
      const { bolt11, paymentHash } = await payee.invoice({ amountMsat: 60_000_000n, hold: 'hold' });
      const paying = payer.pay(bolt11);
      await world.waitUntilHeld(payee, paymentHash);
      await world.mine(10);
      await payee.settle(paymentHash);
      ensureSucceeded(await paying, 'after ten blocks');
      await world.agree(payer);
      await world.agree(payee);
    },
  },
  {
    group,
    name: 'the fee changes while payments are under way',
    over: 'pairs',
    run: async (world, kind, other) => {
      const { payer, payee } = await line(world, kind, other);
      const pay = async () => payer.pay((await payee.invoice({ amountMsat: 10_000_000n })).bolt11);
      const before = Array.from({ length: 5 }, pay);
      await world.node.channels.updateChannelPolicy(
        {
          channelId: Buffer.alloc(0),
          feeBaseMsat: 2_000,
          feeProportionalMillionths: 500,
          cltvExpiryDelta: undefined,
          htlcMinimumMsat: undefined,
          htlcMaximumMsat: undefined,
        },
        world.node.auth(),
      );
      for (const payment of await Promise.all([...before, ...Array.from({ length: 5 }, pay)]))
        ensureSucceeded(payment, 'around the change');
      await world.agree(payer);
      await world.agree(payee);
    },
  },
  {
    group,
    name: 'the outgoing channel cannot carry it: the fleet is blamed',
    over: 'pairs',
    run: async (world, kind, other) => {
      const { payer, payee } = await line(world, kind, other);
      // More than the fleet has in its channel with the payee (3,000,000 sat), less than the payer has.
      const { bolt11 } = await payee.invoice({ amountMsat: 2_985_000_000n });
      const payment = await payer.pay(bolt11);
      ensure(payment.status === 'failed', describe(payment));
      await until('nothing is in flight', async () => {
        const channels = [...(await world.fleetChannels(payer)), ...(await world.fleetChannels(payee))];
        return channels.every(({ htlcsInFlight }) => htlcsInFlight === 0) ? true : undefined;
      });
      await world.agree(payer);
    },
  },
];
