/**
 * What the state machine, the signer and the claims share about commitment
 * transactions (BOLT 3): the inputs that determine one, and the result of
 * building it. Nothing here signs; a built commitment carries the hashes that
 * a signer signs and a peer's signatures are checked against.
 */
import type { Tx } from '@fulmen/bitcoin';
import type { CommitmentKeys } from '@fulmen/keys';
import type { CommitmentHtlc, CommitmentSpec } from '../commitment-spec.ts';
import type { CommitmentFormatName, PartyParameters } from '../parameters.ts';

/** Whose commitment it is: the one who may broadcast it, and whose outputs are delayed. */
export type CommitmentOwner = 'holder' | 'counterparty';

/** One of a channel's fundings; each has its own funding keys. */
export interface FundingScope {
  /** Internal byte order, as in an outpoint. */
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  readonly holderFundingPubkey: Uint8Array;
  readonly counterpartyFundingPubkey: Uint8Array;
}

/** The part of a party's parameters that scripts and trimming need. */
export type CommitmentPartyParameters = Pick<
  PartyParameters,
  | 'revocationBasepoint'
  | 'paymentBasepoint'
  | 'delayedPaymentBasepoint'
  | 'htlcBasepoint'
  | 'dustLimitSat'
  | 'toSelfDelayBlocks'
>;

/** The part of ChannelParameters that determines commitments; a ChannelParameters is one. */
export interface CommitmentParameters {
  readonly funder: 'holder' | 'counterparty';
  readonly commitmentFormat: CommitmentFormatName;
  readonly holder: CommitmentPartyParameters;
  readonly counterparty: CommitmentPartyParameters;
}

/** Everything that determines one commitment transaction. */
export interface CommitmentInputs {
  readonly parameters: CommitmentParameters;
  readonly funding: FundingScope;
  readonly owner: CommitmentOwner;
  readonly spec: CommitmentSpec;
  /** The owner's per-commitment point of `spec.commitmentNumber`, 33 bytes. */
  readonly perCommitmentPoint: Uint8Array;
}

interface CommitmentOutputBase {
  readonly outputIndex: number;
  readonly valueSat: bigint;
  readonly scriptPubKey: Uint8Array;
}

/** One output of a commitment, with what is needed to spend it. */
export type CommitmentOutput =
  /** The owner's balance, delayed. */
  | (CommitmentOutputBase & {
      readonly type: 'to_local';
      readonly witnessScript: Uint8Array;
      readonly delayBlocks: number;
    })
  /** The other party's balance; static_remotekey: P2WPKH, without a witness script; anchors: P2WSH with a delay of one block. */
  | (CommitmentOutputBase & {
      readonly type: 'to_remote';
      readonly publicKey: Uint8Array;
      readonly witnessScript: Uint8Array | undefined;
    })
  | (CommitmentOutputBase & { readonly type: 'anchor_holder'; readonly witnessScript: Uint8Array })
  | (CommitmentOutputBase & { readonly type: 'anchor_counterparty'; readonly witnessScript: Uint8Array })
  | (CommitmentOutputBase & {
      readonly type: 'htlc';
      readonly htlc: CommitmentHtlc;
      /** As the owner sees it: BOLT 3's offered or received. */
      readonly side: HtlcSide;
      readonly witnessScript: Uint8Array;
    });

/** An HTLC seen from the owner of the commitment that it is in (BOLT 3 "offered" and "received"). */
export type HtlcSide = 'offered' | 'received';

/** A second-stage transaction of the commitment's owner. */
export interface HtlcTransaction {
  readonly htlc: CommitmentHtlc;
  /** timeout: the owner offered the HTLC; success: the owner received it. */
  readonly kind: 'timeout' | 'success';
  /** Unsigned; one input, one output. */
  readonly transaction: Tx;
  /** The commitment's output that it spends. */
  readonly outputIndex: number;
  /** Value of that output: the HTLC's amount in whole satoshis. */
  readonly amountSat: bigint;
  /** Script of the spent output. */
  readonly witnessScript: Uint8Array;
  /** Script of its own output (to_local's shape: delayed to the owner, or revocation). */
  readonly outputWitnessScript: Uint8Array;
  /** What the *other* party (not the owner) signs, with `sighashType`. */
  readonly counterpartySighash: Uint8Array;
  /** What the owner signs, always SIGHASH_ALL. */
  readonly ownSighash: Uint8Array;
  /** Of the other party's signature: SIGHASH_ALL, or with anchors SIGHASH_SINGLE|ANYONECANPAY. */
  readonly sighashType: number;
}

/** A commitment transaction, unsigned, with everything about it. */
export interface BuiltCommitment {
  readonly transaction: Tx;
  /** Internal byte order. */
  readonly txid: Uint8Array;
  /** What miners get: the base fee, trimmed outputs and what rounding to satoshis cuts off. */
  readonly feeSat: bigint;
  /** Broadcaster: the owner; countersignatory: the other. */
  readonly keys: CommitmentKeys;
  /** Against which the other party's signature over `sighash` verifies. */
  readonly countersignatoryFundingPubkey: Uint8Array;
  readonly fundingWitnessScript: Uint8Array;
  /** What both sign with their funding keys (SIGHASH_ALL). */
  readonly sighash: Uint8Array;
  /** In the transaction's order. */
  readonly outputs: readonly CommitmentOutput[];
  /** One per untrimmed HTLC in the order of the outputs, which is the order of htlc_signatures. */
  readonly htlcTransactions: readonly HtlcTransaction[];
}

/** Signatures over one commitment, as commitment_signed carries them (64 bytes, compact). */
export interface CommitmentSignatures {
  readonly signature: Uint8Array;
  readonly htlcSignatures: readonly Uint8Array[];
}

/** Why a counterparty's signatures do not cover a commitment. */
export type CommitmentSignatureError =
  | { readonly type: 'invalid_commitment_signature' }
  | { readonly type: 'wrong_htlc_signature_count'; readonly expected: number; readonly actual: number }
  | { readonly type: 'invalid_htlc_signature'; readonly index: number };
