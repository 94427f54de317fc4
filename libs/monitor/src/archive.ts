/**
 * What justice needs of revoked counterparty commitments, packed: each HTLC
 * once, with the interval of commitments that it was in, and each state's
 * feerate and balances as differences from the state before. Both are
 * append-only lists of sealed chunks of bytes and an open end of objects. A
 * monitor goes on without its chunks: only what rebuilds a revoked commitment
 * needs some of them at hand.
 */
import { DecodeError, InternalError, Reader, Writer } from '@fulmen/codec';
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

/** A sealed part of an archive: it never changes, and whoever stores monitors keeps it apart. */
export interface ArchiveChunk {
  readonly kind: 'htlc' | 'state';
  /** Of the chunks of its kind, from 0 on. */
  readonly number: number;
  /** Nothing inside is of a commitment outside these bounds. */
  readonly firstNumber: bigint;
  readonly lastNumber: bigint;
  readonly bytes: Uint8Array;
}

/** An append-only list: as many items in every sealed chunk, fewer in the open end. */
interface Packed<T> {
  /** Chunks that were ever sealed, at hand or not. */
  readonly sealedCount: number;
  /** Those at hand, by number. */
  readonly sealed: ReadonlyMap<number, ArchiveChunk>;
  readonly open: readonly T[];
}

export interface HtlcArchive extends Packed<ArchivedHtlc> {
  /** Commitments of which every chunk is at hand, when not all chunks are. */
  readonly atHand: ReadonlySet<bigint>;
}
export type StateArchive = Packed<RevokedState>;

export const HTLCS_PER_CHUNK = 128;
export const STATES_PER_CHUNK = 256;
/** Balances fit 62 bits: above all bitcoin in msat, and their differences still fit a BigSize when folded. */
export const MAX_BALANCE_MSAT = (1n << 62n) - 1n;

export const EMPTY_HTLC_ARCHIVE: HtlcArchive = {
  sealedCount: 0,
  sealed: new Map(),
  open: [],
  atHand: new Set(),
};
export const EMPTY_STATE_ARCHIVE: StateArchive = { sealedCount: 0, sealed: new Map(), open: [] };

export function appendHtlc(archive: HtlcArchive, htlc: ArchivedHtlc): HtlcArchive {
  const open = [...archive.open, htlc];
  if (open.length < HTLCS_PER_CHUNK) return { ...archive, open };
  return { ...archive, ...seal(archive, htlcChunk(archive.sealedCount, encodeHtlcs(open), open)) };
}

export function appendState(archive: StateArchive, state: RevokedState): StateArchive {
  const open = [...archive.open, state];
  if (open.length < STATES_PER_CHUNK) return { ...archive, open };
  return { ...archive, ...seal(archive, stateChunk(archive.sealedCount, encodeStates(open))) };
}

function seal(archive: Packed<unknown>, chunk: ArchiveChunk): Packed<never> {
  return {
    sealedCount: archive.sealedCount + 1,
    sealed: new Map(archive.sealed).set(chunk.number, chunk),
    open: [],
  };
}

/** How many states the archive has: also the number of the first one that it has not. */
export function stateCount(archive: StateArchive): bigint {
  return BigInt(archive.sealedCount * STATES_PER_CHUNK + archive.open.length);
}

/**
 * The state of a revoked commitment, or undefined if it is not in the archive.
 * @throws InternalError when its chunk is not at hand
 */
export function stateAt(archive: StateArchive, commitmentNumber: bigint): RevokedState | undefined {
  if (commitmentNumber < 0n || commitmentNumber >= stateCount(archive)) return undefined;
  const number = Number(commitmentNumber / BigInt(STATES_PER_CHUNK));
  const chunk = archive.sealed.get(number);
  if (chunk === undefined && number < archive.sealedCount)
    throw new InternalError(`the chunk of state ${commitmentNumber} is not at hand`);
  const states = chunk === undefined ? archive.open : readStates(new Reader(chunk.bytes), STATES_PER_CHUNK);
  return states[Number(commitmentNumber % BigInt(STATES_PER_CHUNK))];
}

/**
 * Every archived HTLC that was in a commitment.
 * @throws InternalError when chunks that may have some are not at hand
 */
export function htlcsAt(archive: HtlcArchive, commitmentNumber: bigint): MonitorHtlc[] {
  if (!isWhole(archive) && !archive.atHand.has(commitmentNumber))
    throw new InternalError(`the HTLCs of commitment ${commitmentNumber} are not at hand`);
  const covers = (interval: { readonly firstNumber: bigint; readonly lastNumber: bigint }): boolean =>
    interval.firstNumber <= commitmentNumber && commitmentNumber <= interval.lastNumber;
  const sealed = [...archive.sealed.values()]
    .filter(covers)
    .flatMap(({ bytes }) => readHtlcs(new Reader(bytes), HTLCS_PER_CHUNK));
  return [...sealed, ...archive.open].filter(covers).map(({ htlc }) => htlc);
}

/** Every chunk is at hand. */
export function isWhole(archive: Packed<unknown>): boolean {
  return archive.sealed.size === archive.sealedCount;
}

/** Bytes that the archives take, the open ends included, as far as they are at hand. */
export function archiveLength(
  htlcs: HtlcArchive,
  states: StateArchive,
): { readonly htlcBytes: number; readonly stateBytes: number } {
  let htlcBytes = encodeHtlcs(htlcs.open).length;
  for (const { bytes } of htlcs.sealed.values()) htlcBytes += bytes.length;
  let stateBytes = encodeStates(states.open).length;
  for (const { bytes } of states.sealed.values()) stateBytes += bytes.length;
  return { htlcBytes, stateBytes };
}

function stateChunk(number: number, bytes: Uint8Array): ArchiveChunk {
  const firstNumber = BigInt(number * STATES_PER_CHUNK);
  return {
    kind: 'state',
    number,
    firstNumber,
    lastNumber: firstNumber + BigInt(STATES_PER_CHUNK) - 1n,
    bytes,
  };
}

function htlcChunk(number: number, bytes: Uint8Array, htlcs: readonly ArchivedHtlc[]): ArchiveChunk {
  let firstNumber = htlcs[0]?.firstNumber ?? 0n;
  let lastNumber = 0n;
  for (const htlc of htlcs) {
    if (htlc.firstNumber < firstNumber) firstNumber = htlc.firstNumber;
    if (htlc.lastNumber > lastNumber) lastNumber = htlc.lastNumber;
  }
  return { kind: 'htlc', number, firstNumber, lastNumber, bytes };
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

/** Items of an archive that are written as one list: count, the items of all chunks, the open end. */
function listCount(archive: Packed<unknown>, perChunk: number): number {
  return archive.sealedCount * perChunk + archive.open.length;
}

/** What comes before and after the chunks of a whole archive of states. */
export const writeStateCount = (writer: Writer, archive: StateArchive): void =>
  void writer.bigsize(listCount(archive, STATES_PER_CHUNK));
export const writeOpenStates = (writer: Writer, archive: StateArchive): void =>
  void writer.bytes(encodeStates(archive.open));

/** What comes before and after the chunks of a whole archive of HTLCs. */
export const writeHtlcCount = (writer: Writer, archive: HtlcArchive): void =>
  void writer.bigsize(listCount(archive, HTLCS_PER_CHUNK));
export const writeOpenHtlcs = (writer: Writer, archive: HtlcArchive): void =>
  void writer.bytes(encodeHtlcs(archive.open));

/** Reads a whole archive; its chunks share memory with the input. */
export function readHtlcArchive(reader: Reader): HtlcArchive {
  let left = reader.bigsizeLength();
  const sealed = new Map<number, ArchiveChunk>();
  for (; left >= HTLCS_PER_CHUNK; left -= HTLCS_PER_CHUNK) {
    const start = reader.offset;
    const htlcs = readHtlcs(reader, HTLCS_PER_CHUNK);
    sealed.set(sealed.size, htlcChunk(sealed.size, reader.readSince(start), htlcs));
  }
  return { sealedCount: sealed.size, sealed, open: readHtlcs(reader, left), atHand: new Set() };
}

/** Reads a whole archive; its chunks share memory with the input. */
export function readStateArchive(reader: Reader): StateArchive {
  let left = reader.bigsizeLength();
  const sealed = new Map<number, ArchiveChunk>();
  for (; left >= STATES_PER_CHUNK; left -= STATES_PER_CHUNK) {
    const start = reader.offset;
    readStates(reader, STATES_PER_CHUNK);
    sealed.set(sealed.size, stateChunk(sealed.size, reader.readSince(start)));
  }
  return { sealedCount: sealed.size, sealed, open: readStates(reader, left) };
}

/** Chunks are numbered by an int4 where they are stored. */
const MAX_CHUNKS = 0x7fff_ffffn;

function readEnd<T>(reader: Reader, perChunk: number, read: (reader: Reader, count: number) => T[]) {
  const sealedCount = reader.bigsize();
  const count = reader.bigsizeLength();
  if (sealedCount > MAX_CHUNKS || count >= perChunk)
    throw new DecodeError('invalid_value', 'no end of an archive');
  return {
    sealedCount: Number(sealedCount),
    sealed: new Map<number, ArchiveChunk>(),
    open: read(reader, count),
  };
}

/** Writes the end of an archive without its chunks: their count, the count of the open items, and those. */
export function writeStateEnd(writer: Writer, { sealedCount, open }: StateArchive): void {
  writer.bigsize(sealedCount).bigsize(open.length).bytes(encodeStates(open));
}

export function readStateEnd(reader: Reader): StateArchive {
  return readEnd(reader, STATES_PER_CHUNK, readStates);
}

/** As `writeStateEnd`. */
export function writeHtlcEnd(writer: Writer, { sealedCount, open }: HtlcArchive): void {
  writer.bigsize(sealedCount).bigsize(open.length).bytes(encodeHtlcs(open));
}

export function readHtlcEnd(reader: Reader): HtlcArchive {
  return { ...readEnd(reader, HTLCS_PER_CHUNK, readHtlcs), atHand: new Set() };
}
