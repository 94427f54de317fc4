/**
 * The words of the sweep planner: what is to be claimed, with what, at which
 * price, and what follows. Everything is data; the shell signs, stores and
 * broadcasts.
 */
import type { Tx, TxOutput } from '@fulmen/bitcoin';
import type { Claim, OutPoint, UnconfirmedCommitment } from '../types.ts';

/** A claim with the channel that it belongs to. */
export interface SweepableClaim {
  readonly channelId: Uint8Array;
  readonly channelKeysId: Uint8Array;
  readonly claim: Claim;
}

/** A commitment that waits in the mempool, or should, and can be paid for by the holder's anchor. */
export interface PayableCommitment {
  readonly channelId: Uint8Array;
  readonly channelKeysId: Uint8Array;
  readonly commitment: UnconfirmedCommitment & { readonly anchor: Claim };
  /** What the commitment itself pays. */
  readonly parentFeeSat: bigint;
  /** What the holder has behind it: its balance and the HTLCs. */
  readonly stakeSat: bigint;
}

/** What one channel brings to the planner. */
export interface ChannelClaims {
  readonly channelId: Uint8Array;
  readonly channelKeysId: Uint8Array;
  readonly claims: readonly Claim[];
  readonly commitments: readonly Omit<PayableCommitment, 'channelId' | 'channelKeysId'>[];
}

/** What was done for a claim before. */
export interface ClaimProgress {
  /** Of the last attempt; 0: none yet. */
  readonly feerateSatPerKw: number;
  readonly requestedFeerateSatPerKw?: number;
  readonly attempts: number;
  readonly firstHeight: number;
}

/** An output of the wallet that may pay a fee: confirmed, mature, and nobody else's. */
export interface WalletCoin {
  readonly outPoint: OutPoint;
  readonly valueSat: bigint;
  readonly script: Uint8Array;
}

/** A transaction of the planner's that was signed before and is not buried. */
export interface PendingSweep {
  readonly sweepId: Uint8Array;
  readonly txid: Uint8Array;
  readonly tx: Tx;
  readonly claims: readonly OutPoint[];
  readonly walletInputs: readonly OutPoint[];
  readonly feeSat: bigint;
  /** With an unconfirmed parent: of both together. */
  readonly feerateSatPerKw: number;
  readonly createdHeight: number;
  readonly confirmedHeight?: number;
  /** The node's last words, while it refuses. */
  readonly rejectReason?: string;
}

/** A transaction of somebody else that waits in the mempool and spends what is claimed. */
export interface Rival {
  readonly txid: Uint8Array;
  /** Undefined: nobody knows what it pays; the node's refusal is the guide then. */
  readonly offer: { readonly feeSat: bigint; readonly vsize: number } | undefined;
}

export interface SweepFeerates {
  /** For what has no hurry. */
  readonly normalSatPerKw: number;
  /** To confirm within the next blocks. */
  readonly urgentSatPerKw: number;
  /** Below it the node takes nothing. */
  readonly mempoolMinimumSatPerKw: number;
  /** BIP 125: what a replacement pays for its own relay on top of all that it replaces. */
  readonly incrementalRelaySatPerKw: number;
}

/** How much may be spent on fees, and how claims are put together. */
export interface SweepPolicy {
  /** Shares of a claim's value, in percent. */
  readonly deadlinePercent: number;
  readonly justicePercent: number;
  readonly noDeadlinePercent: number;
  /** Of an anchor that is swept after its commitment confirmed. */
  readonly anchorPercent: number;
  /** Shares of what the holder has behind a commitment, for the child of its anchor: with and without HTLCs at risk. */
  readonly commitmentDeadlinePercent: number;
  readonly commitmentNoDeadlinePermille: number;
  readonly commitmentMaximumSat: bigint;
  /** No transaction pays more than these. The signer has a bound of its own. */
  readonly maximumFeeSat: bigint;
  readonly maximumFeerateSatPerKw: number;
  /** So close to its deadline a claim stands alone: one replaced or pinned output must not hold the others. */
  readonly aloneWithinBlocks: number;
  /** Deadlines of one transaction lie at most so far apart. */
  readonly deadlineSpreadBlocks: number;
  readonly maximumInputs: number;
  readonly maximumWeight: number;
}

export interface SweepPlanInput {
  /** A transaction planned now can be in the block after it. */
  readonly bestHeight: number;
  readonly feerates: SweepFeerates;
  readonly policy: SweepPolicy;
  readonly claims: readonly SweepableClaim[];
  readonly commitments: readonly PayableCommitment[];
  /** By `outPointKeyOf`. */
  readonly progress: ReadonlyMap<string, ClaimProgress>;
  readonly pending: readonly PendingSweep[];
  /** Also those that pending sweeps spend: one that is missing here was spent elsewhere. */
  readonly coins: readonly WalletCoin[];
  /** By `outPointKeyOf` of the claim: every claim that is contested. */
  readonly rivals: ReadonlyMap<string, Rival>;
  /**
   * By `outPointKeyOf` of the claim, the txid of a transaction in the mempool that makes it with the holder's own keys,
   * though it is none of `pending`: a tower's, or one that was forgotten. It brings the output home too, and is not bid
   * against.
   */
  readonly allied: ReadonlyMap<string, Uint8Array>;
  /** By `outPointKeyOf`: claims that the signer refuses to sign. */
  readonly unsignable: ReadonlySet<string>;
}

export type PlannedInput =
  | { readonly type: 'claim'; readonly claimed: SweepableClaim }
  | { readonly type: 'coin'; readonly coin: WalletCoin };

/** A transaction to be signed and broadcast. */
export interface PlannedSweep {
  readonly sweepId: Uint8Array;
  /** Pending sweeps that it takes the place of, in the store and, if they are there, in the mempool. */
  readonly replaces: readonly PendingSweep[];
  /** A transaction that is taken apart into this one and others: this one may go out only once that one is replaced. */
  readonly partOf: PendingSweep | undefined;
  readonly inputs: readonly PlannedInput[];
  /** Outputs of second stages, each at the index of its input. */
  readonly outputs: readonly TxOutput[];
  /** What comes home, in a P2WPKH output of the wallet's after the others; undefined: nothing. */
  readonly homeSat: bigint | undefined;
  /** Where its predecessor went; undefined: a fresh address. */
  readonly homeScript: Uint8Array | undefined;
  readonly locktime: number;
  readonly feeSat: bigint;
  /** With an unconfirmed parent: of both together. */
  readonly feerateSatPerKw: number;
  /** Upper bound. */
  readonly weight: number;
  /** The unconfirmed commitment that it pays for. */
  readonly parent: Tx | undefined;
}

/** What is known about a claim after planning, for its row. */
export interface ClaimPlan extends ClaimProgress {
  readonly outPoint: OutPoint;
  readonly channelId: Uint8Array;
  readonly kind: Claim['kind']['type'];
  readonly valueSat: bigint;
  readonly deadlineHeight?: number;
  readonly budgetSat: bigint;
  readonly sweepId?: Uint8Array;
  /** For people. */
  readonly nextAction: string;
}

export interface SweepPlan {
  /** Most urgent first; one that makes room for others comes before them. */
  readonly sweeps: readonly PlannedSweep[];
  /** Stay as they are, and are broadcast again unless they are confirmed. */
  readonly kept: readonly PendingSweep[];
  /** Can never confirm: their rows go, and their coins are free. */
  readonly dropped: readonly PendingSweep[];
  readonly claims: readonly ClaimPlan[];
}
