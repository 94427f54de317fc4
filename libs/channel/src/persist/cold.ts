/**
 * The cold blob: what changes rarely, in full. Version 2 has the feerates of a mutual close; it is written where they are
 * set, and version 1 otherwise, which replicas of the release before read.
 */
import { DecodeError, Reader, Writer } from '@fulmen/codec';
import type { NegotiatedFeatures } from '../context.ts';
import type { ClosingSpec } from '../effect.ts';
import type { ChannelParameters, PartyParameters } from '../parameters.ts';
import type {
  AnnouncementProgress,
  ClosingFeerates,
  ClosingOffer,
  CounterpartyShutdown,
  CounterpartyTerms,
  EstablishedChannel,
  Funding,
  FundingConfirmation,
  HolderShutdown,
  OpeningChannel,
  OpeningPhase,
  OpeningTerms,
  Phase,
} from '../state.ts';
import {
  blob,
  bytes,
  count,
  flag,
  list,
  nothing,
  oneOf,
  optional,
  record,
  text,
  uint,
  union,
} from './fields.ts';
import type { Field } from './fields.ts';

const VERSION = 1;
const VERSION_WITH_FEERATES = 2;

const point = bytes(33);
const hash = bytes(32);
const signature = bytes(64);
const format = oneOf('static_remotekey', 'anchors');
const readiness = oneOf('unsent', 'sent');

export const features: Field<NegotiatedFeatures> = record<NegotiatedFeatures>({
  largeChannels: flag,
  anchors: flag,
  upfrontShutdownScript: flag,
  shutdownAnySegwit: flag,
  scidAlias: flag,
  zeroConf: flag,
  dualFund: flag,
});

const party = record<PartyParameters>({
  fundingPubkey: point,
  revocationBasepoint: point,
  paymentBasepoint: point,
  delayedPaymentBasepoint: point,
  htlcBasepoint: point,
  dustLimitSat: uint,
  toSelfDelayBlocks: count,
  channelReserveSat: uint,
  htlcMinimumMsat: uint,
  maxHtlcValueInFlightMsat: uint,
  maxAcceptedHtlcs: count,
  upfrontShutdownScript: optional(blob),
});

const parameters = record<ChannelParameters>({
  channelKeysId: hash,
  counterpartyNodeId: point,
  funder: oneOf('holder', 'counterparty'),
  commitmentFormat: format,
  channelType: blob,
  announce: flag,
  holder: party,
  counterparty: party,
});

const closing = record<ClosingSpec>({
  toHolderSat: uint,
  toCounterpartySat: uint,
  holderScript: blob,
  counterpartyScript: blob,
  feeSat: uint,
});
const offer = record<ClosingOffer>({
  feeSat: uint,
  feeRange: optional(record<NonNullable<ClosingOffer['feeRange']>>({ minFeeSat: uint, maxFeeSat: uint })),
});
const script = { script: blob } as const;
const reason = { reason: text } as const;

const feerates = record<ClosingFeerates>({
  targetSatPerKw: optional(count),
  maximumSatPerKw: optional(count),
});

type PhaseOf<T extends Phase['type']> = Omit<Extract<Phase, { type: T }>, 'type'>;
const shuttingDown = {
  holder: union<HolderShutdown>({ pending: [0, record(script)], sent: [1, record(script)] }),
  counterparty: union<CounterpartyShutdown>({
    awaited: [0, nothing],
    received: [1, record(script)],
    awaiting_retransmission: [2, record(script)],
  }),
  channelReady: readiness,
};
const negotiating = {
  holderScript: blob,
  counterpartyScript: blob,
  channelReady: readiness,
  holderOffer: optional(offer),
  counterpartyOffer: optional(offer),
};

/** The phases that version 2 changed. */
interface ClosingPhases {
  readonly shuttingDown: Field<PhaseOf<'shutting_down'>>;
  readonly negotiating: Field<PhaseOf<'negotiating_closing'>>;
}

const CLOSING_PHASES: Readonly<Record<1 | 2, ClosingPhases>> = {
  1: {
    shuttingDown: record<Omit<PhaseOf<'shutting_down'>, 'feerates'>>(shuttingDown),
    negotiating: record<Omit<PhaseOf<'negotiating_closing'>, 'feerates'>>(negotiating),
  },
  2: {
    shuttingDown: record<PhaseOf<'shutting_down'>>({ ...shuttingDown, feerates: optional(feerates) }),
    negotiating: record<PhaseOf<'negotiating_closing'>>({ ...negotiating, feerates: optional(feerates) }),
  },
};

function phaseOf(phases: ClosingPhases): Field<Phase> {
  return union<Phase>({
    awaiting_funding_confirmations: [0, nothing],
    awaiting_channel_ready: [1, nothing],
    open: [2, nothing],
    shutting_down: [3, phases.shuttingDown],
    negotiating_closing: [4, phases.negotiating],
    closing_mutual: [5, record({ closing, counterpartySignature: signature })],
    closing_force: [6, record(reason)],
    passive: [7, record(reason)],
    closed: [8, record(reason)],
  });
}

/** A funding without its balances (hot) and signatures (a row of their own). */
export type ColdFunding = Omit<
  Funding,
  'holderBalanceMsat' | 'counterpartyBalanceMsat' | 'signature' | 'htlcSignatures'
>;

const funding = record<ColdFunding>({
  fundingTxid: hash,
  fundingOutputIndex: count,
  fundingValueSat: uint,
  holderFundingPubkey: point,
  counterpartyFundingPubkey: point,
  holderReserveSat: uint,
  counterpartyReserveSat: uint,
  confirmation: union<FundingConfirmation>({
    unconfirmed: [0, nothing],
    confirmed: [1, record({ depth: count, shortChannelId: uint })],
  }),
  announcement: union<AnnouncementProgress>({
    unannounced: [0, nothing],
    holder_sent: [1, nothing],
    counterparty_signed: [
      2,
      record({
        holder: oneOf('unsent', 'sent', 'answered'),
        shortChannelId: uint,
        nodeSignature: signature,
        bitcoinSignature: signature,
      }),
    ],
  }),
});

/** The cold part of an established channel. */
export type ColdChannel = Omit<
  EstablishedChannel,
  'type' | 'changes' | 'connection' | 'monitor' | 'fundings'
> & { readonly fundings: readonly ColdFunding[] };

const establishedOf = (phases: ClosingPhases): Field<ColdChannel> =>
  record<ColdChannel>({
    channelId: hash,
    parameters,
    shutdownScript: blob,
    aliasScid: optional(uint),
    counterpartyAliasScid: optional(uint),
    minimumDepth: count,
    phase: phaseOf(phases),
    fundings: list(funding),
  });
const established = { 1: establishedOf(CLOSING_PHASES[1]), 2: establishedOf(CLOSING_PHASES[2]) } as const;

const terms = record<OpeningTerms>({
  channelKeysId: hash,
  counterpartyNodeId: point,
  commitmentFormat: format,
  channelType: blob,
  announce: flag,
  fundingSat: uint,
  pushMsat: uint,
  feerateSatPerKw: count,
  holder: party,
  shutdownScript: blob,
  aliasScid: optional(uint),
  features,
});

const counterparty = record<CounterpartyTerms>({
  parameters: party,
  firstPerCommitmentPoint: point,
  minimumDepth: count,
});

const opening = record<Omit<OpeningChannel, 'type'>>({
  temporaryChannelId: hash,
  terms,
  phase: union<OpeningPhase>({
    awaiting_accept: [0, nothing],
    awaiting_funding_transaction: [1, record({ counterparty })],
    awaiting_funding_signed: [2, record({ counterparty, fundingTxid: hash, fundingOutputIndex: count })],
    awaiting_funding_created: [3, record({ counterparty })],
    abandoned: [4, record(reason)],
  }),
});

export function encodeColdChannel(state: EstablishedChannel): Uint8Array {
  const { phase } = state;
  const hasFeerates = 'feerates' in phase && phase.feerates !== undefined;
  const version = hasFeerates ? VERSION_WITH_FEERATES : VERSION;
  const writer = new Writer().u8(version);
  established[version].write(writer, state);
  return writer.finish();
}

export function encodeOpening(state: OpeningChannel): Uint8Array {
  const writer = new Writer().u8(VERSION);
  opening.write(writer, state);
  return writer.finish();
}

/** Throws DecodeError. */
export function decodeColdChannel(encoded: Uint8Array): ColdChannel {
  return decode(encoded, established);
}

/** Throws DecodeError. */
export function decodeOpening(encoded: Uint8Array): Omit<OpeningChannel, 'type'> {
  return decode(encoded, { 1: opening });
}

/** @param versions The fields of each version that there is. */
function decode<T>(encoded: Uint8Array, versions: Readonly<Record<number, Field<T>>>): T {
  const reader = new Reader(encoded);
  const version = reader.u8();
  const field = versions[version];
  if (field === undefined) throw new DecodeError('unsupported', `cold blob of version ${version}`);
  const value = field.read(reader);
  reader.expectEnd();
  return value;
}
