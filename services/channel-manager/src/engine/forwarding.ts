/**
 * The rows by which channels and payments, in whatever shards, tell each other
 * of HTLCs: gathered while a turn runs, written in its one commit.
 */
import { toHex } from '@fulmen/codec';
import type { HtlcSource, Intent, Resolution, StoreEvent } from '@fulmen/store';

/** Where an outgoing HTLC came from. */
export interface OutgoingLink {
  readonly source: HtlcSource;
  readonly sourceShard: number;
  readonly incomingAmountMsat: bigint;
  /** Of a forward: whether it came from downstream, on this connection or one before. It went upstream, and stays known. */
  readonly preimage: 'awaited' | 'heard';
}

/** The forwarding rows of a commit, growing. */
export interface GrowingForwarding {
  intents: Intent[];
  intentClaims: { source: HtlcSource; outcome: 'taken' | 'cancelled' }[];
  resolutions: Resolution[];
  resolutionsTaken: { source: HtlcSource; outcome: Resolution['outcome']['type'] }[];
  preimages: { channelId: Uint8Array; htlcId: bigint; preimage: Uint8Array }[];
  /** Those that are new, and those whose preimage was heard, which the store tells by how their sources ended. */
  outgoing: ({ channelId: Uint8Array; htlcId: bigint } & OutgoingLink)[];
  onionReplays: { sharedSecretHash: Uint8Array; channelId: Uint8Array; htlcId: bigint }[];
  events: StoreEvent[];
}

export function emptyForwarding(): GrowingForwarding {
  return {
    intents: [],
    intentClaims: [],
    resolutions: [],
    resolutionsTaken: [],
    preimages: [],
    outgoing: [],
    onionReplays: [],
    events: [],
  };
}

/** JSON with bytes in hex and 64-bit numbers as strings, as the event log promises. */
export function eventBody(body: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(
    Object.fromEntries(
      Object.entries(body).map(([key, value]) => {
        if (value instanceof Uint8Array) return [key, toHex(value)];
        return [key, typeof value === 'bigint' ? value.toString() : value];
      }),
    ),
  );
}
