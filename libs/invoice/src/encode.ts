/**
 * Writing an invoice in two phases, because the node key lives in a signer: the
 * hash to sign, then the text from the signature.
 */
import { bech32 } from '@scure/base';
import { EncodeError, concatBytes, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { encodePrefix } from './amount.ts';
import { FIELD_TYPES, writeFallback, writeFeatures, writeRouteHint } from './fields.ts';
import type { UnsignedInvoice } from './invoice.ts';
import { bytesToWords, numberToMinimalWords, numberToWords, wordsToPaddedBytes } from './words.ts';

const TIMESTAMP_WORDS = 7;
/** 10 bits of length. */
const MAX_FIELD_WORDS = 1023;

/** What the signer signs. */
export interface InvoiceSigningHash {
  /** SHA-256 of `preimageData`. */
  readonly hash: Uint8Array;
  /** Human-readable part and data, for a signer that hashes (and looks) for itself. */
  readonly preimageData: Uint8Array;
}

/**
 * The hash that the node key signs. BOLT 11: "the SHA-256 hash of: the
 * human-readable part (as UTF-8 bytes) concatenated with the data part
 * (excluding the signature), with 0 bits appended to pad to a byte boundary".
 *
 * @throws EncodeError for values that no invoice can hold.
 */
export function invoiceSigningHash(unsigned: UnsignedInvoice): InvoiceSigningHash {
  const preimageData = concatBytes(
    utf8Encode(encodePrefix(prefixOf(unsigned))),
    wordsToPaddedBytes(dataWords(unsigned)),
  );
  return { hash: sha256(preimageData), preimageData };
}

/**
 * The invoice's text, in lower case; a QR code takes it in upper case.
 *
 * @param signature 64 bytes r ‖ s over `invoiceSigningHash`, low-S.
 * @param recoveryId 0 to 3.
 * @throws EncodeError for values that no invoice can hold.
 */
export function assembleInvoice(
  unsigned: UnsignedInvoice,
  signature: Uint8Array,
  recoveryId: number,
): string {
  if (signature.length !== 64)
    throw new EncodeError('wrong_length', `signature of ${signature.length} bytes`);
  if (!(recoveryId >= 0 && recoveryId <= 3))
    throw new EncodeError('out_of_range', `recovery id ${recoveryId}`);
  const signatureWords = bytesToWords(concatBytes(signature, Uint8Array.of(recoveryId)));
  const words = concatBytes(dataWords(unsigned), signatureWords);
  return bech32.encode(encodePrefix(prefixOf(unsigned)), Array.from(words), false);
}

/** Both phases with a secret key at hand. @throws EncodeError for values that no invoice can hold. */
export function encodeInvoice(secp: Secp256k1, unsigned: UnsignedInvoice, secretKey: Uint8Array): string {
  const { signature, recoveryId } = secp.signRecoverable(invoiceSigningHash(unsigned).hash, secretKey);
  return assembleInvoice(unsigned, signature, recoveryId);
}

function prefixOf(unsigned: UnsignedInvoice): {
  currency: UnsignedInvoice['currency'];
  amountMsat: bigint | undefined;
} {
  return { currency: unsigned.currency, amountMsat: unsigned.amountMsat };
}

function field(type: number, words: Uint8Array): Uint8Array {
  if (words.length > MAX_FIELD_WORDS)
    throw new EncodeError('too_long', `field ${type} of ${words.length} words`);
  return concatBytes(numberToWords(type, 1), numberToWords(words.length, 2), words);
}

function fixed(type: number, bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length !== length)
    throw new EncodeError('wrong_length', `field ${type} of ${bytes.length} bytes`);
  return field(type, bytesToWords(bytes));
}

/** Time stamp and fields, in the order of most of BOLT 11's examples. */
function dataWords(unsigned: UnsignedInvoice): Uint8Array {
  const { description } = unsigned;
  const parts = [
    numberToWords(unsigned.timestampUnixSeconds, TIMESTAMP_WORDS),
    fixed(FIELD_TYPES.s, unsigned.paymentSecret, 32),
    fixed(FIELD_TYPES.p, unsigned.paymentHash, 32),
    description.kind === 'text'
      ? field(FIELD_TYPES.d, bytesToWords(utf8Encode(description.text)))
      : fixed(FIELD_TYPES.h, description.hash, 32),
  ];
  if (unsigned.paymentMetadata !== undefined)
    parts.push(field(FIELD_TYPES.m, bytesToWords(unsigned.paymentMetadata)));
  if (unsigned.nodeIdField !== undefined) parts.push(fixed(FIELD_TYPES.n, unsigned.nodeIdField, 33));
  // BOLT 11: "MUST use the minimum data_length possible, i.e. no leading 0 field-elements."
  if (unsigned.expirySeconds !== undefined) {
    parts.push(field(FIELD_TYPES.x, numberToMinimalWords(unsigned.expirySeconds)));
  }
  if (unsigned.minFinalCltvExpiryDelta !== undefined) {
    parts.push(field(FIELD_TYPES.c, numberToMinimalWords(unsigned.minFinalCltvExpiryDelta)));
  }
  for (const address of unsigned.fallbacks ?? []) parts.push(field(FIELD_TYPES.f, writeFallback(address)));
  for (const hops of unsigned.routeHints ?? []) parts.push(field(FIELD_TYPES.r, writeRouteHint(hops)));
  // BOLT 11: "if 9 contains non-zero bits: … otherwise: MUST omit the 9 field altogether."
  const features = writeFeatures(unsigned.features);
  if (features.length > 0) parts.push(field(FIELD_TYPES['9'], features));
  for (const unknown of unsigned.unknownFields ?? []) parts.push(field(unknown.type, unknown.words));
  return concatBytes(...parts);
}
