/** The cold blob: what changes rarely, in full. Version 1; a later version reads this one, too. */
import { DecodeError, Reader, Writer } from '@fulmen/codec';
import type { NegotiatedFeatures } from '../context.ts';
import type { ClosingSpec } from '../effect.ts';
import type { ChannelParameters, PartyParameters } from '../parameters.ts';
import type {
  AnnouncementProgress,
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

const phase = union<Phase>({
  awaiting_funding_confirmations: [0, nothing],
  awaiting_channel_ready: [1, nothing],
  open: [2, nothing],
  shutting_down: [
    3,
    record({
      holder: union<HolderShutdown>({ pending: [0, record(script)], sent: [1, record(script)] }),
      counterparty: union<CounterpartyShutdown>({
        awaited: [0, nothing],
        received: [1, record(script)],
        awaiting_retransmission: [2, record(script)],
      }),
      channelReady: readiness,
    }),
  ],
  negotiating_closing: [
    4,
    record<Omit<Extract<Phase, { type: 'negotiating_closing' }>, 'type'>>({
      holderScript: blob,
      counterpartyScript: blob,
      channelReady: readiness,
      holderOffer: optional(offer),
      counterpartyOffer: optional(offer),
    }),
  ],
  closing_mutual: [5, record({ closing, counterpartySignature: signature })],
  closing_force: [6, record(reason)],
  passive: [7, record(reason)],
  closed: [8, record(reason)],
});

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

const established = record<ColdChannel>({
  channelId: hash,
  parameters,
  shutdownScript: blob,
  aliasScid: optional(uint),
  counterpartyAliasScid: optional(uint),
  minimumDepth: count,
  phase,
  fundings: list(funding),
});

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
  const writer = new Writer().u8(VERSION);
  established.write(writer, state);
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
  return decode(encoded, opening);
}

function decode<T>(encoded: Uint8Array, field: Field<T>): T {
  const reader = new Reader(encoded);
  const version = reader.u8();
  if (version !== VERSION) throw new DecodeError('unsupported', `cold blob of version ${version}`);
  const value = field.read(reader);
  reader.expectEnd();
  return value;
}
