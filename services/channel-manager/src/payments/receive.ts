/** Decisions about HTLCs that end here, without I/O. */
import { err, ok, type Result, type TlvRecord } from '@fulmen/codec';
import { decodeHopPayload, type FailureMessage, type HopInstruction, hopInstruction } from '@fulmen/onion';
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
  const received = receiveInstruction(intent);
  if (!received.ok) return received;
  const { amountMsat, cltvExpiryHeight, totalMsat, paymentSecret, paymentMetadata } = received.value;
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

/** A payment without an invoice, as one HTLC brings it. */
export interface Spontaneous {
  readonly preimage: Uint8Array;
  /** Odd types from 65536 on; anything below is for the protocol. */
  readonly customRecords: readonly TlvRecord[];
}

/** Least type of a record that is a payer's own (bLIP-2). */
const FIRST_CUSTOM_TYPE = 65_536n;

/** An HTLC that ends here: its terms, and what its onion says. */
interface FinalHtlc {
  readonly paymentHash: Uint8Array;
  readonly amountMsat: bigint;
  readonly cltvExpiryHeight: number;
}
type ReceiveInstruction = Extract<HopInstruction, { kind: 'receive' }>;

/** Accepts an HTLC for a hash without an invoice when it brings its own preimage (keysend), or says why not. */
export function receiveSpontaneous(
  intent: Intent,
  keysend: 'accepted' | 'refused',
  context: ReceiveContext,
): Result<Spontaneous, FailureMessage> {
  const received = receiveInstruction(intent);
  if (!received.ok) return received;
  const htlc = {
    paymentHash: intent.paymentHash,
    amountMsat: intent.incomingAmountMsat,
    cltvExpiryHeight: intent.incomingCltvExpiryHeight,
  };
  return judgeSpontaneous(htlc, received.value, keysend, context.blockHeight);
}

function judgeSpontaneous(
  htlc: FinalHtlc,
  instruction: ReceiveInstruction,
  keysend: 'accepted' | 'refused',
  currentHeight: number,
): Result<Spontaneous, FailureMessage> {
  const { amountMsat, cltvExpiryHeight, totalMsat, paymentSecret, keysendPreimage, customTlvs } = instruction;
  const accepted = checkFinalHop(
    {
      paymentHash: htlc.paymentHash,
      incomingAmountMsat: htlc.amountMsat,
      incomingCltvExpiryHeight: htlc.cltvExpiryHeight,
      amountToForwardMsat: amountMsat,
      outgoingCltvExpiryHeight: cltvExpiryHeight,
      ...(paymentSecret === undefined ? {} : { paymentData: { paymentSecret, totalMsat } }),
      ...(keysendPreimage === undefined ? {} : { keysendPreimage }),
    },
    undefined,
    // Without an invoice nothing expires but the HTLC.
    { currentHeight, nowSeconds: 0, keysend },
  );
  if (!accepted.ok) return accepted;
  if (keysendPreimage === undefined) return err(unknownDetails(htlc.amountMsat, currentHeight));
  const customRecords = customTlvs.filter(({ type }) => type >= FIRST_CUSTOM_TYPE);
  return ok({ preimage: keysendPreimage, customRecords });
}

function receiveInstruction(intent: Intent): Result<ReceiveInstruction, FailureMessage> {
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
  return instruction.value.kind === 'receive'
    ? ok(instruction.value)
    : err({ kind: 'invalid_onion_payload', tlvType: 0n, offset: 0 });
}

function termsOf(record: InboundRecord): InvoiceTerms {
  return {
    amountMsat: record.amountMsat,
    paymentSecret: record.paymentSecret,
    minFinalCltvExpiryDelta: record.minFinalCltvExpiryDelta,
    expiresAtSeconds: Math.floor(record.expiresUnixMs / 1000),
    ...(record.paymentMetadata === undefined ? {} : { paymentMetadata: record.paymentMetadata }),
    status: record.status === 'expired' ? 'cancelled' : record.status,
  };
}

/** The one answer that tells a prober nothing. */
export function unknownDetails(htlcMsat: bigint, blockHeight: number): FailureMessage {
  return { kind: 'incorrect_or_unknown_payment_details', htlcMsat, height: blockHeight };
}

/**
 * The failure for an HTLC that ends here with a payment hash of no invoice of ours; undefined when there is one, or
 * when the HTLC brings its own preimage and such payments are accepted.
 * Called for final hops alone: a forwarded HTLC never reads the invoices (CVE-2020-26896).
 */
export async function refuseUnknown(
  store: Pick<ManagerStore, 'getPayment'>,
  htlc: FinalHtlc,
  instruction: ReceiveInstruction,
  { keysend, blockHeight }: { readonly keysend: 'accepted' | 'refused'; readonly blockHeight: number },
): Promise<FailureMessage | undefined> {
  const row = await store.getPayment(htlc.paymentHash);
  if (row?.type === 'inbound') return undefined;
  // A payment of our own has this hash: nobody else can know its preimage.
  if (row !== undefined) return unknownDetails(htlc.amountMsat, blockHeight);
  const judged = judgeSpontaneous(htlc, instruction, keysend, blockHeight);
  return judged.ok ? undefined : judged.error;
}
