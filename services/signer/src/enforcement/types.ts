/**
 * What the signer knows of a channel, and why it refuses. Everything below is
 * plain data: the enforcement functions take a state and a request and give
 * the next state with the signatures, or a refusal, and never wait.
 */
import type { CommitmentSignatures, FundingScope } from '@fulmen/channel/commitment/types';
import type { CommitmentSpec } from '@fulmen/channel/commitment-spec';
import type { CommitmentFormatName, PartyParameters } from '@fulmen/channel/parameters';
import type { SecretStore } from '@fulmen/keys';

/** The tag that a refusal carries, for operators' alarms and for the metric. */
export type PolicyTag =
  | 'policy-malformed-request'
  | 'policy-capability'
  | 'policy-unreconciled'
  | 'policy-epoch-fenced'
  | 'policy-unavailable'
  // Registration
  | 'policy-channel-unregistered'
  | 'policy-channel-immutable'
  | 'policy-channel-keys'
  | 'policy-channel-id'
  | 'policy-channel-counterparty'
  | 'policy-channel-value'
  | 'policy-channel-delay-range'
  | 'policy-channel-dust-limit'
  | 'policy-channel-shutdown-script'
  | 'policy-channel-shard'
  // Revocation
  | 'policy-revocation-order'
  | 'policy-revocation-secret'
  | 'policy-revoke-new-commitment-signed'
  | 'policy-revoke-not-closed'
  // Commitments
  | 'policy-commitment-number'
  | 'policy-commitment-holder-not-revoked'
  | 'policy-commitment-previous-revoked'
  | 'policy-commitment-retry-same'
  | 'policy-commitment-not-closed'
  | 'policy-commitment-initial-not-validated'
  | 'policy-commitment-signature'
  | 'policy-commitment-funding'
  | 'policy-commitment-value'
  | 'policy-commitment-fee-range'
  | 'policy-commitment-dust-exposure'
  | 'policy-commitment-reserve'
  | 'policy-commitment-htlc-count'
  | 'policy-commitment-htlc-in-flight'
  | 'policy-commitment-htlc-cltv-range'
  | 'policy-commitment-htlc-identity'
  | 'policy-holder-commitment-revoked'
  // Mutual close
  | 'policy-mutual-destination'
  | 'policy-mutual-value'
  | 'policy-mutual-fee-range'
  | 'policy-mutual-no-pending-htlcs'
  // Others
  | 'policy-claim-destination'
  | 'policy-claim-output'
  | 'policy-invoice'
  | 'policy-gossip'
  | 'policy-onchain-destination'
  | 'policy-onchain-fee-range'
  | 'policy-onchain-velocity'
  | 'policy-onchain-input'
  | 'policy-derived-secret'
  | 'policy-tower-key';

/** A definite no, or "not now"; never a crash. */
export interface Refusal {
  readonly kind: 'policy' | 'fenced' | 'unavailable';
  readonly policy: PolicyTag;
  /** For people; carries no secret. */
  readonly reason: string;
}

/** Fixed by RegisterChannel for the channel's life. */
export interface ChannelRegistration {
  readonly channelKeysId: Uint8Array;
  readonly channelId: Uint8Array;
  readonly counterpartyNodeId: Uint8Array;
  readonly funder: 'holder' | 'counterparty';
  readonly commitmentFormat: CommitmentFormatName;
  readonly holder: PartyParameters;
  readonly counterparty: PartyParameters;
  readonly funding: FundingScope;
  readonly shard: number;
  readonly channelType: Uint8Array;
  readonly announce: boolean;
}

/** What is remembered of a commitment: enough to recognise it and to know the balances. */
export interface CommitmentRecord {
  readonly commitmentNumber: bigint;
  /** SHA-256 of the spec (and of the point, for the counterparty's). */
  readonly digest: Uint8Array;
  readonly toHolderMsat: bigint;
  readonly toCounterpartyMsat: bigint;
  readonly htlcCount: number;
}

/** A commitment that the holder signed for the counterparty. */
export interface CounterpartyCommitmentRecord extends CommitmentRecord {
  readonly perCommitmentPoint: Uint8Array;
}

/**
 * Why a channel stands still: the counterparty's secrets are taken, and nothing new is validated, released or signed.
 * - none: it does not.
 * - mutual_close: a closing transaction was signed; commitments move no more
 *   (the counterparty could broadcast the close at today's balances for ever).
 * - closing: a holder commitment was signed.
 * - frozen: the state was set back with its database, or lost and the channel
 *   restored from a static backup. No commitment is ever signed.
 */
export type ChannelLock =
  | { readonly type: 'none' }
  | { readonly type: 'mutual_close' }
  | { readonly type: 'closing'; readonly commitmentNumber: bigint }
  | { readonly type: 'frozen' };

/** A channel as the signer stores it. Commitment numbers count up from 0. */
export interface SignerChannelState {
  readonly registration: ChannelRegistration;
  /** The next holder commitment to validate. */
  readonly nextHolderCommitment: bigint;
  /** The next holder commitment whose secret is not released. */
  readonly nextHolderRevocation: bigint;
  /** The next counterparty commitment to sign; the next revocation is `secrets.count`. */
  readonly nextCounterpartyCommitment: bigint;
  /** Validated and not revoked, ascending: at most two. */
  readonly holderCommitments: readonly CommitmentRecord[];
  /** Signed and not revoked, ascending: at most two. */
  readonly counterpartyCommitments: readonly CounterpartyCommitmentRecord[];
  /** Secrets that the counterparty revealed. */
  readonly secrets: SecretStore;
  readonly lock: ChannelLock;
}

/** A holder commitment with the counterparty's signatures, one set for each funding. */
export interface HolderCommitmentRequest {
  readonly spec: CommitmentSpec;
  readonly signatures: readonly FundingSignatures[];
}

export interface FundingSignatures extends CommitmentSignatures {
  readonly fundingTxid: Uint8Array;
}

export interface CounterpartyCommitmentRequest {
  readonly spec: CommitmentSpec;
  readonly perCommitmentPoint: Uint8Array;
}

export interface RevocationRequest {
  readonly commitmentNumber: bigint;
  readonly secret: Uint8Array;
}

export interface EcdhRequest {
  readonly publicKey: Uint8Array;
  readonly tweak: Uint8Array | undefined;
}

/** One channel's work of a SignBatch. */
export interface SignItemRequest {
  readonly revocations: readonly RevocationRequest[];
  readonly holderCommitment: HolderCommitmentRequest | undefined;
  readonly releaseSecretNumber: bigint | undefined;
  readonly counterpartyCommitment: CounterpartyCommitmentRequest | undefined;
  readonly ecdhs: readonly EcdhRequest[];
}

export interface SignItemAnswer {
  readonly releasedSecret: Uint8Array | undefined;
  readonly firstPointNumber: bigint;
  readonly perCommitmentPoints: readonly Uint8Array[];
  readonly signatures: readonly FundingSignatures[];
  readonly sharedSecrets: readonly Uint8Array[];
}

/** Bounds that an operator may set; defaults in `limits.ts`. */
export interface PolicyLimits {
  readonly minimumFeerateSatPerKw: number;
  readonly maximumFeerateSatPerKw: number;
  /** Sum of trimmed HTLCs on one commitment. */
  readonly maximumDustExposureSat: bigint;
  readonly maximumChannelSat: bigint;
  readonly minimumDustLimitSat: bigint;
  readonly maximumDustLimitSat: bigint;
  /** Blocks that the holder must have to punish. */
  readonly minimumCounterpartyDelayBlocks: number;
  /** The longest the holder's own funds may be delayed. */
  readonly maximumHolderDelayBlocks: number;
  /** Scripts, beside the wallet's own, to which a close may pay. */
  readonly allowedScripts: readonly Uint8Array[];
}
