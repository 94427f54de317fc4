/** The row with the counterparty's signatures on the holder's latest commitment, per funding. */
import { DecodeError, Reader, Writer } from '@fulmen/codec';
import type { EstablishedChannel } from '../state.ts';
import { bytes, list, record } from './fields.ts';

const VERSION = 1;

export interface FundingSignatures {
  readonly signature: Uint8Array;
  readonly htlcSignatures: readonly Uint8Array[];
}

const signatures = list(record<FundingSignatures>({ signature: bytes(64), htlcSignatures: list(bytes(64)) }));

export function encodeSignatures(state: EstablishedChannel): Uint8Array {
  const writer = new Writer().u8(VERSION);
  signatures.write(writer, state.fundings);
  return writer.finish();
}

/** Throws DecodeError. */
export function decodeSignatures(encoded: Uint8Array): readonly FundingSignatures[] {
  const reader = new Reader(encoded);
  const version = reader.u8();
  if (version !== VERSION) throw new DecodeError('unsupported', `signatures of version ${version}`);
  const value = signatures.read(reader);
  reader.expectEnd();
  return value;
}
