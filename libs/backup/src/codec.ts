/**
 * The content of a backup as bytes, before encryption. Version 1 is frozen: a
 * change needs a new version beside it, and the recorded bytes in the tests
 * must decode for ever. Every value has exactly one encoding.
 */
import type { NetworkName } from '@fulmen/bitcoin';
import type { PartyParameters } from '@fulmen/channel/parameters';
import {
  DecodeError,
  EncodeError,
  Writer,
  compareBytes,
  decodeWith,
  utf8Decode,
  utf8Encode,
} from '@fulmen/codec';
import type { Reader, Result } from '@fulmen/codec';
import type { BackupAddress, ChannelBackup, NodeBackup, PartyTerms } from './backup.ts';

/** Without the header's fields, which lie before the ciphertext. */
export type BackupContent = Omit<NodeBackup, 'nodeId' | 'sequence'>;

/** Addresses kept of one peer. */
export const MAX_ADDRESSES = 8;
/** A host name (DNS: 253), or an onion service's. */
const MAX_HOST_BYTES = 253;
/** What a policy lets through is far below; bounds what a damaged script could claim to be. */
const MAX_SCRIPT_BYTES = 520;
const MAX_CHANNEL_TYPE_BYTES = 64;

const NETWORKS = ['mainnet', 'testnet', 'signet', 'regtest'] as const satisfies readonly NetworkName[];
const KEY_SCHEMES = ['native-v1'] as const;
const COVERAGE = ['full', 'part'] as const;
const PARTIES = ['holder', 'counterparty'] as const;
const FORMATS = ['static_remotekey', 'anchors'] as const;
const PRESENCE = ['absent', 'present'] as const;
const ANNOUNCEMENT = ['private', 'announced'] as const;

const KEYS = [
  'fundingPubkey',
  'revocationBasepoint',
  'paymentBasepoint',
  'delayedPaymentBasepoint',
  'htlcBasepoint',
] as const satisfies readonly (keyof PartyParameters)[];

function readName<const T extends readonly string[]>(reader: Reader, names: T): T[number] {
  const index = reader.u8();
  const name = names[index];
  if (name === undefined) throw new DecodeError('invalid_value', `no value ${index}`);
  return name;
}

function writeName<const T extends readonly string[]>(writer: Writer, names: T, name: T[number]): void {
  writer.u8(names.indexOf(name));
}

function writeFixed(writer: Writer, value: Uint8Array, length: number): void {
  if (value.length !== length)
    throw new EncodeError('wrong_length', `${value.length} bytes instead of ${length}`);
  writer.bytes(value);
}

function readPoint(reader: Reader): Uint8Array {
  const bytes = reader.bytes(33);
  if (bytes[0] !== 2 && bytes[0] !== 3) throw new DecodeError('invalid_point', 'not a compressed point');
  return bytes;
}

function readBlob(reader: Reader, maximum: number): Uint8Array {
  const length = reader.bigsizeLength();
  if (length > maximum) throw new DecodeError('too_long', `${length} bytes, more than ${maximum}`);
  return reader.bytes(length);
}

function writeBlob(writer: Writer, value: Uint8Array, maximum: number): void {
  if (value.length > maximum)
    throw new EncodeError('too_long', `${value.length} bytes, more than ${maximum}`);
  writer.bigsize(value.length).bytes(value);
}

function readTerms(reader: Reader): PartyTerms {
  const terms = {
    dustLimitSat: reader.bigsize(),
    toSelfDelayBlocks: reader.u16(),
    channelReserveSat: reader.bigsize(),
    htlcMinimumMsat: reader.bigsize(),
    maxHtlcValueInFlightMsat: reader.bigsize(),
    maxAcceptedHtlcs: reader.u16(),
  };
  return readName(reader, PRESENCE) === 'absent'
    ? terms
    : { ...terms, upfrontShutdownScript: readBlob(reader, MAX_SCRIPT_BYTES) };
}

function writeTerms(writer: Writer, terms: PartyTerms): void {
  writer
    .bigsize(terms.dustLimitSat)
    .u16(terms.toSelfDelayBlocks)
    .bigsize(terms.channelReserveSat)
    .bigsize(terms.htlcMinimumMsat)
    .bigsize(terms.maxHtlcValueInFlightMsat)
    .u16(terms.maxAcceptedHtlcs);
  const script = terms.upfrontShutdownScript;
  writeName(writer, PRESENCE, script === undefined ? 'absent' : 'present');
  if (script !== undefined) writeBlob(writer, script, MAX_SCRIPT_BYTES);
}

function readParty(reader: Reader): PartyParameters {
  const [fundingPubkey, revocationBasepoint, paymentBasepoint, delayedPaymentBasepoint, htlcBasepoint] = [
    readPoint(reader),
    readPoint(reader),
    readPoint(reader),
    readPoint(reader),
    readPoint(reader),
  ];
  return {
    fundingPubkey,
    revocationBasepoint,
    paymentBasepoint,
    delayedPaymentBasepoint,
    htlcBasepoint,
    ...readTerms(reader),
  };
}

function writeParty(writer: Writer, party: PartyParameters): void {
  for (const key of KEYS) writeFixed(writer, party[key], 33);
  writeTerms(writer, party);
}

function readAddresses(reader: Reader): BackupAddress[] {
  const count = reader.u8();
  if (count > MAX_ADDRESSES) throw new DecodeError('too_long', `${count} addresses`);
  return Array.from({ length: count }, () => {
    const host = utf8Decode(readBlob(reader, MAX_HOST_BYTES));
    if (!host.ok) throw host.error;
    return { host: host.value, port: reader.u16() };
  });
}

function writeAddresses(writer: Writer, addresses: readonly BackupAddress[]): void {
  if (addresses.length > MAX_ADDRESSES) throw new EncodeError('too_long', `${addresses.length} addresses`);
  writer.u8(addresses.length);
  for (const { host, port } of addresses) {
    writeBlob(writer, utf8Encode(host), MAX_HOST_BYTES);
    writer.u16(port);
  }
}

function readChannel(reader: Reader): ChannelBackup {
  return {
    channelId: reader.bytes(32),
    channelKeysId: reader.bytes(32),
    counterpartyNodeId: readPoint(reader),
    addresses: readAddresses(reader),
    funder: readName(reader, PARTIES),
    commitmentFormat: readName(reader, FORMATS),
    channelType: readBlob(reader, MAX_CHANNEL_TYPE_BYTES),
    announce: readName(reader, ANNOUNCEMENT) === 'announced',
    holder: readTerms(reader),
    counterparty: readParty(reader),
    fundingTxid: reader.bytes(32),
    fundingOutputIndex: reader.u16(),
    fundingValueSat: reader.bigsize(),
    shutdownScript: readBlob(reader, MAX_SCRIPT_BYTES),
    searchFromHeight: reader.u32(),
  };
}

function writeChannel(writer: Writer, channel: ChannelBackup): void {
  writeFixed(writer, channel.channelId, 32);
  writeFixed(writer, channel.channelKeysId, 32);
  writeFixed(writer, channel.counterpartyNodeId, 33);
  writeAddresses(writer, channel.addresses);
  writeName(writer, PARTIES, channel.funder);
  writeName(writer, FORMATS, channel.commitmentFormat);
  writeBlob(writer, channel.channelType, MAX_CHANNEL_TYPE_BYTES);
  writeName(writer, ANNOUNCEMENT, channel.announce ? 'announced' : 'private');
  writeTerms(writer, channel.holder);
  writeParty(writer, channel.counterparty);
  writeFixed(writer, channel.fundingTxid, 32);
  writer.u16(channel.fundingOutputIndex).bigsize(channel.fundingValueSat);
  writeBlob(writer, channel.shutdownScript, MAX_SCRIPT_BYTES);
  writer.u32(channel.searchFromHeight);
}

/** Encodes one channel; also what tells whether two backups say the same of it. @throws EncodeError */
export function encodeChannel(channel: ChannelBackup): Uint8Array {
  const writer = new Writer(512);
  writeChannel(writer, channel);
  return writer.finish();
}

/** @throws EncodeError when a field is out of its bounds, or the channels are not in order. */
export function encodeContent(content: BackupContent): Uint8Array {
  const writer = new Writer(1024);
  writeName(writer, NETWORKS, content.network);
  writeName(writer, KEY_SCHEMES, content.keyScheme);
  writer.bigsize(content.createdUnixSeconds).u32(content.blockHeight);
  writeName(writer, COVERAGE, content.coverage);
  writer.bigsize(content.channels.length);
  let before: ChannelBackup | undefined;
  for (const channel of content.channels) {
    if (before !== undefined && compareBytes(before.channelId, channel.channelId) >= 0)
      throw new EncodeError('out_of_range', 'channels are not in order');
    writeChannel(writer, channel);
    before = channel;
  }
  return writer.finish();
}

function readContent(reader: Reader): BackupContent {
  const network = readName(reader, NETWORKS);
  const keyScheme = readName(reader, KEY_SCHEMES);
  const created = reader.bigsize();
  if (created > BigInt(Number.MAX_SAFE_INTEGER)) throw new DecodeError('invalid_value', 'no time');
  const blockHeight = reader.u32();
  const coverage = readName(reader, COVERAGE);
  // A channel takes more bytes than one, so that no count outgrows the input.
  const count = reader.bigsizeLength();
  const channels: ChannelBackup[] = [];
  for (let i = 0; i < count; i++) {
    const channel = readChannel(reader);
    const before = channels.at(-1);
    if (before !== undefined && compareBytes(before.channelId, channel.channelId) >= 0)
      throw new DecodeError('invalid_value', 'channels are not in order');
    channels.push(channel);
  }
  return { network, keyScheme, createdUnixSeconds: Number(created), blockHeight, coverage, channels };
}

/** Decodes exactly one content. */
export function decodeContent(bytes: Uint8Array): Result<BackupContent, DecodeError> {
  return decodeWith(bytes, readContent);
}
