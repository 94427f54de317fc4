/** What an invoice may say beside an amount, and payments that must be refused; payments without an invoice. */
import { createHash, randomBytes } from 'node:crypto';
import type { Invoice } from '@fulmen/invoice';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { Ldk } from '../ldk.ts';
import type { InteropPeer, PeerPayment } from '../peer.ts';
import type { World } from '../world.ts';
import { decoded, hex, nextKey } from './invoice-texts.ts';
import { describe, ensureSucceeded, invoiceOfFleet, payByFleet, peerWithChannel } from './support.ts';

const group = 'pay';
const KEYSEND_MSAT = 3_210_000n;

/** A refusal as BOLT 4 wants it of the payee: one code for all that could tell a prober something. */
function ensureRefused(payment: PeerPayment, what: string): void {
  ensure(payment.status === 'failed', `${what}: ${describe(payment)}`);
  ensure(/incorrect/i.test(payment.failure), `${what}: ${describe(payment)}`);
}

/** Pays one of the fleet's invoices with terms of the payer's own. */
function payWith(
  peer: InteropPeer,
  invoice: Invoice,
  over: { amountMsat?: bigint; paymentSecret?: string } = {},
) {
  return peer.payRaw({
    nodeId: hex(invoice.payeeNodeId),
    amountMsat: over.amountMsat ?? invoice.amountMsat ?? 0n,
    paymentHash: hex(invoice.paymentHash),
    paymentSecret: over.paymentSecret ?? hex(invoice.paymentSecret),
    finalCltvDelta: 80,
  });
}

async function invoiceStatus(world: World, { paymentHash }: Invoice): Promise<string> {
  return (await world.node.invoices.lookupInvoice({ paymentHash }, world.node.auth())).status;
}

async function refusalOf(paying: Promise<unknown>): Promise<string> {
  try {
    await paying;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return '';
}

export const INVOICE_CASES: readonly Case[] = [
  {
    group,
    name: 'an invoice with the hash of a description, both ways',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const descriptionHash = createHash('sha256').update('a long text, given elsewhere').digest();
      const theirs = await peer.invoice({
        amountMsat: 4_000_000n,
        descriptionHash: descriptionHash.toString('hex'),
      });
      const { description } = decoded(theirs.bolt11);
      ensure(
        description.kind === 'hash' && hex(description.hash) === descriptionHash.toString('hex'),
        `the peer’s invoice says ${description.kind}`,
      );
      const sent = await payByFleet(world, theirs.bolt11);
      ensure(sent.status === 'succeeded', `the fleet: ${sent.failureReason}`);
      const { bolt11 } = await world.node.invoices.createInvoice(
        { amountMsat: 5_000_000n, description: '', descriptionHash, idempotencyKey: nextKey() },
        world.node.auth(),
      );
      ensureSucceeded(await peer.pay(bolt11), 'the peer');
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'the peer gives the metadata of the fleet’s invoice back',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const { bolt11 } = await world.node.invoices.createInvoice(
        {
          amountMsat: 5_000_000n,
          description: 'with metadata',
          paymentMetadata: randomBytes(32),
          idempotencyKey: nextKey(),
        },
        world.node.auth(),
      );
      // Without it the very same payment is refused.
      ensureRefused(await payWith(peer, decoded(bolt11)), 'without metadata');
      ensureSucceeded(await peer.pay(bolt11), 'the peer');
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'the fleet gives the metadata of the peer’s invoice back',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const paymentMetadata = randomBytes(40).toString('hex');
      const { bolt11, paymentHash } = await peer.invoice({ amountMsat: 6_000_000n, paymentMetadata });
      const sent = await payByFleet(world, bolt11);
      ensure(sent.status === 'succeeded', `the fleet: ${sent.failureReason}`);
      if (peer instanceof Ldk) {
        const event = peer.wallet.events.find(
          (one) => one.event === 'payment_received' && one.paymentHash === paymentHash,
        );
        ensure(
          event?.event === 'payment_received' && event.paymentMetadata === paymentMetadata,
          'the payee got other metadata',
        );
      }
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'an expired invoice is not paid, either way',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const theirs = await peer.invoice({ amountMsat: 4_000_000n, expirySeconds: 1 });
      const ours = await world.node.invoices.createInvoice(
        { amountMsat: 4_000_000n, description: 'soon over', expirySeconds: 1, idempotencyKey: nextKey() },
        world.node.auth(),
      );
      const invoice = decoded(ours.bolt11);
      await until('the invoices expire', async () => {
        const { timestampUnixSeconds } = decoded(theirs.bolt11);
        const expired = Date.now() / 1000 > timestampUnixSeconds + 2;
        return expired && (await invoiceStatus(world, invoice)) === 'expired' ? true : undefined;
      });
      const refused = await refusalOf(payByFleet(world, theirs.bolt11));
      ensure(/expired/.test(refused), `the fleet pays an expired invoice: ${refused}`);
      const refusal = await peer.pay(ours.bolt11).then(describe, (error: unknown) => String(error));
      // LDK in WebAssembly knows no time: it tries, and the fleet refuses. ldk-node gives no reason.
      ensure(
        /expired|incorrect|failed to send the given payment/i.test(refusal),
        `the peer pays an expired invoice: ${refusal}`,
      );
      ensureRefused(await payWith(peer, invoice), 'an HTLC for the expired invoice');
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'an invoice is paid once',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const theirs = await peer.invoice({ amountMsat: 7_000_000n });
      const first = await payByFleet(world, theirs.bolt11);
      const again = await payByFleet(world, theirs.bolt11);
      ensure(
        first.status === 'succeeded' && again.status === 'succeeded',
        `${first.status}, ${again.status}`,
      );
      ensure(first.createdUnixMs === again.createdUnixMs, 'the fleet began a second payment');

      const ours = await invoiceOfFleet(world, 8_000_000n);
      ensureSucceeded(await peer.pay(ours), 'the peer');
      // LND refuses to pay a hash twice; another node does not know.
      const other = await peerWithChannel(world, kind);
      ensureRefused(await other.pay(ours), 'a paid invoice');
      await world.agree(peer);
      await world.agree(other);
      const { receivedMsat } = await world.node.invoices.lookupInvoice(
        { paymentHash: decoded(ours).paymentHash },
        world.node.auth(),
      );
      ensure(receivedMsat === 8_000_000n, `received ${receivedMsat} msat`);
    },
  },
  {
    group,
    name: 'less than the amount, more than twice as much and a wrong secret are refused',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const invoice = decoded(await invoiceOfFleet(world, 10_000_000n));
      ensureRefused(await payWith(peer, invoice, { amountMsat: 9_999_999n }), '1 msat too little');
      ensureRefused(await payWith(peer, invoice, { amountMsat: 5_000_000n }), 'half');
      ensureRefused(await payWith(peer, invoice, { amountMsat: 20_000_001n }), 'more than twice');
      ensureRefused(
        await payWith(peer, invoice, { paymentSecret: randomBytes(32).toString('hex') }),
        'a wrong secret',
      );
      ensure((await invoiceStatus(world, invoice)) === 'open', 'the invoice is not open any more');
      ensureSucceeded(await payWith(peer, invoice, { amountMsat: 20_000_000n }), 'twice the amount');
      await world.agree(peer);
    },
  },
  {
    group,
    name: 'without an invoice (keysend), both ways',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const received = await peer.keysend(world.nodeId, KEYSEND_MSAT);
      ensureSucceeded(received, 'the peer');
      const { invoices } = await world.node.invoices.listInvoices({ limit: 5 }, world.node.auth());
      const row = invoices.find(({ receivedMsat }) => receivedMsat === KEYSEND_MSAT);
      ensure(row?.status === 'paid' && row.bolt11 === '', `the fleet lists it as ${row?.status}`);

      const request = {
        payeeNodeId: Buffer.from(peer.nodeId, 'hex'),
        amountMsat: 4_321_000n,
        wait: true,
        idempotencyKey: nextKey(),
      };
      const sent = await world.node.payments.sendKeysend(request, world.node.auth(90_000));
      ensure(sent.status === 'succeeded', `the fleet: ${sent.failureReason}`);
      const again = await world.node.payments.sendKeysend(request, world.node.auth(90_000));
      ensure(hex(again.paymentHash) === hex(sent.paymentHash), 'one key, two payments');
      await world.agree(peer);
    },
  },
];
