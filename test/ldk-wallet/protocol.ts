// What is said on the stdin and stdout of the LDK wallet process: one JSON object a line.
//
//   → {"id": 1, "method": "pay", "params": {"bolt11": "…"}}
//   ← {"id": 1, "result": {"paymentId": "…"}}      or  {"id": 1, "error": "sentence"}
//   ← {"event": "payment_sent", "paymentId": "…", …}
//
// Bytes are hex, txids in display order, satoshi amounts numbers. Amounts in millisatoshi and other
// 64-bit numbers are bigint here and decimal strings on the wire, where the field's name ends in
// `Msat` or `msat`.

/** A channel as the wallet sees it. */
export type ChannelInfo = {
  readonly channelId: string;
  readonly userChannelId: string;
  readonly counterpartyNodeId: string;
  readonly state: 'pending' | 'ready' | 'usable' | 'closing';
  readonly usable: boolean;
  readonly outbound: boolean;
  readonly announced: boolean;
  readonly anchors: boolean;
  readonly capacitySat: number;
  readonly outboundMsat: bigint;
  readonly inboundMsat: bigint;
  readonly nextOutboundLimitMsat: bigint;
  readonly reserveSat: number | null;
  readonly counterpartyReserveSat: number;
  readonly feerateSatPerKw: number | null;
  readonly confirmations: number | null;
  readonly confirmationsRequired: number | null;
  /** Short channel ids as `block x transaction x output`. */
  readonly shortChannelId: string | null;
  /** What the counterparty calls the channel in onions that come to the wallet. */
  readonly inboundAlias: string | null;
  /** What the wallet calls the channel in onions that it sends. */
  readonly outboundAlias: string | null;
  readonly fundingTxid: string | null;
  readonly fundingIndex: number | null;
  readonly pendingInboundHtlcs: number;
  readonly pendingOutboundHtlcs: number;
  /** What the counterparty asks for a forward to the wallet, from its channel_update. */
  readonly forwarding: {
    readonly baseMsat: bigint;
    readonly proportionalMillionths: number;
    readonly cltvDelta: number;
  } | null;
};

/** One outgoing or received payment. */
export type PaymentInfo = {
  readonly direction: 'sent' | 'received';
  readonly paymentId: string;
  readonly paymentHash: string;
  readonly amountMsat: bigint;
  readonly state: 'pending' | 'succeeded' | 'failed';
  readonly preimage: string | null;
  readonly feePaidMsat: bigint | null;
  readonly failure: string | null;
};

/** One hop of a hand-made route. */
export type RawHop = {
  readonly nodeId: string;
  /** `BxTxO` or a decimal number; for the first hop it may be left out: a usable channel is taken. */
  readonly shortChannelId?: string;
  /** For the last hop the amount; for another what that hop keeps. */
  readonly feeMsat: bigint;
  /** For the last hop the final delta; for another the delta that hop keeps. */
  readonly cltvDelta: number;
};

/** What the wallet asks of a counterparty at an opening, and the least it takes; the wallet's usual where absent. */
export type Handshake = {
  readonly minimumDepth?: number;
  readonly toSelfDelayBlocks?: number;
  readonly htlcMinimumMsat?: bigint;
  readonly maxAcceptedHtlcs?: number;
  readonly reserveMillionths?: number;
  /** Ask for scid_alias in private channels. */
  readonly scidAlias?: boolean;
  readonly minFundingSat?: number;
  readonly maxFundingSat?: number;
};

/** What an open_channel of a counterparty gets. */
export type OpenAnswer =
  /** trust: without confirmations. */
  { readonly how: 'accept' | 'trust' } | { readonly how: 'refuse'; readonly text: string };

/** A channel of the public graph; each policy is that of the node whose end it is, null until it said one. */
export type GraphChannelInfo = {
  readonly shortChannelId: string;
  readonly nodeId1: string;
  readonly nodeId2: string;
  readonly policy1: GraphPolicyInfo | null;
  readonly policy2: GraphPolicyInfo | null;
};
export type GraphPolicyInfo = {
  readonly timestamp: number;
  readonly baseMsat: bigint;
  readonly proportionalMillionths: number;
  readonly cltvDelta: number;
  readonly htlcMinimumMsat: bigint;
  readonly htlcMaximumMsat: bigint;
  readonly disabled: boolean;
};
/** A node of the public graph, with its node_announcement if it made one. */
export type GraphNodeInfo = {
  readonly nodeId: string;
  readonly announcement: {
    readonly timestamp: number;
    readonly alias: string;
    readonly addresses: readonly string[];
    /** As on the wire: the lowest bit is the last byte's. */
    readonly features: string;
  } | null;
};

type None = Readonly<Record<string, never>>;

/** Method name → its parameters and result. */
export type WalletMethods = {
  info: {
    params: None;
    result: {
      readonly nodeId: string;
      readonly port: number | null;
      readonly heightSynced: number;
      readonly blockHash: string;
      readonly onchainSat: number;
      readonly peers: readonly string[];
    };
  };
  newAddress: { params: None; result: { readonly address: string } };
  connect: {
    params: { readonly nodeId: string; readonly host: string; readonly port: number };
    result: None;
  };
  disconnect: { params: { readonly nodeId: string }; result: None };
  openChannel: {
    params: {
      readonly nodeId: string;
      readonly sat: number;
      readonly pushMsat?: bigint;
      readonly announced?: boolean;
      /** false asks for static_remotekey only. Default: the wallet's own setting. */
      readonly anchors?: boolean;
      /** false: the opening does not say where a close pays the wallet. Default true. */
      readonly upfrontShutdown?: boolean;
      readonly handshake?: Handshake;
    };
    result: { readonly temporaryChannelId: string; readonly userChannelId: string };
  };
  /** From now on; at first every opening is accepted. */
  answerOpens: { params: OpenAnswer; result: None };
  listChannels: { params: None; result: readonly ChannelInfo[] };
  createInvoice: {
    params: {
      readonly amountMsat?: bigint;
      readonly description?: string;
      /** 32 bytes, instead of the description. */
      readonly descriptionHash?: string;
      /** What the payer must give back; the wallet signs such an invoice itself, for LDK makes none. */
      readonly paymentMetadata?: string;
      readonly expirySeconds?: number;
      readonly cltvDelta?: number;
      /** true: an incoming payment waits for `claim` or `failPayment`. */
      readonly hold?: boolean;
    };
    result: { readonly bolt11: string; readonly paymentHash: string; readonly paymentSecret: string };
  };
  claim: { params: { readonly paymentHash: string }; result: None };
  failPayment: { params: { readonly paymentHash: string }; result: None };
  pay: {
    params: {
      readonly bolt11: string;
      /** For an invoice without an amount. */
      readonly amountMsat?: bigint;
      readonly maxFeeMsat?: bigint;
      /** Default 10. */
      readonly attempts?: number;
    };
    result: { readonly paymentId: string; readonly paymentHash: string };
  };
  payRaw: {
    params: {
      readonly hops: readonly RawHop[];
      readonly paymentHash: string;
      /** Of the invoice; without it a random one is sent. */
      readonly paymentSecret?: string;
      readonly paymentMetadata?: string;
    };
    result: { readonly paymentId: string; readonly paymentHash: string };
  };
  keysend: {
    params: {
      readonly nodeId: string;
      readonly amountMsat: bigint;
      readonly maxFeeMsat?: bigint;
      /** Blocks for the payee; default 24, LDK's own least. */
      readonly cltvDelta?: number;
    };
    result: { readonly paymentId: string; readonly paymentHash: string };
  };
  listPayments: { params: None; result: readonly PaymentInfo[] };
  closeChannel: {
    params: {
      readonly channelId: string;
      readonly force?: boolean;
      /** Of a cooperative close, as LDK's target. */
      readonly feerateSatPerKw?: number;
      /** Where a cooperative close pays the wallet; only where the opening did not say it. */
      readonly address?: string;
    };
    result: None;
  };
  balances: {
    params: None;
    result: {
      readonly onchainSat: number;
      readonly channels: readonly {
        readonly channelId: string;
        readonly outboundMsat: bigint;
        readonly inboundMsat: bigint;
      }[];
      /** What the monitors of closed channels may still bring in. */
      readonly claimable: readonly {
        readonly kind: string;
        readonly sat: number;
        readonly height: number | null;
      }[];
    };
  };
  /** What the wallet asks for a forward over one of its channels from now on. */
  setTerms: {
    params: { readonly channelId: string; readonly feeBaseMsat: bigint; readonly cltvDelta: number };
    result: None;
  };
  /** Sends on-chain money of the wallet. */
  sendOnchain: {
    params: { readonly address: string; readonly sat: number };
    result: { readonly txid: string };
  };
  /** The public network as LDK knows it. */
  graph: {
    params: None;
    result: { readonly channels: readonly GraphChannelInfo[]; readonly nodes: readonly GraphNodeInfo[] };
  };
  /** Connections now, with the features of the other's init. */
  listPeers: {
    params: None;
    result: readonly { readonly nodeId: string; readonly inbound: boolean; readonly features: string }[];
  };
  /** Makes and sends a node_announcement. */
  announceNode: { params: { readonly alias: string }; result: None };
  setPolicy: {
    params: {
      readonly counterpartyNodeId: string;
      readonly channelId: string;
      readonly baseMsat: bigint;
      readonly proportionalMillionths: number;
      readonly cltvDelta: number;
    };
    result: None;
  };
  /** Lets minutes of the manager's own clock pass: it disables a channel whose peer is away for some. */
  tick: { params: { readonly minutes: number }; result: None };
  /** Base of all the wallet's fee estimates from now on. */
  setFeerate: { params: { readonly feerateSatPerKw: number }; result: None };
  /**
   * Copies the wallet as it is now to another folder. A wallet that is started there later believes that time:
   * with `offline` it never learns better, and what it broadcasts may be revoked.
   */
  snapshot: { params: { readonly dir: string }; result: None };
  /** Looks for new blocks at once, and answers when it has followed to the tip. */
  sync: { params: None; result: { readonly heightSynced: number } };
  stop: { params: None; result: None };
};

/** Name of a method. */
export type WalletMethod = keyof WalletMethods;

/** Events, in the order in which they happen. */
export type WalletEvent =
  | { readonly event: 'ready'; readonly ready: true; readonly nodeId: string; readonly port: number | null }
  | { readonly event: 'block'; readonly height: number; readonly blockHash: string }
  | { readonly event: 'reorg'; readonly height: number; readonly blockHash: string }
  | { readonly event: 'peer_connected' | 'peer_disconnected'; readonly nodeId: string }
  | {
      readonly event: 'channel_pending';
      readonly channelId: string;
      readonly userChannelId: string;
      readonly counterpartyNodeId: string;
      readonly fundingTxid: string;
      readonly fundingIndex: number;
    }
  | { readonly event: 'channel_ready'; readonly channelId: string; readonly counterpartyNodeId: string }
  | {
      readonly event: 'channel_closed';
      readonly channelId: string;
      readonly reason: string;
      readonly text: string;
    }
  | { readonly event: 'open_failed'; readonly temporaryChannelId: string; readonly text: string }
  | {
      readonly event: 'payment_claimable' | 'payment_received';
      readonly paymentHash: string;
      readonly amountMsat: bigint;
      readonly claimDeadlineHeight: number | null;
      /** What the payer gave back of the invoice's metadata. */
      readonly paymentMetadata: string | null;
    }
  | {
      readonly event: 'payment_sent';
      readonly paymentId: string;
      readonly paymentHash: string;
      readonly preimage: string;
      readonly feePaidMsat: bigint | null;
    }
  | {
      readonly event: 'payment_failed';
      readonly paymentId: string;
      readonly paymentHash: string | null;
      readonly reason: string;
    }
  | {
      readonly event: 'payment_path_failed';
      readonly paymentId: string;
      readonly paymentHash: string;
      /** Name of the failure as LDK logs it, such as `fee_insufficient`, and its code. */
      readonly failure: string | null;
      readonly failureCode: number | null;
      /** Node id that the failure came from. */
      readonly failureFrom: string | null;
      readonly shortChannelId: string | null;
      readonly permanent: boolean;
    }
  | {
      readonly event: 'payment_forwarded';
      readonly feeMsat: bigint | null;
      readonly amountMsat: bigint | null;
    }
  /** The wallet made this transaction, or broadcasts its commitment. */
  | { readonly event: 'broadcast'; readonly txid: string }
  | { readonly event: 'onchain_sweep'; readonly txid: string; readonly channelId: string | null }
  | { readonly event: 'error'; readonly text: string };

/** Writes one line's JSON. */
export function encodeLine(value: unknown): string {
  return JSON.stringify(value, (_key, field: unknown) =>
    typeof field === 'bigint' ? field.toString() : field,
  );
}

/** Reads one line's JSON. */
export function decodeLine(line: string): unknown {
  return JSON.parse(line, (key, field: unknown) =>
    /msat$/i.test(key) && (typeof field === 'string' || typeof field === 'number') ? BigInt(field) : field,
  );
}
