/** One peer pays another through the fleet. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type InteropPeer, NotApplicable, type PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { FAILURE_CASES, setPolicy } from './failures.ts';
import { ORIGIN_CASES } from './origin.ts';
import { describe, ensureSucceeded, hintedInvoice, peerWithChannel } from './support.ts';

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
        const { bolt11 } = await hintedInvoice(payee, { amountMsat });
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
      const { bolt11, paymentHash } = await hintedInvoice(payee, { amountMsat: 5_000_000n, hold: 'hold' });
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
      if (other === 'ldk-node')
        throw new NotApplicable('an invoice of ldk-node leaves its payee less than ten blocks');
      const { payer, payee } = await line(world, kind, other);
      const { bolt11, paymentHash } = await hintedInvoice(payee, { amountMsat: 60_000_000n, hold: 'hold' });
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
    name: 'the terms change while payments are under way: the last are taken, older ones refused with the new',
    over: 'pairs',
    run: async (world, kind, other) => {
      const { payer, payee } = await line(world, kind, other);
      const [channel] = await world.fleetChannels(payee);
      ensure(channel !== undefined, 'no channel with the payee');
      const { feeBaseMsat, cltvExpiryDelta } = channel;
      const amountMsat = 10_000_000n;
      const invoice = (feeBase: number) => hintedInvoice(payee, { amountMsat }, feeBase);
      const old = await Promise.all(Array.from({ length: 4 }, () => invoice(Number(feeBaseMsat))));
      const last = old.pop();

      const before = old.slice(1).map(({ bolt11 }) => payer.pay(bolt11));
      await setPolicy(world, channel, { feeBaseMsat: 3_000, cltvExpiryDelta: cltvExpiryDelta + 20 });
      const after = old.slice(0, 1).map(({ bolt11 }) => payer.pay(bolt11));
      for (const payment of await Promise.all([...before, ...after])) {
        ensureSucceeded(payment, 'around the change');
        const feeMsat = payment.status === 'succeeded' ? payment.feeMsat : 0n;
        ensure(feeMsat < 3_000n, `a fee of ${feeMsat} msat under the old terms`);
      }

      const changes = [
        { feeBaseMsat: 5_000, delta: cltvExpiryDelta + 20, code: 'fee_insufficient', bolt11: last?.bolt11 },
        { feeBaseMsat: 5_000, delta: cltvExpiryDelta + 60, code: 'incorrect_cltv_expiry', bolt11: undefined },
      ];
      for (const { code, delta, ...terms } of changes) {
        const bolt11 = terms.bolt11 ?? (await invoice(terms.feeBaseMsat)).bolt11;
        // Twice, so that the invoice's terms are not those before the last change either.
        for (const feeBaseMsat of [terms.feeBaseMsat + 1, terms.feeBaseMsat])
          await setPolicy(world, channel, { feeBaseMsat, cltvExpiryDelta: delta });
        // LND gives a node one second chance in a minute.
        await payer.forgetFailures();
        const payment = await payer.pay(bolt11);
        // LDK leaves the terms in a failure unread, for its user's privacy.
        if (kind === 'lnd') ensureSucceeded(payment, `again after ${code}`);
        else ensure(payment.status === 'failed' && payment.failure === code, describe(payment));
      }
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
      const { bolt11 } = await hintedInvoice(payee, { amountMsat: 2_985_000_000n });
      const payment = await payer.pay(bolt11);
      ensure(payment.status === 'failed', describe(payment));
      await until('nothing is in flight', async () => {
        const channels = [...(await world.fleetChannels(payer)), ...(await world.fleetChannels(payee))];
        return channels.every(({ htlcsInFlight }) => htlcsInFlight === 0) ? true : undefined;
      });
      await world.agree(payer);
    },
  },
  ...FAILURE_CASES,
  ...ORIGIN_CASES,
];
