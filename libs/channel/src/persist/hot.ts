/**
 * The hot blob, written with every step: numbers, points, balances, and a few
 * bytes for each HTLC (direction, state, kind of removal, id). Version 1; a
 * later version reads this one, too.
 */
import { DecodeError, Reader, Writer } from '@fulmen/codec';
import type { HtlcDirection, HtlcRemoval } from '../htlc.ts';
import type {
  ChannelChanges,
  Connection,
  CounterpartyPoints,
  EstablishedChannel,
  FeerateUpdate,
  Htlc,
  HtlcState,
  MonitorProgress,
  OwedMessages,
} from '../state.ts';
import { features } from './cold.ts';
import { bytes, count, flag, list, nothing, oneOf, optional, record, uint, union } from './fields.ts';
import type { Field } from './fields.ts';

const VERSION = 1;
const OPENING = 0;
const ESTABLISHED = 1;

/** An HTLC without its body and removal, which are rows of their own. */
export interface HotHtlc {
  readonly direction: HtlcDirection;
  readonly id: bigint;
  readonly state: HtlcState;
  readonly removalType: HtlcRemoval['type'] | undefined;
}

const DIRECTIONS: readonly HtlcDirection[] = ['inbound', 'outbound'];
const STATES: readonly HtlcState[] = [
  'add_pending',
  'add_signed',
  'add_acked',
  'committed',
  'removal_queued',
  'removal_pending',
  'removal_signed',
  'removal_acked',
];
const REMOVALS: readonly (HtlcRemoval['type'] | undefined)[] = [
  undefined,
  'fulfilled',
  'failed',
  'failed_malformed',
];

/** One byte for direction (bit 0), state (bits 1 to 3) and removal (bits 4 and 5), then the id. */
const hotHtlc: Field<HotHtlc> = {
  read: (reader) => {
    const packed = reader.u8();
    const direction = DIRECTIONS[packed & 1];
    const state = STATES[(packed >> 1) & 7];
    if (direction === undefined || state === undefined || packed >> 6 !== 0)
      throw new DecodeError('invalid_value', 'not an HTLC state');
    const removalType = REMOVALS[(packed >> 4) & 3];
    if (state.startsWith('removal_') !== (removalType !== undefined))
      throw new DecodeError('invalid_value', 'an HTLC is removed by one of three ways');
    return { direction, state, removalType, id: reader.bigsize() };
  },
  write: (writer, { direction, state, removalType, id }) => {
    writer
      .u8(DIRECTIONS.indexOf(direction) | (STATES.indexOf(state) << 1) | (REMOVALS.indexOf(removalType) << 4))
      .bigsize(id);
  },
};

/** The hot part of the changes. */
interface HotChanges {
  readonly htlcs: readonly HotHtlc[];
  readonly feerates: readonly FeerateUpdate[];
  readonly nextOutboundHtlcId: bigint;
  readonly nextInboundHtlcId: bigint;
  readonly holderCommitmentNumber: bigint;
  readonly counterpartyCommitmentNumber: bigint;
  readonly counterpartyPoints: CounterpartyPoints;
  readonly counterpartySecretCount: bigint;
  readonly lastSent: ChannelChanges['lastSent'];
}

interface Balances {
  readonly holderBalanceMsat: bigint;
  readonly counterpartyBalanceMsat: bigint;
}

export interface HotChannel {
  readonly changes: HotChanges;
  readonly balances: readonly Balances[];
  readonly connection: Connection;
  readonly monitor: MonitorProgress;
}

const point = bytes(33);
const hot = record<HotChannel>({
  changes: record<HotChanges>({
    htlcs: list(hotHtlc),
    feerates: list(
      record<FeerateUpdate>({
        feerateSatPerKw: count,
        state: oneOf('add_pending', 'add_signed', 'add_acked', 'committed'),
      }),
    ),
    nextOutboundHtlcId: uint,
    nextInboundHtlcId: uint,
    holderCommitmentNumber: uint,
    counterpartyCommitmentNumber: uint,
    counterpartyPoints: record<CounterpartyPoints>({
      previous: optional(point),
      current: point,
      next: optional(point),
    }),
    counterpartySecretCount: uint,
    lastSent: oneOf('revoke_and_ack', 'commitment_signed'),
  }),
  balances: list(record<Balances>({ holderBalanceMsat: uint, counterpartyBalanceMsat: uint })),
  connection: union<Connection>({
    disconnected: [0, nothing],
    reestablishing: [1, record({ features })],
    connected: [2, record({ features })],
  }),
  monitor: record<MonitorProgress>({
    updateId: uint,
    durability: union<MonitorProgress['durability']>({
      complete: [0, nothing],
      in_progress: [
        1,
        record({
          owed: record<OwedMessages>({
            fundingSigned: flag,
            channelReady: flag,
            revokeAndAck: flag,
            commitmentSigned: oneOf('none', 'alone', 'with_updates'),
            shutdown: flag,
          }),
        }),
      ],
    }),
  }),
});

export function encodeHotOpening(): Uint8Array {
  return new Writer().u8(VERSION).u8(OPENING).finish();
}

export function encodeHot(state: EstablishedChannel): Uint8Array {
  const { changes, fundings, connection, monitor } = state;
  const writer = new Writer().u8(VERSION).u8(ESTABLISHED);
  hot.write(writer, {
    changes: {
      ...changes,
      htlcs: changes.htlcs.map(hotOf),
      counterpartySecretCount: changes.counterpartySecrets.count,
    },
    balances: fundings,
    connection,
    monitor,
  });
  return writer.finish();
}

function hotOf(htlc: Htlc): HotHtlc {
  const { direction, id } = htlc.body;
  return { direction, id, state: htlc.state, removalType: 'removal' in htlc ? htlc.removal.type : undefined };
}

/** Throws DecodeError. */
export function decodeHot(encoded: Uint8Array): 'opening' | HotChannel {
  const reader = new Reader(encoded);
  const version = reader.u8();
  if (version !== VERSION) throw new DecodeError('unsupported', `hot blob of version ${version}`);
  const kind = reader.u8();
  if (kind === OPENING) {
    reader.expectEnd();
    return 'opening';
  }
  if (kind !== ESTABLISHED) throw new DecodeError('invalid_value', `unknown kind of channel ${kind}`);
  const value = hot.read(reader);
  reader.expectEnd();
  return value;
}
