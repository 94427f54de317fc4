/**
 * A monitor as bytes, so that a tower need not replay its whole log. Version
 * 1 is frozen, as the updates' is. Maps are written in order of direction and
 * id: equal monitors have equal bytes.
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
  readVersion,
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

const SNAPSHOT_VERSION = 1;
const BROADCAST = ['broadcast', 'passive'] as const;

function compareRefs(a: HtlcRef, b: HtlcRef): number {
  if (a.direction !== b.direction) return a.direction === 'inbound' ? -1 : 1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

function readHolder(reader: Reader): HolderCommitment {
  return { content: readContent(reader), signatures: readList(reader, readSignatures) };
}

function writeHolder(writer: Writer, commitment: HolderCommitment): void {
  writeContent(writer, commitment.content);
  writeList(writer, commitment.signatures, writeSignatures);
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
  const writer = new Writer(4096).u8(SNAPSHOT_VERSION);
  writeParameters(writer, monitor.parameters);
  writer.bigsize(monitor.updateId);
  writeOptional(writer, monitor.holderCommitment, writeHolder);
  writeOptional(writer, monitor.previousHolderCommitment, writeHolder);
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
  readVersion(reader, SNAPSHOT_VERSION);
  const parameters = readParameters(reader);
  const updateId = reader.bigsize();
  const holderCommitment = readOptional(reader, readHolder);
  const previousHolderCommitment = readOptional(reader, readHolder);
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
