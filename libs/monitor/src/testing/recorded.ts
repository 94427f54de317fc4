/** The values whose encodings were recorded; see vectors/. */
import type { ChannelMonitorUpdate, MonitorParameters, MonitorParty } from '../update.ts';
import type { Move } from './history.ts';

function fill(byte: number, length = 32): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

function pointOf(byte: number): Uint8Array {
  return Uint8Array.from([2, ...fill(byte)]);
}

function partyOf(from: number, limits: Pick<MonitorParty, 'dustLimitSat' | 'selfDelayBlocks'>): MonitorParty {
  return {
    fundingPubkey: pointOf(from),
    revocationBasepoint: pointOf(from + 1),
    paymentBasepoint: pointOf(from + 2),
    delayedPaymentBasepoint: pointOf(from + 3),
    htlcBasepoint: pointOf(from + 4),
    ...limits,
  };
}

export const RECORDED_PARAMETERS: MonitorParameters = {
  channelId: fill(0xc1),
  channelKeysId: fill(0xc2),
  commitmentFormat: 'anchors',
  funder: 'counterparty',
  holder: partyOf(0x10, { dustLimitSat: 354n, selfDelayBlocks: 144 }),
  counterparty: partyOf(0x20, { dustLimitSat: 546n, selfDelayBlocks: 720 }),
  fundings: [
    {
      fundingTxid: fill(0xf1),
      fundingOutputIndex: 3,
      fundingValueSat: 10_000_000n,
      holderFundingPubkey: pointOf(0x10),
      counterpartyFundingPubkey: pointOf(0x20),
    },
  ],
};

const HTLC = {
  direction: 'outbound',
  id: 7n,
  amountMsat: 1_234_567n,
  paymentHash: fill(0xaa),
  cltvExpiryHeight: 800_000,
} as const;
const CONTENT = {
  commitmentNumber: 300n,
  feerateSatPerKw: 2500,
  toHolderMsat: 70_000n,
  toCounterpartyMsat: 5_000_000_000n,
  htlcs: [
    { direction: 'outbound', id: 7n },
    { direction: 'inbound', id: 70_000n },
  ],
} as const;

/** One step of every type. */
export const RECORDED_UPDATE: ChannelMonitorUpdate = {
  channelId: fill(0xc1),
  updateId: 1000n,
  steps: [
    {
      type: 'latest_holder_commitment',
      content: CONTENT,
      newHtlcs: [HTLC],
      signatures: [
        {
          fundingTxid: fill(0xf1),
          signature: fill(0x51, 64),
          htlcSignatures: [fill(0x52, 64), fill(0x53, 64)],
        },
      ],
    },
    {
      type: 'latest_counterparty_commitment',
      content: CONTENT,
      newHtlcs: [],
      perCommitmentPoint: pointOf(0x77),
    },
    { type: 'commitment_secret', commitmentNumber: 299n, secret: fill(0x99) },
    { type: 'payment_preimage', htlc: { direction: 'inbound', id: 70_000n }, preimage: fill(0x88) },
    {
      type: 'channel_force_closed',
      shouldBroadcast: 'passive',
      reason: 'peer failed the channel: ünreachable',
    },
    { type: 'shutdown_script', scriptPubKey: Uint8Array.from([0, 20, ...fill(0x66, 20)]) },
  ],
};

/** As version 2 brought it: with the holder's per-commitment point. */
export const RECORDED_UPDATE_WITH_POINT: ChannelMonitorUpdate = {
  ...RECORDED_UPDATE,
  steps: RECORDED_UPDATE.steps.map((step) =>
    step.type === 'latest_holder_commitment' ? { ...step, perCommitmentPoint: pointOf(0x78) } : step,
  ),
};

/** Leaves HTLCs live, archived and with a preimage, and a counterparty commitment unrevoked. */
export const RECORDED_MOVES: readonly Move[] = [
  { type: 'add', direction: 'outbound', amountMsat: 1_000_000n, cltvExpiryHeight: 500 },
  { type: 'add', direction: 'inbound', amountMsat: 2_500n, cltvExpiryHeight: 501 },
  { type: 'sign_counterparty' },
  { type: 'revoke' },
  { type: 'sign_holder' },
  { type: 'preimage', index: 1 },
  { type: 'remove', index: 0, outcome: 'failed' },
  { type: 'fee', feerateSatPerKw: 1000 },
  { type: 'sign_counterparty' },
  { type: 'revoke' },
  { type: 'sign_holder' },
  { type: 'sign_holder' },
  { type: 'add', direction: 'outbound', amountMsat: 3_000_000n, cltvExpiryHeight: 502 },
  { type: 'sign_counterparty' },
];
