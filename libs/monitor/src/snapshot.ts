/**
 * A monitor as bytes, in two forms. Whole (versions 1 and 2), it is what a tower
 * takes that need not replay the log. As it is stored (version 3), it is
 * without the sealed chunks of its archives, so that its size does not grow with
 * the channel's life. Versions are frozen, as the updates' is: 1 has no
 * per-commitment points of the holder's, 2 has at least one. Maps are written in
 * order of direction and id: equal monitors have equal bytes.
 */
import { DecodeError, InternalError, Writer, decodeWith } from '@fulmen/codec';
import type { Reader, Result } from '@fulmen/codec';
import { decodeSecretStore, encodeSecretStore } from '@fulmen/keys';
import {
  isWhole,
  readHtlcArchive,
  readHtlcEnd,
  readStateArchive,
  readStateEnd,
  stateCount,
  writeHtlcCount,
  writeHtlcEnd,
  writeOpenHtlcs,
  writeOpenStates,
  writeStateCount,
  writeStateEnd,
} from './archive.ts';
import type { ArchiveChunk } from './archive.ts';
import {
  readContent,
  readHtlc,
  readList,
  readName,
  readOptional,
  readParameters,
  readPoint,
  readRef,
  readSignatures,
  readText,
  readVarBytes,
  writeContent,
  writeFixed,
  writeHtlc,
  writeList,
  writeName,
  writeOptional,
  writeParameters,
  writeRef,
  writeSignatures,
  writeText,
  writeVarBytes,
} from './fields.ts';
import { htlcKey } from './state.ts';
import type {
  ChannelMonitor,
  CounterpartyCommitment,
  ForceClose,
  HolderCommitment,
  LiveHtlc,
} from './state.ts';
import type { HtlcRef } from './update.ts';

const WITHOUT_HOLDER_POINTS = 1;
const WITH_HOLDER_POINTS = 2;
const WITHOUT_CHUNKS = 3;
type WholeVersion = typeof WITHOUT_HOLDER_POINTS | typeof WITH_HOLDER_POINTS;
type SnapshotVersion = WholeVersion | typeof WITHOUT_CHUNKS;
const BROADCAST = ['broadcast', 'passive'] as const;

function compareRefs(a: HtlcRef, b: HtlcRef): number {
  if (a.direction !== b.direction) return a.direction === 'inbound' ? -1 : 1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

function wholeVersion(
  monitor: Pick<ChannelMonitor, 'holderCommitment' | 'previousHolderCommitment'>,
): WholeVersion {
  const { holderCommitment, previousHolderCommitment } = monitor;
  return holderCommitment?.perCommitmentPoint === undefined &&
    previousHolderCommitment?.perCommitmentPoint === undefined
    ? WITHOUT_HOLDER_POINTS
    : WITH_HOLDER_POINTS;
}

function readSnapshotVersion(reader: Reader): SnapshotVersion {
  const version = reader.u8();
  if (version !== WITHOUT_HOLDER_POINTS && version !== WITH_HOLDER_POINTS && version !== WITHOUT_CHUNKS)
    throw new DecodeError('unsupported', `version ${version}`);
  return version;
}

function readHolder(reader: Reader, version: SnapshotVersion): HolderCommitment {
  const commitment = { content: readContent(reader), signatures: readList(reader, readSignatures) };
  if (version === WITHOUT_HOLDER_POINTS) return commitment;
  const perCommitmentPoint = readOptional(reader, readPoint);
  return perCommitmentPoint === undefined ? commitment : { ...commitment, perCommitmentPoint };
}

function writeHolder(writer: Writer, commitment: HolderCommitment, version: SnapshotVersion): void {
  writeContent(writer, commitment.content);
  writeList(writer, commitment.signatures, writeSignatures);
  if (version === WITHOUT_HOLDER_POINTS) return;
  writeOptional(writer, commitment.perCommitmentPoint, (to, point) => writeFixed(to, point, 33));
}

function readCounterparty(reader: Reader): CounterpartyCommitment {
  return { content: readContent(reader), perCommitmentPoint: readPoint(reader) };
}

function writeCounterparty(writer: Writer, commitment: CounterpartyCommitment): void {
  writeContent(writer, commitment.content);
  writeFixed(writer, commitment.perCommitmentPoint, 33);
}

function readLive(reader: Reader): LiveHtlc {
  const htlc = readHtlc(reader);
  const counterpartyNumbers = readOptional(reader, (from) => ({
    first: from.bigsize(),
    last: from.bigsize(),
  }));
  return counterpartyNumbers === undefined ? { htlc } : { htlc, counterpartyNumbers };
}

function writeLive(writer: Writer, live: LiveHtlc): void {
  writeHtlc(writer, live.htlc);
  writeOptional(
    writer,
    live.counterpartyNumbers,
    (to, { first, last }) => void to.bigsize(first).bigsize(last),
  );
}

function readForceClose(reader: Reader): ForceClose {
  return { shouldBroadcast: readName(reader, BROADCAST), reason: readText(reader) };
}

function writeForceClose(writer: Writer, forceClose: ForceClose): void {
  writeName(writer, BROADCAST, forceClose.shouldBroadcast);
  writeText(writer, forceClose.reason);
}

/** A list with strictly increasing identities, as a map. */
function mapByRef<Item, Value>(
  items: readonly Item[],
  refOf: (item: Item) => HtlcRef,
  valueOf: (item: Item) => Value,
): Map<string, Value> {
  const out = new Map<string, Value>();
  let previous: HtlcRef | undefined;
  for (const item of items) {
    const ref = refOf(item);
    if (previous !== undefined && compareRefs(previous, ref) >= 0)
      throw new DecodeError('invalid_value', 'HTLCs out of order');
    previous = ref;
    out.set(htlcKey(ref), valueOf(item));
  }
  return out;
}

function writeBeforeArchives(writer: Writer, monitor: ChannelMonitor, version: SnapshotVersion): void {
  writer.u8(version);
  writeParameters(writer, monitor.parameters);
  writer.bigsize(monitor.updateId);
  for (const commitment of [monitor.holderCommitment, monitor.previousHolderCommitment])
    writeOptional(writer, commitment, (to, holder) => writeHolder(to, holder, version));
  writeOptional(writer, monitor.counterpartyCommitment, writeCounterparty);
  writeOptional(writer, monitor.nextCounterpartyCommitment, writeCounterparty);
  const live = [...monitor.htlcs.values()].sort((a, b) => compareRefs(a.htlc, b.htlc));
  writeList(writer, live, writeLive);
  const withPreimage = live.flatMap(({ htlc }) => {
    const preimage = monitor.preimages.get(htlcKey(htlc));
    return preimage === undefined ? [] : [{ htlc, preimage }];
  });
  writeList(writer, withPreimage, (to, { htlc, preimage }) => {
    writeRef(to, htlc);
    writeFixed(to, preimage, 32);
  });
  writeVarBytes(writer, encodeSecretStore(monitor.secrets));
}

function writeAfterArchives(writer: Writer, monitor: ChannelMonitor): void {
  writeOptional(writer, monitor.shutdownScript, writeVarBytes);
  writeOptional(writer, monitor.forceClose, writeForceClose);
}

/** A whole monitor but for its chunks: those of the states belong between `head` and `middle`, those of the HTLCs between `middle` and `tail`. */
export interface WholeFrame {
  readonly head: Uint8Array;
  readonly middle: Uint8Array;
  readonly tail: Uint8Array;
}

/** The frame of a monitor's whole form; its chunks need not be at hand. */
export function encodeWholeFrame(monitor: ChannelMonitor): WholeFrame {
  const head = new Writer(4096);
  writeBeforeArchives(head, monitor, wholeVersion(monitor));
  writeStateCount(head, monitor.revokedStates);
  const middle = new Writer();
  writeOpenStates(middle, monitor.revokedStates);
  writeHtlcCount(middle, monitor.revokedHtlcs);
  const tail = new Writer();
  writeOpenHtlcs(tail, monitor.revokedHtlcs);
  writeAfterArchives(tail, monitor);
  return { head: head.finish(), middle: middle.finish(), tail: tail.finish() };
}

/** Encodes a monitor whole. @throws InternalError when chunks of it are not at hand */
export function encodeMonitor(monitor: ChannelMonitor): Uint8Array {
  const { revokedStates, revokedHtlcs } = monitor;
  if (!isWhole(revokedStates) || !isWhole(revokedHtlcs))
    throw new InternalError('a monitor without its chunks is not whole');
  const { head, middle, tail } = encodeWholeFrame(monitor);
  const writer = new Writer(4096);
  const writeChunks = (chunks: ReadonlyMap<number, ArchiveChunk>): void => {
    for (const { bytes } of [...chunks.values()].sort((a, b) => a.number - b.number)) writer.bytes(bytes);
  };
  writer.bytes(head);
  writeChunks(revokedStates.sealed);
  writer.bytes(middle);
  writeChunks(revokedHtlcs.sealed);
  return writer.bytes(tail).finish();
}

/** A monitor as it is stored: without its chunks, and those of them that are at hand. */
export interface SplitMonitor {
  readonly snapshot: Uint8Array;
  readonly chunks: readonly ArchiveChunk[];
}

/** Splits a monitor into what is written anew with each update and what never changes. */
export function splitMonitor(monitor: ChannelMonitor): SplitMonitor {
  const writer = new Writer(4096);
  writeBeforeArchives(writer, monitor, WITHOUT_CHUNKS);
  writeStateEnd(writer, monitor.revokedStates);
  writeHtlcEnd(writer, monitor.revokedHtlcs);
  writeAfterArchives(writer, monitor);
  return {
    snapshot: writer.finish(),
    chunks: [...monitor.revokedStates.sealed.values(), ...monitor.revokedHtlcs.sealed.values()],
  };
}

/** Whether bytes of `decodeMonitor` are those of a monitor without its chunks. */
export function isSplit(snapshot: Uint8Array): boolean {
  return snapshot[0] === WITHOUT_CHUNKS;
}

function readMonitor(reader: Reader): ChannelMonitor {
  const version = readSnapshotVersion(reader);
  const parameters = readParameters(reader);
  const updateId = reader.bigsize();
  const readHolderOf = (from: Reader): HolderCommitment => readHolder(from, version);
  const holderCommitment = readOptional(reader, readHolderOf);
  const previousHolderCommitment = readOptional(reader, readHolderOf);
  if (version !== WITHOUT_CHUNKS && wholeVersion({ holderCommitment, previousHolderCommitment }) !== version)
    throw new DecodeError('invalid_value', 'version 2 without a point');
  const counterpartyCommitment = readOptional(reader, readCounterparty);
  const nextCounterpartyCommitment = readOptional(reader, readCounterparty);
  const htlcs = mapByRef(
    readList(reader, readLive),
    ({ htlc }) => htlc,
    (live) => live,
  );
  const withPreimage = readList(reader, (from) => ({ ref: readRef(from), preimage: from.bytes(32) }));
  const preimages = mapByRef(
    withPreimage,
    ({ ref }) => ref,
    ({ preimage }) => preimage,
  );
  for (const key of preimages.keys())
    if (!htlcs.has(key)) throw new DecodeError('invalid_value', 'a preimage without its HTLC');
  const secrets = decodeSecretStore(readVarBytes(reader));
  if (!secrets.ok) throw new DecodeError('invalid_value', secrets.error.message);
  const revokedStates = version === WITHOUT_CHUNKS ? readStateEnd(reader) : readStateArchive(reader);
  // A state is archived when its secret arrives: one without the other could not be punished.
  if (stateCount(revokedStates) !== secrets.value.count)
    throw new DecodeError('invalid_value', 'as many secrets as revoked states');
  const revokedHtlcs = version === WITHOUT_CHUNKS ? readHtlcEnd(reader) : readHtlcArchive(reader);
  const shutdownScript = readOptional(reader, readVarBytes);
  const forceClose = readOptional(reader, readForceClose);
  return {
    parameters,
    updateId,
    holderCommitment,
    previousHolderCommitment,
    counterpartyCommitment,
    nextCounterpartyCommitment,
    htlcs,
    preimages,
    secrets: secrets.value,
    revokedHtlcs,
    revokedStates,
    shutdownScript,
    forceClose,
  };
}

/**
 * Decodes exactly one monitor, of either form. The chunks of a whole one are at hand, and share memory with the input;
 * those of one that was split are not. `unsupported`: written by a newer release.
 */
export function decodeMonitor(bytes: Uint8Array): Result<ChannelMonitor, DecodeError> {
  return decodeWith(bytes, readMonitor);
}
