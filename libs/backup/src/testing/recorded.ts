/** The value whose sealed form was recorded; see vectors/recorded-v1.json. */
import type { PartyParameters } from '@fulmen/channel/parameters';
import type { ChannelBackup, NodeBackup, PartyTerms } from '../backup.ts';

const fill = (byte: number, length = 32): Uint8Array => new Uint8Array(length).fill(byte);
const pointOf = (byte: number): Uint8Array => Uint8Array.from([2, ...fill(byte)]);

const TERMS: PartyTerms = {
  dustLimitSat: 354n,
  toSelfDelayBlocks: 144,
  channelReserveSat: 10_000n,
  htlcMinimumMsat: 1n,
  maxHtlcValueInFlightMsat: 900_000_000n,
  maxAcceptedHtlcs: 483,
};

function partyOf(from: number, terms: PartyTerms): PartyParameters {
  return {
    fundingPubkey: pointOf(from),
    revocationBasepoint: pointOf(from + 1),
    paymentBasepoint: pointOf(from + 2),
    delayedPaymentBasepoint: pointOf(from + 3),
    htlcBasepoint: pointOf(from + 4),
    ...terms,
  };
}

const FIRST: ChannelBackup = {
  channelId: fill(0xc1),
  channelKeysId: fill(0xc2),
  counterpartyNodeId: pointOf(0xa1),
  addresses: [
    { host: '203.0.113.7', port: 9735 },
    { host: 'node.example', port: 19735 },
  ],
  funder: 'holder',
  commitmentFormat: 'anchors',
  channelType: Uint8Array.of(0x40, 0x10, 0x00),
  announce: true,
  holder: { ...TERMS, upfrontShutdownScript: Uint8Array.of(0, 20, ...fill(0x51, 20)) },
  counterparty: partyOf(0x20, { ...TERMS, dustLimitSat: 546n, toSelfDelayBlocks: 720 }),
  fundingTxid: fill(0xf1),
  fundingOutputIndex: 3,
  fundingValueSat: 10_000_000n,
  shutdownScript: Uint8Array.of(0, 20, ...fill(0x51, 20)),
  searchFromHeight: 800_000,
};

export const RECORDED_BACKUP: NodeBackup = {
  nodeId: pointOf(0x99),
  network: 'mainnet',
  keyScheme: 'native-v1',
  sequence: 300n,
  createdUnixSeconds: 1_790_000_000,
  blockHeight: 920_000,
  coverage: 'full',
  channels: [
    FIRST,
    {
      ...FIRST,
      channelId: fill(0xc3),
      channelKeysId: fill(0xc4),
      counterpartyNodeId: pointOf(0xa2),
      addresses: [],
      funder: 'counterparty',
      commitmentFormat: 'static_remotekey',
      channelType: Uint8Array.of(0x10, 0x00),
      announce: false,
      holder: TERMS,
      counterparty: partyOf(0x30, {
        ...TERMS,
        upfrontShutdownScript: Uint8Array.of(0x51, 32, ...fill(0x61)),
      }),
      fundingTxid: fill(0xf2),
      fundingOutputIndex: 0,
      fundingValueSat: 150_000n,
      searchFromHeight: 810_123,
    },
  ],
};

export const RECORDED_SECRET: Uint8Array = fill(0x5e);
export const RECORDED_SALT: Uint8Array = fill(0x5a);
