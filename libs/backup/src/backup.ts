/**
 * A static channel backup: with the seed it is enough to have every peer close
 * its channels and to claim the node's balances from those closes. It holds
 * nothing that changes with payments, so that it is never too old, but for
 * channels that were opened after it was made.
 */
import type { NetworkName } from '@fulmen/bitcoin';
import type { CommitmentFormatName, PartyParameters } from '@fulmen/channel/parameters';
import type { KeyScheme } from '@fulmen/keys';

/** A party's terms without its keys: the holder's keys come from the seed and the channel's key id. */
export type PartyTerms = Omit<
  PartyParameters,
  'fundingPubkey' | 'revocationBasepoint' | 'paymentBasepoint' | 'delayedPaymentBasepoint' | 'htlcBasepoint'
>;

/** Where a peer was reached last. */
export interface BackupAddress {
  readonly host: string;
  readonly port: number;
}

/** Everything of one channel that the signer, the monitor and the first message to the peer need. */
export interface ChannelBackup {
  readonly channelId: Uint8Array;
  readonly channelKeysId: Uint8Array;
  readonly counterpartyNodeId: Uint8Array;
  /** Empty for a peer that always came by itself. */
  readonly addresses: readonly BackupAddress[];
  readonly funder: 'holder' | 'counterparty';
  readonly commitmentFormat: CommitmentFormatName;
  /** BOLT 2 channel_type, exact feature bytes. */
  readonly channelType: Uint8Array;
  readonly announce: boolean;
  readonly holder: PartyTerms;
  readonly counterparty: PartyParameters;
  /** Internal byte order. */
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  /** Where a mutual close pays the holder. */
  readonly shutdownScript: Uint8Array;
  /** Neither the funding transaction nor anything that spends it is in a block below. */
  readonly searchFromHeight: number;
}

export interface NodeBackup {
  readonly nodeId: Uint8Array;
  readonly network: NetworkName;
  readonly keyScheme: KeyScheme;
  /** Grows by one with each change. */
  readonly sequence: bigint;
  readonly createdUnixSeconds: number;
  readonly blockHeight: number;
  /** part: channels were left out, because whoever keeps this copy takes no more bytes. */
  readonly coverage: 'full' | 'part';
  /** In order of channel id, each once. */
  readonly channels: readonly ChannelBackup[];
}

/** Why a backup must not take the place of another one. */
export type ReplacementFault =
  | { readonly type: 'other_node' }
  | { readonly type: 'other_network' }
  | { readonly type: 'older'; readonly sequence: bigint; readonly existingSequence: bigint }
  /** Channels of the existing backup are neither in the new one nor known to be closed; with none left, it would be empty. */
  | { readonly type: 'forgets_channels'; readonly channelIds: readonly Uint8Array[] };
