/**
 * Closing is one decision. chain-monitor decides, drains, has the holder
 * commitment signed and orders it, while the manager commits, validates and
 * reveals: the two are interleaved at every point, with a crash between
 * signature and order, and with a manager that dies anywhere. What is signed is
 * never revoked, before or after, and is the newest that the manager committed.
 */
import { preimageOf } from '@fulmen/channel/testing/pair';
import { type EstablishedChannel, channelStep, persistDelta, restore, summary } from '@fulmen/channel';
import { channelRow } from '@fulmen/channel-manager/engine/channel-row';
import { emptyForwarding } from '@fulmen/channel-manager/engine/forwarding';
import { compare } from '@fulmen/channel-manager/engine/shard-loader';
import { chainMetrics } from '@fulmen/chain-monitor/metrics';
import { Closer } from '@fulmen/chain-monitor/monitors/closer';
import { MonitorDrain } from '@fulmen/chain-monitor/monitors/drain';
import { Writer } from '@fulmen/chain-monitor/state/writer';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { txid as txidOf } from '@fulmen/bitcoin';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { decodeChannelMonitorUpdate, encodeChannelMonitorUpdate } from '@fulmen/monitor';
import { Metrics, silentLogger } from '@fulmen/service';
import { BatchClient, startSigner } from '@fulmen/signer/testing/harness';
import { wireItem, wireRegistration } from '@fulmen/signer/testing/wire';
import type { SignItemRequest } from '@fulmen/signer/enforcement/types';
import { type CommitUnit, type LoadedChannel, StoreError } from '@fulmen/store';
import { MemoryChainState, MemoryChainStore } from '@fulmen/store/chain/memory';
import { MemoryManagerDatabase } from '@fulmen/store/manager/memory';
import { describe, expect, test } from 'vitest';
import { FENCE } from '../settlement/fleet-node.ts';
import { OffChain } from '../settlement/off-chain.ts';
import { SHARD, fleetKeys } from '../settlement/policy-signer.ts';

type ChannelUnit = Extract<CommitUnit, { kind: 'channel' }>;

/** What the manager does, in its order: a step is committed before the signer hears of it. */
type ManagerOp =
  | { readonly type: 'commit'; readonly unit: ChannelUnit }
  | { readonly type: 'sign'; readonly request: SignItemRequest };

interface History {
  readonly channel: OffChain;
  /** Until the channel is open. */
  readonly before: readonly ManagerOp[];
  /** HTLCs both ways: commitments are signed, validated and revoked on both sides. */
  readonly steps: readonly ManagerOp[];
}

const KEYS = fleetKeys(secp256k1);

function play(): History {
  const ops: ManagerOp[] = [];
  let signed = 0;
  const channel = new OffChain(secp256k1, KEYS, {
    name: 'closing decision',
    format: 'anchors',
    funder: 'fleet',
    fundingSat: 1_000_000n,
    pushSat: 400_000n,
    feerateSatPerKw: 1_000,
    toSelfDelayBlocks: 144,
    dustLimitSat: { fleet: 354n, peer: 354n },
    fund: (script, valueSat) => ({
      ...spendAnyone([{ txid: '11'.repeat(32), vout: 0 }], [1_000n]),
      outputs: [
        { script, valueSat },
        { script: ANYONE_SCRIPT, valueSat: 1_000n },
      ],
    }),
    onFleet: ({ manager, signer }) => {
      const commit = manager.commit.bind(manager);
      manager.commit = (unit) => {
        // The node for tests asks its signer first; a real one commits first (law 2).
        if (unit.kind === 'channel') ops.push({ type: 'commit', unit });
        for (const request of signer.requests.slice(signed)) ops.push({ type: 'sign', request });
        signed = signer.requests.length;
        return commit(unit);
      };
    },
  });
  const before = ops.splice(0);
  channel.fleet.forward(
    { type: 'htlc', channelId: new Uint8Array(32).fill(0xe1), htlcId: 0n },
    { amountMsat: 50_000_000n, paymentHash: sha256(preimageOf(1)), cltvExpiryHeight: 600 },
  );
  channel.settle();
  channel.peer.must({
    type: 'add_htlc',
    amountMsat: 30_000_000n,
    paymentHash: sha256(preimageOf(2)),
    cltvExpiryHeight: 700,
    onionRoutingPacket: new Uint8Array(1366).fill(7),
  });
  channel.settle();
  return { channel, before, steps: ops };
}

/** The number of the newest holder commitment that a commit brings. */
function holderNumberOf({ commit }: ChannelUnit): bigint | undefined {
  let newest: bigint | undefined;
  for (const { payload } of commit.monitorUpdates) {
    const update = decodeChannelMonitorUpdate(payload);
    if (!update.ok) throw new TypeError(update.error.message);
    for (const step of update.value.steps)
      if (step.type === 'latest_holder_commitment') newest = step.content.commitmentNumber;
  }
  return newest;
}

/** A process of chain-monitor, as far as closing goes. */
interface ChainSide {
  readonly writer: Writer;
  readonly drain: MonitorDrain;
  readonly closer: Closer;
}

/** One interleaving: a manager, a signer and a chain-monitor from the same beginning. */
class Interleaving {
  readonly #history: History;
  readonly #database = new MemoryManagerDatabase(() => 0);
  readonly #chain: MemoryChainState;
  readonly #signer: Awaited<ReturnType<typeof startSigner>>;
  readonly #batches: BatchClient;
  readonly #channelKeysId: Uint8Array;
  /** Numbers of holder commitments whose secret left the signer. */
  readonly revealed = new Set<bigint>();
  /** Numbers of holder commitments that were signed for broadcast. */
  readonly signed: bigint[] = [];
  newestCommitted = -1n;
  newestValidated = -1n;
  /** The manager has closed the channel. */
  #follows = false;
  /** What was on its way to the signer has arrived. */
  #isSilent = false;

  private constructor(history: History, signer: Awaited<ReturnType<typeof startSigner>>) {
    this.#history = history;
    this.#signer = signer;
    this.#batches = new BatchClient(signer.client);
    this.#channelKeysId = history.channel.fleet.signer.registration.channelKeysId;
    this.#database.state.shards.set(SHARD, { epoch: FENCE.epoch, owner: FENCE.replicaId });
    this.#chain = new MemoryChainState(this.#database.state, () => 0);
  }

  static async start(history: History): Promise<Interleaving> {
    const party = { keys: KEYS, channelKeysId: new Uint8Array(32), walletScript: new Uint8Array(0) };
    const signer = await startSigner({ secp: secp256k1, party });
    await signer.client.fenceShard({ shard: FENCE.shard, epoch: FENCE.epoch });
    await signer.client.registerChannel(
      wireRegistration(history.channel.fleet.signer.registration, FENCE.epoch),
    );
    const one = new Interleaving(history, signer);
    for (const op of history.before) await one.manager(op);
    const chain = await one.chainSide();
    await chain.drain.run();
    return one;
  }

  async stop(): Promise<void> {
    this.#batches.end();
    await this.#signer.stop();
  }

  /** The manager's next act; one that heard of the decision does nothing more of its history. */
  async manager(op: ManagerOp): Promise<void> {
    if (this.#follows && op.type === 'commit') this.#isSilent = true;
    if (this.#isSilent) return;
    if (op.type === 'sign') return this.#sign(op.request);
    const verdict = this.#database.state.commit(op.unit);
    if (verdict.type === 'closing_decided') {
      this.#isSilent = true;
      return this.close(verdict.reason);
    }
    if (verdict.type !== 'committed') throw new TypeError(JSON.stringify(verdict));
    this.newestCommitted = holderNumberOf(op.unit) ?? this.newestCommitted;
  }

  async #sign(request: SignItemRequest): Promise<void> {
    const answer = await this.#batches.one(wireItem(this.#channelKeysId, FENCE, request));
    if ('policy' in answer) {
      // Only the lock of the close refuses what was committed.
      expect(this.signed).toHaveLength(1);
      return;
    }
    if (request.holderCommitment !== undefined)
      this.newestValidated = request.holderCommitment.spec.commitmentNumber;
    if (request.releaseSecretNumber !== undefined) this.revealed.add(request.releaseSecretNumber);
  }

  /** What the channel's actor does when it decides, or is told of a decision: it closes, from what is committed. */
  async close(reason: string): Promise<void> {
    this.#follows = true;
    const { ctx } = this.#history.channel.fleet;
    const { channel, state } = await this.#load();
    const step = channelStep(ctx, state, { type: 'force_close', reason });
    if (!step.ok || step.value.state.type !== 'established') throw new TypeError('the core does not close');
    const next = step.value.state;
    const { channelId } = next;
    const closing: ChannelUnit = {
      kind: 'channel',
      commit: {
        fence: FENCE,
        channelId,
        expectedVersion: channel.version,
        row: channelRow(next, summary(ctx, next), SHARD),
        delta: persistDelta(state, next),
        monitorUpdates: step.value.effects.flatMap((effect) =>
          effect.type === 'monitor_update'
            ? [
                {
                  updateId: effect.updateId,
                  payload: encodeChannelMonitorUpdate({
                    channelId,
                    updateId: effect.updateId,
                    steps: effect.steps,
                  }),
                },
              ]
            : [],
        ),
        forwarding: emptyForwarding(),
        broadcasts: [],
        watches: [],
      },
    };
    expect(closing.commit.monitorUpdates).toHaveLength(1);
    expect(this.#database.state.commit(closing)).toEqual({ type: 'committed' });
  }

  async #load(): Promise<{ readonly channel: LoadedChannel; readonly state: EstablishedChannel }> {
    const loaded = await this.#database.connect('next').loadShard(FENCE);
    const [channel] = loaded.type === 'loaded' ? loaded.channels : [];
    const restored = channel === undefined ? undefined : restore(channel.persisted);
    if (channel === undefined || restored?.ok !== true || restored.value.type !== 'established')
      throw new TypeError('the channel does not load');
    return { channel, state: restored.value };
  }

  /** A process of chain-monitor; `dies`: between the signature and the order. */
  async chainSide(dies: 'never' | 'before_the_order' = 'never'): Promise<ChainSide> {
    const store = new MemoryChainStore(this.#chain);
    if (dies === 'before_the_order')
      store.commitClose = () => Promise.reject(new StoreError('unavailable', 'the process died'));
    const writer = new Writer(store, () => undefined);
    const lease = await store.acquireLease({
      holder: 'chain',
      address: 'chain:1',
      leaseMs: 1_000_000,
      doubt: undefined,
    });
    if (lease.type === 'acquired') writer.setLease(lease.lease);
    const metrics = chainMetrics(new Metrics('chain-monitor'));
    const logger = silentLogger;
    const client = this.#signer.clientWith('claim', 'wallet');
    return {
      writer,
      drain: new MonitorDrain({ writer, logger, metrics, onMoved: () => undefined }),
      closer: new Closer({
        writer,
        signer: {
          signHolderCommitment: async (request) => {
            const answer = await client.signHolderCommitment(request);
            const number = request.holderCommitment?.spec?.commitmentNumber;
            if (number !== undefined && !this.signed.includes(number)) this.signed.push(number);
            return answer;
          },
        },
        runtime: { monotonicMs: () => 0, wallClockMs: () => 0 },
        logger,
        metrics,
      }),
    };
  }

  async decide(): Promise<string> {
    const { writer } = await this.chainSide();
    const { channelId } = this.#history.channel;
    return writer.exclusive((_, lease) => writer.store.decideClose(lease, channelId, 'an HTLC expired'));
  }

  /** What is not drained is not signed; then it is drained, and signed, and the process dies before it orders. */
  async signAndDie(): Promise<void> {
    const isDrained = [...this.#database.state.monitorLog.values()].every((log) => log.length === 0);
    const early = await this.chainSide('before_the_order');
    if (!isDrained) expect(await early.closer.run()).toBe(0);
    expect(this.signed).toEqual([]);
    await early.drain.run();
    await expect(early.closer.run()).rejects.toBeInstanceOf(StoreError);
  }

  async order(): Promise<void> {
    const { drain, closer } = await this.chainSide();
    await drain.run();
    expect(await closer.run()).toBe(1);
  }

  ordered(): number {
    return this.#chain.broadcasts.size;
  }

  /** What a manager that loads the channel now makes of it beside the signer. */
  async contradiction(): Promise<string | undefined> {
    const { channel, state } = await this.#load();
    expect(channel.closingDecision ?? (state.phase.type === 'closing_force' ? state.phase.reason : '')).toBe(
      'an HTLC expired',
    );
    const { states } = await this.#signer.client.getChannelStates({
      channelKeysIds: [Buffer.from(this.#channelKeysId)],
    });
    return compare(state, states[0], channel.closingDecision).contradiction?.reason;
  }
}

describe('closing is one decision', () => {
  const history = play();
  const { steps } = history;
  /** Interleavings in which the newest commitment was committed, and not validated when it was to be signed. */
  let unvalidated = 0;

  test('the history commits, validates, reveals and signs', () => {
    const requests = steps.flatMap((op) => (op.type === 'sign' ? [op.request] : []));
    expect(requests.filter(({ holderCommitment }) => holderCommitment !== undefined)).toHaveLength(2);
    expect(requests.filter(({ releaseSecretNumber }) => releaseSecretNumber !== undefined)).toHaveLength(2);
    expect(
      requests.filter(({ counterpartyCommitment }) => counterpartyCommitment !== undefined),
    ).toHaveLength(2);
    expect(
      txidOf(history.channel.fundingTx ?? { version: 2, locktime: 0, inputs: [], outputs: [] }),
    ).toHaveLength(32);
  });

  // Where the decision falls: before act `at` of the manager; and whose it is.
  const decisions = Array.from({ length: steps.length + 1 }, (_, at) => at).flatMap((at) =>
    (['chain-monitor', 'the manager'] as const).map((by) => [by, at] as const),
  );
  test.each(decisions)(
    'no revoked commitment is signed, whatever comes after a decision of %s at act %i',
    async (by, decideAt) => {
      for (let signAt = decideAt; signAt <= steps.length; signAt++)
        for (let orderAt = signAt; orderAt <= steps.length; orderAt++) {
          const one = await Interleaving.start(history);
          let newestAtDecision = -1n;
          for (let at = 0; at <= steps.length; at++) {
            if (at === decideAt) {
              newestAtDecision = one.newestCommitted;
              if (by === 'the manager') await one.close('an HTLC expired');
              else expect(await one.decide()).toBe('decided');
              expect(await one.decide()).toBe('closing');
            }
            if (at === signAt) {
              if (one.newestValidated < one.newestCommitted) unvalidated += 1;
              await one.signAndDie();
            }
            if (at === orderAt) await one.order();
            const op = steps[at];
            if (op !== undefined) await one.manager(op);
          }
          expect(one.signed).toEqual([newestAtDecision]);
          expect(one.revealed.has(newestAtDecision)).toBe(false);
          expect(one.ordered()).toBe(1);
          expect(await one.contradiction()).toBeUndefined();
          await one.stop();
        }
    },
  );

  test('a commitment that was committed and never validated was the one that is broadcast', () => {
    expect(unvalidated).toBeGreaterThan(10);
  });
});
