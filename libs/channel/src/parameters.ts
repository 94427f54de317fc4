/** What is fixed for a channel's life: registered once with the signer, immutable there, under the key id. */

export type CommitmentFormatName = 'static_remotekey' | 'anchors';

export interface PartyParameters {
  readonly fundingPubkey: Uint8Array;
  readonly revocationBasepoint: Uint8Array;
  readonly paymentBasepoint: Uint8Array;
  readonly delayedPaymentBasepoint: Uint8Array;
  readonly htlcBasepoint: Uint8Array;
  /** Outputs below this are trimmed from *this* party's commitment. */
  readonly dustLimitSat: bigint;
  /** Blocks for which this party makes the *other* wait for its to_local (BOLT 2 `to_self_delay`). */
  readonly toSelfDelayBlocks: number;
  /** Reserve that this party requires the *other* to keep. */
  readonly channelReserveSat: bigint;
  readonly htlcMinimumMsat: bigint;
  readonly maxHtlcValueInFlightMsat: bigint;
  readonly maxAcceptedHtlcs: number;
  /** BOLT 2 `upfront_shutdown_script`; absent: no commitment. */
  readonly upfrontShutdownScript?: Uint8Array;
}

export interface ChannelParameters {
  /** 32 bytes that name the channel's keys in the signer. */
  readonly channelKeysId: Uint8Array;
  readonly counterpartyNodeId: Uint8Array;
  /** The funder pays the commitment fee and opened the channel. */
  readonly funder: 'holder' | 'counterparty';
  readonly commitmentFormat: CommitmentFormatName;
  /** BOLT 2 channel_type, exact feature bytes. */
  readonly channelType: Uint8Array;
  readonly announce: boolean;
  readonly holder: PartyParameters;
  readonly counterparty: PartyParameters;
}
