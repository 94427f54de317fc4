/** Generators of backups, for this library's tests and its users'. */
import type { PartyParameters } from '@fulmen/channel/parameters';
import { compareBytes, toHex } from '@fulmen/codec';
import fc from 'fast-check';
import type { ChannelBackup, NodeBackup, PartyTerms } from '../backup.ts';

function bytes(length: number): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: length, maxLength: length });
}

const point: fc.Arbitrary<Uint8Array> = fc
  .tuple(fc.constantFrom(2, 3), bytes(32))
  .map(([first, rest]) => Uint8Array.from([first, ...rest]));
const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 300n }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
const u16 = fc.integer({ min: 0, max: 0xffff });
const script = fc.uint8Array({ minLength: 1, maxLength: 40 });

const terms: fc.Arbitrary<PartyTerms> = fc
  .record({
    dustLimitSat: u64,
    toSelfDelayBlocks: u16,
    channelReserveSat: u64,
    htlcMinimumMsat: u64,
    maxHtlcValueInFlightMsat: u64,
    maxAcceptedHtlcs: u16,
    upfront: fc.option(script, { nil: undefined }),
  })
  .map(({ upfront, ...rest }) =>
    upfront === undefined ? rest : { ...rest, upfrontShutdownScript: upfront },
  );

const party: fc.Arbitrary<PartyParameters> = fc
  .tuple(fc.tuple(point, point, point, point, point), terms)
  .map(
    ([
      [fundingPubkey, revocationBasepoint, paymentBasepoint, delayedPaymentBasepoint, htlcBasepoint],
      rest,
    ]) => ({
      fundingPubkey,
      revocationBasepoint,
      paymentBasepoint,
      delayedPaymentBasepoint,
      htlcBasepoint,
      ...rest,
    }),
  );

export const channelBackup: fc.Arbitrary<ChannelBackup> = fc.record({
  channelId: bytes(32),
  channelKeysId: bytes(32),
  counterpartyNodeId: point,
  addresses: fc.array(fc.record({ host: fc.string({ maxLength: 60 }), port: u16 }), { maxLength: 3 }),
  funder: fc.constantFrom('holder' as const, 'counterparty' as const),
  commitmentFormat: fc.constantFrom('static_remotekey' as const, 'anchors' as const),
  channelType: fc.uint8Array({ maxLength: 8 }),
  announce: fc.boolean(),
  holder: terms,
  counterparty: party,
  fundingTxid: bytes(32),
  fundingOutputIndex: u16,
  fundingValueSat: u64,
  shutdownScript: script,
  searchFromHeight: fc.integer({ min: 0, max: 0xffff_ffff }),
});

export const nodeBackup: fc.Arbitrary<NodeBackup> = fc
  .record({
    nodeId: point,
    network: fc.constantFrom('mainnet' as const, 'regtest' as const),
    keyScheme: fc.constant('native-v1' as const),
    sequence: u64,
    createdUnixSeconds: fc.maxSafeNat(),
    blockHeight: fc.integer({ min: 0, max: 0xffff_ffff }),
    coverage: fc.constantFrom('full' as const, 'part' as const),
    channels: fc.uniqueArray(channelBackup, { maxLength: 6, selector: ({ channelId }) => toHex(channelId) }),
  })
  .map((backup) => ({
    ...backup,
    channels: backup.channels.toSorted((a, b) => compareBytes(a.channelId, b.channelId)),
  }));
