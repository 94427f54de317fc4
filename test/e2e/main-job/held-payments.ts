// Payments that their payee holds, so that they are in flight in two channels at once when those close.
import { toHex } from '@fulmen/codec';
import type { HeldHtlc } from './balance-sheet.ts';
import type { Ledger } from './payments.ts';
import { ensure, until } from './waiting.ts';
import type { World } from './world.ts';

type Wallet = 'alice' | 'bob';

/** A payment from one wallet through the fleet to the other, which has it and does not answer. */
export type HeldPayment = {
  readonly payer: Wallet;
  readonly payee: Wallet;
  readonly amountMsat: bigint;
  readonly feeMsat: bigint;
  readonly paymentId: string;
  readonly paymentHash: string;
  /** What shall become of it. */
  readonly end: 'claimed' | 'timed_out';
  readonly trimmed: boolean;
};

/**
 * Blocks that the payee has. Not the same for both ends: LDK 0.1.0 puts time-outs of one height into one transaction, and
 * offers it in vain for ever when the counterparty took one of them (rust-lightning's issue 3859).
 */
const FINAL_CLTV_DELTA = { claimed: 60, timed_out: 52 } as const;
const OUTCOME_MS = 60_000;

/** Sends it; resolves when the payee holds it. */
export async function hold(
  world: World,
  what: Pick<HeldPayment, 'payer' | 'end'> & { readonly amountSat: number; readonly trimmed?: boolean },
): Promise<HeldPayment> {
  const { payer, end, trimmed = false } = what;
  const payee = payer === 'alice' ? 'bob' : 'alice';
  const amountMsat = BigInt(what.amountSat) * 1000n;
  const channel = await world.fleetChannel(world[payee]);
  ensure(channel !== undefined, `the fleet has no channel with ${payee}`);
  const feeMsat = channel.feeBaseMsat + (amountMsat * BigInt(channel.feeProportionalMillionths)) / 1_000_000n;
  const invoice = await world[payee].call('createInvoice', { amountMsat, hold: true });
  const { paymentId, paymentHash } = await world[payer].call('payRaw', {
    hops: [
      { nodeId: toHex(world.nodeId), feeMsat, cltvDelta: channel.cltvExpiryDelta },
      {
        nodeId: world[payee].nodeId,
        shortChannelId: String(channel.shortChannelId),
        feeMsat: amountMsat,
        cltvDelta: FINAL_CLTV_DELTA[end],
      },
    ],
    paymentHash: invoice.paymentHash,
    paymentSecret: invoice.paymentSecret,
  });
  await world[payee].event(
    'payment_claimable',
    (event) => event.paymentHash === invoice.paymentHash,
    OUTCOME_MS,
  );
  return { payer, payee, amountMsat, feeMsat, paymentId, paymentHash, end, trimmed };
}

/** Waits until every held payment is in both commitments of both channels, and no step is under way. */
export async function inFlight(world: World, count: number): Promise<void> {
  for (const party of ['alice', 'bob'] as const)
    await until(`${count} payments in flight with ${party}`, async () => {
      const [theirs, ours] = await Promise.all([
        world[party].call('listChannels'),
        world.fleetChannel(world[party]),
      ]);
      const channel = theirs.find((one) => one.usable);
      if (channel === undefined || ours?.htlcsInFlight !== count) return undefined;
      return channel.pendingInboundHtlcs + channel.pendingOutboundHtlcs === count ? true : undefined;
    });
}

/** The HTLCs of these payments in the channel with one of the wallets, as they end. */
export function htlcsWith(party: Wallet, payments: readonly HeldPayment[]): readonly HeldHtlc[] {
  return payments.map(({ payer, payee, amountMsat, feeMsat, end, trimmed }) => {
    const isPayers = party === payer;
    const toPayee = end === 'claimed';
    const winner = isPayers ? (toPayee ? 'fleet' : payer) : toPayee ? payee : 'fleet';
    return {
      amountMsat: isPayers ? amountMsat + feeMsat : amountMsat,
      offeredBy: isPayers ? payer : 'fleet',
      winner,
      trimmed,
    };
  });
}

/** Writes the ends of the payments, as the wallets tell them, into the ledger. Gives those that have not ended. */
export function bookEnded(
  world: World,
  ledger: Ledger,
  payments: readonly HeldPayment[],
): readonly HeldPayment[] {
  return payments.filter((payment) => {
    const { payer, payee, amountMsat, feeMsat, paymentId, paymentHash, end } = payment;
    const { events } = world[payer];
    if (end === 'timed_out') {
      if (!events.some((event) => event.event === 'payment_failed' && event.paymentId === paymentId))
        return true;
      ledger.failedAsExpected += 1;
      return false;
    }
    const isSent = events.some((event) => event.event === 'payment_sent' && event.paymentId === paymentId);
    const isReceived = world[payee].events.some(
      (event) => event.event === 'payment_received' && event.paymentHash === paymentHash,
    );
    if (!isSent || !isReceived) return true;
    const earned = { alice: 'aliceMsat', bob: 'bobMsat' } as const;
    ledger[earned[payer]] -= amountMsat + feeMsat;
    ledger[earned[payee]] += amountMsat;
    ledger.fleetMsat += feeMsat;
    ledger.settled += 1;
    return false;
  });
}
