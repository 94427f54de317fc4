/**
 * Tagged fields (BOLT 11, "Tagged Fields"): type numbers and the content of
 * each field in 5-bit words, both ways. Readers return undefined for content
 * that does not fit; what that means is decided in decode.ts.
 */
import { EncodeError, FeatureBits, Reader, Writer } from '@fulmen/codec';
import type { FeatureName } from '@fulmen/codec';
import type { FallbackAddress, RouteHintHop } from './invoice.ts';
import { bytesToWords, wordsToBytes } from './words.ts';

/** Type numbers by letter. */
export const FIELD_TYPES = {
  p: 1,
  r: 3,
  '9': 5,
  x: 6,
  f: 9,
  d: 13,
  s: 16,
  n: 19,
  h: 23,
  c: 24,
  m: 27,
} as const;

/** Words of a 32-byte field (`p`, `s`, `h`). */
export const HASH_WORDS = 52;
/** Words of a node id (`n`). */
export const NODE_ID_WORDS = 53;

/**
 * Features that BOLT 9 presents in invoices (context 9). An even bit of any
 * other feature is unknown here, whatever it means elsewhere.
 */
export const INVOICE_FEATURES: ReadonlySet<FeatureName> = new Set<FeatureName>([
  'var_onion_optin',
  'payment_secret',
  'basic_mpp',
  'route_blinding',
  'attribution_data',
  'payment_metadata',
]);

const P2PKH_VERSION = 17;
const P2SH_VERSION = 18;
const MAX_WITNESS_VERSION = 16;
const ROUTE_HOP_LENGTH = 51;

/** An `f` field; `skip` for versions and programs that are not known: readers must go on without them. */
export function readFallback(words: Uint8Array): FallbackAddress | 'skip' {
  const version = words[0];
  const program = wordsToBytes(words.subarray(1));
  if (version === undefined || program === undefined) return 'skip';
  if (version === P2PKH_VERSION) return program.length === 20 ? { kind: 'p2pkh', hash: program } : 'skip';
  if (version === P2SH_VERSION) return program.length === 20 ? { kind: 'p2sh', hash: program } : 'skip';
  // BOLT 11: "MUST skip over f fields that use an unknown version."
  if (version > MAX_WITNESS_VERSION || !isWitnessProgram(version, program)) return 'skip';
  return { kind: 'witness', version, program };
}

/** BIP 141: 2 to 40 bytes; version 0 is P2WPKH or P2WSH. */
function isWitnessProgram(version: number, program: Uint8Array): boolean {
  if (version === 0) return program.length === 20 || program.length === 32;
  return program.length >= 2 && program.length <= 40;
}

/** Writes an `f` field. @throws EncodeError for an address that cannot be. */
export function writeFallback(address: FallbackAddress): Uint8Array {
  const program = address.kind === 'witness' ? address.program : address.hash;
  const version =
    address.kind === 'witness' ? address.version : address.kind === 'p2pkh' ? P2PKH_VERSION : P2SH_VERSION;
  const words = Uint8Array.of(version, ...bytesToWords(program));
  const readBack = readFallback(words);
  if (readBack === 'skip' || readBack.kind !== address.kind) {
    throw new EncodeError('out_of_range', `fallback address of version ${version}`);
  }
  return words;
}

/** An `r` field: one hop or more; the points are not checked here. */
export function readRouteHint(words: Uint8Array): RouteHintHop[] | undefined {
  const bytes = wordsToBytes(words);
  if (bytes === undefined || bytes.length === 0 || bytes.length % ROUTE_HOP_LENGTH !== 0) return undefined;
  const reader = new Reader(bytes);
  const hops: RouteHintHop[] = [];
  while (reader.remaining > 0) {
    hops.push({
      nodeId: reader.bytes(33),
      shortChannelId: reader.u64(),
      feeBaseMsat: reader.u32(),
      feeProportionalMillionths: reader.u32(),
      cltvExpiryDelta: reader.u16(),
    });
  }
  return hops;
}

/** Writes an `r` field. @throws EncodeError for numbers or lengths out of range. */
export function writeRouteHint(hops: readonly RouteHintHop[]): Uint8Array {
  if (hops.length === 0) throw new EncodeError('out_of_range', 'a route without hops');
  const writer = new Writer(ROUTE_HOP_LENGTH * hops.length);
  for (const hop of hops) {
    if (hop.nodeId.length !== 33)
      throw new EncodeError('wrong_length', `node id of ${hop.nodeId.length} bytes`);
    writer.bytes(hop.nodeId).u64(hop.shortChannelId).u32(hop.feeBaseMsat);
    writer.u32(hop.feeProportionalMillionths).u16(hop.cltvExpiryDelta);
  }
  return bytesToWords(writer.finish());
}

/** A `9` field: the lowest bit is the last word's lowest. */
export function readFeatures(words: Uint8Array): FeatureBits {
  const bits: number[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[words.length - 1 - i] ?? 0;
    for (let bit = 0; bit < 5; bit++) if ((word & (1 << bit)) !== 0) bits.push(5 * i + bit);
  }
  return FeatureBits.fromBits(bits);
}

/** Writes a `9` field in as few words as possible; none for no features. */
export function writeFeatures(features: FeatureBits): Uint8Array {
  const bits = features.bits();
  const highest = bits.at(-1);
  const words = new Uint8Array(highest === undefined ? 0 : Math.floor(highest / 5) + 1);
  for (const bit of bits) {
    const index = words.length - 1 - Math.floor(bit / 5);
    words[index] = (words[index] ?? 0) | (1 << (bit % 5));
  }
  return words;
}
