// Feature bits (BOLT 9): an immutable set over a bit vector, big-endian, bit 0 the lowest of the last
// byte. Even bits require, odd bits offer. Vectors from outside are bounded by the message that carries
// them; nothing here allocates beyond a vector's own length.
import { EncodeError } from './errors.ts';
import { copyBytes } from './bytes.ts';

/** The even bit of each feature this node knows by name, without the `option_` prefix of BOLT 9. */
export const FEATURE_BITS = {
  data_loss_protect: 0,
  upfront_shutdown_script: 4,
  gossip_queries: 6,
  var_onion_optin: 8,
  gossip_queries_ex: 10,
  static_remotekey: 12,
  payment_secret: 14,
  basic_mpp: 16,
  support_large_channel: 18,
  anchors: 22,
  route_blinding: 24,
  shutdown_anysegwit: 26,
  dual_fund: 28,
  quiesce: 34,
  attribution_data: 36,
  onion_messages: 38,
  zero_fee_commitments: 40,
  provide_storage: 42,
  channel_type: 44,
  scid_alias: 46,
  payment_metadata: 48,
  zeroconf: 50,
  keysend: 54,
  simple_close: 60,
  splice: 62,
  lsps: 728,
} as const;

/** A feature known by name. */
export type FeatureName = keyof typeof FEATURE_BITS;

/** Whether a feature is required (even bit) or offered (odd bit). */
export type FeatureLevel = 'required' | 'optional';

/** BOLT 9: features which every node is assumed to support, set or not. */
export const ASSUMED_FEATURES: ReadonlySet<FeatureName> = new Set<FeatureName>([
  'data_loss_protect',
  'var_onion_optin',
  'static_remotekey',
  'payment_secret',
  'channel_type',
]);

/** Direct dependencies (BOLT 9, column "Dependencies"). */
export const FEATURE_DEPENDENCIES: Readonly<Partial<Record<FeatureName, readonly FeatureName[]>>> = {
  basic_mpp: ['payment_secret'],
  zeroconf: ['scid_alias'],
  simple_close: ['shutdown_anysegwit'],
};

const KNOWN_NAMES = Object.keys(FEATURE_BITS) as readonly FeatureName[];
const NAME_OF_EVEN_BIT: ReadonlyMap<number, FeatureName> = new Map(
  KNOWN_NAMES.map((name) => [FEATURE_BITS[name], name]),
);

/** A dependency that a set lacks. */
export interface MissingDependency {
  readonly feature: FeatureName;
  readonly needs: FeatureName;
}

/** An immutable set of feature bits, known and unknown. */
export class FeatureBits {
  static readonly EMPTY: FeatureBits = new FeatureBits(new Uint8Array(0));
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** A set from a big-endian bit vector; leading zero bytes carry no meaning and are dropped. */
  static decode(bytes: Uint8Array): FeatureBits {
    let start = 0;
    while (start < bytes.length && bytes[start] === 0) start++;
    return new FeatureBits(copyBytes(bytes.subarray(start)));
  }

  /** A set from names with their levels. */
  static of(features: Readonly<Partial<Record<FeatureName, FeatureLevel>>>): FeatureBits {
    let set = FeatureBits.EMPTY;
    for (const name of KNOWN_NAMES) {
      const level = features[name];
      if (level !== undefined) set = set.with(name, level);
    }
    return set;
  }

  /** A set from bit numbers (0 to 65535·8−1). */
  static fromBits(bits: Iterable<number>): FeatureBits {
    const list = [...bits];
    let highest = -1;
    for (const bit of list) {
      if (!Number.isInteger(bit) || bit < 0 || bit >= 0xffff * 8)
        throw new EncodeError('out_of_range', `bit ${bit}`);
      highest = Math.max(highest, bit);
    }
    const bytes = new Uint8Array(Math.ceil((highest + 1) / 8));
    for (const bit of list) {
      const index = bytes.length - 1 - (bit >> 3);
      bytes[index] = (bytes[index] ?? 0) | (1 << (bit & 7));
    }
    return new FeatureBits(bytes);
  }

  /** The shortest bit vector. BOLT 1: "SHOULD use the minimum length required to represent the features field." */
  encode(): Uint8Array {
    return copyBytes(this.#bytes);
  }

  /** Every bit that is set, ascending. */
  bits(): number[] {
    const out: number[] = [];
    for (let i = this.#bytes.length - 1; i >= 0; i--) {
      const byte = this.#bytes[i] ?? 0;
      if (byte === 0) continue;
      const base = 8 * (this.#bytes.length - 1 - i);
      for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) out.push(base + bit);
    }
    return out;
  }

  /** Whether this very bit is set. */
  hasBit(bit: number): boolean {
    const byte = this.#bytes[this.#bytes.length - 1 - (bit >> 3)] ?? 0;
    return (byte & (1 << (bit & 7))) !== 0;
  }

  /** Required or optional: either bit is set. */
  has(name: FeatureName): boolean {
    return this.hasBit(FEATURE_BITS[name]) || this.hasBit(FEATURE_BITS[name] + 1);
  }

  /** The even bit is set. BOLT 9: with both bits set "the feature should be treated as mandatory". */
  required(name: FeatureName): boolean {
    return this.hasBit(FEATURE_BITS[name]);
  }

  /** The odd bit is set. */
  optional(name: FeatureName): boolean {
    return this.hasBit(FEATURE_BITS[name] + 1);
  }

  /** As has, and true for ASSUMED features whatever is set. */
  supports(name: FeatureName): boolean {
    return ASSUMED_FEATURES.has(name) || this.has(name);
  }

  /** This set with a feature at one level. BOLT 9: "MUST NOT set both the optional and mandatory bits". */
  with(name: FeatureName, level: FeatureLevel): FeatureBits {
    const even = FEATURE_BITS[name];
    const bits = this.bits().filter((bit) => bit !== even && bit !== even + 1);
    return FeatureBits.fromBits([...bits, level === 'required' ? even : even + 1]);
  }

  /** This set without a feature. */
  without(name: FeatureName): FeatureBits {
    const even = FEATURE_BITS[name];
    return FeatureBits.fromBits(this.bits().filter((bit) => bit !== even && bit !== even + 1));
  }

  /** Both sets' bits. BOLT 1, init: "MUST combine (bitwise OR) the two feature bitmaps into one logical features map". */
  union(other: FeatureBits): FeatureBits {
    return FeatureBits.fromBits([...this.bits(), ...other.bits()]);
  }

  /** Same bits. */
  equals(other: FeatureBits): boolean {
    return (
      this.#bytes.length === other.#bytes.length && this.#bytes.every((byte, i) => byte === other.#bytes[i])
    );
  }

  /** Names of the known features that are set at either level. */
  names(): FeatureName[] {
    return KNOWN_NAMES.filter((name) => this.has(name));
  }

  /** BOLT 1: "upon receiving unknown even feature bits that are non-zero: MUST close the connection". */
  unknownRequiredBits(): number[] {
    return this.bits().filter((bit) => bit % 2 === 0 && !NAME_OF_EVEN_BIT.has(bit));
  }

  /**
   * Dependencies that are not set; ASSUMED ones count as set. BOLT 1: "if the feature vector does not set all
   * known, transitive dependencies: MUST close the connection".
   */
  missingDependencies(): MissingDependency[] {
    const missing: MissingDependency[] = [];
    for (const feature of this.names()) {
      for (const needs of FEATURE_DEPENDENCIES[feature] ?? []) {
        if (!this.supports(needs)) missing.push({ feature, needs });
      }
    }
    return missing;
  }
}

/**
 * BOLT 1, "The init Message": "A feature is negotiated if either both peers offered it, or the local node
 * offered it as even". ASSUMED features are always negotiated.
 */
export function negotiated(ours: FeatureBits, theirs: FeatureBits, name: FeatureName): boolean {
  if (ASSUMED_FEATURES.has(name)) return true;
  return ours.required(name) || (ours.has(name) && theirs.has(name));
}

/** The name of the feature a bit (even or odd) belongs to, if known. */
export function featureOfBit(bit: number): FeatureName | undefined {
  return NAME_OF_EVEN_BIT.get(bit - (bit % 2));
}
