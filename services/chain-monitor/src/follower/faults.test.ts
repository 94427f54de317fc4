/** Deep reorgs, and sources that are pruned, restart, answer garbage or are cut off: halted and told, and no block skipped. */
import { afterEach, describe, expect, test } from 'vitest';
import { p2wshScript } from '@fulmen/bitcoin';
import { ChainSourceError, type WholeBlockSource } from '@fulmen/chain';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import type { FundingWatch } from '@fulmen/store';
import { storeRawTx } from '@fulmen/testing/devchain';
import { type Harness, type HarnessOptions, newDevChain, payFrom, startHarness } from '../testing/harness.ts';
import { overriding } from '../testing/source.ts';

const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

async function harnessWith(options: HarnessOptions = {}): Promise<Harness> {
  const harness = await startHarness(options);
  open.push(harness);
  return harness;
}

const FUNDING_SCRIPT = p2wshScript(Uint8Array.from([0x51, 0x51, 0x75]));

/** What the managers hear; empty while the chain is known as it is. */
async function doubtOf(harness: Harness): Promise<string> {
  return (await harness.chain.getBestBlock({})).haltReason;
}

/** Another replica, which hears of the writer once before this resolves. */
async function standbyOf(first: Harness): Promise<Harness> {
  const { devChain, clock, state, manager, signer } = first;
  await clock.advance(3_000);
  return harnessWith({ devChain, clock, state, manager, signer, config: { replicaId: 'second' } });
}

/** Turns until the stored tip is the source's. */
async function followAll(harness: Harness): Promise<void> {
  for (let turns = 0; turns < 60; turns++) {
    if (harness.state.blocks.at(-1)?.height === harness.devChain.chain.tip.height) return;
    await harness.turn();
  }
}

/** Every stored block is one of the source's, one upon the other. */
function expectFollowed(harness: Harness): void {
  const { chain } = harness.devChain;
  const { blocks } = harness.state;
  expect(blocks.at(-1)?.height).toBe(chain.tip.height);
  for (const [at, { height, hash }] of blocks.entries()) {
    expect(Buffer.from(hash).reverse().toString('hex')).toBe(chain.at(height)?.hash);
    if (at > 0) expect(height).toBe((blocks[at - 1]?.height ?? 0) + 1);
  }
}

/** A funding that is confirmed, `depth` blocks deep. */
async function watched(harness: Harness, depth: number): Promise<{ watch: FundingWatch; raw: Uint8Array }> {
  const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
  const watch: FundingWatch = {
    channelId: new Uint8Array(32).fill(1),
    fundingTxid: funding.txid,
    fundingOutputIndex: 0,
    fundingValueSat: 1_000_000n,
    scriptPubKey: FUNDING_SCRIPT,
    minimumDepth: 3,
  };
  harness.watch(watch);
  await harness.turn();
  const stored = storeRawTx(funding.raw);
  if (stored !== undefined) harness.devChain.submit(stored);
  await harness.mine(depth);
  await followAll(harness);
  expect(harness.status(watch)?.type).toBe('confirmed');
  return { watch, raw: funding.raw };
}

describe('reorgs', () => {
  test.each([1, 6, 100, 250])('of %i blocks: everything is taken back, and comes again', async (depth) => {
    const harness = await harnessWith();
    await harness.mine(110);
    await followAll(harness);
    const { watch } = await watched(harness, depth);
    harness.devChain.reorg(depth, ANYONE_SCRIPT);
    await followAll(harness);
    expectFollowed(harness);
    expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
    // Up to six blocks are ordinary; more halt forwarding until the new chain has grown by six.
    const isDeep = depth > 6;
    expect(await doubtOf(harness)).toBe(isDeep ? `the last ${depth} blocks were replaced by others` : '');
    await harness.mine(1);
    expect(harness.status(watch)).toMatchObject({ type: 'confirmed', depth: 1 });
    await harness.mine(3);
    expect((await doubtOf(harness)) === '').toBe(!isDeep);
    await harness.mine(1);
    expect(await doubtOf(harness)).toBe('');
    expect(harness.manager.outbox.map(({ type }) => type)).toEqual(
      isDeep ? ['chain_halted', 'chain_resumed'] : [],
    );
    expect(harness.clock.failures).toEqual([]);
  });

  test('deeper than the blocks that are kept: it halts, says so, and forgets nothing', async () => {
    const harness = await harnessWith();
    await harness.mine(110);
    await followAll(harness);
    const { watch } = await watched(harness, 300);
    const before = harness.state.blocks.at(-1);
    harness.devChain.reorg(300, ANYONE_SCRIPT);
    await harness.turn();
    await harness.turn();
    expect(await doubtOf(harness)).toMatch(/none of the last 288 blocks is in the source's chain/);
    expect(harness.state.blocks.at(-1)).toEqual(before);
    expect(harness.status(watch)?.type).toBe('confirmed');
    expect(await harness.metrics.registry.metrics()).toMatch(/fulmen_chain_halted\{[^}]*\} 1/);
    expect(harness.clock.failures).toEqual([]);
  });

  test.each([
    { height: 5, depth: 3 },
    { height: 150, depth: 6 },
  ])(
    'of the first block that a new node sees, at height $height: it is followed',
    async ({ height, depth }) => {
      const devChain = newDevChain();
      devChain.mine(height, ANYONE_SCRIPT);
      const harness = await harnessWith({ devChain });
      await followAll(harness);
      expect(await doubtOf(harness)).toBe('');
      devChain.reorg(depth, ANYONE_SCRIPT);
      await followAll(harness);
      expectFollowed(harness);
      expect(await doubtOf(harness)).toBe('');
      expect(harness.clock.failures).toEqual([]);
    },
  );

  test('a restart in the middle of a deep one goes on with it', async () => {
    const harness = await harnessWith();
    await harness.mine(110);
    await followAll(harness);
    const { watch } = await watched(harness, 100);
    harness.devChain.reorg(100, ANYONE_SCRIPT);
    await harness.turn();
    open.splice(open.indexOf(harness), 1);
    const next = await harness.restart();
    open.push(next);
    await followAll(next);
    expectFollowed(next);
    expect(next.status(watch)).toEqual({ type: 'unconfirmed' });
  });
});

/** A harness at height 5 whose source has a fault from a moment on. */
async function faulty(
  fault: (source: WholeBlockSource) => Partial<WholeBlockSource>,
  options: HarnessOptions = {},
): Promise<{ readonly harness: Harness; readonly begin: () => void; readonly end: () => void }> {
  let active = false;
  const harness = await harnessWith({
    ...options,
    wrapSource: (source) => overriding(source, fault, () => active),
  });
  await harness.mine(5);
  return { harness, begin: () => (active = true), end: () => (active = false) };
}

async function throwing(error: ChainSourceError): Promise<never> {
  throw error;
}

describe('a source in trouble', () => {
  const TROUBLES: Readonly<
    Record<string, { readonly fault: Parameters<typeof faulty>[0]; readonly says: RegExp }>
  > = {
    'that is pruned': {
      // As the adapter answers for "Block not available (pruned data)".
      fault: () => ({ getBlock: async () => undefined }),
      says: /may be pruned/,
    },
    'that is away': {
      fault: () => ({
        getBestBlock: () => throwing(new ChainSourceError('unreachable', 'connection refused')),
      }),
      says: /does not answer: connection refused/,
    },
    'that restarts': {
      fault: () => ({
        getBestBlock: () => throwing(new ChainSourceError('warming-up', 'Loading block index')),
      }),
      says: /does not answer: Loading block index/,
    },
    'that does not answer in time': {
      fault: () => ({ getBlock: () => throwing(new ChainSourceError('timeout', 'too slow')) }),
      says: /does not answer: too slow/,
    },
    'that answers garbage': {
      fault: () => ({
        getBlockHash: () => throwing(new ChainSourceError('malformed', 'no valid block hash')),
      }),
      says: /answers nonsense: no valid block hash/,
    },
    'that lags': {
      fault: (source) => ({
        getBestBlock: async () => ({ hash: (await source.getBlockHash(3)) ?? '', height: 3 }),
      }),
      says: /went back to height 3, below 5/,
    },
  };

  test.each(Object.entries(TROUBLES))(
    '%s: halted and told after the grace, forgiven afterwards',
    async (name, { fault, says }) => {
      const { harness, begin, end } = await faulty(fault);
      expect(await doubtOf(harness)).toBe('');
      begin();
      await harness.mine(2);
      // Garbage is no matter of patience.
      if (!name.includes('garbage')) expect(await doubtOf(harness)).toBe('');
      await harness.clock.advance(6_000);
      await harness.clock.advance(6_000);
      expect(await doubtOf(harness)).toMatch(says);
      expect((await harness.chain.getBestBlock({})).height).toBe(5);
      expect(await harness.metrics.registry.metrics()).toMatch(/fulmen_chain_halted\{[^}]*\} 1/);
      end();
      for (let i = 0; i < 8; i++) await harness.clock.advance(3_000);
      await followAll(harness);
      expectFollowed(harness);
      expect(await doubtOf(harness)).toBe('');
      expect(await harness.metrics.registry.metrics()).toMatch(/fulmen_chain_halted\{[^}]*\} 0/);
      expect(harness.clock.failures).toEqual([]);
    },
  );

  test('another replica gets the lease, and its own source is asked', async () => {
    const { harness: first, begin } = await faulty(() => ({
      getBestBlock: () => throwing(new ChainSourceError('unreachable', 'connection refused')),
    }));
    const second = await standbyOf(first);
    begin();
    first.devChain.mine(1, ANYONE_SCRIPT);
    for (let i = 0; i < 12; i++) await first.clock.advance(1_500);
    await second.turn();
    expect(first.state.lease?.holder).toMatch(/^second-/);
    expect(await doubtOf(second)).toBe('');
    expect((await second.chain.getBestBlock({})).height).toBe(6);
  });

  test('a standby tells what the writer doubts, until it knows the chain again', async () => {
    const first = await harnessWith();
    await first.mine(20);
    const second = await standbyOf(first);
    expect(await doubtOf(second)).toBe('');
    first.devChain.reorg(10, ANYONE_SCRIPT);
    await followAll(first);
    await first.clock.advance(3_000);
    expect(first.state.lease?.holder).toMatch(/^test-/);
    expect(await doubtOf(first)).toBe('the last 10 blocks were replaced by others');
    expect(await doubtOf(second)).toBe('the last 10 blocks were replaced by others');
    await first.mine(10);
    await first.clock.advance(3_000);
    expect(await doubtOf(second)).toBe('');
  });

  test('blocks that are to be processed are told', async () => {
    const { harness, begin, end } = await faulty(() => ({ getBlock: async () => undefined }));
    begin();
    await harness.mine(10);
    expect(await doubtOf(harness)).toMatch(/10 blocks are to be processed/);
    end();
    await harness.turn();
    await followAll(harness);
    expect(await doubtOf(harness)).toBe('');
  });

  test('a chain without young blocks', async () => {
    const { harness } = await faulty(() => ({}), { config: { maximumBlockAgeMs: 3_600_000 } });
    // Blocks of the test's chain are of 2023, its clock stands at 1970: none is old.
    expect(await doubtOf(harness)).toBe('');
    harness.clock.nowMs = 1_700_000_000_000 + 2 * 3_600_000;
    await harness.turn();
    expect(await doubtOf(harness)).toMatch(/the best block is 1\d\d minutes old/);
    harness.devChain.setMockTime(1_700_000_000 + 7_200);
    await harness.mine(1);
    expect(await doubtOf(harness)).toBe('');
  });
});
