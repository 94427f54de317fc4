/** What several groups of cases do. */
import { secp256k1 } from '@fulmen/crypto/default';
import { decodeInvoice } from '@fulmen/invoice';
import type { Payment } from '@fulmen/proto/manager/v1/manager';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { InteropPeer, PeerKind, PeerPayment } from '../peer.ts';
import type { World } from '../world.ts';

/** A peer with a usable channel that it funded. */
export async function peerWithChannel(world: World, kind: PeerKind): Promise<InteropPeer> {
  const peer = await world.peer(kind);
  await world.connect(peer);
  await world.open(peer, 'peer');
  return peer;
}

/** The fleet pays; resolves with the end. */
export function payByFleet(world: World, bolt11: string, amountMsat?: bigint): Promise<Payment> {
  return world.node.payments.sendPayment(
    { bolt11, amountMsat, maxFeeMsat: undefined, timeoutSeconds: 60, wait: true },
    world.node.auth(90_000),
  );
}

let invoices = 0;

/** An invoice of the fleet's; 0n: the payer chooses the amount. */
export async function invoiceOfFleet(world: World, amountMsat: bigint): Promise<string> {
  invoices += 1;
  const { bolt11 } = await world.node.invoices.createInvoice(
    {
      amountMsat,
      description: `${amountMsat}`,
      expirySeconds: 600,
      preimage: undefined,
      idempotencyKey: `interop-${process.pid}-${invoices}`,
    },
    world.node.auth(),
  );
  return bolt11;
}

/**
 * An invoice that says how the payee is reached over its private channel, once it says so with the terms of now: those
 * come with a channel_update of the fleet's, which may be later than the channel can be used.
 */
export function hintedInvoice(
  payee: InteropPeer,
  options: Parameters<InteropPeer['invoice']>[0],
  feeBaseMsat?: number,
): Promise<{ readonly bolt11: string; readonly paymentHash: string }> {
  return until('an invoice with a hint', async () => {
    const made = await payee.invoice(options);
    const decoded = decodeInvoice(secp256k1, made.bolt11);
    const hint = decoded.ok ? decoded.value.routeHints[0]?.[0] : undefined;
    if (hint === undefined) return undefined;
    return feeBaseMsat === undefined || hint.feeBaseMsat === feeBaseMsat ? made : undefined;
  });
}

export function ensureSucceeded(payment: PeerPayment, what: string): void {
  ensure(payment.status === 'succeeded', `${what}: ${describe(payment)}`);
}

export function describe(payment: PeerPayment): string {
  return payment.status === 'succeeded'
    ? `succeeded for ${payment.feeMsat} msat`
    : `failed with ${payment.failure} at hop ${payment.failureHop ?? '?'}`;
}

/** What LND, LDK, ldk-node and the fleet say of a payment of which nothing left the node, because no channel was there at that moment. */
export const NOT_SENT =
  /insufficient_balance|insufficient_outbound|no_route|route_not_found|failed to send the given payment/i;

/** A payment of the peer's, asked for again while its node finds no way, as after a connection that was replaced. */
export async function peerPays(peer: InteropPeer, invoice: () => Promise<string>): Promise<PeerPayment> {
  return until(`${peer.name} sends a payment`, async () => {
    const payment = await peer.pay(await invoice());
    return payment.status === 'failed' && NOT_SENT.test(payment.failure) ? undefined : payment;
  });
}
