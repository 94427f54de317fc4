/**
 * A Lightning node that nobody here wrote, as the cases see it: what any
 * implementation can do, in its own process, on its own data. Bytes are hex,
 * txids in display order. A thing that an implementation cannot do is an
 * `NotApplicable` with the reason, which the matrix shows as n/a.
 */

import type { PeerGraph } from './peer-graph.ts';

/** The peer cannot do this; the reason is for the matrix. */
export class NotApplicable extends Error {
  override readonly name = 'NotApplicable';
}

/** The peer failed, or answered what it should not. */
export class PeerError extends Error {
  override readonly name = 'PeerError';
}

export type PeerKind = 'ldk' | 'ldk-node' | 'lnd';

export interface PeerChannel {
  readonly channelId: string;
  readonly counterpartyNodeId: string;
  readonly isUsable: boolean;
  readonly isAnnounced: boolean;
  /** Absent: the peer does not tell. */
  readonly isAnchors: boolean | undefined;
  readonly capacitySat: bigint;
  /** What the peer owns, its reserve included. */
  readonly balanceMsat: bigint;
  /** Of the latest commitment. */
  readonly feerateSatPerKw: number;
  readonly htlcsInFlight: number;
  readonly fundingTxid: string;
  readonly fundingOutputIndex: number;
  readonly shortChannelId: bigint | undefined;
}

export type PeerPayment =
  | { readonly status: 'succeeded'; readonly preimage: string; readonly feeMsat: bigint }
  | {
      readonly status: 'failed';
      /** For example `incorrect_or_unknown_payment_details`; the implementation's own words when no hop said it. */
      readonly failure: string;
      /** Which hop said it: 0 is the payer itself. */
      readonly failureHop: number | undefined;
      /** The terms that came with it, where the implementation shows them. */
      readonly terms?: {
        readonly shortChannelId: bigint;
        readonly feeBaseMsat: number;
        readonly cltvExpiryDelta: number;
      };
    };

/** What a side asks of the other at an opening; the implementation's own where absent. */
export interface OpeningTerms {
  readonly toSelfDelayBlocks?: number;
  readonly reserveSat?: bigint;
  readonly htlcMinimumMsat?: bigint;
  readonly maxAcceptedHtlcs?: number;
  /** Only of the side that accepts. */
  readonly minimumDepth?: number;
}

/** What an open_channel gets. */
export type OpenAnswer =
  | { readonly how: 'accept'; readonly terms?: OpeningTerms }
  /** Without confirmations. */
  | { readonly how: 'trust' }
  | { readonly how: 'refuse'; readonly text: string };

export interface OpenOptions {
  readonly nodeId: string;
  readonly fundingSat: bigint;
  readonly pushMsat?: bigint;
  readonly announce?: 'announced' | 'private';
  readonly format?: 'anchors' | 'static_remotekey';
  /** none: the opening does not say where a close pays the peer, and the close may. */
  readonly upfrontShutdown?: 'none';
  /** Where a mutual close pays the opener, promised at the opening. */
  readonly closeAddress?: string;
  readonly scidAlias?: 'scid_alias' | 'real_scid';
  readonly confirmations?: 'zero_conf' | 'confirmed';
  readonly terms?: OpeningTerms;
}

export interface CloseOptions {
  /** Of a cooperative close: what the peer aims at. */
  readonly feerateSatPerVb?: number;
  /** The most that it pays. */
  readonly maxFeerateSatPerVb?: number;
  /** Where it is paid; absent: its wallet. */
  readonly address?: string;
}

export interface InvoiceOptions {
  /** Absent: the payer chooses. */
  readonly amountMsat?: bigint;
  readonly description?: string;
  /** SHA-256 of a description given elsewhere, instead of it. */
  readonly descriptionHash?: string;
  /** What the payer must give back. */
  readonly paymentMetadata?: string;
  readonly expirySeconds?: number;
  /** The payment is held until `settle` or `cancel`. */
  readonly hold?: 'hold' | 'settle_at_once';
}

/** A payment of one HTLC to a peer, with terms of the payer's own. */
export interface RawPayment {
  readonly nodeId: string;
  readonly amountMsat: bigint;
  readonly paymentHash: string;
  readonly paymentSecret: string;
  readonly finalCltvDelta: number;
}

/** A node of a hand-made route, from the payer's counterparty to the payee. */
export interface RouteHop {
  readonly nodeId: string;
  /** The channel that leads to it; for the first any with that counterparty. */
  readonly shortChannelId?: bigint;
  /** What it keeps; for the payee the amount. */
  readonly feeMsat: bigint;
  /** Blocks of the expiry that it keeps; for the payee those beyond the tip. */
  readonly cltvDelta: number;
}

/** A payment along a route that the payer did not look for. */
export interface RoutedPayment {
  readonly hops: readonly RouteHop[];
  /** What the payee is told to wait for; absent: what this route brings. */
  readonly totalMsat?: bigint;
  readonly paymentHash: string;
  readonly paymentSecret: string;
  /** By how much less the first HTLC has than the route needs. */
  readonly short?: { readonly msat?: bigint; readonly blocks?: number };
  /** A TLV of this type in the payload of the hop with this index. */
  readonly extraTlv?: { readonly hop: number; readonly type: number };
}

export interface PeerTerms {
  readonly feeBaseMsat: number;
  readonly cltvExpiryDelta: number;
}

export interface InteropPeer {
  readonly kind: PeerKind;
  /** For example `lnd 0.21.2-beta`. */
  readonly version: string;
  readonly name: string;
  readonly nodeId: string;
  readonly port: number;

  /** Resolves once it follows the chain's tip. */
  sync(): Promise<void>;
  newAddress(): Promise<string>;
  onchainSat(): Promise<bigint>;
  /** @param host 127.0.0.1 when it is not given */
  connect(nodeId: string, port: number, host?: string): Promise<void>;
  disconnect(nodeId: string): Promise<void>;
  isConnected(nodeId: string): Promise<boolean>;
  /** Resolves once the funding is broadcast, or rejects with the refusal. */
  open(options: OpenOptions): Promise<void>;
  /** From now on; until it is told, it accepts by its configuration. */
  answerOpens(answer: OpenAnswer): Promise<void>;
  channels(): Promise<readonly PeerChannel[]>;
  invoice(options: InvoiceOptions): Promise<{ readonly bolt11: string; readonly paymentHash: string }>;
  /** Whether a held payment has arrived. */
  isHeld(paymentHash: string): Promise<boolean>;
  settle(paymentHash: string): Promise<void>;
  cancel(paymentHash: string): Promise<void>;
  pay(bolt11: string, amountMsat?: bigint): Promise<PeerPayment>;
  /** Pays as if an invoice had said so. */
  payRaw(payment: RawPayment): Promise<PeerPayment>;
  /** One attempt along the given route; NotApplicable for what the implementation does not let a payer say. */
  payAlong(payment: RoutedPayment): Promise<PeerPayment>;
  /** Forgets what earlier payments have taught it of channels. */
  forgetFailures(): Promise<void>;
  keysend(nodeId: string, amountMsat: bigint): Promise<PeerPayment>;
  /** What it asks for a forward over one of its channels from now on. */
  setTerms(channelId: string, terms: PeerTerms): Promise<void>;
  /** Resolves once the close is under way; a cooperative one waits for the HTLCs that are pending. */
  close(channelId: string, how: 'cooperative' | 'force', options?: CloseOptions): Promise<void>;
  /** What closed channels wait for: an entry for each thing that is not home yet, anchors apart. */
  pendingCloses(): Promise<readonly { readonly untilHeight: number | undefined }[]>;
  /** The public network as it knows it, and its own gossip. */
  readonly graph: PeerGraph;
  /** It is stopped while `story` happens, and started on the same data afterwards. */
  whileAway(story: () => Promise<void>): Promise<void>;
  /** Copies its data as they are now; it may be away for a moment. */
  snapshot(): Promise<void>;
  /** Stops it for good and starts it on the copied data. What could tell it better must be out of its reach. */
  setBack(): Promise<void>;
  /** Clean stop and start on the same data. */
  restart(how: 'clean' | 'kill9'): Promise<void>;
  stop(): Promise<void>;
}
