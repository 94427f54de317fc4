/** What several groups of cases do. */
import type { Payment } from '@fulmen/proto/manager/v1/manager';
import { ensure } from '../../../e2e/main-job/waiting.ts';
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

export function ensureSucceeded(payment: PeerPayment, what: string): void {
  ensure(payment.status === 'succeeded', `${what}: ${describe(payment)}`);
}

export function describe(payment: PeerPayment): string {
  return payment.status === 'succeeded'
    ? `succeeded for ${payment.feeMsat} msat`
    : `failed with ${payment.failure} at hop ${payment.failureHop ?? '?'}`;
}
