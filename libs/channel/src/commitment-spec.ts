import type { HtlcDirection } from './htlc.ts';

/** An HTLC as a commitment transaction needs it. */
export interface CommitmentHtlc {
  /** Seen from the holder, on either side's commitment. */
  readonly direction: HtlcDirection;
  readonly id: bigint;
  readonly amountMsat: bigint;
  readonly paymentHash: Uint8Array;
  readonly cltvExpiryHeight: number;
}

/**
 * The content of one commitment, of either side; with the channel's
 * parameters, a funding and the owner's per-commitment point it determines
 * the transaction. toHolderMsat + toCounterpartyMsat + the HTLCs is always the
 * funding's value in millisatoshis (the commitment fee and anchors are taken
 * from the funder when the transaction is built).
 */
export interface CommitmentSpec {
  /** Counts up from 0, per side. */
  readonly commitmentNumber: bigint;
  readonly feerateSatPerKw: number;
  readonly toHolderMsat: bigint;
  readonly toCounterpartyMsat: bigint;
  readonly htlcs: readonly CommitmentHtlc[];
}
