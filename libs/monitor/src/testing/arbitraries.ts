/** Generators of updates and parameters, for this library's tests. */
import fc from 'fast-check';
import type {
  ChannelMonitorUpdate,
  ChannelMonitorUpdateStep,
  CommitmentContent,
  HtlcRef,
  MonitorFunding,
  MonitorHtlc,
  MonitorParameters,
  MonitorParty,
} from '../update.ts';

export function bytes(length: number): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: length, maxLength: length });
}

export const point: fc.Arbitrary<Uint8Array> = fc
  .tuple(fc.constantFrom(2, 3), bytes(32))
  .map(([first, rest]) => Uint8Array.from([first, ...rest]));
const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 300n }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const direction = fc.constantFrom('inbound' as const, 'outbound' as const);
const ref: fc.Arbitrary<HtlcRef> = fc.record({ direction, id: u64 });
const htlc: fc.Arbitrary<MonitorHtlc> = fc.record({
  direction,
  id: u64,
  amountMsat: u64,
  paymentHash: bytes(32),
  cltvExpiryHeight: u32,
});
const content: fc.Arbitrary<CommitmentContent> = fc.record({
  commitmentNumber: u64,
  feerateSatPerKw: u32,
  toHolderMsat: u64,
  toCounterpartyMsat: u64,
  htlcs: fc.array(ref, { maxLength: 4 }),
});
const signatures = fc.record({
  fundingTxid: bytes(32),
  signature: bytes(64),
  htlcSignatures: fc.array(bytes(64), { maxLength: 3 }),
});

const step: fc.Arbitrary<ChannelMonitorUpdateStep> = fc.oneof(
  fc.record({
    type: fc.constant('latest_holder_commitment' as const),
    content,
    newHtlcs: fc.array(htlc, { maxLength: 3 }),
    signatures: fc.array(signatures, { maxLength: 2 }),
  }),
  fc.record({
    type: fc.constant('latest_holder_commitment' as const),
    content,
    newHtlcs: fc.array(htlc, { maxLength: 3 }),
    signatures: fc.array(signatures, { maxLength: 2 }),
    perCommitmentPoint: point,
  }),
  fc.record({
    type: fc.constant('latest_counterparty_commitment' as const),
    content,
    newHtlcs: fc.array(htlc, { maxLength: 3 }),
    perCommitmentPoint: point,
  }),
  fc.record({ type: fc.constant('commitment_secret' as const), commitmentNumber: u64, secret: bytes(32) }),
  fc.record({ type: fc.constant('payment_preimage' as const), htlc: ref, preimage: bytes(32) }),
  fc.record({
    type: fc.constant('channel_force_closed' as const),
    shouldBroadcast: fc.constantFrom('broadcast' as const, 'passive' as const),
    reason: fc.string({ unit: 'grapheme', maxLength: 40 }),
  }),
  fc.record({
    type: fc.constant('shutdown_script' as const),
    scriptPubKey: fc.uint8Array({ maxLength: 40 }),
  }),
);

export const update: fc.Arbitrary<ChannelMonitorUpdate> = fc.record({
  channelId: bytes(32),
  updateId: u64,
  steps: fc.array(step, { maxLength: 4 }),
});

const party: fc.Arbitrary<MonitorParty> = fc.record({
  fundingPubkey: point,
  revocationBasepoint: point,
  paymentBasepoint: point,
  delayedPaymentBasepoint: point,
  htlcBasepoint: point,
  dustLimitSat: u64,
  selfDelayBlocks: fc.integer({ min: 0, max: 0xffff }),
});
const funding: fc.Arbitrary<MonitorFunding> = fc.record({
  fundingTxid: bytes(32),
  fundingOutputIndex: fc.integer({ min: 0, max: 0xffff }),
  fundingValueSat: u64,
  holderFundingPubkey: point,
  counterpartyFundingPubkey: point,
});

export const parameters: fc.Arbitrary<MonitorParameters> = fc.record({
  channelId: bytes(32),
  channelKeysId: bytes(32),
  commitmentFormat: fc.constantFrom('static_remotekey' as const, 'anchors' as const),
  funder: fc.constantFrom('holder' as const, 'counterparty' as const),
  holder: party,
  counterparty: party,
  fundings: fc.array(funding, { minLength: 1, maxLength: 2 }),
});

/** Bytes that are nearly an encoding: a few are changed, or some cut off or added. */
export function damaged(encoding: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  return fc
    .tuple(
      encoding,
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }),
      fc.integer({ min: -4, max: 4 }),
    )
    .map(([original, changes, grow]) => {
      const out = new Uint8Array(Math.max(0, original.length + grow));
      out.set(original.subarray(0, out.length));
      for (const [at, value] of changes) if (out.length > 0) out[at % out.length] = value;
      return out;
    });
}
