/** Failures arrive at the node that pays, decoded and blamed on the node that failed: whoever that is. */
import { randomBytes } from 'node:crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { decodeInvoice } from '@fulmen/invoice';
import type { Channel } from '@fulmen/proto/manager/v1/manager';
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { InteropPeer, PeerPayment, RoutedPayment, RouteHop } from '../peer.ts';
import type { World } from '../world.ts';
import { describe, ensureSucceeded, invoiceOfFleet } from './support.ts';

const group = 'forward';
const AMOUNT_MSAT = 1_000_000n;
const FINAL_CLTV_DELTA = 144;
/** What the fleet has in its channel with the payee. */
const FLEET_FUNDING_SAT = 1_000_000n;
const FLEET_PUSH_MSAT = 600_000_000n;
const MINIMUM_MSAT = 5_000n;
/** LND lets its own payments be locked no longer than two weeks unless told so. */
const LND_MAY_LOCK_LONG = ['--max-cltv-expiry=4032'];

const random32 = (): string => randomBytes(32).toString('hex');

/** Hash and secret of an invoice. */
export function termsOfInvoice(bolt11: string): {
  readonly paymentHash: string;
  readonly paymentSecret: string;
} {
  const invoice = decodeInvoice(secp256k1, bolt11);
  ensure(invoice.ok, 'the invoice cannot be read');
  const { paymentHash, paymentSecret } = invoice.value;
  return {
    paymentHash: Buffer.from(paymentHash).toString('hex'),
    paymentSecret: Buffer.from(paymentSecret ?? new Uint8Array(32)).toString('hex'),
  };
}

/** What a payment must fail with, and where: hop 1 is the payer's counterparty. */
export function ensureFailed(payment: PeerPayment, failure: string, hop: number, what = failure): void {
  ensure(
    payment.status === 'failed' && payment.failure === failure && payment.failureHop === hop,
    `${what}: ${describe(payment)}, expected ${failure} at hop ${hop}`,
  );
}

interface Road {
  readonly payer: InteropPeer;
  readonly fleet: RouteHop;
  readonly payee: RouteHop;
}

/** The fleet's fee for `AMOUNT_MSAT` over a channel. */
function feeOf({ feeBaseMsat, feeProportionalMillionths }: Channel, amountMsat = AMOUNT_MSAT): bigint {
  return feeBaseMsat + (amountMsat * BigInt(feeProportionalMillionths)) / 1_000_000n;
}

function honestRoad(world: World, payer: InteropPeer, payee: InteropPeer, outgoing: Channel): Road {
  return {
    payer,
    fleet: { nodeId: world.nodeId, feeMsat: feeOf(outgoing), cltvDelta: outgoing.cltvExpiryDelta },
    payee: {
      nodeId: payee.nodeId,
      shortChannelId: outgoing.shortChannelId,
      feeMsat: AMOUNT_MSAT,
      cltvDelta: FINAL_CLTV_DELTA,
    },
  };
}

/** One attempt over the fleet, with what is changed about the two hops. */
function along(
  road: Road,
  changes: {
    readonly fleet?: Partial<RouteHop>;
    readonly payee?: Partial<RouteHop>;
    readonly terms?: { readonly paymentHash: string; readonly paymentSecret: string };
  },
): Promise<PeerPayment> {
  const hops = [
    { ...road.fleet, ...changes.fleet },
    { ...road.payee, ...changes.payee },
  ];
  const { paymentHash = random32(), paymentSecret = random32() } = changes.terms ?? {};
  return road.payer.payAlong({ hops, paymentHash, paymentSecret });
}

/** The fleet's present terms came with the failure, as far as the implementation shows them. */
function ensureTerms(payment: PeerPayment, outgoing: Channel): void {
  if (payment.status !== 'failed' || payment.terms === undefined) return;
  const { shortChannelId, feeBaseMsat, cltvExpiryDelta } = payment.terms;
  ensure(
    shortChannelId === outgoing.shortChannelId &&
      BigInt(feeBaseMsat) === outgoing.feeBaseMsat &&
      cltvExpiryDelta === outgoing.cltvExpiryDelta,
    `terms in the failure: scid ${shortChannelId}, base ${feeBaseMsat}, delta ${cltvExpiryDelta}`,
  );
}

export const FAILURE_CASES: readonly Case[] = [
  {
    group,
    name: 'each failure of the fleet between two peers arrives with its code',
    over: 'pairs',
    run: async (world, kind, other) => {
      const payer = await world.peer(kind, kind === 'lnd' ? LND_MAY_LOCK_LONG : []);
      await world.connect(payer);
      await world.open(payer, 'peer');
      const payee = await world.peer(other);
      await world.connect(payee);
      const { ours } = await world.open(payee, 'fleet', {
        fundingSat: FLEET_FUNDING_SAT,
        pushMsat: FLEET_PUSH_MSAT,
      });
      const road = honestRoad(world, payer, payee, ours);

      const cheap = await along(road, { fleet: { feeMsat: feeOf(ours) - 1n } });
      ensureFailed(cheap, 'fee_insufficient', 1);
      ensureTerms(cheap, ours);
      const hasty = await along(road, { fleet: { cltvDelta: ours.cltvExpiryDelta - 1 } });
      ensureFailed(hasty, 'incorrect_cltv_expiry', 1);
      ensureTerms(hasty, ours);
      ensureFailed(await along(road, { payee: { cltvDelta: 2 } }), 'expiry_too_soon', 1);
      ensureFailed(await along(road, { fleet: { cltvDelta: 2_100 } }), 'expiry_too_far', 1);
      const nowhere = await along(road, { payee: { shortChannelId: 77n << 40n } });
      ensureFailed(nowhere, 'unknown_next_peer', 1);
      const amountMsat = 700_000_000n;
      const fleet = { feeMsat: feeOf(ours, amountMsat) };
      const rich = await along(road, { fleet, payee: { feeMsat: amountMsat } });
      ensureFailed(rich, 'temporary_channel_failure', 1);

      await setPolicy(world, ours, { htlcMinimumMsat: MINIMUM_MSAT });
      const small = await along(road, { payee: { feeMsat: MINIMUM_MSAT - 1n } });
      ensureFailed(small, 'amount_below_minimum', 1);

      // What the payee says goes through the fleet unread.
      ensureFailed(await along(road, {}), 'incorrect_or_unknown_payment_details', 2, 'an unknown hash');
      const asked = termsOfInvoice((await payee.invoice({ amountMsat: AMOUNT_MSAT })).bolt11);
      const secret = { ...asked, paymentSecret: random32() };
      const strange = await along(road, { terms: secret });
      ensureFailed(strange, 'incorrect_or_unknown_payment_details', 2, 'another secret');
      ensureSucceeded(await along(road, { terms: asked }), 'the honest one');
      await world.agree(payer);
      await world.agree(payee);
    },
  },
  {
    group,
    name: 'each failure of the fleet as the payee arrives with its code',
    over: 'peers',
    run: async (world, kind) => {
      const payer = await world.peer(kind);
      await world.connect(payer);
      await world.open(payer, 'peer');
      const asked = termsOfInvoice(await invoiceOfFleet(world, AMOUNT_MSAT));
      const pay = (changes: Partial<RouteHop>, terms: Partial<RoutedPayment> = {}): Promise<PeerPayment> =>
        payer.payAlong({
          hops: [{ nodeId: world.nodeId, feeMsat: AMOUNT_MSAT, cltvDelta: FINAL_CLTV_DELTA, ...changes }],
          ...asked,
          ...terms,
        });
      const refused = 'incorrect_or_unknown_payment_details';
      ensureFailed(await pay({}, { paymentHash: random32() }), refused, 1, 'an unknown hash');
      ensureFailed(await pay({}, { paymentSecret: random32() }), refused, 1, 'another secret');
      ensureFailed(await pay({ feeMsat: AMOUNT_MSAT - 1n }), refused, 1, 'too little');
      ensureFailed(await pay({ feeMsat: 2n * AMOUNT_MSAT + 1n }), refused, 1, 'more than twice');
      ensureFailed(await pay({ cltvDelta: 20 }), refused, 1, 'an expiry that is near');
      // LDK makes onion and HTLC of one and the same route.
      if (kind === 'lnd') {
        ensureFailed(await pay({}, { short: { msat: 5n } }), 'final_incorrect_htlc_amount', 1);
        ensureFailed(await pay({}, { short: { blocks: 1 } }), 'final_incorrect_cltv_expiry', 1);
        const odd = await pay({}, { extraTlv: { hop: 0, type: 65_538 } });
        ensureFailed(odd, 'invalid_onion_payload', 1);
      }
      ensureSucceeded(await pay({}), 'the honest one');
      // LND pays a hash once.
      if (kind !== 'lnd') ensureFailed(await pay({}), refused, 1, 'paid already');
      await world.agree(payer);
    },
  },
];

/** Changes the terms of one channel of the fleet. */
export async function setPolicy(
  world: World,
  { channelId }: Channel,
  terms: {
    readonly feeBaseMsat?: number;
    readonly cltvExpiryDelta?: number;
    readonly htlcMinimumMsat?: bigint;
  },
): Promise<void> {
  await world.node.channels.updateChannelPolicy(
    {
      channelId,
      feeBaseMsat: undefined,
      feeProportionalMillionths: undefined,
      cltvExpiryDelta: undefined,
      htlcMinimumMsat: undefined,
      htlcMaximumMsat: undefined,
      ...terms,
    },
    world.node.auth(),
  );
}
