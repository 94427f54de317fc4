/** One sentence of BOLT 2 that binds whoever receives a message, how it is broken, and what the fleet does. */
import type { Play, Reaction } from './play.ts';
import type { Scene } from './scene.ts';

export interface Rule extends Play {
  /** Unique. */
  readonly name: string;
  /** Heading in BOLT 2. */
  readonly section: string;
  /** As it stands there. */
  readonly sentence: string;
  readonly reaction: Reaction;
  /** Must be among what the peer hears, in this order, where the reaction alone would prove little. */
  readonly hears?: readonly string[];
  /** Must not be among what the peer hears. */
  readonly never?: string;
  /** What must hold in the end: throws what does not. */
  readonly check?: (scene: Scene) => void;
}

/** N - s, for signatures that break the low-S rule. */
export function highS(signature: Uint8Array): Uint8Array {
  const order = 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_fffe_baae_dce6_af48_a03b_bfd2_5e8c_d036_4141n;
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).toString('hex')}`);
  const high = (order - s).toString(16).padStart(64, '0');
  return Uint8Array.from([...signature.subarray(0, 32), ...Buffer.from(high, 'hex')]);
}

/** Another byte in it. */
export function spoiled(signature: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(signature);
  bytes[20] = ((bytes[20] ?? 0) + 1) & 0xff;
  return bytes;
}
