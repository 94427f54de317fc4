/** How a channel is stored: two versioned blobs, the registration (written once) and the small state that moves. */
import type { PartyParameters } from '@fulmen/channel/parameters';
import { DecodeError, type Reader, Writer, concatBytes, decodeWith } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { decodeSecretStore, encodeSecretStore } from '@fulmen/keys';
import type {
  ChannelLock,
  ChannelRegistration,
  CommitmentRecord,
  CounterpartyCommitmentRecord,
  SignerChannelState,
} from './types.ts';

const REGISTRATION_VERSION = 1;
const STATE_VERSION = 1;

function writeVar(writer: Writer, bytes: Uint8Array): void {
  writer.u16(bytes.length).bytes(bytes);
}

function writeParty(writer: Writer, party: PartyParameters): void {
  for (const key of [
    party.fundingPubkey,
    party.revocationBasepoint,
    party.paymentBasepoint,
    party.delayedPaymentBasepoint,
    party.htlcBasepoint,
  ])
    writer.bytes(key);
  writer
    .u64(party.dustLimitSat)
    .u32(party.toSelfDelayBlocks)
    .u64(party.channelReserveSat)
    .u64(party.htlcMinimumMsat);
  writer
    .u64(party.maxHtlcValueInFlightMsat)
    .u32(party.maxAcceptedHtlcs)
    .u8(party.upfrontShutdownScript === undefined ? 0 : 1);
  writeVar(writer, party.upfrontShutdownScript ?? new Uint8Array(0));
}

function readParty(reader: Reader): PartyParameters {
  const party = {
    fundingPubkey: reader.bytes(33),
    revocationBasepoint: reader.bytes(33),
    paymentBasepoint: reader.bytes(33),
    delayedPaymentBasepoint: reader.bytes(33),
    htlcBasepoint: reader.bytes(33),
    dustLimitSat: reader.u64(),
    toSelfDelayBlocks: reader.u32(),
    channelReserveSat: reader.u64(),
    htlcMinimumMsat: reader.u64(),
    maxHtlcValueInFlightMsat: reader.u64(),
    maxAcceptedHtlcs: reader.u32(),
  };
  const hasScript = readFlag(reader);
  const script = reader.bytes(reader.u16());
  return hasScript ? { ...party, upfrontShutdownScript: script } : party;
}

function readFlag(reader: Reader): boolean {
  const value = reader.u8();
  if (value > 1) throw new DecodeError('invalid_value', 'a flag is 0 or 1');
  return value === 1;
}

export function encodeRegistration(registration: ChannelRegistration): Uint8Array {
  const writer = new Writer(600);
  writer
    .u8(REGISTRATION_VERSION)
    .bytes(registration.channelKeysId)
    .bytes(registration.channelId)
    .bytes(registration.counterpartyNodeId);
  writer.u8(registration.funder === 'holder' ? 1 : 0).u8(registration.commitmentFormat === 'anchors' ? 1 : 0);
  writeParty(writer, registration.holder);
  writeParty(writer, registration.counterparty);
  const { funding } = registration;
  writer.bytes(funding.fundingTxid).u32(funding.fundingOutputIndex).u64(funding.fundingValueSat);
  writer.bytes(funding.holderFundingPubkey).bytes(funding.counterpartyFundingPubkey);
  writer.u32(registration.shard).u8(registration.announce ? 1 : 0);
  writeVar(writer, registration.channelType);
  return writer.finish();
}

function readRegistration(reader: Reader): ChannelRegistration {
  expectVersion(reader, REGISTRATION_VERSION);
  return {
    channelKeysId: reader.bytes(32),
    channelId: reader.bytes(32),
    counterpartyNodeId: reader.bytes(33),
    funder: readFlag(reader) ? 'holder' : 'counterparty',
    commitmentFormat: readFlag(reader) ? 'anchors' : 'static_remotekey',
    holder: readParty(reader),
    counterparty: readParty(reader),
    funding: {
      fundingTxid: reader.bytes(32),
      fundingOutputIndex: reader.u32(),
      fundingValueSat: reader.u64(),
      holderFundingPubkey: reader.bytes(33),
      counterpartyFundingPubkey: reader.bytes(33),
    },
    shard: reader.u32(),
    announce: readFlag(reader),
    channelType: reader.bytes(reader.u16()),
  };
}

function expectVersion(reader: Reader, version: number): void {
  const found = reader.u8();
  if (found !== version) throw new DecodeError('unsupported', `version ${found}`);
}

function writeRecord(writer: Writer, record: CommitmentRecord): void {
  writer
    .u64(record.commitmentNumber)
    .bytes(record.digest)
    .u64(record.toHolderMsat)
    .u64(record.toCounterpartyMsat)
    .u16(record.htlcCount);
}

function readRecord(reader: Reader): CommitmentRecord {
  return {
    commitmentNumber: reader.u64(),
    digest: reader.bytes(32),
    toHolderMsat: reader.u64(),
    toCounterpartyMsat: reader.u64(),
    htlcCount: reader.u16(),
  };
}

function writeLock(writer: Writer, lock: ChannelLock): void {
  switch (lock.type) {
    case 'none':
      writer.u8(0);
      break;
    case 'mutual_close':
      writer.u8(1);
      break;
    case 'closing':
      writer.u8(2).u64(lock.commitmentNumber);
      break;
    case 'frozen':
      writer.u8(3);
      break;
  }
}

function readLock(reader: Reader): ChannelLock {
  switch (reader.u8()) {
    case 0:
      return { type: 'none' };
    case 1:
      return { type: 'mutual_close' };
    case 2:
      return { type: 'closing', commitmentNumber: reader.u64() };
    case 3:
      return { type: 'frozen' };
    default:
      throw new DecodeError('invalid_value', 'unknown lock');
  }
}

/** The part that moves; some 250 bytes and 32 for each power of two of commitments. */
export function encodeState(state: SignerChannelState): Uint8Array {
  const writer = new Writer(512);
  writer
    .u8(STATE_VERSION)
    .u64(state.nextHolderCommitment)
    .u64(state.nextHolderRevocation)
    .u64(state.nextCounterpartyCommitment);
  writeLock(writer, state.lock);
  writer.u8(state.holderCommitments.length);
  for (const record of state.holderCommitments) writeRecord(writer, record);
  writer.u8(state.counterpartyCommitments.length);
  for (const record of state.counterpartyCommitments) {
    writeRecord(writer, record);
    writer.bytes(record.perCommitmentPoint);
  }
  return concatBytes(writer.finish(), encodeSecretStore(state.secrets));
}

function readState(reader: Reader, registration: ChannelRegistration): SignerChannelState {
  expectVersion(reader, STATE_VERSION);
  const nextHolderCommitment = reader.u64();
  const nextHolderRevocation = reader.u64();
  const nextCounterpartyCommitment = reader.u64();
  const lock = readLock(reader);
  const holderCommitments: CommitmentRecord[] = [];
  for (let i = reader.u8(); i > 0; i--) holderCommitments.push(readRecord(reader));
  const counterpartyCommitments: CounterpartyCommitmentRecord[] = [];
  for (let i = reader.u8(); i > 0; i--)
    counterpartyCommitments.push({ ...readRecord(reader), perCommitmentPoint: reader.bytes(33) });
  const secrets = decodeSecretStore(reader.rest());
  if (!secrets.ok) throw new DecodeError('invalid_value', secrets.error.message);
  return {
    registration,
    nextHolderCommitment,
    nextHolderRevocation,
    nextCounterpartyCommitment,
    holderCommitments,
    counterpartyCommitments,
    secrets: secrets.value,
    lock,
  };
}

/** Reads both blobs back. */
export function decodeChannel(
  registration: Uint8Array,
  state: Uint8Array,
): Result<SignerChannelState, DecodeError> {
  const parameters = decodeWith(registration, readRegistration);
  if (!parameters.ok) return parameters;
  return decodeWith(state, (reader) => readState(reader, parameters.value));
}
