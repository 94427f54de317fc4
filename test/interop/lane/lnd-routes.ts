/** LND's routes and failures, as its REST interface writes them. */
import type { PeerPayment, RoutedPayment } from './peer.ts';

type Json = Readonly<Record<string, unknown>>;

/** A route for `/v2/router/route/send`; `firstChannel` is LND's number of its own channel. */
export function routeJson(payment: RoutedPayment, firstChannel: string, height: number): Json {
  const { hops, short } = payment;
  // What each hop is offered, from the payee backwards.
  const offered = hops.map((_, index) => ({
    amountMsat: hops.slice(index).reduce((sum, { feeMsat }) => sum + feeMsat, 0n),
    expiryHeight: height + hops.slice(index).reduce((sum, { cltvDelta }) => sum + cltvDelta, 0),
  }));
  const [first] = offered;
  const totalMsat = payment.totalMsat ?? hops.at(-1)?.feeMsat ?? 0n;
  return {
    total_time_lock: (first?.expiryHeight ?? 0) - (short?.blocks ?? 0),
    total_amt_msat: String((first?.amountMsat ?? 0n) - (short?.msat ?? 0n)),
    hops: hops.map((hop, index) => {
      const onward = offered[index + 1] ?? offered[index];
      const isPayee = index === hops.length - 1;
      return {
        chan_id: index === 0 ? firstChannel : String(hop.shortChannelId ?? 0n),
        pub_key: hop.nodeId,
        amt_to_forward_msat: String(onward?.amountMsat ?? 0n),
        fee_msat: String(isPayee ? 0n : hop.feeMsat),
        expiry: onward?.expiryHeight ?? 0,
        tlv_payload: true,
        ...(isPayee && {
          mpp_record: { payment_addr: base64(payment.paymentSecret), total_amt_msat: String(totalMsat) },
        }),
        ...(payment.extraTlv?.hop === index && {
          custom_records: { [payment.extraTlv.type]: base64('01') },
        }),
      };
    }),
  };
}

/** How an attempt ended, from an `HTLCAttempt` of LND. */
export function attemptOutcome(attempt: Json): PeerPayment {
  if (attempt['status'] === 'SUCCEEDED') {
    const preimage = Buffer.from(String(attempt['preimage']), 'base64').toString('hex');
    const route = attempt['route'] as Json | undefined;
    return { status: 'succeeded', preimage, feeMsat: BigInt(String(route?.['total_fees_msat'] ?? 0)) };
  }
  return failureOf(attempt['failure'] as Json | undefined, 'no failure told');
}

/** @param otherwise LND's own reason when no node said one. */
export function failureOf(failure: Json | undefined, otherwise: string): PeerPayment {
  const update = failure?.['channel_update'] as Json | null | undefined;
  return {
    status: 'failed',
    failure: String(failure?.['code'] ?? otherwise).toLowerCase(),
    failureHop: failure === undefined ? undefined : Number(failure['failure_source_index'] ?? 0),
    ...(update !== undefined &&
      update !== null && {
        terms: {
          shortChannelId: BigInt(String(update['chan_id'])),
          feeBaseMsat: Number(update['base_fee']),
          cltvExpiryDelta: Number(update['time_lock_delta']),
        },
      }),
  };
}

function base64(hex: string): string {
  return Buffer.from(hex, 'hex').toString('base64');
}
