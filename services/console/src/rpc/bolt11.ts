/** What a BOLT 11 string says, or a sentence why it says nothing. */
import { toHex } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  type Currency,
  decodeInvoice,
  DEFAULT_EXPIRY_SECONDS,
  type Invoice,
  type InvoiceError,
  minFinalCltvExpiryDelta,
} from '@fulmen/invoice';
import type { DecodeInvoiceResponse } from '@fulmen/proto/node/v1/node';
import { refuse } from '../errors.ts';

const NETWORKS: Readonly<Record<Currency, string>> = {
  bc: 'bitcoin',
  tb: 'testnet',
  tbs: 'signet',
  bcrt: 'regtest',
};

/** Throws `invalid_argument`. */
export function requireInvoice(curve: Secp256k1, bolt11: string): Invoice {
  if (bolt11 === '') throw refuse('invalid_argument', 'bolt11 is missing.');
  const decoded = decodeInvoice(curve, bolt11);
  if (decoded.ok) return decoded.value;
  throw refuse('invalid_argument', `This is no valid BOLT 11 invoice: ${reason(decoded.error)}.`);
}

export function describeInvoice(invoice: Invoice): DecodeInvoiceResponse {
  const { description } = invoice;
  return {
    payeeNodeId: invoice.payeeNodeId,
    paymentHash: invoice.paymentHash,
    amountMsat: invoice.amountMsat ?? 0n,
    description: description.kind === 'text' ? description.text : `sha256:${toHex(description.hash)}`,
    createdUnixSeconds: BigInt(invoice.timestampUnixSeconds),
    expirySeconds: BigInt(invoice.expirySeconds ?? DEFAULT_EXPIRY_SECONDS),
    minFinalCltvExpiryDelta: minFinalCltvExpiryDelta(invoice),
    network: NETWORKS[invoice.currency],
  };
}

function reason(error: InvoiceError): string {
  switch (error.kind) {
    case 'too_long':
      return 'it is too long';
    case 'invalid_bech32':
      return 'its checksum or a character is wrong (was all of it copied?)';
    case 'unknown_prefix':
      return 'it does not begin like an invoice (lnbc, lntb, lntbs, lnbcrt)';
    case 'invalid_amount':
      return 'its amount is malformed';
    case 'too_short':
      return 'it is too short';
    case 'truncated_field':
      return 'it ends in the middle of a field';
    case 'malformed_field':
      return `its field "${error.field}" is malformed`;
    case 'missing_field':
      return `its field "${error.field}" is missing`;
    case 'duplicate_field':
      return `its field "${error.field}" is there twice`;
    case 'ambiguous_description':
      return 'it must have either a description or the hash of one';
    case 'invalid_signature':
      return 'its signature is wrong';
    case 'unknown_required_features':
      return `it needs features that this node does not have (bits ${error.bits.join(', ')})`;
    case 'missing_feature_dependency':
      return `its feature ${error.feature} needs ${error.needs}`;
  }
}
