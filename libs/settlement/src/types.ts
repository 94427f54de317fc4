/**
 * How a channel ends on-chain, as a function: from its monitor and what the
 * chain says follows everything else: whose commitment confirmed, what became
 * of each of its outputs, what may be claimed now, and how each HTLC ended.
 *
 * Nothing here is state. A reorganisation takes facts away and a restart reads
 * them again; either way the same function gives what is true then. What must
 * outlive a reorganisation (a preimage, a failure passed upstream) is written
 * by the shell, and is said here only when it is safe to.
 */
import type { Tx, TxOutput } from '@fulmen/bitcoin';
import type { Secp256k1 } from '@fulmen/crypto';
import type { HtlcRef, MonitorHtlc } from '@fulmen/monitor';

export interface OutPoint {
  /** Internal byte order. */
  readonly txid: Uint8Array;
  readonly outputIndex: number;
}

/** A transaction of the best chain that spends an output which the settlement watches. */
export interface ConfirmedSpend {
  readonly tx: Tx;
  readonly txid: Uint8Array;
  readonly height: number;
}

/** What the chain and the other channels say about one channel. */
export interface SettlementFacts {
  /** In the order of the chain. */
  readonly confirmed: readonly ConfirmedSpend[];
  /**
   * Spends of watched outputs that wait in the mempool. Preimages are read from
   * them at once, and an unconfirmed commitment may be paid for (CPFP); nothing else follows from them.
   */
  readonly unconfirmed: readonly Tx[];
  readonly bestHeight: number;
  /**
   * By `htlcKey`: preimages that the monitor's own updates did not bring. Of an inbound HTLC it claims the output; of an
   * outbound one it is its outcome.
   */
  readonly preimages: ReadonlyMap<string, Uint8Array>;
}

export interface SettlementContext {
  readonly secp: Secp256k1;
  /**
   * The holder's per-commitment point of a number, for monitors of a release that did not write it down, and for those
   * that lost the commitment itself (`lostHolderNumber`). Without it such a holder commitment is unknown.
   */
  readonly holderPoint?: (commitmentNumber: bigint) => Uint8Array | undefined;
}

/**
 * Which transaction spent the funding output.
 * counterparty_next: the one signed for the counterparty while the one before is not revoked.
 * data_loss: a counterparty commitment newer than any that this monitor knows: only to_remote can be claimed.
 * unknown: nobody's that this monitor can explain; an alarm.
 */
export type CloseType =
  | 'mutual'
  | 'holder'
  | 'counterparty'
  | 'counterparty_next'
  | 'revoked'
  | 'data_loss'
  | 'unknown';

export interface ChannelClose {
  readonly type: CloseType;
  readonly txid: Uint8Array;
  readonly height: number;
  /** Absent for mutual and unknown. */
  readonly commitmentNumber?: bigint;
}

/** What the signer must be told to sign for an output (its `ClaimedOutput`), and what the witness needs besides. */
export type ClaimKind =
  /** to_local of a holder commitment, or the output of the holder's second-stage transaction. */
  | { readonly type: 'holder_delayed'; readonly commitmentNumber: bigint }
  /**
   * An HTLC of the holder's own commitment: its second-stage transaction (BOLT 3). With anchors the input pairs with
   * `output` at the same index (the counterparty signed SINGLE|ANYONECANPAY), further inputs pay the fee; without
   * anchors the transaction is fixed, byte for byte.
   */
  | {
      readonly type: 'holder_htlc';
      readonly commitmentNumber: bigint;
      readonly htlc: MonitorHtlc;
      /** Absent: HTLC-timeout. */
      readonly preimage?: Uint8Array;
      /** 64 bytes, compact. */
      readonly counterpartySignature: Uint8Array;
      readonly sighashType: number;
      readonly output: TxOutput;
      readonly aggregation: 'single_anyonecanpay' | 'fixed';
    }
  /** An HTLC on a counterparty commitment that is not revoked; with a preimage its success, else its time-out. */
  | {
      readonly type: 'counterparty_htlc';
      readonly perCommitmentPoint: Uint8Array;
      readonly htlc: MonitorHtlc;
      readonly preimage?: Uint8Array;
    }
  /** to_remote of any counterparty commitment. */
  | { readonly type: 'counterparty_balance' }
  /** to_local of a revoked counterparty commitment, or the output of its second stage. */
  | { readonly type: 'revoked_delayed'; readonly perCommitmentSecret: Uint8Array }
  | { readonly type: 'revoked_htlc'; readonly perCommitmentSecret: Uint8Array; readonly htlc: MonitorHtlc }
  | { readonly type: 'anchor' };

/** An output that can be claimed in the next block. Whoever pays fees decides when it is. */
export interface Claim {
  readonly outPoint: OutPoint;
  readonly valueSat: bigint;
  readonly scriptPubKey: Uint8Array;
  readonly kind: ClaimKind;
  /** Of the input. */
  readonly sequence: number;
  /**
   * Of the transaction: at least this height; 0: any. A holder_htlc needs exactly this height, 0 included, and version 2:
   * the counterparty's signature commits to both.
   */
  readonly locktimeHeight: number;
  /** Weight of the input's witness with its count, upper bound. */
  readonly witnessWeight: number;
  /**
   * From this height on somebody else can take the output, or (anchor) an HTLC behind it is lost; absent: it waits
   * without harm. A claim should have confirmed before it.
   */
  readonly deadlineHeight?: number;
}

/** What one output of the close is to the holder. */
export type OutputKind =
  | 'to_local'
  | 'to_remote'
  | 'anchor'
  | 'htlc_offered_by_holder'
  | 'htlc_offered_by_counterparty'
  | 'second_stage';

export type OutputStatus =
  /** May be claimed in the block of `height`, not before (CSV or CLTV). */
  | { readonly type: 'maturing'; readonly height: number }
  | { readonly type: 'claimable'; readonly claim: Claim }
  /** The counterparty's unless the preimage shows up; from `expiryHeight` on it takes it back. */
  | { readonly type: 'preimage_unknown'; readonly expiryHeight: number }
  /** Confirmed; `how` says what happened. final: no reorganisation of ANTI_REORG_DELAY blocks undoes it. */
  | {
      readonly type: 'spent';
      readonly txid: Uint8Array;
      readonly height: number;
      readonly by: 'holder' | 'counterparty';
      readonly how: 'claim' | 'second_stage' | 'preimage' | 'timeout' | 'justice' | 'other';
      readonly finality: 'final' | 'young';
    };

/** An output of the confirmed close (or of a second stage behind it) in which the holder has a part. */
export interface SettlementOutput {
  readonly outPoint: OutPoint;
  readonly valueSat: bigint;
  readonly kind: OutputKind;
  /** Of HTLC outputs and of second stages. */
  readonly htlc?: HtlcRef;
  readonly status: OutputStatus;
}

/** How an HTLC that the holder offered ended, as far as it is safe to tell upstream. */
export type HtlcOutcome =
  /** Seen in a block or in the mempool: goes upstream at once, and is never taken back. */
  | { readonly type: 'fulfilled'; readonly htlc: MonitorHtlc; readonly preimage: Uint8Array }
  /** Final, and no preimage is known. */
  | {
      readonly type: 'failed';
      readonly htlc: MonitorHtlc;
      /** uneconomical: its output is worth less than any claim of it; the counterparty may still take it. */
      readonly reason: 'timeout' | 'dust' | 'not_on_commitment' | 'justice' | 'uneconomical';
    }
  | { readonly type: 'pending'; readonly htlc: MonitorHtlc; readonly untilHeight: number | undefined };

/** A commitment that waits in the mempool, and the holder's anchor by which it can be paid for. */
export interface UnconfirmedCommitment {
  readonly tx: Tx;
  readonly txid: Uint8Array;
  readonly owner: 'holder' | 'counterparty';
  /** Absent: the format has no anchors, or this commitment has none of the holder's. */
  readonly anchor: Claim | undefined;
}

export interface Settlement {
  /** closed: some transaction spent the funding output; resolved: nothing is left to do, for good. */
  readonly stage: 'open' | 'closed' | 'resolved';
  readonly close: ChannelClose | undefined;
  readonly outputs: readonly SettlementOutput[];
  /** Of every outbound HTLC of an unrevoked commitment. Empty while the stage is open, but for preimages in the mempool. */
  readonly htlcs: readonly HtlcOutcome[];
  /** While the stage is open. */
  readonly unconfirmedCommitments: readonly UnconfirmedCommitment[];
  /** Spends of these are facts to keep: the fundings, and whatever of the close concerns the holder; of a resolved one too. */
  readonly watched: readonly OutPoint[];
}
