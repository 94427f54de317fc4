/**
 * Scripts: compiling with minimal pushes, taking apart, the standard output
 * forms, and which of them BOLT 2 allows for `shutdown`.
 */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { hash160, sha256 } from '@fulmen/crypto';
import { ByteWriter, bytesEqual } from './bytes.ts';
import { BitcoinError } from './errors.ts';
import { OP } from './opcodes.ts';

/** An opcode, or data to push. */
export type ScriptPart = number | Uint8Array;

/** Longest script that can run (consensus). */
export const MAX_SCRIPT_LENGTH = 10_000;
const MAX_PUSH_LENGTH = 520;

function pushLength(data: Uint8Array): number {
  if (smallIntegerOpcode(data) !== undefined) return 1;
  if (data.length < OP.PUSHDATA1) return 1 + data.length;
  return data.length <= 0xff ? 2 + data.length : 3 + data.length;
}

/** The one-byte opcode that pushes this data, when there is one (BIP 62 rule 3). */
function smallIntegerOpcode(data: Uint8Array): number | undefined {
  if (data.length === 0) return OP.FALSE;
  const [first] = data;
  if (data.length !== 1 || first === undefined) return undefined;
  if (first >= 1 && first <= 16) return OP.N1 + first - 1;
  return first === 0x81 ? OP.NEGATE1 : undefined;
}

function writePush(writer: ByteWriter, data: Uint8Array): void {
  const opcode = smallIntegerOpcode(data);
  if (opcode !== undefined) {
    writer.u8(opcode);
    return;
  }
  if (data.length < OP.PUSHDATA1) writer.u8(data.length);
  else if (data.length <= 0xff) writer.u8(OP.PUSHDATA1).u8(data.length);
  else
    writer
      .u8(OP.PUSHDATA2)
      .u8(data.length & 0xff)
      .u8(data.length >> 8);
  writer.raw(data);
}

/**
 * Serializes opcodes and pushes, each push in its minimal form.
 *
 * @throws BitcoinError `bad-script` for a push above 520 bytes or a number that is no opcode.
 */
export function compileScript(parts: readonly ScriptPart[]): Uint8Array {
  let length = 0;
  for (const part of parts) {
    if (typeof part === 'number') {
      if (!Number.isInteger(part) || part < 0 || part > 0xff)
        throw new BitcoinError('bad-script', `${part} is no opcode`);
      length += 1;
    } else {
      if (part.length > MAX_PUSH_LENGTH) throw new BitcoinError('bad-script', 'a push has at most 520 bytes');
      length += pushLength(part);
    }
  }
  const writer = new ByteWriter(length);
  for (const part of parts) {
    if (typeof part === 'number') writer.u8(part);
    else writePush(writer, part);
  }
  return writer.bytes;
}

/** Takes a script apart; a push of any form becomes its data. Fails with `bad-script` when a push runs past the end. */
export function decompileScript(script: Uint8Array): Result<ScriptPart[], BitcoinError> {
  const parts: ScriptPart[] = [];
  let at = 0;
  while (at < script.length) {
    const opcode = script[at++] as number;
    let length: number;
    if (opcode === OP.FALSE || opcode > OP.PUSHDATA4) {
      parts.push(opcode);
      continue;
    } else if (opcode < OP.PUSHDATA1) {
      length = opcode;
    } else {
      const lengthBytes = opcode === OP.PUSHDATA1 ? 1 : opcode === OP.PUSHDATA2 ? 2 : 4;
      if (at + lengthBytes > script.length)
        return err(new BitcoinError('bad-script', 'push length is cut off'));
      length = 0;
      for (let i = 0; i < lengthBytes; i++) length += (script[at + i] as number) * 2 ** (8 * i);
      at += lengthBytes;
    }
    if (length > script.length - at) return err(new BitcoinError('bad-script', 'push runs past the end'));
    parts.push(script.slice(at, at + length));
    at += length;
  }
  return ok(parts);
}

/**
 * A number as script data (sign and magnitude, shortest form); as a part of
 * `compileScript` it becomes OP_0..OP_16 or a minimal push.
 *
 * @throws BitcoinError `bad-script` unless a safe integer.
 */
export function scriptNumber(value: number): Uint8Array {
  if (!Number.isSafeInteger(value)) throw new BitcoinError('bad-script', `${value} is no script number`);
  const bytes: number[] = [];
  for (let rest = Math.abs(value); rest > 0; rest = Math.floor(rest / 256)) bytes.push(rest % 256);
  const last = bytes.at(-1);
  if (last !== undefined) {
    if (last & 0x80) bytes.push(value < 0 ? 0x80 : 0);
    else if (value < 0) bytes[bytes.length - 1] = last | 0x80;
  }
  return Uint8Array.from(bytes);
}

function assertHashLength(hash: Uint8Array, length: number): void {
  if (hash.length !== length)
    throw new BitcoinError('bad-script', `expects ${length} bytes, got ${hash.length}`);
}

/** SHA-256 of a witness script: the program of its P2WSH output. */
export function witnessScriptHash(witnessScript: Uint8Array): Uint8Array {
  return sha256(witnessScript);
}

/** P2WSH output script paying to a witness script. */
export function p2wshScript(witnessScript: Uint8Array): Uint8Array {
  return compileScript([OP.FALSE, witnessScriptHash(witnessScript)]);
}

/** P2WPKH output script of a compressed public key (33 bytes). */
export function p2wpkhScript(publicKey: Uint8Array): Uint8Array {
  assertHashLength(publicKey, 33);
  return compileScript([OP.FALSE, hash160(publicKey)]);
}

/** P2TR output script of an output key (32 bytes, x-only, tweaked already). */
export function p2trScript(outputKey: Uint8Array): Uint8Array {
  assertHashLength(outputKey, 32);
  return compileScript([OP.N1, outputKey]);
}

/** P2PKH output script of a public key hash (20 bytes). */
export function p2pkhScript(publicKeyHash: Uint8Array): Uint8Array {
  assertHashLength(publicKeyHash, 20);
  return compileScript([OP.DUP, OP.HASH160, publicKeyHash, OP.EQUALVERIFY, OP.CHECKSIG]);
}

/** P2SH output script of a redeem script. */
export function p2shScript(redeemScript: Uint8Array): Uint8Array {
  return p2shScriptOfHash(hash160(redeemScript));
}

/** P2SH output script of a script hash (20 bytes). */
export function p2shScriptOfHash(scriptHash: Uint8Array): Uint8Array {
  assertHashLength(scriptHash, 20);
  return compileScript([OP.HASH160, scriptHash, OP.EQUAL]);
}

/** Pay-to-anchor (BIP 433): anyone can spend it, with an empty witness. */
export const P2A_SCRIPT: Uint8Array = Uint8Array.from([OP.N1, 2, 0x4e, 0x73]);

/** OP_RETURN output with one push of data. @throws BitcoinError `bad-script` above 80 bytes. */
export function opReturnScript(data: Uint8Array): Uint8Array {
  if (data.length > 80) throw new BitcoinError('bad-script', 'OP_RETURN carries at most 80 bytes');
  return compileScript([OP.RETURN, data]);
}

/** Version and program of a witness output (BIP 141), or undefined. */
export function witnessProgram(script: Uint8Array): { version: number; program: Uint8Array } | undefined {
  const [first, length] = script;
  if (first === undefined || length === undefined || script.length < 4 || script.length > 42)
    return undefined;
  if (first !== OP.FALSE && (first < OP.N1 || first > OP.N16)) return undefined;
  if (length !== script.length - 2) return undefined;
  return { version: first === OP.FALSE ? 0 : first - OP.N1 + 1, program: script.slice(2) };
}

/** The form of an output script. */
export type ScriptKind =
  | 'p2pkh'
  | 'p2sh'
  | 'p2wpkh'
  | 'p2wsh'
  | 'p2tr'
  | 'p2a'
  | 'witness-unknown'
  | 'op-return'
  | 'nonstandard';

/** Recognizes the form of an output script. */
export function scriptKind(script: Uint8Array): ScriptKind {
  const witness = witnessProgram(script);
  if (witness !== undefined) {
    const { version, program } = witness;
    if (version === 0)
      return program.length === 20 ? 'p2wpkh' : program.length === 32 ? 'p2wsh' : 'nonstandard';
    if (version === 1 && program.length === 32) return 'p2tr';
    return bytesEqual(script, P2A_SCRIPT) ? 'p2a' : 'witness-unknown';
  }
  if (script[0] === OP.RETURN) return 'op-return';
  if (script.length === 25 && bytesEqual(script, p2pkhScript(script.subarray(3, 23)))) return 'p2pkh';
  if (script.length === 23 && bytesEqual(script, p2shScriptOfHash(script.subarray(2, 22)))) return 'p2sh';
  return 'nonstandard';
}

/** Which negotiated features widen the forms of a shutdown script. */
export interface ShutdownScriptFeatures {
  readonly shutdownAnySegwit: boolean;
  readonly simpleClose: boolean;
}

/** BOLT 2, "Closing Initiation": whether `scriptpubkey` is in a form that a node may send. */
export function isValidShutdownScript(script: Uint8Array, features: ShutdownScriptFeatures): boolean {
  const witness = witnessProgram(script);
  if (witness !== undefined) {
    // BOLT 2: "`OP_0` `20` 20-bytes (version 0 pay to witness pubkey hash), OR `OP_0` `32` 32-bytes"
    if (witness.version === 0) return witness.program.length === 20 || witness.program.length === 32;
    // BOLT 2: "if (and only if) `option_shutdown_anysegwit` is negotiated: `OP_1` through `OP_16` inclusive,
    // followed by a single push of 2 to 40 bytes"
    return features.shutdownAnySegwit;
  }
  return features.simpleClose && isShutdownOpReturn(script);
}

/**
 * BOLT 2: "`OP_RETURN` followed by one of: `6` to `75` inclusive followed by exactly that many bytes;
 * `76` followed by `76` to `80` followed by exactly that many bytes"
 */
export function isShutdownOpReturn(script: Uint8Array): boolean {
  const [first, second, third] = script;
  if (first !== OP.RETURN || second === undefined) return false;
  if (second >= 6 && second <= 75) return script.length === 2 + second;
  return (
    second === OP.PUSHDATA1 &&
    third !== undefined &&
    third >= 76 &&
    third <= 80 &&
    script.length === 3 + third
  );
}
