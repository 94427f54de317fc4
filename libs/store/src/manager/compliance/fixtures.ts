/** Small valid rows for the suites that every manager's store must pass. */
import type { HtlcBody } from '@fulmen/channel';
import { expect } from 'vitest';
import type {
  ChannelCommit,
  ChannelRow,
  CommitUnit,
  Fence,
  ForwardingWrites,
  FundingStatus,
  HtlcSource,
  Intent,
  ManagerStore,
  PaymentCommit,
  PaymentRow,
} from '../manager-store.ts';

/** What the suite needs of a database under test. */
export interface ManagerDatabaseUnderTest {
  /** A replica's handle. */
  connect(replicaName: string): ManagerStore;
  /** Moves the database's clock past this replica's lease. */
  expireLease(replicaId: string): Promise<void>;
  /** What chain-monitor would write. */
  reportFundingStatus(channelId: Uint8Array, status: FundingStatus): Promise<void>;
  /** What chain-monitor would decide. */
  decideClose(channelId: Uint8Array, reason: string): Promise<void>;
  drop(): Promise<void>;
}

/** `length` bytes that differ for different numbers. */
export function bytes(length: number, number: number): Uint8Array {
  const result = new Uint8Array(length).fill(number & 0xff);
  if (length >= 4) new DataView(result.buffer).setUint32(length - 4, number);
  return result;
}

export const channelIdOf = (number: number): Uint8Array => bytes(32, number);
export const htlcSource = (channel: number, htlcId: bigint): HtlcSource => ({
  type: 'htlc',
  channelId: channelIdOf(channel),
  htlcId,
});

export function row(number: number, shard: number, over: Partial<ChannelRow> = {}): ChannelRow {
  return {
    channelId: channelIdOf(number),
    shard,
    counterpartyNodeId: bytes(33, number),
    channelKeysId: bytes(32, number + 1_000),
    phase: 'open',
    capacitySat: 1_000_000n,
    holderBalanceMsat: 600_000_000n,
    counterpartyBalanceMsat: 400_000_000n,
    outboundCapacityMsat: 590_000_000n,
    inboundCapacityMsat: 390_000_000n,
    htlcsInFlight: 0,
    announce: true,
    holderIsFunder: true,
    channelType: 'anchors',
    ...over,
  };
}

export const noForwarding: ForwardingWrites = {
  intents: [],
  intentClaims: [],
  resolutions: [],
  resolutionsTaken: [],
  preimages: [],
  outgoing: [],
  onionReplays: [],
  events: [],
};

export const forwarding = (over: Partial<ForwardingWrites>): ForwardingWrites => ({
  ...noForwarding,
  ...over,
});

export interface StepOptions extends Partial<
  Omit<ChannelCommit, 'fence' | 'channelId' | 'delta' | 'row' | 'forwarding'>
> {
  readonly row?: Partial<ChannelRow>;
  readonly delta?: Partial<ChannelCommit['delta']>;
  readonly forwarding?: Partial<ForwardingWrites>;
}

/** A step of channel `number` from `expectedVersion`; 0n is its birth. */
export function step(
  fence: Fence,
  number: number,
  expectedVersion: bigint,
  options: StepOptions = {},
): CommitUnit {
  const { row: rowOver, delta, forwarding: writes, ...rest } = options;
  return {
    kind: 'channel',
    commit: {
      fence,
      channelId: channelIdOf(number),
      expectedVersion,
      row: row(number, fence.shard, rowOver),
      delta: {
        hot: bytes(200, number + Number(expectedVersion)),
        ...(expectedVersion === 0n && { cold: bytes(500, number) }),
        newHtlcs: [],
        newRemovals: [],
        settledHtlcs: [],
        secretBuckets: [],
        ...delta,
      },
      monitorUpdates: [],
      forwarding: forwarding(writes ?? {}),
      broadcasts: [],
      watches: [],
      ...rest,
    },
  };
}

export function htlc(direction: 'inbound' | 'outbound', id: bigint, over: Partial<HtlcBody> = {}): HtlcBody {
  return {
    direction,
    id,
    amountMsat: 5_000_000n + (id & 0xffn),
    paymentHash: bytes(32, Number(id & 0xffffn)),
    cltvExpiryHeight: 800_000,
    onionRoutingPacket: bytes(1_366, 7),
    ...over,
  };
}

export function intent(
  source: HtlcSource,
  targetShard: number,
  sourceShard: number,
  over: Partial<Intent> = {},
): Intent {
  return {
    source,
    target: { type: 'scid', shortChannelId: 2n ** 63n + 5n },
    targetShard,
    sourceShard,
    paymentHash: bytes(32, 9),
    incomingAmountMsat: 1_001n,
    incomingCltvExpiryHeight: 800_080,
    outgoingAmountMsat: 1_000n,
    outgoingCltvExpiryHeight: 800_000,
    onion: bytes(1_366, 3),
    sharedSecret: bytes(32, 4),
    createdUnixMs: 1_700_000_000_000,
    ...over,
  };
}

export const event = (type: string, body: string) => ({ type, timeUnixMs: 1_700_000_000_000, body });

export const invoice: Extract<PaymentRow, { type: 'inbound' }> = {
  type: 'inbound',
  status: 'open',
  bolt11: 'lnbc1',
  description: 'tea',
  amountMsat: 5n,
  receivedMsat: 0n,
  createdUnixMs: 10,
  expiresUnixMs: 20,
};

export function payment(
  fence: Fence,
  number: number,
  expectedVersion: bigint,
  over: Partial<Omit<PaymentCommit, 'fence'>> = {},
): CommitUnit {
  return {
    kind: 'payment',
    commit: {
      fence,
      paymentHash: bytes(32, number),
      expectedVersion,
      state: bytes(40, number),
      row: invoice,
      forwarding: noForwarding,
      ...over,
    },
  };
}

/** A replica that holds `shard`. */
export async function owner(store: ManagerStore, replicaId: string, shard: number): Promise<Fence> {
  await store.heartbeat(replicaId, 1n, `${replicaId}:1`, 60_000);
  const outcome = await store.acquireShard(shard, replicaId);
  if (outcome.type !== 'acquired') throw new TypeError(`shard ${shard} is ${outcome.type}`);
  return { shard, epoch: outcome.epoch, replicaId };
}

export const types = (verdicts: readonly { readonly type: string }[]): readonly string[] =>
  verdicts.map(({ type }) => type);

/** Two shards with a channel each: HTLCs come in on the first and go out on the second. */
export async function forwardingPair(
  a: ManagerStore,
  b: ManagerStore,
  base: number,
): Promise<{
  readonly up: Fence;
  readonly down: Fence;
  readonly upNumber: number;
  readonly downNumber: number;
}> {
  const up = await owner(a, `up-${base}`, base);
  const down = await owner(b, `down-${base}`, base + 1);
  const [upNumber, downNumber] = [base * 10, base * 10 + 1];
  expect(types(await a.commitSteps([step(up, upNumber, 0n)]))).toEqual(['committed']);
  expect(types(await b.commitSteps([step(down, downNumber, 0n)]))).toEqual(['committed']);
  return { up, down, upNumber, downNumber };
}

/** What a unit writes when nothing crosses. */
export const noWrites = {
  intents: [],
  intentClaims: [],
  resolutions: [],
  resolutionsTaken: [],
  preimages: [],
  outgoing: [],
  onionReplays: [],
  events: [],
};
