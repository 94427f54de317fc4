/** Random histories on the model and on Postgres: every verdict and everything that can be read must agree. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  bytes,
  channelIdOf,
  htlc,
  htlcSource,
  intent,
  owner,
  payment,
  step,
} from '../compliance/fixtures.ts';
import type {
  CommitUnit,
  Fence,
  ForwardingWrites,
  HtlcSource,
  ManagerStore,
  Resolution,
  Verdict,
} from '../manager-store.ts';
import { MemoryManagerDatabase } from '../memory.ts';
import { makePostgresManagerDatabase, type PostgresUnderTest } from './testing.ts';

const small = (max: number) => fc.integer({ min: 0, max });

/** An operation, in small numbers so that histories collide often. */
const operation = fc.record({
  kind: fc.constantFrom('channel', 'channel', 'channel', 'payment', 'shard'),
  entity: small(2),
  /** Added to the right version; wrong now and then. */
  versionError: fc.constantFrom(0n, 0n, 0n, 0n, 0n, 0n, 1n),
  wrongEpoch: fc.constantFrom(false, false, false, false, false, true),
  newHtlc: fc.option(small(3), { freq: 2 }),
  removal: fc.option(small(3), { freq: 2 }),
  settled: fc.option(small(3), { freq: 2 }),
  intent: fc.option(small(3), { freq: 2 }),
  claim: fc.option(fc.tuple(small(3), fc.constantFrom('taken', 'cancelled')), { freq: 2 }),
  resolution: fc.option(fc.tuple(small(3), fc.constantFrom('fulfilled', 'failed', 'failed_here')), {
    freq: 2,
  }),
  taken: fc.option(fc.tuple(small(3), fc.constantFrom('fulfilled', 'failed', 'failed_here')), { freq: 2 }),
  preimage: fc.option(small(3), { freq: 2 }),
  outgoing: fc.option(small(3), { freq: 1 }),
  replay: fc.option(fc.tuple(small(3), small(3)), { freq: 2 }),
  monitor: fc.option(fc.constantFrom(0n, 0n, 0n, 1n), { freq: 1 }),
  scid: fc.option(small(5), { freq: 1 }),
  prune: fc.constantFrom(false, false, false, true),
});
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

describe('the model and Postgres', () => {
  let database: PostgresUnderTest;
  let postgres: ManagerStore;
  beforeAll(async () => {
    database = await makePostgresManagerDatabase();
    postgres = database.connect('p');
  });
  afterAll(async () => {
    await postgres.close();
    await database.drop();
  });

  test('agree on random histories', async () => {
    let round = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 25 }), async (operations) => {
        round += 1;
        // A part of the database that no other history touches.
        const shard = round;
        const base = round * 100_000;
        const memory = new MemoryManagerDatabase(() => 0).connect('m');
        const stores = [memory, postgres];
        const fences = await Promise.all(stores.map((store) => owner(store, `r${round}`, shard)));
        const versions = new Map<string, { version: bigint; monitor: bigint }>();
        for (const op of operations) {
          const key = `${op.kind}${op.entity}`;
          const entry = versions.get(key) ?? { version: 0n, monitor: 0n };
          versions.set(key, entry);
          const [mine, theirs] = await Promise.all(
            stores.map(async (store, index) =>
              withoutReason(await store.commitSteps([unitOf(op, fences[index] as Fence, base, entry)])),
            ),
          );
          expect(theirs).toEqual(mine);
          if (mine?.[0]?.type === 'committed') {
            entry.version += 1n;
            if (op.monitor !== null && op.kind === 'channel') entry.monitor += 1n;
          }
          if (op.prune) for (const store of stores) await store.prune(1_000, 0, 1_000_000_000);
        }
        const [expected, actual] = await Promise.all(
          stores.map((store, index) => everything(store, fences[index] as Fence)),
        );
        expect(actual).toEqual(expected);
      }),
      { numRuns: 12 },
    );
  });
});

function withoutReason(verdicts: readonly Verdict[]): readonly Verdict[] {
  return verdicts.map((verdict) => (verdict.type === 'bad_data' ? { ...verdict, reason: '' } : verdict));
}

function unitOf(
  op: Operation,
  held: Fence,
  base: number,
  entry: { readonly version: bigint; readonly monitor: bigint },
): CommitUnit {
  const fence = op.wrongEpoch ? { ...held, epoch: held.epoch + 1n } : held;
  const number = base + op.entity;
  const expectedVersion = entry.version + op.versionError;
  // Sources are the HTLCs of channel 0, so that every entity meets the others' rows.
  const source = (id: number): HtlcSource => htlcSource(base, BigInt(id));
  const list = <T, R>(value: T | null, make: (value: T) => R): readonly R[] =>
    value === null ? [] : [make(value)];
  const forwarding: ForwardingWrites = {
    intents: list(op.intent, (id) => intent(source(id), fence.shard, fence.shard)),
    intentClaims: list(op.claim, ([id, outcome]) => ({
      source: source(id),
      outcome: outcome === 'taken' ? 'taken' : 'cancelled',
    })),
    resolutions: list(op.resolution, ([id, type]) => ({
      source: source(id),
      sourceShard: fence.shard,
      outcome: outcomeOf(type),
    })),
    resolutionsTaken: list(op.taken, ([id, type]) => ({ source: source(id), outcome: outcomeOf(type).type })),
    preimages: list(op.preimage, (id) => ({
      channelId: channelIdOf(base),
      htlcId: BigInt(id),
      preimage: bytes(32, number),
    })),
    outgoing:
      op.kind !== 'channel'
        ? []
        : list(op.outgoing, (id) => ({
            channelId: channelIdOf(number),
            htlcId: BigInt(id),
            source: source(id),
            sourceShard: 1,
            incomingAmountMsat: 5n,
          })),
    onionReplays: list(op.replay, ([secret, id]) => ({
      sharedSecretHash: bytes(32, base + secret),
      channelId: channelIdOf(number),
      htlcId: BigInt(id),
    })),
    events: [],
  };
  if (op.kind === 'shard') return { kind: 'shard', commit: { fence, forwarding } };
  if (op.kind === 'payment') return payment(fence, number, expectedVersion, { forwarding });
  return step(fence, number, expectedVersion, {
    row: op.scid === null ? {} : { holderAliasScid: BigInt(base + op.scid) },
    delta: {
      newHtlcs: list(op.newHtlc, (id) => htlc('inbound', BigInt(id))),
      newRemovals: list(op.removal, (id) => ({
        direction: 'inbound' as const,
        id: BigInt(id),
        removal: { type: 'failed' as const, reason: bytes(5, id) },
      })),
      settledHtlcs: list(op.settled, (id) => ({ direction: 'inbound' as const, id: BigInt(id) })),
    },
    monitorUpdates: list(op.monitor, (error) => ({
      updateId: entry.monitor + 1n + error,
      payload: bytes(5, 1),
    })),
    forwarding,
  });
}

function outcomeOf(type: string): Resolution['outcome'] {
  if (type === 'fulfilled') return { type, preimage: bytes(32, 1) };
  return type === 'failed' ? { type, reason: bytes(9, 1) } : { type: 'failed_here', failure: bytes(9, 2) };
}

async function everything(store: ManagerStore, fence: Fence): Promise<unknown> {
  return {
    loaded: await store.loadShard(fence),
    intents: await store.pendingIntents([fence.shard], 100),
    resolutions: await store.pendingResolutions([fence.shard], 100),
    forwards: (await store.listForwards(10_000)).filter(
      ({ inboundChannelId }) => inboundChannelId.join() === channelIdOf(fence.shard * 100_000).join(),
    ),
  };
}
