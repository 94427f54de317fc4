/**
 * Reading an invoice from anybody: bech32, fields, signature, then the rules of
 * BOLT 11's reader. Nothing in the text leads to more work than its length.
 */
import { bech32 } from '@scure/base';
import { FeatureBits, concatBytes, err, featureOfBit, ok, utf8Decode, utf8Encode } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { decodePrefix } from './amount.ts';
import type { Prefix } from './amount.ts';
import type { FieldLetter, InvoiceError } from './errors.ts';
import {
  FIELD_TYPES,
  HASH_WORDS,
  INVOICE_FEATURES,
  NODE_ID_WORDS,
  readFallback,
  readFeatures,
  readRouteHint,
} from './fields.ts';
import type { FallbackAddress, Invoice, InvoiceDescription, RouteHintHop, UnknownField } from './invoice.ts';
import { wordsToBytes, wordsToNumber, wordsToPaddedBytes } from './words.ts';

/** What fits into the largest QR code; longer texts are refused unread. */
export const MAX_INVOICE_LENGTH = 7089;

const TIMESTAMP_WORDS = 7;
const SIGNATURE_WORDS = 104;
const FIELD_HEADER_WORDS = 3;
const U32_MAX = 0xffff_ffff;

/** Every field that was understood, each list in order of the invoice. */
interface Fields {
  readonly p: Uint8Array[];
  readonly s: Uint8Array[];
  readonly h: Uint8Array[];
  readonly d: string[];
  readonly n: Uint8Array[];
  readonly m: Uint8Array[];
  readonly x: number[];
  readonly c: number[];
  readonly features: FeatureBits[];
  readonly f: FallbackAddress[];
  readonly r: RouteHintHop[][];
  readonly unknown: UnknownField[];
}

/** Kept, to be skipped (unknown type or version, wrong fixed length), or the letter of a malformed field. */
type FieldOutcome = 'read' | 'skip' | FieldLetter;

/** Decodes an invoice and checks its signature and features. Upper case is as good as lower case. */
export function decodeInvoice(secp: Secp256k1, text: string): Result<Invoice, InvoiceError> {
  if (text.length > MAX_INVOICE_LENGTH) return err({ kind: 'too_long' });
  const decoded = decodeBech32(text);
  if (decoded === undefined) return err({ kind: 'invalid_bech32' });
  const { prefix, words } = decoded;
  const parsedPrefix = decodePrefix(prefix);
  if (!parsedPrefix.ok) return parsedPrefix;
  if (words.length < TIMESTAMP_WORDS + SIGNATURE_WORDS) return err({ kind: 'too_short' });

  const dataWords = words.subarray(0, words.length - SIGNATURE_WORDS);
  const fields = readFields(secp, dataWords.subarray(TIMESTAMP_WORDS));
  if (!fields.ok) return fields;
  const signedHash = sha256(concatBytes(utf8Encode(prefix), wordsToPaddedBytes(dataWords)));
  const signer = checkSignature(secp, signedHash, words.subarray(dataWords.length), fields.value.n[0]);
  if (!signer.ok) return signer;
  return judge(parsedPrefix.value, dataWords, fields.value, { ...signer.value, signedHash });
}

/** BOLT 11: "MUST parse the address as Bech32, as specified in BIP-0173 (also without the character limit)." */
function decodeBech32(text: string): { prefix: string; words: Uint8Array } | undefined {
  const decoded = bech32.decodeUnsafe(text, false);
  return decoded === undefined
    ? undefined
    : { prefix: decoded.prefix, words: Uint8Array.from(decoded.words) };
}

function readFields(secp: Secp256k1, words: Uint8Array): Result<Fields, InvoiceError> {
  const fields: Fields = {
    p: [],
    s: [],
    h: [],
    d: [],
    n: [],
    m: [],
    x: [],
    c: [],
    features: [],
    f: [],
    r: [],
    unknown: [],
  };
  let at = 0;
  while (at < words.length) {
    const [type, high, low] = words.subarray(at, at + FIELD_HEADER_WORDS);
    if (type === undefined || high === undefined || low === undefined)
      return err({ kind: 'truncated_field' });
    const start = at + FIELD_HEADER_WORDS;
    const end = start + high * 32 + low;
    if (end > words.length) return err({ kind: 'truncated_field' });
    const content = words.slice(start, end);
    const outcome = readField(secp, fields, type, content);
    if (outcome === 'skip') fields.unknown.push({ type, words: content });
    else if (outcome !== 'read') return err({ kind: 'malformed_field', field: outcome });
    at = end;
  }
  return ok(fields);
}

/** Adds one field; a letter says that this field's content is malformed. */
function readField(secp: Secp256k1, fields: Fields, type: number, words: Uint8Array): FieldOutcome {
  switch (type) {
    case FIELD_TYPES.p:
      return readFixed(fields.p, words, HASH_WORDS, 'p');
    case FIELD_TYPES.s:
      return readFixed(fields.s, words, HASH_WORDS, 's');
    case FIELD_TYPES.h:
      return readFixed(fields.h, words, HASH_WORDS, 'h');
    case FIELD_TYPES.n: {
      const outcome = readFixed(fields.n, words, NODE_ID_WORDS, 'n');
      const nodeId = fields.n.at(-1);
      return outcome === 'read' && nodeId !== undefined && !secp.isPublicKey(nodeId) ? 'n' : outcome;
    }
    case FIELD_TYPES.d: {
      const bytes = wordsToBytes(words);
      const text = bytes === undefined ? undefined : utf8Decode(bytes);
      return text?.ok === true ? keep(fields.d, text.value) : 'd';
    }
    case FIELD_TYPES.m: {
      const bytes = wordsToBytes(words);
      return bytes === undefined ? 'm' : keep(fields.m, bytes);
    }
    case FIELD_TYPES.x:
      return readNumber(fields.x, words, Number.MAX_SAFE_INTEGER) ? 'read' : 'x';
    case FIELD_TYPES.c:
      return readNumber(fields.c, words, U32_MAX) ? 'read' : 'c';
    case FIELD_TYPES['9']:
      return words[0] === 0 ? '9' : keep(fields.features, readFeatures(words));
    case FIELD_TYPES.f: {
      const address = readFallback(words);
      return address === 'skip' ? 'skip' : keep(fields.f, address);
    }
    case FIELD_TYPES.r: {
      const hops = readRouteHint(words);
      return hops === undefined || hops.some((hop) => !secp.isPublicKey(hop.nodeId))
        ? 'r'
        : keep(fields.r, hops);
    }
    default:
      // Type numbers are open: later fields are skipped.
      return 'skip';
  }
}

function keep<T>(list: T[], value: T): 'read' {
  list.push(value);
  return 'read';
}

/**
 * BOLT 11's examples hold fields of a wrong length "which must be ignored": as
 * if they were not there, so that a required one is then missing.
 */
function readFixed(list: Uint8Array[], words: Uint8Array, length: number, letter: FieldLetter): FieldOutcome {
  if (words.length !== length) return 'skip';
  const bytes = wordsToBytes(words);
  return bytes === undefined ? letter : keep(list, bytes);
}

/** BOLT 11: "if a c, x, or 9 field is provided which has a non-minimal data_length: SHOULD treat the invoice as invalid." */
function readNumber(list: number[], words: Uint8Array, max: number): boolean {
  const value = words[0] === 0 ? undefined : wordsToNumber(words, max);
  if (value !== undefined) list.push(value);
  return value !== undefined;
}

function checkSignature(
  secp: Secp256k1,
  hash: Uint8Array,
  words: Uint8Array,
  nodeIdField: Uint8Array | undefined,
): Result<{ signature: Uint8Array; recoveryId: number; payeeNodeId: Uint8Array }, InvoiceError> {
  const bytes = wordsToPaddedBytes(words);
  const signature = bytes.slice(0, 64);
  const recoveryId = bytes[64] ?? 0;
  if (recoveryId > 3) return err({ kind: 'invalid_signature' });
  // BOLT 11: "MUST use the n field to validate the signature instead of performing public-key recovery."
  // With it, "if the signature is not compliant with the low-S standard rule: MUST fail the payment": verify refuses it.
  const payeeNodeId =
    nodeIdField === undefined
      ? secp.recover(hash, signature, recoveryId)
      : secp.verify(hash, signature, nodeIdField)
        ? nodeIdField
        : undefined;
  return payeeNodeId === undefined
    ? err({ kind: 'invalid_signature' })
    : ok({ signature, recoveryId, payeeNodeId });
}

/** The rules for what must be there, and the features. */
function judge(
  prefix: Prefix,
  dataWords: Uint8Array,
  fields: Fields,
  signed: Pick<Invoice, 'signature' | 'recoveryId' | 'payeeNodeId' | 'signedHash'>,
): Result<Invoice, InvoiceError> {
  const paymentHash = exactlyOne(fields.p, 'p');
  if (!paymentHash.ok) return paymentHash;
  const paymentSecret = exactlyOne(fields.s, 's');
  if (!paymentSecret.ok) return paymentSecret;
  const description = descriptionOf(fields);
  if (!description.ok) return description;
  const features = fields.features[0] ?? FeatureBits.EMPTY;
  const featureError = judgeFeatures(features);
  if (featureError !== undefined) return err(featureError);
  return ok({
    ...prefix,
    timestampUnixSeconds: wordsToNumber(dataWords.subarray(0, TIMESTAMP_WORDS), 2 ** 35) ?? 0,
    paymentHash: paymentHash.value,
    paymentSecret: paymentSecret.value,
    description: description.value,
    expirySeconds: fields.x[0],
    minFinalCltvExpiryDelta: fields.c[0],
    nodeIdField: fields.n[0],
    paymentMetadata: fields.m[0],
    features,
    fallbacks: fields.f,
    routeHints: fields.r,
    unknownFields: fields.unknown,
    ...signed,
  });
}

/** BOLT 11: "MUST include exactly one p field", and one `s` field. */
function exactlyOne<T>(list: readonly T[], field: FieldLetter): Result<T, InvoiceError> {
  const [value] = list;
  if (value === undefined) return err({ kind: 'missing_field', field });
  return list.length > 1 ? err({ kind: 'duplicate_field', field }) : ok(value);
}

/** BOLT 11: "MUST fail the payment if neither a d field nor a h field is present, or if both are present." */
function descriptionOf(fields: Fields): Result<InvoiceDescription, InvoiceError> {
  const [text] = fields.d;
  const [hash] = fields.h;
  if (fields.d.length + fields.h.length !== 1) return err({ kind: 'ambiguous_description' });
  if (text !== undefined) return ok({ kind: 'text', text });
  return hash === undefined ? err({ kind: 'ambiguous_description' }) : ok({ kind: 'hash', hash });
}

/** BOLT 11: unknown even bits fail the payment, and so does a vector without all "transitive feature dependencies". */
function judgeFeatures(features: FeatureBits): InvoiceError | undefined {
  const bits = features.bits().filter((bit) => {
    const name = featureOfBit(bit);
    return bit % 2 === 0 && (name === undefined || !INVOICE_FEATURES.has(name));
  });
  if (bits.length > 0) return { kind: 'unknown_required_features', bits };
  const [missing] = features.missingDependencies();
  return missing === undefined ? undefined : { kind: 'missing_feature_dependency', ...missing };
}
