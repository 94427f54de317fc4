/** Facts, what follows from them, and what is told: with real commitments, through restarts and reorganisations. */
import { FEERATE_FLOOR_SAT_PER_KW, encodeTx, txid as txidOf, type Tx } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import { IRREVOCABLE_DEPTH, TIMEOUT_CONFIRMED_WITHIN_BLOCKS } from '@fulmen/settlement';
import { claimTransactions } from '@fulmen/settlement/testing/claims';
import { TestChain } from '@fulmen/settlement/testing/test-chain';
import { type Side, TestChannel } from '@fulmen/settlement/testing/test-channel';
import type { HtlcSource } from '@fulmen/store';
import { sourceKey } from '@fulmen/store/manager/source';
import { describe, expect, test } from 'vitest';
import { Settling } from '../testing/settling.ts';

const EXPIRY = 500;
const ALICE: Side = 'alice';

/** Alice offers 0 and 1 (dust); bob offers 0 and 1. */
function channelWithHtlcs(format: 'anchors' | 'static_remotekey' = 'anchors'): TestChannel {
  const channel = new TestChannel({ format });
  channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('alice', { seed: 2, amountMsat: 300_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 3, amountMsat: 40_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 4, amountMsat: 30_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  return channel;
}

interface Stage {
  readonly channel: TestChannel;
  readonly chain: TestChain;
  settling: Settling;
  readonly id: string;
  readonly upstream: (htlcId: bigint) => HtlcSource;
}

/** The same blocks for the settler, and for a chain that validates them. */
async function stage(channel: TestChannel = channelWithHtlcs()): Promise<Stage> {
  const chain = new TestChain(100);
  chain.fund(channel);
  const settling = await Settling.start(100);
  const monitor = channel.monitor(ALICE);
  const id = toHex(monitor.parameters.channelId);
  const upstream = (htlcId: bigint): HtlcSource => ({
    type: 'htlc',
    channelId: new Uint8Array(32).fill(9),
    htlcId,
  });
  settling.manager.channels.set(id, {
    row: { channelKeysId: monitor.parameters.channelKeysId, shard: 1, phase: 'open' },
    monitorUpdateId: monitor.updateId,
    outgoing: new Map(
      [0n, 1n].map((htlcId) => [htlcId, { source: upstream(htlcId), sourceShard: 3 }] as const),
    ),
  });
  await settling.watch(monitor);
  return { channel, chain, settling, id, upstream };
}

async function mine({ chain, settling }: Stage, transactions: readonly Tx[] = []): Promise<void> {
  chain.mine(transactions);
  await settling.mine(transactions);
  // Faults of a settlement have a reason; alarms about the counterparty have none.
  expect(settling.complaints.filter((one) => 'reason' in one)).toEqual([]);
}

async function mineTo(one: Stage, height: number): Promise<void> {
  while (one.chain.height < height) await mine(one);
}

/** Facts and settlement are what the whole chain gives, whatever happened on the way. */
function expectTruth({ channel, chain, settling, id }: Stage): void {
  const truth = chain.settlement(channel, ALICE);
  const facts = [...settling.state.settlement.spends.values()]
    .sort((a, b) => a.height - b.height || a.txIndex - b.txIndex)
    .map(({ txid, height }) => `${toHex(txid)}@${height}`);
  expect(facts).toEqual(truth.facts.confirmed.map(({ txid, height }) => `${toHex(txid)}@${height}`));
  const record = settling.state.settlement.settlements.get(id);
  if (truth.settlement.close === undefined) {
    expect(record).toBeUndefined();
    return;
  }
  expect(record).toMatchObject({
    stage: truth.settlement.stage,
    closeType: truth.settlement.close.type,
    closeHeight: truth.settlement.close.height,
  });
  expect(settling.settler.closing.get(id)?.settlement.outputs).toEqual(truth.settlement.outputs);
}

function resolutionOf({ settling, upstream }: Stage, htlcId: bigint) {
  return settling.manager.resolutions.get(sourceKey(upstream(htlcId)))?.resolution.outcome;
}

/** The HTLC carries a payment of the node's own; the function tells how it ended, once that is told. */
function ownPayment({ settling, id }: Stage, htlcId: bigint): () => string | undefined {
  const source = { type: 'payment', attemptId: new Uint8Array(32).fill(8) } as const;
  const row = settling.manager.channels.get(id);
  if (row === undefined) throw new TypeError('no row');
  const outgoing = new Map(row.outgoing).set(htlcId, { source, sourceShard: 4 });
  settling.manager.channels.set(id, { ...row, outgoing });
  return () => settling.manager.resolutions.get(sourceKey(source))?.resolution.outcome.type;
}

describe('facts', () => {
  test('a breach whose second stage is in the same block is caught whole', async () => {
    // With anchors a second stage waits a block.
    const channel = channelWithHtlcs('static_remotekey');
    const revoked = channel.commitment('bob');
    channel.fulfill('bob', 0n, 1);
    channel.settle();
    const one = await stage(channel);
    const { outputIndex } = channel.htlcOutput(revoked, 'inbound', 0n);
    const theft = channel.secondStage(revoked, [{ outputIndex, preimage: preimageOf(1) }]);
    await mine(one, [revoked.tx, theft]);
    expect(one.settling.state.settlement.spends.size).toBe(2);
    expectTruth(one);
    expect(one.settling.events('breach_detected')).toHaveLength(1);
    // Everything that can be punished is punished at once.
    const { settlement } = one.chain.settlement(channel, ALICE);
    await mine(one, claimTransactions(channel, ALICE, settlement));
    expectTruth(one);
    expect(one.settling.events('output_swept').length).toBeGreaterThan(0);
  });

  test('what spends nothing of a channel is no fact, and decodes no monitor', async () => {
    const one = await stage();
    const other = new TestChannel({ format: 'anchors', pushMsat: 7_000n });
    const stranger = other.commitment('bob').tx;
    await one.settling.mine([
      { ...stranger, inputs: stranger.inputs.map((input) => ({ ...input, vout: 9 })) },
    ]);
    expect(one.settling.state.settlement.spends.size).toBe(0);
    expect(one.settling.settler.closing.size).toBe(0);
  });
});

describe('how HTLCs end', () => {
  test('rule 16: nothing fails upstream before the time-out is deep, dust before the commitment is', async () => {
    const one = await stage();
    await mine(one, [one.channel.commitment('bob').tx]);
    await mineTo(one, 105);
    expect(resolutionOf(one, 1n)).toBeUndefined();
    await mineTo(one, 106);
    expect(resolutionOf(one, 1n)?.type).toBe('failed_here');
    expect(resolutionOf(one, 0n)).toBeUndefined();
    await mineTo(one, EXPIRY);
    const { settlement } = one.chain.settlement(one.channel, ALICE);
    await mine(one, claimTransactions(one.channel, ALICE, settlement));
    await mineTo(one, EXPIRY + 5);
    expect(resolutionOf(one, 0n)).toBeUndefined();
    await mineTo(one, EXPIRY + 6);
    // PERM|8, permanent_channel_failure.
    expect(resolutionOf(one, 0n)).toMatchObject({ type: 'failed_here', failure: Uint8Array.of(0x40, 8) });
    const told = one.settling.events('htlc_settled_upstream').map(({ htlcId, reason }) => [htlcId, reason]);
    expect(told).toEqual([
      ['1', 'dust'],
      ['0', 'timeout'],
    ]);
    expectTruth(one);
  });

  test.each([
    { what: 'costs more than it brings now', owner: 'bob', amountMsat: 2_000_000n, feerateSatPerKw: 50_000 },
    {
      what: 'costs more than it brings at any feerate',
      owner: 'alice',
      amountMsat: 400_000n,
      feerateSatPerKw: FEERATE_FLOOR_SAT_PER_KW,
    },
  ] as const)(
    'an HTLC whose claim $what fails upstream before its channel must close; a payment of our own waits for the end',
    async ({ owner, amountMsat, feerateSatPerKw }) => {
      const channel = new TestChannel({ format: 'anchors' });
      for (const seed of [1, 2]) channel.add('alice', { seed, amountMsat, cltvExpiryHeight: EXPIRY });
      channel.settle();
      const one = await stage(channel);
      const ofPayment = ownPayment(one, 1n);
      await mine(one, [channel.commitment(owner).tx]);
      one.settling.feerateSatPerKw = feerateSatPerKw;
      await mineTo(one, EXPIRY + TIMEOUT_CONFIRMED_WITHIN_BLOCKS - 1);
      expect(resolutionOf(one, 0n)).toBeUndefined();
      await mineTo(one, EXPIRY + TIMEOUT_CONFIRMED_WITHIN_BLOCKS);
      expect(resolutionOf(one, 0n)?.type).toBe('failed_here');
      await mineTo(one, EXPIRY + 60);
      expect(ofPayment()).toBeUndefined();
      const { settlement } = one.chain.settlement(channel, ALICE);
      await mine(one, claimTransactions(channel, ALICE, settlement));
      await mineTo(one, EXPIRY + 70);
      expect(ofPayment()).toBe('failed_here');
      expect(
        one.settling.events('htlc_settled_upstream').map(({ htlcId, reason }) => [htlcId, reason]),
      ).toEqual([
        ['0', 'uneconomical'],
        ['1', 'timeout'],
      ]);
    },
  );

  test('a payment of our own that is never worth a claim is failed when its channel is settled for good', async () => {
    const channel = new TestChannel({ format: 'anchors' });
    channel.add('alice', { seed: 1, amountMsat: 400_000n, cltvExpiryHeight: EXPIRY });
    channel.settle();
    const one = await stage(channel);
    const ofPayment = ownPayment(one, 0n);
    await mine(one, [channel.commitment('alice').tx]);
    await mineTo(one, EXPIRY + TIMEOUT_CONFIRMED_WITHIN_BLOCKS + IRREVOCABLE_DEPTH - 1);
    expect(ofPayment()).toBeUndefined();
    await mineTo(one, EXPIRY + TIMEOUT_CONFIRMED_WITHIN_BLOCKS + IRREVOCABLE_DEPTH);
    expect(ofPayment()).toBe('failed_here');
    expectTruth(one);
  });

  test('rule 17: a preimage seen in the mempool is upstream and enforceable before its block', async () => {
    const one = await stage();
    const commitment = one.channel.commitment('bob');
    await mine(one, [commitment.tx]);
    const { outputIndex } = one.channel.htlcOutput(commitment, 'inbound', 0n);
    const success = one.channel.secondStage(commitment, [{ outputIndex, preimage: preimageOf(1) }]);
    one.settling.mempool.transactions = [success];
    await one.settling.settler.lookIntoMempool();
    await one.settling.settler.run();
    expect(resolutionOf(one, 0n)).toEqual({ type: 'fulfilled', preimage: preimageOf(1) });
    expect([...one.settling.manager.preimages.values()]).toEqual([
      { channelId: new Uint8Array(32).fill(9), htlcId: 0n, preimage: preimageOf(1) },
    ]);
    expectTruth(one);
    // It is told once, by whatever process.
    one.settling = await one.settling.restart();
    await mine(one, [success]);
    await mineTo(one, 115);
    expect(one.settling.events('htlc_settled_upstream').filter(({ htlcId }) => htlcId === '0')).toHaveLength(
      1,
    );
  });

  test('a preimage behind a commitment that is itself unconfirmed goes upstream too, and the manager hears of the close', async () => {
    const one = await stage();
    const commitment = one.channel.commitment('bob');
    const { outputIndex } = one.channel.htlcOutput(commitment, 'inbound', 0n);
    const success = one.channel.secondStage(commitment, [{ outputIndex, preimage: preimageOf(1) }]);
    one.settling.mempool.transactions = [commitment.tx, success];
    await one.settling.settler.lookIntoMempool();
    await one.settling.settler.run();
    expect(resolutionOf(one, 0n)).toEqual({ type: 'fulfilled', preimage: preimageOf(1) });
    expect(one.settling.manager.watches.get(one.id)?.status).toEqual({
      type: 'spend_seen',
      txid: commitment.txid,
    });
    // Evicted: what was learnt stays learnt, and the time-out says nothing against it.
    one.settling.mempool.transactions = [];
    await one.settling.settler.lookIntoMempool();
    await mine(one, [commitment.tx]);
    await mineTo(one, EXPIRY);
    const { settlement } = one.chain.settlement(one.channel, ALICE);
    await mine(one, claimTransactions(one.channel, ALICE, settlement));
    await mineTo(one, EXPIRY + 8);
    expect(resolutionOf(one, 0n)).toEqual({ type: 'fulfilled', preimage: preimageOf(1) });
  });

  test('a preimage from another channel makes an inbound HTLC claimable at once', async () => {
    const one = await stage();
    await mine(one, [one.channel.commitment('alice').tx]);
    const claimable = (): string[] =>
      [...(one.settling.settler.closing.get(one.id)?.settlement.outputs ?? [])].flatMap(({ status }) =>
        status.type === 'claimable' && status.claim.kind.type !== 'anchor' ? [status.claim.kind.type] : [],
      );
    expect(claimable()).toEqual([]);
    const { channelId } = one.channel.monitor(ALICE).parameters;
    one.settling.manager.preimages.set('a row of another commit', {
      channelId,
      htlcId: 0n,
      preimage: preimageOf(3),
    });
    await one.settling.settler.run();
    expect(claimable()).toEqual(['holder_htlc']);
  });
});

describe('commitments that wait', () => {
  test('the holder’s commitment is there to be paid for beside a revoked one that waits, however alike they look', async () => {
    const channel = channelWithHtlcs();
    const revoked = channel.commitment('bob');
    channel.fulfill('bob', 0n, 1);
    channel.add('alice', { seed: 5, amountMsat: 60_000_000n, cltvExpiryHeight: EXPIRY });
    channel.settle();
    const own = channel.commitment('alice');
    expect(own.tx.outputs).toHaveLength(revoked.tx.outputs.length);
    const one = await stage(channel);
    const { channelId } = channel.monitor(ALICE).parameters;
    await one.settling.writer.turn((draft) =>
      draft.putBroadcast({
        orderId: new Uint8Array(32).fill(4),
        kind: 'force_close',
        channelId,
        transactions: [encodeTx(own.tx)],
        confirmedHeights: [undefined],
      }),
    );
    const waiting = (): readonly string[] | undefined =>
      one.settling.settler.closing
        .get(one.id)
        ?.settlement.unconfirmedCommitments.map(({ txid }) => toHex(txid));
    // What is waiting is told anew by every look, and by every block.
    for (const transactions of [[], [revoked.tx], [own.tx], [revoked.tx]]) {
      one.settling.mempool.transactions = transactions;
      await one.settling.settler.lookIntoMempool();
      await one.settling.settler.run();
      expect(waiting()).toEqual([toHex(own.txid)]);
      await mine(one);
      expect(waiting()).toEqual([toHex(own.txid)]);
    }
  });

  test('the counterparty’s commitment is known anew when another takes its place in the mempool', async () => {
    const channel = channelWithHtlcs();
    const revoked = channel.commitment('bob');
    channel.fulfill('bob', 0n, 1);
    channel.settle();
    const one = await stage(channel);
    const look = async (tx: Tx): Promise<readonly unknown[] | undefined> => {
      one.settling.mempool.transactions = [tx];
      await one.settling.settler.lookIntoMempool();
      await one.settling.settler.run();
      return one.settling.settler.closing.get(one.id)?.settlement.unconfirmedCommitments;
    };
    expect(await look(revoked.tx)).toEqual([]);
    expect(await look(channel.commitment('bob').tx)).toMatchObject([{ owner: 'counterparty' }]);
  });
});

describe('the manager', () => {
  test('hears of a spend at once, and of the end when nothing is left to settle', async () => {
    const one = await stage();
    const status = () => one.settling.manager.watches.get(one.id)?.status;
    const commitment = one.channel.commitment('bob');
    await mine(one, [commitment.tx]);
    expect(status()).toEqual({ type: 'spent', txid: commitment.txid, height: 101, depth: 1 });
    while (one.chain.height < EXPIRY + 140) {
      const { settlement } = one.chain.settlement(one.channel, ALICE);
      const isLate = one.chain.height === EXPIRY + 10;
      const claims = claimTransactions(one.channel, ALICE, settlement);
      const theirs = [0n, 1n].map((id) => one.channel.htlcOutput(commitment, 'outbound', id).outputIndex);
      // Bob takes back what he offered.
      await mine(
        one,
        isLate
          ? [
              ...claims,
              one.channel.secondStage(
                commitment,
                theirs.map((outputIndex) => ({ outputIndex })),
              ),
            ]
          : claims,
      );
    }
    expect(status()).toMatchObject({ type: 'spent', settlement: 'resolved' });
    expect(one.settling.events('channel_resolved')).toHaveLength(1);
    expectTruth(one);
    // Its facts go when no reorganisation can reach them, and a start does not load them.
    await mineTo(one, one.chain.height + 300);
    expect(one.settling.state.settlement.spends.size).toBe(0);
    expect(one.settling.settler.closing.size).toBe(0);
    const loaded = await one.settling.writer.store.load();
    expect([loaded.fundings, loaded.settlements]).toEqual([[], []]);
    expect(await one.settling.writer.store.listSettlements({ resolved: 'include', limit: 5 })).toHaveLength(
      1,
    );
  });
});

describe('reorganisations', () => {
  test.each([1, 6, 100])(
    'of %i blocks take facts back and find others: a different commitment, then the same',
    async (depth) => {
      const one = await stage();
      const commitment = one.channel.commitment('bob');
      await mine(one, [commitment.tx]);
      while (one.chain.height < 100 + depth) {
        const { settlement } = one.chain.settlement(one.channel, ALICE);
        await mine(one, claimTransactions(one.channel, ALICE, settlement));
      }
      expectTruth(one);
      const reorg = async (): Promise<void> => {
        one.chain.disconnect(depth);
        await one.settling.disconnect(depth);
        await one.settling.settler.run();
      };
      await reorg();
      expectTruth(one);
      expect(one.settling.manager.watches.get(one.id)?.status.type).toBe('confirmed');
      const own = one.channel.commitment('alice').tx;
      await mine(one, [own]);
      one.settling = await one.settling.restart();
      await one.settling.settler.run();
      await mineTo(one, 100 + depth);
      expectTruth(one);
      expect(one.settling.state.settlement.settlements.get(one.id)?.closeType).toBe('holder');
      await reorg();
      await mine(one, [commitment.tx]);
      expectTruth(one);
      expect(one.settling.events('channel_close_confirmed').map(({ txid }) => txid)).toHaveLength(3);
      expect(toHex(txidOf(commitment.tx))).toBe(toHex(commitment.txid));
    },
  );

  test('a restart at any block computes the same, and tells nothing twice', async () => {
    const steady = await stage();
    const restless = await stage();
    const play = async (one: Stage, isRestless: boolean): Promise<void> => {
      const commitment = one.channel.commitment('bob');
      await mine(one, [commitment.tx]);
      while (one.chain.height < EXPIRY + 8) {
        if (isRestless && one.chain.height % 7 === 0) one.settling = await one.settling.restart();
        const { settlement } = one.chain.settlement(one.channel, ALICE);
        await mine(one, claimTransactions(one.channel, ALICE, settlement));
      }
    };
    await play(steady, false);
    await play(restless, true);
    expect(restless.settling.manager.outbox).toEqual(steady.settling.manager.outbox);
    expect(restless.settling.manager.resolutions).toEqual(steady.settling.manager.resolutions);
    expectTruth(restless);
  });
});
