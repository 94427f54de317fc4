/** What the channels of a replica hear of blocks, whatever fails meanwhile. */
import { NETWORKS } from '@fulmen/bitcoin';
import { summary } from '@fulmen/channel';
import { FEERATES } from '@fulmen/channel/testing/node';
import { addCommand, Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shardOfPeer } from '@fulmen/keys/shard';
import type { SignerChannelState } from '@fulmen/proto/signer/v1/signer';
import { Metrics, silentLogger } from '@fulmen/service';
import { type CommitUnit, type LoadedChannel, StoreError } from '@fulmen/store';
import { expect, test } from 'vitest';
import { channelRow } from './channel-row.ts';
import { Engine, type EngineOptions } from './engine.ts';
import type { EnginePorts, NodeView } from './ports.ts';

/** The HTLC that Alice offers expires at 500, and nobody waits for its end longer than that. */
const EXPIRY_HEIGHT = 500;
const LONG_AFTER = EXPIRY_HEIGHT + 100;

/** A replica that has Alice's channel in its rows. */
class OneChannel {
  /** Units in the order of their commits. */
  readonly units: CommitUnit[] = [];
  /** What the store answers a question about fundings with; the last stands. */
  readonly statuses: (() => Promise<readonly never[]>)[] = [async () => []];
  /** What happens while something is committed. */
  onCommit: () => Promise<void> = async () => undefined;
  readonly node = {
    chainHash: NETWORKS.regtest.chainHash,
    channelConfig: {},
    feerates: FEERATES,
    blockHeight: EXPIRY_HEIGHT - 100,
    chainDoubt: () => undefined,
    blocksUnseen: () => 0,
  } as unknown as NodeView;
  readonly engine: Engine;
  readonly shard: number;

  constructor() {
    const pair = new Pair(fakeSecp256k1);
    pair.alice.must(addCommand(1, 100_000_000n, EXPIRY_HEIGHT));
    pair.settle();
    const { channel, rows, ctx } = pair.alice;
    const { changes, parameters } = channel;
    if (rows === undefined) throw new TypeError('nothing persisted');
    this.shard = shardOfPeer(parameters.counterpartyNodeId);
    Object.assign(this.node, { channelConfig: ctx.config });
    const loaded: LoadedChannel = {
      version: 1n,
      persisted: rows,
      row: channelRow(channel, summary(ctx, channel), this.shard),
      nextMonitorUpdateId: channel.monitor.updateId + 1n,
      fundingStatus: undefined,
      outgoing: [],
      preimages: [],
      fulfilledLateMsat: 0n,
      intentsWritten: [],
    };
    const signer: SignerChannelState = {
      channelKeysId: Buffer.from(parameters.channelKeysId),
      registered: true,
      nextHolderCommitment: changes.holderCommitmentNumber + 1n,
      nextHolderRevocation: changes.holderCommitmentNumber,
      nextCounterpartyCommitment: changes.counterpartyCommitmentNumber + 1n,
      nextCounterpartyRevocation: changes.counterpartySecrets.count,
      closing: false,
      firstPointNumber: changes.holderCommitmentNumber + 1n,
      perCommitmentPoints: [],
    };
    const never = new Promise<never>(() => undefined);
    const ports = {
      logger: silentLogger,
      metrics: new Metrics('test'),
      secp: fakeSecp256k1,
      bus: { publish: () => undefined },
      runtime: {
        wallClockMs: () => 0,
        monotonicMs: () => 0,
        sleep: () => never,
        spawn: () => ({ done: never }),
      },
      signer: {
        fenceShard: async () => ({}),
        getChannelStates: async () => ({ states: [signer] }),
      },
      committer: {
        submit: async (unit: CommitUnit) => {
          this.units.push(unit);
          await this.onCommit();
          return { verdict: { type: 'committed' } };
        },
      },
      store: {
        loadShard: async () => ({ type: 'loaded', channels: [loaded], payments: [] }),
        getPolicy: async () => undefined,
        listPeers: async () => [],
        fundingStatuses: () => (this.statuses.length > 1 ? this.statuses.shift() : this.statuses[0])?.(),
      },
    } as unknown as EnginePorts;
    this.engine = new Engine(ports, this.node, {
      replicaId: 'a',
      policy: { feeBaseMsat: 0, feeProportionalMillionths: 0, cltvExpiryDelta: 40 },
      backups: {},
    } as unknown as EngineOptions);
  }

  gain(): Promise<void> {
    return this.engine.gained({ shard: this.shard, epoch: 1n, replicaId: 'a' });
  }

  /** The phases that were committed, once nothing is under way. */
  async phases(): Promise<readonly string[]> {
    await Promise.all(this.engine.channels().map((actor) => actor.idle()));
    return this.units.flatMap((unit) => (unit.kind === 'channel' ? [unit.commit.row.phase] : []));
  }
}

test('a block whose look at the store failed is heard in the next look, and once', async () => {
  const one = new OneChannel();
  await one.gain();
  await one.engine.followChain(one.node.blockHeight);
  expect(await one.phases()).not.toContain('closing_force');
  one.statuses.unshift(() => Promise.reject(new StoreError('unavailable', 'away for a moment')));
  await expect(one.engine.followChain(LONG_AFTER)).rejects.toThrow('away for a moment');
  expect(one.node.blockHeight).toBe(LONG_AFTER);
  expect(await one.phases()).not.toContain('closing_force');
  await one.engine.followChain(LONG_AFTER);
  expect((await one.phases()).at(-1)).toBe('closing_force');
  const { length } = one.units;
  await one.engine.followChain(LONG_AFTER);
  await one.phases();
  expect(one.units.length).toBe(length);
});

test('the channels of a shard that comes after a block hear of it', async () => {
  const one = new OneChannel();
  await one.engine.followChain(LONG_AFTER);
  await one.gain();
  expect((await one.phases()).at(-1)).toBe('closing_force');
});

test('a channel that never runs out of work comes to rest with the turn under way', async () => {
  const one = new OneChannel();
  await one.gain();
  await one.phases();
  const [actor] = one.engine.channels();
  const more = (): boolean | undefined =>
    actor?.post({
      kind: 'broadcast',
      order: { kind: 'mutual_close', transactions: [], channelId: actor.channelId },
    });
  one.onCommit = async () => {
    more();
    await new Promise((resolve) => setImmediate(resolve));
  };
  const { length } = one.units;
  expect(more()).toBe(true);
  await one.engine.drained(one.shard);
  expect(one.units.length).toBe(length + 1);
  more();
  await new Promise((resolve) => setImmediate(resolve));
  expect(one.units.length).toBe(length + 1);
  one.engine.lost(one.shard, 'released');
  expect(more()).toBe(false);
});
