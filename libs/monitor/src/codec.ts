/**
 * The stored form of updates and parameters: rows of a monitor's log, written
 * by the channel's owner and read by every tower, possibly of another release.
 * Version 1 is frozen: a change of the shapes needs a new version or a new
 * number of a step beside it, and the recorded bytes in the tests must decode
 * for ever.
 *
 * Integers that are usually small are BigSize; every value has exactly one
 * encoding.
 */
import { DecodeError, Writer, assertNever, decodeWith } from '@fulmen/codec';
import type { Reader, Result } from '@fulmen/codec';
import {
  readContent,
  readHtlc,
  readList,
  readName,
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
  writeParameters,
  writeRef,
  writeSignatures,
  writeText,
  writeVarBytes,
} from './fields.ts';
import type { ChannelMonitorUpdate, ChannelMonitorUpdateStep, MonitorParameters } from './update.ts';

const UPDATE_VERSION = 1;
const PARAMETERS_VERSION = 1;
const BROADCAST = ['broadcast', 'passive'] as const;

/** Numbers of the steps in the encoding; never reused. */
const STEP = {
  latest_holder_commitment: 1,
  /** The same with its per-commitment point; 1 remains for updates without. */
  latest_holder_commitment_with_point: 7,
  latest_counterparty_commitment: 2,
  commitment_secret: 3,
  payment_preimage: 4,
  channel_force_closed: 5,
  shutdown_script: 6,
} as const satisfies Readonly<
  Record<ChannelMonitorUpdateStep['type'] | 'latest_holder_commitment_with_point', number>
>;

function writeStep(writer: Writer, step: ChannelMonitorUpdateStep): void {
  writer.u8(
    step.type === 'latest_holder_commitment' && step.perCommitmentPoint !== undefined
      ? STEP.latest_holder_commitment_with_point
      : STEP[step.type],
  );
  switch (step.type) {
    case 'latest_holder_commitment':
      writeContent(writer, step.content);
      writeList(writer, step.newHtlcs, writeHtlc);
      writeList(writer, step.signatures, writeSignatures);
      if (step.perCommitmentPoint !== undefined) writeFixed(writer, step.perCommitmentPoint, 33);
      return;
    case 'latest_counterparty_commitment':
      writeContent(writer, step.content);
      writeList(writer, step.newHtlcs, writeHtlc);
      writeFixed(writer, step.perCommitmentPoint, 33);
      return;
    case 'commitment_secret':
      writer.bigsize(step.commitmentNumber);
      writeFixed(writer, step.secret, 32);
      return;
    case 'payment_preimage':
      writeRef(writer, step.htlc);
      writeFixed(writer, step.preimage, 32);
      return;
    case 'channel_force_closed':
      writeName(writer, BROADCAST, step.shouldBroadcast);
      writeText(writer, step.reason);
      return;
    case 'shutdown_script':
      writeVarBytes(writer, step.scriptPubKey);
      return;
    default:
      assertNever(step);
  }
}

function readStep(reader: Reader): ChannelMonitorUpdateStep {
  const type = reader.u8();
  switch (type) {
    case STEP.latest_holder_commitment:
      return {
        type: 'latest_holder_commitment',
        content: readContent(reader),
        newHtlcs: readList(reader, readHtlc),
        signatures: readList(reader, readSignatures),
      };
    case STEP.latest_holder_commitment_with_point:
      return {
        type: 'latest_holder_commitment',
        content: readContent(reader),
        newHtlcs: readList(reader, readHtlc),
        signatures: readList(reader, readSignatures),
        perCommitmentPoint: readPoint(reader),
      };
    case STEP.latest_counterparty_commitment:
      return {
        type: 'latest_counterparty_commitment',
        content: readContent(reader),
        newHtlcs: readList(reader, readHtlc),
        perCommitmentPoint: readPoint(reader),
      };
    case STEP.commitment_secret:
      return { type: 'commitment_secret', commitmentNumber: reader.bigsize(), secret: reader.bytes(32) };
    case STEP.payment_preimage:
      return { type: 'payment_preimage', htlc: readRef(reader), preimage: reader.bytes(32) };
    case STEP.channel_force_closed:
      return {
        type: 'channel_force_closed',
        shouldBroadcast: readName(reader, BROADCAST),
        reason: readText(reader),
      };
    case STEP.shutdown_script:
      return { type: 'shutdown_script', scriptPubKey: readVarBytes(reader) };
    default:
      // A step that this release does not know must not be skipped: it may be what justice depends on.
      throw new DecodeError('unsupported', `step ${type}`);
  }
}

/** Encodes an update. @throws EncodeError for a value out of its range or a wrong length. */
export function encodeChannelMonitorUpdate(update: ChannelMonitorUpdate): Uint8Array {
  const writer = new Writer(512).u8(UPDATE_VERSION);
  writeFixed(writer, update.channelId, 32);
  writer.bigsize(update.updateId);
  writeList(writer, update.steps, writeStep);
  return writer.finish();
}

/** Decodes exactly one update. `unsupported`: written by a newer release. */
export function decodeChannelMonitorUpdate(bytes: Uint8Array): Result<ChannelMonitorUpdate, DecodeError> {
  return decodeWith(bytes, (reader) => {
    readVersion(reader, UPDATE_VERSION);
    return { channelId: reader.bytes(32), updateId: reader.bigsize(), steps: readList(reader, readStep) };
  });
}

/** Encodes a monitor's parameters. @throws EncodeError for a value out of its range or a wrong length. */
export function encodeMonitorParameters(parameters: MonitorParameters): Uint8Array {
  const writer = new Writer(512).u8(PARAMETERS_VERSION);
  writeParameters(writer, parameters);
  return writer.finish();
}

/** Decodes exactly one monitor's parameters. `unsupported`: written by a newer release. */
export function decodeMonitorParameters(bytes: Uint8Array): Result<MonitorParameters, DecodeError> {
  return decodeWith(bytes, (reader) => {
    readVersion(reader, PARAMETERS_VERSION);
    return readParameters(reader);
  });
}
