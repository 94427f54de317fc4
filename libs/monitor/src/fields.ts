/** How the small shapes of this library are read and written; shared by the update, parameter and snapshot codecs. */
import { DecodeError, EncodeError, utf8Decode, utf8Encode } from '@fulmen/codec';
import type { Reader, Writer } from '@fulmen/codec';
import type {
  CommitmentContent,
  HolderCommitmentSignatures,
  HtlcRef,
  MonitorFunding,
  MonitorHtlc,
  MonitorParameters,
  MonitorParty,
} from './update.ts';

/** Checks a version byte: an unknown one was written by a newer release. */
export function readVersion(reader: Reader, known: number): void {
  const version = reader.u8();
  if (version !== known) throw new DecodeError('unsupported', `version ${version}`);
}

/** Reads one byte that names one of several values. */
export function readName<const T extends readonly string[]>(reader: Reader, names: T): T[number] {
  const index = reader.u8();
  const name = names[index];
  if (name === undefined) throw new DecodeError('invalid_value', `no value ${index}`);
  return name;
}

export function writeName<const T extends readonly string[]>(
  writer: Writer,
  names: T,
  name: T[number],
): void {
  writer.u8(names.indexOf(name));
}

/** Writes exactly `length` bytes; another length is our own mistake. */
export function writeFixed(writer: Writer, value: Uint8Array, length: number): void {
  if (value.length !== length)
    throw new EncodeError('wrong_length', `${value.length} bytes instead of ${length}`);
  writer.bytes(value);
}

export function readPoint(reader: Reader): Uint8Array {
  const bytes = reader.bytes(33);
  if (bytes[0] !== 2 && bytes[0] !== 3) throw new DecodeError('invalid_point', 'not a compressed point');
  return bytes;
}

export function readVarBytes(reader: Reader): Uint8Array {
  return reader.bytes(reader.bigsizeLength());
}

export function writeVarBytes(writer: Writer, value: Uint8Array): void {
  writer.bigsize(value.length).bytes(value);
}

export function readText(reader: Reader): string {
  const text = utf8Decode(readVarBytes(reader));
  if (!text.ok) throw text.error;
  return text.value;
}

export function writeText(writer: Writer, text: string): void {
  writeVarBytes(writer, utf8Encode(text));
}

/** A bigsize count and that many elements. Every element takes at least one byte, so that no count outgrows the input. */
export function readList<T>(reader: Reader, read: (reader: Reader) => T): T[] {
  const count = reader.bigsizeLength();
  const out: T[] = [];
  for (let i = 0; i < count; i++) out.push(read(reader));
  return out;
}

export function writeList<T>(
  writer: Writer,
  values: readonly T[],
  write: (writer: Writer, value: T) => void,
): void {
  writer.bigsize(values.length);
  for (const value of values) write(writer, value);
}

/** A byte that says whether the value follows. */
export function readOptional<T>(reader: Reader, read: (reader: Reader) => T): T | undefined {
  return readName(reader, ['absent', 'present']) === 'present' ? read(reader) : undefined;
}

export function writeOptional<T>(
  writer: Writer,
  value: T | undefined,
  write: (writer: Writer, value: T) => void,
): void {
  writeName(writer, ['absent', 'present'], value === undefined ? 'absent' : 'present');
  if (value !== undefined) write(writer, value);
}

const DIRECTIONS = ['inbound', 'outbound'] as const;
const FORMATS = ['static_remotekey', 'anchors'] as const;
const PARTIES = ['holder', 'counterparty'] as const;

export function readRef(reader: Reader): HtlcRef {
  return { direction: readName(reader, DIRECTIONS), id: reader.bigsize() };
}

export function writeRef(writer: Writer, ref: HtlcRef): void {
  writeName(writer, DIRECTIONS, ref.direction);
  writer.bigsize(ref.id);
}

export function readHtlc(reader: Reader): MonitorHtlc {
  return {
    ...readRef(reader),
    amountMsat: reader.bigsize(),
    paymentHash: reader.bytes(32),
    cltvExpiryHeight: reader.u32(),
  };
}

export function writeHtlc(writer: Writer, htlc: MonitorHtlc): void {
  writeRef(writer, htlc);
  writer.bigsize(htlc.amountMsat);
  writeFixed(writer, htlc.paymentHash, 32);
  writer.u32(htlc.cltvExpiryHeight);
}

export function readContent(reader: Reader): CommitmentContent {
  return {
    commitmentNumber: reader.bigsize(),
    feerateSatPerKw: reader.u32(),
    toHolderMsat: reader.bigsize(),
    toCounterpartyMsat: reader.bigsize(),
    htlcs: readList(reader, readRef),
  };
}

export function writeContent(writer: Writer, content: CommitmentContent): void {
  writer
    .bigsize(content.commitmentNumber)
    .u32(content.feerateSatPerKw)
    .bigsize(content.toHolderMsat)
    .bigsize(content.toCounterpartyMsat);
  writeList(writer, content.htlcs, writeRef);
}

export function readSignatures(reader: Reader): HolderCommitmentSignatures {
  return {
    fundingTxid: reader.bytes(32),
    signature: reader.bytes(64),
    htlcSignatures: readList(reader, (from) => from.bytes(64)),
  };
}

export function writeSignatures(writer: Writer, signatures: HolderCommitmentSignatures): void {
  writeFixed(writer, signatures.fundingTxid, 32);
  writeFixed(writer, signatures.signature, 64);
  writeList(writer, signatures.htlcSignatures, (to, signature) => writeFixed(to, signature, 64));
}

function readParty(reader: Reader): MonitorParty {
  return {
    fundingPubkey: readPoint(reader),
    revocationBasepoint: readPoint(reader),
    paymentBasepoint: readPoint(reader),
    delayedPaymentBasepoint: readPoint(reader),
    htlcBasepoint: readPoint(reader),
    dustLimitSat: reader.bigsize(),
    selfDelayBlocks: reader.u16(),
  };
}

function writeParty(writer: Writer, party: MonitorParty): void {
  for (const point of [
    party.fundingPubkey,
    party.revocationBasepoint,
    party.paymentBasepoint,
    party.delayedPaymentBasepoint,
    party.htlcBasepoint,
  ]) {
    writeFixed(writer, point, 33);
  }
  writer.bigsize(party.dustLimitSat).u16(party.selfDelayBlocks);
}

function readFunding(reader: Reader): MonitorFunding {
  return {
    fundingTxid: reader.bytes(32),
    fundingOutputIndex: reader.u16(),
    fundingValueSat: reader.bigsize(),
    holderFundingPubkey: readPoint(reader),
    counterpartyFundingPubkey: readPoint(reader),
  };
}

function writeFunding(writer: Writer, funding: MonitorFunding): void {
  writeFixed(writer, funding.fundingTxid, 32);
  writer.u16(funding.fundingOutputIndex).bigsize(funding.fundingValueSat);
  writeFixed(writer, funding.holderFundingPubkey, 33);
  writeFixed(writer, funding.counterpartyFundingPubkey, 33);
}

export function readParameters(reader: Reader): MonitorParameters {
  return {
    channelId: reader.bytes(32),
    channelKeysId: reader.bytes(32),
    commitmentFormat: readName(reader, FORMATS),
    funder: readName(reader, PARTIES),
    holder: readParty(reader),
    counterparty: readParty(reader),
    fundings: readList(reader, readFunding),
  };
}

export function writeParameters(writer: Writer, parameters: MonitorParameters): void {
  writeFixed(writer, parameters.channelId, 32);
  writeFixed(writer, parameters.channelKeysId, 32);
  writeName(writer, FORMATS, parameters.commitmentFormat);
  writeName(writer, PARTIES, parameters.funder);
  writeParty(writer, parameters.holder);
  writeParty(writer, parameters.counterparty);
  writeList(writer, parameters.fundings, writeFunding);
}
