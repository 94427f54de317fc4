/**
 * A monitor as bytes, so that a tower need not replay its whole log. Versions
 * are frozen, as the updates' is: 1 has no per-commitment points of the
 * holder's, 2 has at least one. Maps are written in order of direction and id:
 * equal monitors have equal bytes.
 */
import { DecodeError, Writer, decodeWith } from '@fulmen/codec';
import type { Reader, Result } from '@fulmen/codec';
import { decodeSecretStore, encodeSecretStore } from '@fulmen/keys';
import {
  readHtlcArchive,
  readStateArchive,
  stateCount,
  writeHtlcArchive,
  writeStateArchive,
} from './archive.ts';
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
type SnapshotVersion = typeof WITHOUT_HOLDER_POINTS | typeof WITH_HOLDER_POINTS;
const BROADCAST = ['broadcast', 'passive'] as const;

function compareRefs(a: HtlcRef, b: HtlcRef): number {
  if (a.direction !== b.direction) return a.direction === 'inbound' ? -1 : 1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

function snapshotVersion(
  monitor: Pick<ChannelMonitor, 'holderCommitment' | 'previousHolderCommitment'>,
): SnapshotVersion {
  const { holderCommitment, previousHolderCommitment } = monitor;
  return holderCommitment?.perCommitmentPoint === undefined &&
    previousHolderCommitment?.perCommitmentPoint === undefined
    ? WITHOUT_HOLDER_POINTS
    : WITH_HOLDER_POINTS;
}

function readSnapshotVersion(reader: Reader): SnapshotVersion {
  const version = reader.u8();
  if (version !== WITHOUT_HOLDER_POINTS && version !== WITH_HOLDER_POINTS)
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

/** Encodes a monitor. */
export function encodeMonitor(monitor: ChannelMonitor): Uint8Array {
  const version = snapshotVersion(monitor);
  const writer = new Writer(4096).u8(version);
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
  writeStateArchive(writer, monitor.revokedStates);
  writeHtlcArchive(writer, monitor.revokedHtlcs);
  writeOptional(writer, monitor.shutdownScript, writeVarBytes);
  writeOptional(writer, monitor.forceClose, writeForceClose);
  return writer.finish();
}

function readMonitor(reader: Reader): ChannelMonitor {
  const version = readSnapshotVersion(reader);
  const parameters = readParameters(reader);
  const updateId = reader.bigsize();
  const readHolderOf = (from: Reader): HolderCommitment => readHolder(from, version);
  const holderCommitment = readOptional(reader, readHolderOf);
  const previousHolderCommitment = readOptional(reader, readHolderOf);
  if (snapshotVersion({ holderCommitment, previousHolderCommitment }) !== version)
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
  const revokedStates = readStateArchive(reader);
  // A state is archived when its secret arrives: one without the other could not be punished.
  if (stateCount(revokedStates) !== secrets.value.count)
    throw new DecodeError('invalid_value', 'as many secrets as revoked states');
  const revokedHtlcs = readHtlcArchive(reader);
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

/** Decodes exactly one monitor. `unsupported`: written by a newer release. */
export function decodeMonitor(bytes: Uint8Array): Result<ChannelMonitor, DecodeError> {
  return decodeWith(bytes, readMonitor);
}
