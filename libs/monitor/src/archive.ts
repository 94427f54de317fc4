/**
 * What justice needs of revoked counterparty commitments, packed: each HTLC
 * once, with the interval of commitments that it was in, and each state's
 * feerate and balances as differences from the state before. Both are
 * append-only lists of sealed chunks of bytes that successive monitors share,
 * and an open end of objects; a breach is rare enough to search them.
 */
import { DecodeError, Reader, Writer } from '@fulmen/codec';
import { readHtlc, writeHtlc } from './fields.ts';
import type { MonitorHtlc } from './update.ts';

/** An HTLC, and the first and last counterparty commitment that it was in. */
export interface ArchivedHtlc {
  readonly htlc: MonitorHtlc;
  readonly firstNumber: bigint;
  readonly lastNumber: bigint;
}

/** A revoked counterparty commitment but for its HTLCs. */
export interface RevokedState {
  readonly feerateSatPerKw: number;
  readonly toHolderMsat: bigint;
  readonly toCounterpartyMsat: bigint;
}

/** An append-only list: `chunkLength` items in every sealed chunk, fewer in the open end. */
interface Packed<T, Chunk> {
  readonly sealed: readonly Chunk[];
  readonly open: readonly T[];
}

interface HtlcChunk {
  readonly bytes: Uint8Array;
  /** No HTLC inside was in a commitment outside these bounds. */
  readonly firstNumber: bigint;
  readonly lastNumber: bigint;
}

export type HtlcArchive = Packed<ArchivedHtlc, HtlcChunk>;
export type StateArchive = Packed<RevokedState, Uint8Array>;

export const HTLCS_PER_CHUNK = 128;
export const STATES_PER_CHUNK = 256;
/** Balances fit 62 bits: above all bitcoin in msat, and their differences still fit a BigSize when folded. */
export const MAX_BALANCE_MSAT = (1n << 62n) - 1n;

export const EMPTY_HTLC_ARCHIVE: HtlcArchive = { sealed: [], open: [] };
export const EMPTY_STATE_ARCHIVE: StateArchive = { sealed: [], open: [] };

export function appendHtlc(archive: HtlcArchive, htlc: ArchivedHtlc): HtlcArchive {
  const open = [...archive.open, htlc];
  if (open.length < HTLCS_PER_CHUNK) return { sealed: archive.sealed, open };
  return { sealed: [...archive.sealed, sealHtlcs(encodeHtlcs(open), open)], open: [] };
}

export function appendState(archive: StateArchive, state: RevokedState): StateArchive {
  const open = [...archive.open, state];
  if (open.length < STATES_PER_CHUNK) return { sealed: archive.sealed, open };
  return { sealed: [...archive.sealed, encodeStates(open)], open: [] };
}

/** How many states the archive holds: also the number of the first one that it does not. */
export function stateCount(archive: StateArchive): bigint {
  return BigInt(archive.sealed.length * STATES_PER_CHUNK + archive.open.length);
}

/** The state of a revoked commitment, or undefined if it is not in the archive. */
export function stateAt(archive: StateArchive, commitmentNumber: bigint): RevokedState | undefined {
  if (commitmentNumber < 0n || commitmentNumber >= stateCount(archive)) return undefined;
  const chunk = archive.sealed[Number(commitmentNumber / BigInt(STATES_PER_CHUNK))];
  const states = chunk === undefined ? archive.open : readStates(new Reader(chunk), STATES_PER_CHUNK);
  return states[Number(commitmentNumber % BigInt(STATES_PER_CHUNK))];
}

/** Every archived HTLC that was in a commitment. */
export function htlcsAt(archive: HtlcArchive, commitmentNumber: bigint): MonitorHtlc[] {
  const covers = (interval: { readonly firstNumber: bigint; readonly lastNumber: bigint }): boolean =>
    interval.firstNumber <= commitmentNumber && commitmentNumber <= interval.lastNumber;
  const sealed = archive.sealed
    .filter(covers)
    .flatMap(({ bytes }) => readHtlcs(new Reader(bytes), HTLCS_PER_CHUNK));
  return [...sealed, ...archive.open].filter(covers).map(({ htlc }) => htlc);
}

/** Bytes that the archives take, the open ends included. */
export function archiveLength(
  htlcs: HtlcArchive,
  states: StateArchive,
): { readonly htlcBytes: number; readonly stateBytes: number } {
  let htlcBytes = encodeHtlcs(htlcs.open).length;
  for (const { bytes } of htlcs.sealed) htlcBytes += bytes.length;
  let stateBytes = encodeStates(states.open).length;
  for (const chunk of states.sealed) stateBytes += chunk.length;
  return { htlcBytes, stateBytes };
}

function sealHtlcs(bytes: Uint8Array, htlcs: readonly ArchivedHtlc[]): HtlcChunk {
  let firstNumber = htlcs[0]?.firstNumber ?? 0n;
  let lastNumber = 0n;
  for (const htlc of htlcs) {
    if (htlc.firstNumber < firstNumber) firstNumber = htlc.firstNumber;
    if (htlc.lastNumber > lastNumber) lastNumber = htlc.lastNumber;
  }
  return { bytes, firstNumber, lastNumber };
}

function encodeHtlcs(htlcs: readonly ArchivedHtlc[]): Uint8Array {
  const writer = new Writer(64 * htlcs.length);
  for (const { htlc, firstNumber, lastNumber } of htlcs) {
    writeHtlc(writer, htlc);
    writer.bigsize(firstNumber).bigsize(lastNumber - firstNumber);
  }
  return writer.finish();
}

function readHtlcs(reader: Reader, count: number): ArchivedHtlc[] {
  const out: ArchivedHtlc[] = [];
  for (let i = 0; i < count; i++) {
    const htlc = readHtlc(reader);
    const firstNumber = reader.bigsize();
    const lastNumber = firstNumber + reader.bigsize();
    if (lastNumber >> 48n !== 0n) throw new DecodeError('invalid_value', 'commitment number above 2^48');
    out.push({ htlc, firstNumber, lastNumber });
  }
  return out;
}

// A state is one byte that says which values differ from the state before, and those differences folded to unsigned.
const FEERATE = 1;
const TO_HOLDER = 2;
const TO_COUNTERPARTY = 4;
const NOTHING: RevokedState = { feerateSatPerKw: 0, toHolderMsat: 0n, toCounterpartyMsat: 0n };

function fold(difference: bigint): bigint {
  return difference >= 0n ? 2n * difference : -2n * difference - 1n;
}

function unfold(folded: bigint): bigint {
  return (folded & 1n) === 0n ? folded >> 1n : -((folded + 1n) >> 1n);
}

function encodeStates(states: readonly RevokedState[]): Uint8Array {
  const writer = new Writer(16 * states.length);
  let previous = NOTHING;
  for (const state of states) {
    const differences = [
      [FEERATE, BigInt(state.feerateSatPerKw - previous.feerateSatPerKw)],
      [TO_HOLDER, state.toHolderMsat - previous.toHolderMsat],
      [TO_COUNTERPARTY, state.toCounterpartyMsat - previous.toCounterpartyMsat],
    ] as const;
    writer.u8(
      differences.reduce((flags, [flag, difference]) => (difference === 0n ? flags : flags | flag), 0),
    );
    for (const [, difference] of differences) if (difference !== 0n) writer.bigsize(fold(difference));
    previous = state;
  }
  return writer.finish();
}

function readStates(reader: Reader, count: number): RevokedState[] {
  const out: RevokedState[] = [];
  let previous = NOTHING;
  for (let i = 0; i < count; i++) {
    const flags = reader.u8();
    if (flags > 7) throw new DecodeError('invalid_value', 'unknown flags of a state');
    const next = (flag: number, from: bigint, max: bigint): bigint => {
      if ((flags & flag) === 0) return from;
      const difference = unfold(reader.bigsize());
      const value = from + difference;
      if (difference === 0n || value < 0n || value > max)
        throw new DecodeError('invalid_value', 'state out of range');
      return value;
    };
    previous = {
      feerateSatPerKw: Number(next(FEERATE, BigInt(previous.feerateSatPerKw), 0xffff_ffffn)),
      toHolderMsat: next(TO_HOLDER, previous.toHolderMsat, MAX_BALANCE_MSAT),
      toCounterpartyMsat: next(TO_COUNTERPARTY, previous.toCounterpartyMsat, MAX_BALANCE_MSAT),
    };
    out.push(previous);
  }
  return out;
}

/** Writes an archive of HTLCs: count, then the items of all chunks. */
export function writeHtlcArchive(writer: Writer, archive: HtlcArchive): void {
  writer.bigsize(archive.sealed.length * HTLCS_PER_CHUNK + archive.open.length);
  for (const { bytes } of archive.sealed) writer.bytes(bytes);
  writer.bytes(encodeHtlcs(archive.open));
}

export function readHtlcArchive(reader: Reader): HtlcArchive {
  let left = reader.bigsizeLength();
  const sealed: HtlcChunk[] = [];
  for (; left >= HTLCS_PER_CHUNK; left -= HTLCS_PER_CHUNK) {
    const htlcs = readHtlcs(reader, HTLCS_PER_CHUNK);
    sealed.push(sealHtlcs(encodeHtlcs(htlcs), htlcs));
  }
  return { sealed, open: readHtlcs(reader, left) };
}

/** Writes an archive of states: count, then the items of all chunks. */
export function writeStateArchive(writer: Writer, archive: StateArchive): void {
  writer.bigsize(stateCount(archive));
  for (const chunk of archive.sealed) writer.bytes(chunk);
  writer.bytes(encodeStates(archive.open));
}

export function readStateArchive(reader: Reader): StateArchive {
  let left = reader.bigsizeLength();
  const sealed: Uint8Array[] = [];
  for (; left >= STATES_PER_CHUNK; left -= STATES_PER_CHUNK)
    sealed.push(encodeStates(readStates(reader, STATES_PER_CHUNK)));
  return { sealed, open: readStates(reader, left) };
}
