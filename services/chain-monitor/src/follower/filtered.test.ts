/** chain-monitor on sources that show only what was registered. */
import { afterEach, describe, expect, test } from 'vitest';
import { decodeTx, displayHash, encodeTx, p2wshScript, txid as txidOf } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { BitcoindRpc, EsploraChainSource } from '@fulmen/chain';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import type { FundingWatch } from '@fulmen/store';
import type { EsploraAnswer } from '@fulmen/testing/devchain';
import { MemoryFilteredSource, startDevChain, startEsploraFront, storeRawTx } from '@fulmen/testing/devchain';
import { type Harness, type HarnessOptions, payFrom, startHarness } from '../testing/harness.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const FUNDING_WITNESS_SCRIPT = Uint8Array.from([0x51, 0x51, 0x75]);
const FUNDING_SCRIPT = p2wshScript(FUNDING_WITNESS_SCRIPT);

function watchOf(n: number, fundingTxid: Uint8Array): FundingWatch {
  return {
    channelId: new Uint8Array(32).fill(n),
    fundingTxid,
    fundingOutputIndex: 0,
    fundingValueSat: 1_000_000n,
    scriptPubKey: FUNDING_SCRIPT,
    minimumDepth: 3,
  };
}

function closing(funding: { readonly txid: Uint8Array }): Tx {
  const spend = spendAnyone([{ txid: displayHash(funding.txid), vout: 0 }], [990_000n]);
  return {
    ...spend,
    inputs: spend.inputs.map((input) => ({ ...input, witness: [FUNDING_WITNESS_SCRIPT] })),
  };
}

function submit({ devChain }: Harness, raw: Uint8Array): void {
  const stored = storeRawTx(raw);
  if (stored !== undefined) devChain.submit(stored);
}

interface Filtered {
  readonly harness: Harness;
  readonly source: MemoryFilteredSource;
}

async function filtered(options: HarnessOptions = {}): Promise<Filtered> {
  let source: MemoryFilteredSource | undefined;
  const harness = await startHarness({
    ...options,
    wrapSource: ({ devChain }) => (source = new MemoryFilteredSource(devChain)),
  });
  closers.push(() => harness.stop());
  if (source === undefined) throw new TypeError('the harness made no source');
  return { harness, source };
}

describe('a source that shows only what is registered', () => {
  test('a funding that confirms and is spent in one block', async () => {
    const { harness } = await filtered();
    await harness.mine(110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    await harness.turn();
    submit(harness, funding.raw);
    const close = closing(funding);
    submit(harness, encodeTx(close));
    await harness.mine(1);
    expect(harness.status(watch)).toEqual({ type: 'spent', txid: txidOf(close), height: 111, depth: 1 });
    expect(harness.clock.failures).toEqual([]);
  });

  test('a funding that was mined before anybody watched it', async () => {
    const { harness } = await filtered();
    await harness.mine(110);
    const [recent, old] = [1, 2].map((height) =>
      payFrom(harness.devChain, height, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]),
    );
    if (recent === undefined || old === undefined) throw new TypeError('two fundings were made');
    submit(harness, old.raw);
    await harness.mine(20);
    submit(harness, recent.raw);
    await harness.mine(2);
    const watches = [watchOf(1, old.txid), watchOf(2, recent.txid)];
    for (const watch of watches) harness.watch(watch);
    await harness.turn();
    expect(watches.map((watch) => harness.status(watch))).toEqual([
      { type: 'confirmed', height: 111, txIndex: 1, depth: 22 },
      { type: 'confirmed', height: 131, txIndex: 1, depth: 2 },
    ]);
  });

  test('a reorg takes facts back and brings them again', async () => {
    const { harness } = await filtered();
    await harness.mine(110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    await harness.turn();
    submit(harness, funding.raw);
    await harness.mine(3);
    harness.devChain.reorg(3, ANYONE_SCRIPT);
    await harness.turn();
    expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
    await harness.mine(1);
    expect(harness.status(watch)).toEqual({ type: 'confirmed', height: 115, txIndex: 1, depth: 1 });
  });

  test('the wallet: addresses that come into sight within the same block', async () => {
    const { harness } = await filtered();
    await harness.mine(110);
    // Pays the last address that is watched, and one that is watched only because that one was used.
    const scripts = [...harness.state.addresses.values()]
      .filter(({ kind, chain }) => kind === 'p2wpkh' && chain === 'receive')
      .toSorted((a, b) => a.index - b.index);
    const last = scripts.at(-1);
    expect(last?.index).toBe(19);
    if (last === undefined) return;
    submit(harness, payFrom(harness.devChain, 1, [{ script: last.script, valueSat: 1_000_000n }]).raw);
    await harness.turn();
    expect((await harness.wallet.getBalance({})).unconfirmedSat).toBe(1_000_000n);
    const next = [...harness.state.addresses.values()].find(
      ({ kind, chain, index }) => kind === 'p2wpkh' && chain === 'receive' && index === 39,
    );
    expect(next).toBeDefined();
    if (next === undefined) return;
    // Both in one block, unseen before.
    submit(harness, payFrom(harness.devChain, 2, [{ script: next.script, valueSat: 2_000_000n }]).raw);
    await harness.mine(1);
    expect((await harness.wallet.getBalance({})).confirmedSat).toBe(3_000_000n);
    expect(harness.clock.failures).toEqual([]);
  });

  test('what it tells too late is read again, at its own height', async () => {
    const { harness, source } = await filtered();
    await harness.mine(110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    submit(harness, funding.raw);
    await harness.mine(1);
    const close = closing(funding);
    source.hidden.add(displayHash(txidOf(close)));
    submit(harness, encodeTx(close));
    await harness.mine(3);
    expect(harness.status(watch)).toEqual({ type: 'confirmed', height: 111, txIndex: 1, depth: 4 });
    source.hidden.clear();
    await harness.mine(1);
    expect(harness.status(watch)).toEqual({ type: 'spent', txid: txidOf(close), height: 112, depth: 4 });
    expect(await harness.metrics.registry.metrics()).toMatch(/fulmen_chain_late_sightings_total\{[^}]*\} 1/);
    // Known now, it is not told of again; and a reorg takes it back as any other.
    await harness.mine(1);
    expect(await harness.metrics.registry.metrics()).toMatch(/fulmen_chain_late_sightings_total\{[^}]*\} 1/);
    harness.devChain.reorg(5, ANYONE_SCRIPT);
    await harness.turn();
    expect(harness.status(watch)?.type).toBe('confirmed');
  });
});

describe('an Esplora server', () => {
  /** chain-monitor on a front of the development chain, over HTTP. */
  async function overEsplora(alter?: (path: string, answer: EsploraAnswer) => EsploraAnswer): Promise<{
    readonly harness: Harness;
    /** Turns until it is so. */
    readonly until: (what: string, isSo: () => Promise<boolean> | boolean) => Promise<void>;
  }> {
    const auth = { kind: 'password', user: 'user', password: 'password' } as const;
    const running = await startDevChain({
      port: 0,
      rpcUser: auth.user,
      rpcPassword: auth.password,
      network: 'regtest',
    });
    const rpc = new BitcoindRpc({ host: running.host, port: running.port, auth });
    const front = await startEsploraFront({ rpc, ...(alter !== undefined && { alter }) });
    const source = new EsploraChainSource({ url: front.url });
    closers.push(async () => {
      source.close();
      await front.stop();
      rpc.close();
      await running.stop();
    });
    running.devChain.mine(110, ANYONE_SCRIPT);
    const harness = await startHarness({ devChain: running.devChain, wrapSource: () => source });
    closers.push(() => harness.stop());
    const until = async (what: string, isSo: () => Promise<boolean> | boolean): Promise<void> => {
      // Answers come over sockets, so that turns alone are no measure.
      const deadline = performance.now() + 20_000;
      while (performance.now() < deadline) {
        if (await isSo()) return;
        await harness.turn();
      }
      expect.fail(`never: ${what}`);
    };
    return { harness, until };
  }

  const heightOf = async (harness: Harness): Promise<number> =>
    harness.chain.getBestBlock({}).then(
      ({ height }) => height,
      () => -1,
    );

  test('fundings, spends, reorgs and the wallet', async () => {
    const { harness, until } = await overEsplora();
    await until('the chain is followed', async () => (await heightOf(harness)) === 110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    const { scriptPubkey } = await harness.wallet.newAddress({ addressType: 'p2tr' });
    const script = Uint8Array.from(scriptPubkey);
    submit(harness, funding.raw);
    submit(harness, payFrom(harness.devChain, 2, [{ script, valueSat: 3_000_000n }]).raw);
    await until(
      'the payment is seen in the mempool',
      async () => (await harness.wallet.getBalance({})).unconfirmedSat === 3_000_000n,
    );
    await harness.mine(2);
    await until('the funding is seen', () => harness.status(watch)?.type === 'confirmed');
    expect(harness.status(watch)).toMatchObject({ height: 111 });
    expect((await harness.wallet.getBalance({})).confirmedSat).toBe(3_000_000n);
    const close = closing(funding);
    submit(harness, encodeTx(close));
    await harness.mine(1);
    await until('the spend is seen', () => harness.status(watch)?.type === 'spent');
    harness.devChain.reorg(1, ANYONE_SCRIPT);
    await until('the spend is taken back', () => harness.status(watch)?.type === 'confirmed');
    await harness.mine(1);
    await until('the spend is seen again', () => harness.status(watch)?.type === 'spent');
    const sent = await harness.wallet.sendCoins({
      address: (await harness.wallet.newAddress({ addressType: 'p2wpkh' })).address,
      valueSat: 1_000_000n,
      idempotencyKey: 'one',
    });
    const txid = displayHash(Uint8Array.from(sent.txid));
    await until('the payment is broadcast', () => harness.devChain.mempool.get(txid) !== undefined);
    const raw = harness.devChain.mempool.get(txid)?.stored.raw ?? new Uint8Array(0);
    expect(decodeTx(raw).ok).toBe(true);
    expect(harness.clock.failures).toEqual([]);
  });

  const LIES: Readonly<
    Record<
      string,
      { readonly lie: (path: string, answer: EsploraAnswer) => EsploraAnswer; readonly says: RegExp }
    >
  > = {
    'a transaction with another position': {
      lie: (path, answer) =>
        path.endsWith('/merkle-proof') ? { ...answer, body: { ...(answer.body as object), pos: 0 } } : answer,
      says: /is not in it/,
    },
    'a proof of nothing': {
      lie: (path, answer) =>
        path.endsWith('/merkle-proof')
          ? { ...answer, body: { ...(answer.body as object), merkle: [] } }
          : answer,
      says: /is not in it/,
    },
    'a header of another block': {
      lie: (path, answer) =>
        path.endsWith('/header') ? { ...answer, body: `02${String(answer.body).slice(2)}` } : answer,
      says: /no valid header/,
    },
    'another transaction than the one that was asked for': {
      lie: (path, answer) =>
        path.endsWith('/hex') ? { ...answer, body: `01${String(answer.body).slice(2)}` } : answer,
      says: /no valid transaction/,
    },
    'a page instead of an answer': {
      lie: (path, answer) =>
        path.endsWith('/status') ? { status: 200, body: '<html>come back later</html>' } : answer,
      says: /is not JSON/,
    },
  };

  test.each(Object.entries(LIES))('%s is not believed', async (_, { lie, says }) => {
    let lies = false;
    const { harness, until } = await overEsplora((path, answer) => (lies ? lie(path, answer) : answer));
    await until('the chain is followed', async () => (await heightOf(harness)) === 110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    await until('it is watched', () => harness.state.fundings.size === 1);
    lies = true;
    submit(harness, funding.raw);
    await harness.mine(1);
    await until('it halts', async () =>
      /fulmen_chain_halted\{[^}]*\} 1/.test(await harness.metrics.registry.metrics()),
    );
    expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
    expect(harness.state.blocks.at(-1)?.height).toBe(110);
    const answer = await harness.chain.getBestBlock({}).then(
      (best) => JSON.stringify(best),
      (error: unknown) => String(error),
    );
    expect(answer).toMatch(says);
  });
});
