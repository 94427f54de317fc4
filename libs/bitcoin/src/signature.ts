/**
 * ECDSA signatures in their two encodings: 64 bytes compact (BOLT messages,
 * the curve's interface) and strict DER with a hash type byte (witnesses).
 */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { concatBytes } from './bytes.ts';
import { BitcoinError } from './errors.ts';

/** A DER integer: no needless zeros in front, one where the top bit would mean a sign. */
function derInteger(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const body = bytes.subarray(start);
  const pad = ((body[0] as number) & 0x80) === 0 ? [] : [0];
  return concatBytes(Uint8Array.from([0x02, body.length + pad.length, ...pad]), body);
}

/**
 * Strict DER (BIP 66) plus the hash type byte: what goes into a witness.
 *
 * @throws BitcoinError `bad-signature` unless 64 bytes.
 */
export function derFromCompact(signature: Uint8Array, sighashType: number): Uint8Array {
  if (signature.length !== 64) throw new BitcoinError('bad-signature', 'a compact signature has 64 bytes');
  const r = derInteger(signature.subarray(0, 32));
  const s = derInteger(signature.subarray(32));
  return concatBytes(Uint8Array.from([0x30, r.length + s.length]), r, s, Uint8Array.from([sighashType]));
}

/** A signature as found in a witness. */
export interface WitnessSignature {
  /** r ‖ s, 64 bytes. */
  readonly signature: Uint8Array;
  readonly sighashType: number;
}

/** Parses strict DER (BIP 66) plus hash type; r and s must be positive and fit 32 bytes. */
export function compactFromDer(der: Uint8Array): Result<WitnessSignature, BitcoinError> {
  const bad = (reason: string): Result<never, BitcoinError> => err(new BitcoinError('bad-signature', reason));
  if (der.length < 9 || der.length > 73) return bad('length out of bounds');
  if (der[0] !== 0x30 || der[1] !== der.length - 3) return bad('not one DER sequence');
  const signature = new Uint8Array(64);
  let at = 2;
  for (const end of [32, 64]) {
    const length = der[at + 1];
    if (der[at] !== 0x02 || length === undefined || length === 0) return bad('not a DER integer');
    at += 2;
    if (at + length > der.length - 1) return bad('integer runs past the end');
    const integer = der.subarray(at, at + length);
    at += length;
    const [first, second] = integer;
    if (first === undefined || (first & 0x80) !== 0) return bad('negative integer');
    if (first === 0 && second !== undefined && (second & 0x80) === 0) return bad('needless zero');
    if (length === 1 && first === 0) return bad('zero');
    const body = first === 0 ? integer.subarray(1) : integer;
    if (body.length > 32) return bad('integer above 32 bytes');
    signature.set(body, end - body.length);
  }
  if (at !== der.length - 1) return bad('bytes after the integers');
  return ok({ signature, sighashType: der[der.length - 1] as number });
}
