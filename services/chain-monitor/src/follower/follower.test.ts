import { afterEach, describe, expect, test } from 'vitest';
import { encodeBlockHeader, decodeBlock } from '@fulmen/bitcoin';
import { ChainSourceError, type WholeBlockSource } from '@fulmen/chain';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { RpcError } from '@fulmen/rpc';
import { StoreError } from '@fulmen/store';
import { type Harness, type HarnessOptions, settle, startHarness } from '../testing/harness.ts';
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

async function failureOf(call: Promise<unknown>): Promise<RpcError> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(RpcError);
  return error as RpcError;
}

/** Why the chain is not to be relied on; empty while it is. */
async function haltOf(harness: Harness): Promise<string> {
  const { halted, haltReason } = await harness.chain.getBestBlock({});
  expect(halted).toBe(haltReason !== '');
  return haltReason;
}

type Lie = (source: WholeBlockSource) => Partial<WholeBlockSource>;

/** A harness whose source lies from a moment on. */
async function lying(
  lie: Lie,
): Promise<{ readonly harness: Harness; readonly begin: () => void; readonly end: () => void }> {
  let active = false;
  const harness = await harnessWith({ wrapSource: (source) => overriding(source, lie, () => active) });
  await harness.mine(5);
  return { harness, begin: () => (active = true), end: () => (active = false) };
}

const flip = (bytes: Uint8Array, at: number): Uint8Array =>
  bytes.map((byte, index) => (index === at ? byte ^ 1 : byte));

const LIES: Readonly<Record<string, { readonly lie: Lie; readonly says: RegExp }>> = {
  'cut-off blocks': {
    lie: (source) => ({ getBlock: async (hash) => (await source.getBlock(hash))?.subarray(0, 100) }),
    says: /not what it should be/,
  },
  'other transactions than the header commits to': {
    lie: (source) => ({
      getBlock: async (hash) => flip((await source.getBlock(hash)) ?? new Uint8Array(0), 90),
    }),
    says: /not what it should be/,
  },
  'another block than was asked for': {
    lie: (source) => ({ getBlock: async () => source.getBlock((await source.getBlockHash(3)) ?? '') }),
    says: /it is another block/,
  },
  'a block that does not follow': {
    lie: (source) => ({
      getBlockHash: async (height) => source.getBlockHash(height > 5 ? height - 3 : height),
      getBestBlock: async () => ({ hash: (await source.getBestBlock()).hash, height: 9 }),
    }),
    says: /does not follow/,
  },
  'a chain without a block of ours': {
    lie: () => ({ getBlockHash: async (height) => height.toString(16).padStart(64, 'a') }),
    says: /none of the last 6 blocks/,
  },
};

describe('a source that lies halts the follower', () => {
  test.each(Object.entries(LIES))('%s', async (_, { lie, says }) => {
    const { harness, begin } = await lying(lie);
    begin();
    await harness.mine(1);
    expect(await haltOf(harness)).toMatch(says);
    expect((await harness.chain.getBestBlock({})).height).toBe(5);
    expect(harness.state.blocks.at(-1)?.height).toBe(5);
    expect(await harness.metrics.registry.metrics()).toMatch(/fulmen_chain_halted\{[^}]*\} 1/);
    // Another replica may have a better source.
    await harness.clock.advance(3_000);
    expect(harness.state.lease?.untilMs).toBe(0);
    expect(harness.clock.failures).toEqual([]);
  });

  test('a block without proof of work', async () => {
    const forged = new Map<string, Uint8Array>();
    const { harness, begin } = await lying((source) => ({
      getBestBlock: async () => ({ hash: [...forged.keys()][0] ?? '', height: 6 }),
      getBlockHash: async (height) => (height === 6 ? [...forged.keys()][0] : source.getBlockHash(height)),
      getBlock: async (hash) => forged.get(hash),
    }));
    const raw = harness.devChain.assembleBlock([], ANYONE_SCRIPT);
    const block = decodeBlock(raw);
    if (!block.ok) throw block.error;
    for (let nonce = 0; nonce < 100 && forged.size === 0; nonce++) {
      const bytes = Uint8Array.from(raw);
      bytes.set(encodeBlockHeader({ ...block.value.header, nonce }));
      const again = decodeBlock(bytes);
      const last = again.ok ? (again.value.hash.at(-1) ?? 0) : 0;
      if (again.ok && last >= 0x80)
        forged.set(Buffer.from(again.value.hash).reverse().toString('hex'), bytes);
    }
    begin();
    await harness.turn();
    expect(await haltOf(harness)).toMatch(/no proof of work/);
  });

  test.each([
    {
      what: 'of another network',
      changes: { networkName: async () => 'mainnet' as const },
      says: /of mainnet, not of regtest/,
    },
    {
      what: 'with another first block',
      changes: { getBlockHash: async () => 'ab'.repeat(32) },
      says: /another first block/,
    },
  ])('$what', async ({ changes, says }) => {
    const harness = await harnessWith({
      wrapSource: (source) =>
        overriding(
          source,
          () => changes,
          () => true,
        ),
    });
    expect((await failureOf(harness.chain.getBestBlock({}))).message).toMatch(says);
    expect(harness.state.blocks).toEqual([]);
  });
});

describe('a source that is behind or away', () => {
  test('is waited for, becomes a fault after a while, and is forgiven when it caught up', async () => {
    const { harness, begin, end } = await lying((source) => ({
      getBestBlock: async () => ({ hash: (await source.getBlockHash(2)) ?? '', height: 2 }),
    }));
    begin();
    await harness.turn();
    await harness.clock.advance(5_000);
    expect((await harness.chain.getBestBlock({})).height).toBe(5);
    await harness.clock.advance(6_000);
    expect(await haltOf(harness)).toMatch(/went back to height 2, below 5/);
    expect(harness.state.blocks.at(-1)?.height).toBe(5);
    end();
    await harness.mine(1);
    expect((await harness.chain.getBestBlock({})).height).toBe(6);
  });

  test('withholds a block', async () => {
    const { harness, begin } = await lying(() => ({ getBlock: async () => undefined }));
    begin();
    await harness.mine(1);
    await harness.clock.advance(11_000);
    expect(await haltOf(harness)).toMatch(/does not give; it may be pruned/);
  });

  test('does not answer: the stored chain stays, and goes on later', async () => {
    const { harness, begin, end } = await lying(() => ({
      getBestBlock: async () => {
        throw new ChainSourceError('unreachable', 'nobody there');
      },
    }));
    begin();
    await harness.mine(2);
    expect((await harness.chain.getBestBlock({})).height).toBe(5);
    end();
    await harness.clock.advance(1_000);
    await harness.turn();
    expect((await harness.chain.getBestBlock({})).height).toBe(7);
    expect(harness.clock.failures).toEqual([]);
  });
});

describe('the store', () => {
  test('a commit of unknown outcome is looked up before anything else is done', async () => {
    let remaining = 0;
    const harness = await harnessWith({
      wrapStore: (store) =>
        new Proxy(store, {
          get: (target, name) =>
            name === 'commit'
              ? async (...parameters: Parameters<typeof target.commit>) => {
                  await target.commit(...parameters);
                  if (remaining-- > 0) throw new StoreError('unknown', 'the connection was lost');
                }
              : (target[name as keyof typeof target] as (...parameters: never[]) => unknown).bind(target),
        }),
    });
    await harness.mine(3);
    remaining = 2;
    await harness.mine(3);
    for (let i = 0; i < 4; i++) {
      await harness.clock.advance(1_000);
      await harness.turn();
    }
    expect((await harness.chain.getBestBlock({})).height).toBe(6);
    expect(harness.state.blocks.map(({ height }) => height)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(harness.clock.failures).toEqual([]);
  });

  test('two replicas: one writes, the other takes over when the lease ends', async () => {
    const first = await harnessWith();
    await first.mine(2);
    const second = await harnessWith({
      devChain: first.devChain,
      clock: first.clock,
      state: first.state,
      manager: first.manager,
      signer: first.signer,
      config: { replicaId: 'second' },
    });
    expect((await failureOf(second.wallet.getBalance({}))).code).toBe('unavailable');
    expect((await second.chain.getBestBlock({})).height).toBe(2);
    await first.stop();
    open.splice(open.indexOf(first), 1);
    first.devChain.mine(1, ANYONE_SCRIPT);
    await second.clock.advance(3_000);
    await second.turn();
    expect(second.state.lease?.holder).toMatch(/^second-/);
    expect((await second.wallet.getBalance({})).confirmedSat).toBe(0n);
    await settle();
    expect((await second.chain.getBestBlock({})).height).toBe(3);
  });
});
