import { afterEach, describe, expect, test } from 'vitest';
import {
  type Tx,
  NETWORKS,
  decodeTx,
  encodeTx,
  p2wshScript,
  txid as txidOf,
  txidHex,
  txWeight,
} from '@fulmen/bitcoin';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import type { FundingWatch } from '@fulmen/store';
import { RpcError } from '@fulmen/rpc';
import { storeRawTx } from '@fulmen/testing/devchain';
import { type Harness, type HarnessOptions, payFrom, startHarness } from './testing/harness.ts';

/** Nothing waits in closed channels. */
const NO_LIMBO = { limboSat: 0n, limbo: [] };
/** Spends a funding output. */
const closing = (fundingTxid: Uint8Array): Tx => ({
  version: 2,
  locktime: 0,
  inputs: [
    {
      txid: fundingTxid,
      vout: 0,
      scriptSig: new Uint8Array(0),
      sequence: 0xffff_fffd,
      witness: [FUNDING_WITNESS_SCRIPT],
    },
  ],
  outputs: [{ valueSat: 990_000n, script: ANYONE_SCRIPT }],
});
const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

async function harnessWith(options: HarnessOptions = {}): Promise<Harness> {
  const harness = await startHarness(options);
  open.push(harness);
  return harness;
}

async function restarted(harness: Harness): Promise<Harness> {
  open.splice(open.indexOf(harness), 1);
  const next = await harness.restart();
  open.push(next);
  return next;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'ok',
    (error: unknown) => (error instanceof RpcError ? error.code : String(error)),
  );
}

/** 1 1 DROP: anyone can spend it. */
const FUNDING_WITNESS_SCRIPT = Uint8Array.from([0x51, 0x51, 0x75]);
const FUNDING_SCRIPT = p2wshScript(FUNDING_WITNESS_SCRIPT);
const channelId = (n: number): Uint8Array => new Uint8Array(32).fill(n);

function watchOf(n: number, fundingTxid: Uint8Array, changes: Partial<FundingWatch> = {}): FundingWatch {
  return {
    channelId: channelId(n),
    fundingTxid,
    fundingOutputIndex: 0,
    fundingValueSat: 1_000_000n,
    scriptPubKey: FUNDING_SCRIPT,
    minimumDepth: 3,
    ...changes,
  };
}

function submit(harness: Harness, raw: Uint8Array): void {
  const stored = storeRawTx(raw);
  expect(stored).toBeDefined();
  if (stored !== undefined) harness.devChain.submit(stored);
}

describe('funding outputs', () => {
  test('unconfirmed, confirmed with growing depth, spent', async () => {
    const harness = await harnessWith();
    await harness.mine(110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    await harness.turn();
    expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
    submit(harness, funding.raw);
    await harness.mine(1);
    expect(harness.status(watch)).toEqual({ type: 'confirmed', height: 111, txIndex: 1, depth: 1 });
    await harness.mine(5);
    expect(harness.status(watch)).toEqual({ type: 'confirmed', height: 111, txIndex: 1, depth: 6 });
    const spend = closing(funding.txid);
    harness.devChain.mineWith(
      [storeRawTx(encodeTx(spend))].filter((tx) => tx !== undefined),
      ANYONE_SCRIPT,
    );
    await harness.turn();
    expect(harness.status(watch)).toEqual({ type: 'spent', txid: txidOf(spend), height: 117, depth: 1 });
    expect([...harness.state.settlement.spends.values()]).toMatchObject([{ height: 117, txIndex: 1 }]);
    expect(harness.hints.length).toBeGreaterThan(0);
    expect(harness.clock.failures).toEqual([]);
  });

  test('a wrong value, script or index is a mismatch', async () => {
    const harness = await harnessWith();
    await harness.mine(110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watches = [
      watchOf(1, funding.txid, { fundingValueSat: 1_000_001n }),
      watchOf(2, funding.txid, { scriptPubKey: ANYONE_SCRIPT }),
      watchOf(3, funding.txid, { fundingOutputIndex: 7 }),
      watchOf(4, funding.txid),
    ];
    for (const watch of watches) harness.watch(watch);
    await harness.turn();
    submit(harness, funding.raw);
    await harness.mine(1);
    expect(watches.map((watch) => harness.status(watch)?.type)).toEqual([
      'mismatch',
      'mismatch',
      'mismatch',
      'confirmed',
    ]);
  });

  test('a watch that comes after its block finds it, in recent blocks and in old ones', async () => {
    const harness = await harnessWith();
    await harness.mine(110);
    const old = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    submit(harness, old.raw);
    await harness.mine(40);
    const young = payFrom(harness.devChain, 2, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    submit(harness, young.raw);
    await harness.mine(2);
    const watches = [
      watchOf(1, old.txid),
      watchOf(2, young.txid),
      watchOf(3, young.txid, { fundingOutputIndex: 9 }),
    ];
    for (const watch of watches) harness.watch(watch);
    await harness.turn();
    expect(harness.status(watches[0] as FundingWatch)).toMatchObject({
      type: 'confirmed',
      height: 111,
      depth: 42,
    });
    expect(harness.status(watches[1] as FundingWatch)).toMatchObject({
      type: 'confirmed',
      height: 151,
      depth: 2,
    });
    expect(harness.status(watches[2] as FundingWatch)).toMatchObject({ type: 'mismatch' });
  });

  test('a watch that comes after the spend finds its facts in the blocks between', async () => {
    const harness = await harnessWith();
    await harness.mine(110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const close = closing(funding.txid);
    submit(harness, funding.raw);
    await harness.mine(1);
    submit(harness, encodeTx(close));
    await harness.mine(3);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    await harness.turn();
    expect(harness.status(watch)).toEqual({ type: 'spent', txid: txidOf(close), height: 112, depth: 3 });
    const facts = (): unknown[] =>
      [...harness.state.settlement.spends.values()].map(({ txid, height, txIndex }) => [
        txid,
        height,
        txIndex,
      ]);
    expect(facts()).toEqual([[txidOf(close), 112, 1]]);
    harness.devChain.reorg(3, ANYONE_SCRIPT);
    await harness.turn();
    expect(facts().length).toBeLessThan(2);
    expect(harness.clock.failures).toEqual([]);
  });

  test.each([1, 6])('a reorg of %i takes the confirmation back, and a restart goes on', async (depth) => {
    let harness = await harnessWith();
    await harness.mine(110);
    const funding = payFrom(harness.devChain, 1, [{ script: FUNDING_SCRIPT, valueSat: 1_000_000n }]);
    const watch = watchOf(1, funding.txid);
    harness.watch(watch);
    await harness.turn();
    submit(harness, funding.raw);
    await harness.mine(depth);
    expect(harness.status(watch)).toMatchObject({ type: 'confirmed', depth });
    harness.devChain.reorg(depth, ANYONE_SCRIPT);
    harness = await restarted(harness);
    await harness.clock.advance(20_000);
    await harness.turn();
    expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
    expect((await harness.chain.getBestBlock({})).height).toBe(110 + depth + 1);
    await harness.mine(2);
    expect(harness.status(watch)).toMatchObject({ type: 'confirmed', height: 110 + depth + 2, depth: 2 });
  });
});

describe('wallet', () => {
  async function funded(options: HarnessOptions = {}): Promise<Harness> {
    const harness = await harnessWith(options);
    await harness.mine(110);
    const { scriptPubkey } = await harness.wallet.newAddress({ addressType: '' });
    const { scriptPubkey: taproot } = await harness.wallet.newAddress({ addressType: 'p2tr' });
    const paid = payFrom(harness.devChain, 1, [
      { script: scriptPubkey, valueSat: 2_000_000n },
      { script: taproot, valueSat: 1_000_000n },
    ]);
    submit(harness, paid.raw);
    await harness.turn();
    expect(await harness.wallet.getBalance({})).toEqual({
      confirmedSat: 0n,
      unconfirmedSat: 3_000_000n,
      reservedSat: 0n,
      ...NO_LIMBO,
    });
    await harness.mine(1);
    expect(await harness.wallet.getBalance({})).toEqual({
      confirmedSat: 3_000_000n,
      unconfirmedSat: 0n,
      reservedSat: 0n,
      ...NO_LIMBO,
    });
    return harness;
  }

  test('funds a channel, the same on every retry, and sees it confirm', async () => {
    let harness = await funded();
    const request = {
      channelKeysId: Buffer.from(channelId(9)),
      scriptPubkey: Buffer.from(FUNDING_SCRIPT),
      valueSat: 2_500_000n,
    };
    const first = await harness.wallet.fundChannel(request);
    const tx = decodeTx(Uint8Array.from(first.transaction));
    expect(tx.ok && tx.value.outputs[first.outputIndex]).toEqual({
      script: FUNDING_SCRIPT,
      valueSat: 2_500_000n,
    });
    if (!tx.ok) throw tx.error;
    // Nobody could broadcast it yet.
    expect(tx.value.inputs.map(({ witness }) => witness.length)).toEqual([0, 0]);
    expect(harness.signer.calls.psbts).toEqual([]);
    expect(await harness.wallet.fundChannel(request)).toEqual(first);
    expect(await codeOf(harness.wallet.fundChannel({ ...request, valueSat: 1n }))).toBe('already_exists');
    expect((await harness.wallet.getBalance({})).reservedSat).toBe(3_000_000n);
    expect(
      await codeOf(harness.wallet.fundChannel({ ...request, channelKeysId: Buffer.from(channelId(8)) })),
    ).toBe('failed_precondition');
    harness = await restarted(harness);
    await harness.clock.advance(20_000);
    await harness.turn();
    expect(await harness.wallet.fundChannel(request)).toEqual(first);
    harness.manager.broadcasts.push({
      kind: 'funding',
      channelId: channelId(1),
      transactions: [Uint8Array.from(first.transaction)],
    });
    // The signer signs it when it has validated the channel's first commitment.
    harness.signer.answers.signing = 'unavailable';
    await harness.turn();
    expect(harness.devChain.mempool.get(txidHex(tx.value))).toBeUndefined();
    harness.signer.answers.signing = 'yes';
    await harness.clock.advance(1_000);
    await harness.turn();
    const broadcast = harness.devChain.mempool.get(txidHex(tx.value))?.stored.tx;
    if (broadcast === undefined) throw new TypeError('the funding was not broadcast');
    // 1000 sat per 1000 weight, of signatures that may be a byte shorter than planned.
    expect(Number(first.feeSat)).toBeGreaterThanOrEqual(txWeight(broadcast));
    expect(Number(first.feeSat)).toBeLessThan(txWeight(broadcast) + 8);
    const changeSat = 500_000n - first.feeSat;
    expect(await harness.wallet.getBalance({})).toEqual({
      confirmedSat: 0n,
      unconfirmedSat: changeSat,
      reservedSat: 0n,
      ...NO_LIMBO,
    });
    // Unconfirmed change of our own can be spent.
    const second = await harness.wallet.fundChannel({
      channelKeysId: Buffer.from(channelId(7)),
      scriptPubkey: Buffer.from(FUNDING_SCRIPT),
      valueSat: 100_000n,
    });
    expect(second.feeSat).toBeGreaterThan(0n);
    expect(await codeOf(harness.wallet.releaseFunding({ channelKeysId: Buffer.from(channelId(9)) }))).toBe(
      'already_exists',
    );
    await harness.wallet.releaseFunding({ channelKeysId: Buffer.from(channelId(7)) });
    await harness.mine(1);
    expect(await harness.wallet.getBalance({})).toEqual({
      confirmedSat: changeSat,
      unconfirmedSat: 0n,
      reservedSat: 0n,
      ...NO_LIMBO,
    });
    const { transactions } = await harness.wallet.listTransactions({ limit: 10 });
    expect(
      transactions.map(({ amountSat, label, confirmedHeight }) => ({ amountSat, label, confirmedHeight })),
    ).toEqual([
      { amountSat: -2_500_000n - first.feeSat, label: 'funding', confirmedHeight: 112 },
      { amountSat: 3_000_000n, label: '', confirmedHeight: 111 },
    ]);
    expect(harness.clock.failures).toEqual([]);
  });

  test('sends coins once for an idempotency key, and retries while the signer is away', async () => {
    const harness = await funded();
    const to = 'bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry';
    const request = { address: to, valueSat: 50_000n, idempotencyKey: 'a' };
    harness.signer.answers.signing = 'unavailable';
    expect(await codeOf(harness.wallet.sendCoins(request))).toBe('unavailable');
    harness.signer.answers.signing = 'yes';
    const sent = await harness.wallet.sendCoins(request);
    expect(await harness.wallet.sendCoins(request)).toEqual(sent);
    await harness.turn();
    expect(harness.devChain.mempool.entries()).toHaveLength(1);
    expect(
      await codeOf(
        harness.wallet.sendCoins({ ...request, address: 'bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4' }),
      ),
    ).toBe('invalid_argument');
    expect(await codeOf(harness.wallet.sendCoins({ ...request, valueSat: 1n, idempotencyKey: 'b' }))).toBe(
      'invalid_argument',
    );
    await harness.mine(1);
    const { transactions } = await harness.wallet.listTransactions({ limit: 1 });
    expect(transactions[0]).toMatchObject({
      label: 'send',
      amountSat: -50_000n - sent.feeSat,
      feeSat: sent.feeSat,
    });
  });

  test('a reorg makes coins unconfirmed; a replaced payment is forgotten', async () => {
    const harness = await funded();
    harness.devChain.reorg(1, ANYONE_SCRIPT);
    await harness.turn();
    expect(await harness.wallet.getBalance({})).toEqual({
      confirmedSat: 0n,
      unconfirmedSat: 3_000_000n,
      reservedSat: 0n,
      ...NO_LIMBO,
    });
    // Another spend of the same coin gets mined instead.
    const other = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 1_000n }]);
    const stored = storeRawTx(other.raw);
    harness.devChain.mineWith(stored === undefined ? [] : [stored], ANYONE_SCRIPT);
    await harness.turn();
    expect(await harness.wallet.getBalance({})).toEqual({
      confirmedSat: 0n,
      unconfirmedSat: 0n,
      reservedSat: 0n,
      ...NO_LIMBO,
    });
  });

  test('reservations of channels that nobody knows expire; those of known ones stay', async () => {
    const harness = await funded();
    const fund = (n: number) =>
      harness.wallet.fundChannel({
        channelKeysId: Buffer.from(channelId(n)),
        scriptPubkey: Buffer.from(FUNDING_SCRIPT),
        valueSat: 500_000n,
      });
    await fund(1);
    await fund(2);
    harness.manager.channels.set('x', { row: { channelKeysId: channelId(2) } });
    await harness.mine(9);
    expect(harness.state.reservations.size).toBe(2);
    await harness.mine(1);
    expect([...harness.state.reservations.values()].map(({ key }) => key)).toEqual([channelId(2)]);
  });

  test('no address beyond the gap limit is given away; a used one moves it', async () => {
    const harness = await harnessWith();
    await harness.mine(110);
    const given: string[] = [];
    for (let i = 0; i < 21; i++)
      given.push((await harness.wallet.newAddress({ addressType: 'p2wpkh' })).address);
    expect(new Set(given).size).toBe(20);
    expect(given[20]).toBe(given[0]);
    const last = [...harness.state.addresses.values()].find(
      ({ kind, chain, index }) => kind === 'p2wpkh' && chain === 'receive' && index === 19,
    );
    submit(
      harness,
      payFrom(harness.devChain, 1, [{ script: last?.script ?? ANYONE_SCRIPT, valueSat: 10_000n }]).raw,
    );
    await harness.mine(1);
    const next = await harness.wallet.newAddress({ addressType: 'p2wpkh' });
    expect(given).not.toContain(next.address);
  });
});

test('the network is in the best block', async () => {
  const harness = await harnessWith();
  await harness.mine(3);
  expect(await harness.chain.getBestBlock({})).toMatchObject({ height: 3, network: NETWORKS.regtest.name });
});
