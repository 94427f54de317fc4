/** Invoices of this node: what they say, and their text once the signer signed it. */
import { NETWORKS } from '@fulmen/bitcoin';
import { equalBytes, FeatureBits, InternalError } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import {
  assembleInvoice,
  type Currency,
  DEFAULT_EXPIRY_SECONDS,
  type UnsignedInvoice,
} from '@fulmen/invoice';
import type { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import type { Client } from '@fulmen/rpc';
import type { ManagerStore, RouteHintRow } from '@fulmen/store';
import type { InboundRecord } from './record.ts';

/**
 * Blocks that payers leave us: what is failed back for expiring too soon lies
 * well below, even when some blocks are found while the HTLC travels.
 */
export const MIN_FINAL_CLTV_EXPIRY_DELTA = 42;
/** Route hints in one invoice: beyond, its QR code becomes unreadable. */
const MAX_ROUTE_HINTS = 4;

const FEATURES = {
  var_onion_optin: 'required',
  payment_secret: 'required',
  basic_mpp: 'optional',
} as const;

export interface InvoiceRequest {
  /** undefined: the payer chooses. */
  readonly amountMsat: bigint | undefined;
  readonly description: string;
  /** SHA-256 of a description given elsewhere, instead of `description`. */
  readonly descriptionHash?: Uint8Array | undefined;
  /** What the payer must give back. */
  readonly paymentMetadata?: Uint8Array | undefined;
  /** Whether the invoice tells of unannounced channels; undefined: only where no announced one can receive the amount. */
  readonly routeHints?: 'always' | 'never' | undefined;
  /** undefined: 3600. */
  readonly expirySeconds: number | undefined;
  /** 32 bytes; undefined: drawn, with a hash whose shard this replica owns. */
  readonly preimage: Uint8Array | undefined;
  /** Two requests with one key are one invoice; empty: none. */
  readonly idempotencyKey: string;
}

/** What is drawn for an invoice, and remembered under its idempotency key. */
export interface InvoiceSeed {
  readonly preimage: Uint8Array;
  readonly paymentSecret: Uint8Array;
  readonly createdUnixMs: number;
}

/** The prefix of invoices on the chain of this hash. */
export function currencyOf(chainHash: Uint8Array): Currency {
  for (const network of Object.values(NETWORKS)) {
    if (equalBytes(network.chainHash, chainHash)) return network.invoiceHrp as Currency;
  }
  throw new InternalError('the node runs on a chain that has no invoices');
}

/** The channels that an invoice tells of. */
export function routeHintsOf(
  store: Pick<ManagerStore, 'listRouteHints'>,
  { amountMsat = 0n, routeHints }: Pick<InvoiceRequest, 'amountMsat' | 'routeHints'>,
): Promise<readonly RouteHintRow[]> {
  if (routeHints === 'never') return Promise.resolve([]);
  return store.listRouteHints(amountMsat, routeHints ?? 'needed', MAX_ROUTE_HINTS);
}

/** Makes and signs the invoice, and the record that goes with it. @throws RpcError when the signer is away or refuses. */
export async function makeInvoice(
  signer: Pick<Client<SignerServiceService>, 'signInvoice'>,
  currency: Currency,
  request: InvoiceRequest,
  seed: InvoiceSeed,
  hints: readonly RouteHintRow[],
): Promise<InboundRecord> {
  const timestampUnixSeconds = Math.floor(seed.createdUnixMs / 1000);
  const expirySeconds = request.expirySeconds ?? DEFAULT_EXPIRY_SECONDS;
  const unsigned: UnsignedInvoice = {
    currency,
    amountMsat: request.amountMsat,
    timestampUnixSeconds,
    paymentHash: sha256(seed.preimage),
    paymentSecret: seed.paymentSecret,
    description:
      request.descriptionHash === undefined
        ? { kind: 'text', text: request.description }
        : { kind: 'hash', hash: request.descriptionHash },
    ...(request.expirySeconds === undefined ? {} : { expirySeconds }),
    minFinalCltvExpiryDelta: MIN_FINAL_CLTV_EXPIRY_DELTA,
    paymentMetadata: request.paymentMetadata,
    // BOLT 11: the payer that does not know `m` would leave it out, and be refused.
    features: FeatureBits.of(
      request.paymentMetadata === undefined ? FEATURES : { ...FEATURES, payment_metadata: 'required' },
    ),
    routeHints: hints.map(({ counterpartyNodeId, ...hop }) => [{ nodeId: counterpartyNodeId, ...hop }]),
  };
  const { signature, recoveryId } = await signer.signInvoice(signingParts(unsigned));
  return {
    kind: 'inbound',
    preimage: seed.preimage,
    paymentSecret: seed.paymentSecret,
    amountMsat: request.amountMsat,
    minFinalCltvExpiryDelta: MIN_FINAL_CLTV_EXPIRY_DELTA,
    createdUnixMs: seed.createdUnixMs,
    expiresUnixMs: (timestampUnixSeconds + expirySeconds) * 1000,
    bolt11: assembleInvoice(unsigned, signature, recoveryId),
    description: request.description,
    status: 'open',
    receivedMsat: 0n,
    paidUnixMs: undefined,
    paymentMetadata: request.paymentMetadata,
    origin: 'invoice',
    customRecords: [],
  };
}

const BECH32 = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
/** Words of signature and recovery id, and of the checksum, at the end of an invoice. */
const SIGNATURE_WORDS = 104;
const CHECKSUM_WORDS = 6;

/** The two parts that the signer hashes, as they stand in the invoice's text. */
function signingParts(unsigned: UnsignedInvoice): { humanReadablePart: string; dataWords: Uint8Array } {
  const text = assembleInvoice(unsigned, new Uint8Array(64), 0);
  const separator = text.lastIndexOf('1');
  const data = text.slice(separator + 1, text.length - SIGNATURE_WORDS - CHECKSUM_WORDS);
  return {
    humanReadablePart: text.slice(0, separator),
    dataWords: Uint8Array.from(data, (character) => BECH32.indexOf(character)),
  };
}
