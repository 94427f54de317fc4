/** Decisions about HTLCs that end here, without I/O. */
import { err, type Result } from '@fulmen/codec';
import { decodeHopPayload, type FailureMessage, hopInstruction } from '@fulmen/onion';
import { addPart, checkFinalHop, type InvoiceTerms, type MppSet } from '@fulmen/payment';
import type { Intent, ManagerStore } from '@fulmen/store';
import type { InboundRecord } from './record.ts';

/** The parts of one payment that are held for its completion. */
export type PartSet = MppSet<Intent>;

export interface ReceiveContext {
  readonly blockHeight: number;
  readonly nowUnixMs: number;
  /** For the set's time-out: unaffected by jumps of the wall clock. */
  readonly monotonicMs: number;
}

/**
 * Adds an HTLC to the set it belongs to, or says why it must be failed.
 *
 * @param record the invoice of its payment hash; undefined when there is none.
 */
export function receivePart(
  record: InboundRecord | undefined,
  set: PartSet | undefined,
  intent: Intent,
  context: ReceiveContext,
): Result<PartSet, FailureMessage> {
  const payload = decodeHopPayload(intent.onion);
  if (!payload.ok) return err({ kind: 'invalid_onion_payload', tlvType: 0n, offset: 0 });
  const incoming = {
    amountMsat: intent.incomingAmountMsat,
    cltvExpiryHeight: intent.incomingCltvExpiryHeight,
    pathKey: undefined,
    packet: new Uint8Array(0),
  };
  const instruction = hopInstruction(payload.value, 'final', incoming, undefined);
  if (!instruction.ok) return instruction;
  if (instruction.value.kind !== 'receive')
    return err({ kind: 'invalid_onion_payload', tlvType: 0n, offset: 0 });
  const { amountMsat, cltvExpiryHeight, totalMsat, paymentSecret, paymentMetadata } = instruction.value;
  const paymentData = paymentSecret === undefined ? undefined : { paymentSecret, totalMsat };
  const accepted = checkFinalHop(
    {
      paymentHash: intent.paymentHash,
      incomingAmountMsat: intent.incomingAmountMsat,
      incomingCltvExpiryHeight: intent.incomingCltvExpiryHeight,
      amountToForwardMsat: amountMsat,
      outgoingCltvExpiryHeight: cltvExpiryHeight,
      ...(paymentData === undefined ? {} : { paymentData }),
      ...(paymentMetadata === undefined ? {} : { paymentMetadata }),
    },
    record === undefined ? undefined : termsOf(record),
    {
      currentHeight: context.blockHeight,
      nowSeconds: Math.floor(context.nowUnixMs / 1000),
      keysend: 'refused',
    },
  );
  if (!accepted.ok) return accepted;
  if (paymentData === undefined) return err(unknownDetails(intent.incomingAmountMsat, context.blockHeight));
  return addPart(
    set,
    { part: intent, amountMsat, cltvExpiryHeight: intent.incomingCltvExpiryHeight },
    paymentData,
    { currentHeight: context.blockHeight, nowSeconds: Math.floor(context.monotonicMs / 1000) },
  );
}

function termsOf(record: InboundRecord): InvoiceTerms {
  return {
    amountMsat: record.amountMsat,
    paymentSecret: record.paymentSecret,
    minFinalCltvExpiryDelta: record.minFinalCltvExpiryDelta,
    expiresAtSeconds: Math.floor(record.expiresUnixMs / 1000),
    status: record.status === 'expired' ? 'cancelled' : record.status,
  };
}

/** The one answer that tells a prober nothing. */
export function unknownDetails(htlcMsat: bigint, blockHeight: number): FailureMessage {
  return { kind: 'incorrect_or_unknown_payment_details', htlcMsat, height: blockHeight };
}

/**
 * The failure for an HTLC that ends here with a payment hash of no invoice of ours; undefined when there is one.
 * Called for final hops alone: a forwarded HTLC never reads the invoices (CVE-2020-26896).
 */
export async function refuseUnknown(
  store: Pick<ManagerStore, 'getPayment'>,
  htlc: { readonly paymentHash: Uint8Array; readonly amountMsat: bigint },
  blockHeight: number,
): Promise<FailureMessage | undefined> {
  const row = await store.getPayment(htlc.paymentHash);
  return row?.type === 'inbound' ? undefined : unknownDetails(htlc.amountMsat, blockHeight);
}
