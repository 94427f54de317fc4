/** What the cases of the chain store's suite share. */
import { ok } from 'node:assert/strict';
import type {
  BroadcastOrder,
  FundingStatus,
  FundingWatch,
  HtlcSource,
  Resolution,
  StoreEvent,
} from '../manager/manager-store.ts';
import type { ChainLease, ChainStore, ChainTurn, LeaseRequest, StoredBlock } from './chain-store.ts';

/** A store, another handle on the same state, and the manager's side of it. */
export interface ChainStoreHarness {
  readonly store: ChainStore;
  readonly other: ChainStore;
  readonly manager: {
    watch(watch: FundingWatch): Promise<void>;
    status(channelId: Uint8Array): Promise<FundingStatus | undefined>;
    order(order: BroadcastOrder): Promise<void>;
    birth(channelId: Uint8Array, parameters: Uint8Array): Promise<void>;
    log(channelId: Uint8Array, updateId: bigint, payload: Uint8Array): Promise<void>;
    /** The row of a channel that the holder funds; its phase is open unless told. */
    channel(channelId: Uint8Array, channelKeysId: Uint8Array, phase?: string): Promise<void>;
    closingDecision(channelId: Uint8Array): Promise<string | undefined>;
    /** The manager decides to close without the channel. */
    decideClose(channelId: Uint8Array, reason: string): Promise<void>;
    outgoing(channelId: Uint8Array, htlcId: bigint, source: HtlcSource, sourceShard: number): Promise<void>;
    resolution(source: HtlcSource): Promise<Resolution | undefined>;
    /** The source's channel consumed its resolution. */
    take(source: HtlcSource): Promise<void>;
    /** What was fulfilled past its deadline, in all. */
    fulfilledLate(channelId: Uint8Array, amountMsat: bigint, updateId: bigint): Promise<void>;
    /** Waiting events, oldest first. */
    events(): Promise<readonly StoreEvent[]>;
  };
  close(): Promise<void>;
}

export interface ChainStoreCase {
  readonly name: string;
  run(harness: ChainStoreHarness): Promise<void>;
}

export const id = (n: number): Uint8Array => new Uint8Array(32).fill(n);
export const LONG_MS = 60_000;

/** By the replica of this name, which knows the chain unless it says otherwise. */
export const request = (holder: string, doubt?: string): LeaseRequest => ({
  holder,
  address: `${holder}:1`,
  leaseMs: LONG_MS,
  doubt,
});

export async function leaseOf(store: ChainStore): Promise<ChainLease> {
  const outcome = await store.acquireLease(request('a'));
  ok(outcome.type === 'acquired');
  return outcome.lease;
}

export function block(height: number, hash: number, prevHash: number): StoredBlock {
  return { height, hash: id(hash), prevHash: id(prevHash), timeUnixSeconds: 1_700_000_000 + height };
}

export const connect = (height: number, hash: number, prevHash: number): ChainTurn => ({
  block: { type: 'connect', block: block(height, hash, prevHash) },
});
