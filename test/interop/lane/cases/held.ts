/** Payments that hold invoices of peers keep under way. */
import type { Payment } from '@fulmen/proto/manager/v1/manager';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { InteropPeer, PeerPayment } from '../peer.ts';
import type { World } from '../world.ts';
import { hintedInvoice } from './support.ts';

/** The fleet pays a peer that keeps the payment; resolves with the payment hash once it is held. */
export async function holdOfFleet(world: World, peer: InteropPeer, amountMsat: bigint): Promise<string> {
  const { bolt11, paymentHash } = await peer.invoice({ amountMsat, hold: 'hold' });
  await world.node.payments.sendPayment(
    { bolt11, amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: 60, wait: false },
    world.node.auth(),
  );
  await world.waitUntilHeld(peer, paymentHash);
  return paymentHash;
}

/** How a payment of the fleet's ended. */
async function ended(world: World, paymentHash: string): Promise<Payment> {
  return until('an end of the payment', async () => {
    const payment = await world.node.payments.lookupPayment(
      { paymentHash: Buffer.from(paymentHash, 'hex') },
      world.node.auth(),
    );
    return payment.status === 'pending' ? undefined : payment;
  });
}

/** @param ends by payment hash */
export async function ensureEnds(
  world: World,
  ends: ReadonlyMap<string, 'succeeded' | 'failed'>,
): Promise<void> {
  for (const [paymentHash, expected] of ends) {
    const { status, failureReason } = await ended(world, paymentHash);
    ensure(status === expected, `a payment ${status} (${failureReason}), not ${expected}`);
  }
}

/** A payment that a peer's hold invoice keeps, forwarded by the fleet. */
export interface Forwarded {
  readonly payer: InteropPeer;
  readonly payee: InteropPeer;
  readonly paymentHash: string;
  readonly paying: Promise<PeerPayment>;
}

export async function forward(
  world: World,
  payer: InteropPeer,
  payee: InteropPeer,
  amountMsat: bigint,
): Promise<Forwarded> {
  const { bolt11, paymentHash } = await hintedInvoice(payee, { amountMsat, hold: 'hold' });
  const paying = payer.pay(bolt11);
  paying.catch(() => undefined);
  await world.waitUntilHeld(payee, paymentHash);
  return { payer, payee, paymentHash, paying };
}
