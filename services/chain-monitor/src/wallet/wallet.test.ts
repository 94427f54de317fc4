import { afterEach, describe, expect, test } from 'vitest';
import { displayHash, p2wshScript } from '@fulmen/bitcoin';
import { descriptorChecksum } from '@fulmen/bitcoin/descriptor';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { toHex } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import type { FundingWatch } from '@fulmen/store';
import { storeRawTx } from '@fulmen/testing/devchain';
import {
  type Harness,
  type HarnessOptions,
  payFrom,
  settle,
  startHarness,
  TEST_CONFIG,
} from '../testing/harness.ts';

const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

const FUNDING_SCRIPT = p2wshScript(Uint8Array.from([0x51]));
const keysId = (n: number): Uint8Array => new Uint8Array(32).fill(n);

/** A wallet with two confirmed coins of 1,000,000 sat. */
async function withTwoCoins(options: HarnessOptions = {}): Promise<Harness> {
  const harness = await startHarness(options);
  open.push(harness);
  await harness.mine(110);
  for (const height of [1, 2]) {
    const { scriptPubkey } = await harness.wallet.newAddress({ addressType: 'p2wpkh' });
    const script = Uint8Array.from(scriptPubkey);
    const stored = storeRawTx(payFrom(harness.devChain, height, [{ script, valueSat: 1_000_000n }]).raw);
    if (stored !== undefined) harness.devChain.submit(stored);
  }
  await harness.mine(1);
  expect((await harness.wallet.getBalance({})).confirmedSat).toBe(2_000_000n);
  return harness;
}

async function restarted(harness: Harness): Promise<Harness> {
  open.splice(open.indexOf(harness), 1);
  const next = await harness.restart();
  open.push(next);
  await next.turn();
  return next;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'ok',
    (error: unknown) => (error instanceof RpcError ? error.code : String(error)),
  );
}

describe('locked coins survive a restart', () => {
  test('those of a funding under way: no other payment gets them, and the funding is the same', async () => {
    const harness = await withTwoCoins();
    const order = { channelKeysId: keysId(1), scriptPubkey: FUNDING_SCRIPT, valueSat: 900_000n };
    const funding = await harness.wallet.fundChannel(order);
    expect((await harness.wallet.getBalance({})).reservedSat).toBe(1_000_000n);
    const next = await restarted(harness);
    const balance = await next.wallet.getBalance({});
    expect([balance.confirmedSat, balance.reservedSat]).toEqual([1_000_000n, 1_000_000n]);
    // Needs both coins.
    expect(
      await codeOf(
        next.wallet.fundChannel({
          channelKeysId: keysId(2),
          scriptPubkey: FUNDING_SCRIPT,
          valueSat: 1_500_000n,
        }),
      ),
    ).toBe('failed_precondition');
    expect(await next.wallet.fundChannel(order)).toEqual(funding);
    const other = await next.wallet.fundChannel({
      channelKeysId: keysId(3),
      scriptPubkey: FUNDING_SCRIPT,
      valueSat: 900_000n,
    });
    const inputsOf = (raw: Uint8Array): readonly string[] =>
      (storeRawTx(Uint8Array.from(raw))?.tx.inputs ?? []).map(({ txid, vout }) =>
        [Buffer.from(txid).toString('hex'), vout].join(':'),
      );
    const taken = new Set(inputsOf(funding.transaction));
    expect(inputsOf(other.transaction).some((input) => taken.has(input))).toBe(false);
  });

  test('a release holds over a restart too', async () => {
    const harness = await withTwoCoins();
    await harness.wallet.fundChannel({
      channelKeysId: keysId(1),
      scriptPubkey: FUNDING_SCRIPT,
      valueSat: 900_000n,
    });
    await harness.wallet.releaseFunding({ channelKeysId: keysId(1) });
    const next = await restarted(harness);
    const balance = await next.wallet.getBalance({});
    expect([balance.confirmedSat, balance.reservedSat]).toEqual([2_000_000n, 0n]);
  });
});

test('a funding pays the feerate that was asked for, and the estimate where none was', async () => {
  const estimateSatPerKw = 1_000;
  const harness = await withTwoCoins({ config: { fallbackFeerateSatPerKw: estimateSatPerKw } });
  const feeSat = async (n: number, feerateSatPerKw?: number): Promise<bigint> => {
    const order = { channelKeysId: keysId(n), scriptPubkey: FUNDING_SCRIPT, valueSat: 100_000n };
    const asked = { ...order, ...(feerateSatPerKw !== undefined && { feerateSatPerKw }) };
    return (await harness.wallet.fundChannel(asked)).feeSat;
  };
  const estimatedSat = await feeSat(1, estimateSatPerKw);
  await harness.wallet.releaseFunding({ channelKeysId: keysId(1) });
  expect(await feeSat(2, 5 * estimateSatPerKw)).toBe(5n * estimatedSat);
  expect(await feeSat(3)).toBe(estimatedSat);
});

test('what was paid is remembered for two weeks, so that its key does not pay again, and then forgotten', async () => {
  const harness = await withTwoCoins();
  const { transaction } = await harness.wallet.fundChannel({
    channelKeysId: keysId(1),
    scriptPubkey: FUNDING_SCRIPT,
    valueSat: 900_000n,
  });
  const transactions = [Uint8Array.from(transaction)];
  harness.manager.broadcasts.push({ kind: 'funding', channelId: keysId(1), transactions });
  harness.manager.channels.set('x', { row: { channelKeysId: keysId(1) } });
  await harness.turn();
  const payment = {
    address: 'bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080',
    valueSat: 50_000n,
    idempotencyKey: 'a',
  };
  const sent = await harness.wallet.sendCoins(payment);
  await harness.turn();
  const unpaid = await harness.wallet.fundChannel({
    channelKeysId: keysId(2),
    scriptPubkey: FUNDING_SCRIPT,
    valueSat: 50_000n,
  });
  harness.manager.channels.set('y', { row: { channelKeysId: keysId(2) } });
  for (let blocks = 0; blocks < 2_000; blocks += 50) await harness.mine(50);
  expect(await harness.wallet.sendCoins(payment)).toEqual(sent);
  expect(harness.state.reservations.size).toBe(3);
  await harness.mine(16);
  expect([...harness.state.reservations.values()].map(({ txid }) => txid)).toEqual([
    Uint8Array.from(unpaid.txid),
  ]);
});

test('a funding that nobody waits for any more sets no coins apart, though its inputs were released before', async () => {
  let answered = Promise.resolve();
  const harness = await withTwoCoins({
    wrapSource: (source) =>
      Object.assign(source, { estimateFeerateSatPerKw: () => answered.then(() => undefined) }),
  });
  const estimates = Promise.withResolvers<void>();
  answered = estimates.promise;
  harness.clock.nowMs += TEST_CONFIG.feeCacheMs;
  const caller = new AbortController();
  const funding = harness.wallet.fundChannel(
    { channelKeysId: keysId(1), scriptPubkey: FUNDING_SCRIPT, valueSat: 900_000n },
    { signal: caller.signal },
  );
  await settle();
  caller.abort();
  expect(await codeOf(funding)).not.toBe('ok');
  await harness.wallet.releaseFunding({ channelKeysId: keysId(1) });
  estimates.resolve();
  await settle();
  expect((await harness.wallet.getBalance({})).reservedSat).toBe(0n);
});

test('a payment that a look into the mempool met while a block came is noted by the next look', async () => {
  let blockComes = (): void => undefined;
  const harness = await startHarness({
    wrapSource: (source) => {
      const getRawMempool = source.getRawMempool.bind(source);
      return Object.assign(source, {
        getRawMempool: async () => {
          const txids = await getRawMempool();
          blockComes();
          return txids;
        },
      });
    },
  });
  open.push(harness);
  const { devChain } = harness;
  await harness.mine(110);
  const { scriptPubkey } = await harness.wallet.newAddress({ addressType: 'p2wpkh' });
  const stored = storeRawTx(
    payFrom(devChain, 1, [{ script: Uint8Array.from(scriptPubkey), valueSat: 1_000_000n }]).raw,
  );
  if (stored !== undefined) devChain.submit(stored);
  blockComes = () => {
    blockComes = () => undefined;
    devChain.mineWith([], ANYONE_SCRIPT);
  };
  await harness.turn();
  await harness.turn();
  expect((await harness.wallet.getBalance({})).unconfirmedSat).toBe(1_000_000n);
});

describe('what the signer refuses', () => {
  const payment = {
    address: 'bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080',
    valueSat: 50_000n,
    idempotencyKey: 'a',
  };
  const scriptOf = (n: number): Uint8Array => p2wshScript(Uint8Array.of(0x50 + n));
  const planFunding = (harness: Harness, n: number) =>
    harness.wallet.fundChannel({
      channelKeysId: keysId(n),
      scriptPubkey: scriptOf(n),
      valueSat: 900_000n,
    });
  const reservedSat = async (harness: Harness): Promise<bigint> =>
    (await harness.wallet.getBalance({})).reservedSat;

  /** A channel whose funding is planned, watched and ordered. */
  async function ordered(harness: Harness, n: number) {
    const planned = await planFunding(harness, n);
    const fundingTxid = Uint8Array.from(planned.txid);
    const watch: FundingWatch = {
      channelId: keysId(n),
      fundingTxid,
      fundingOutputIndex: planned.outputIndex,
      fundingValueSat: 900_000n,
      scriptPubKey: scriptOf(n),
      minimumDepth: 3,
    };
    harness.manager.channels.set(toHex(keysId(n)), {
      row: { channelKeysId: keysId(n), holderIsFunder: true },
    });
    harness.watch(watch);
    const transactions = [Uint8Array.from(planned.transaction)];
    harness.manager.broadcasts.push({ kind: 'funding', channelId: keysId(n), transactions });
    await harness.turn();
    return { watch, isBroadcast: () => harness.devChain.mempool.get(displayHash(fundingTxid)) !== undefined };
  }

  test('for its fee is not planned', async () => {
    const harness = await withTwoCoins();
    harness.signer.answers.maximumFeeSat = 100n;
    expect(await codeOf(planFunding(harness, 1))).toBe('failed_precondition');
    expect(await codeOf(harness.wallet.sendCoins(payment))).toBe('failed_precondition');
    expect([await reservedSat(harness), harness.signer.calls.psbts.length]).toEqual([0n, 0]);
    harness.signer.answers.maximumFeeSat = 100_000n;
    expect(await codeOf(planFunding(harness, 1))).toBe('ok');
  });

  test('as a funding is lost: its channel hears so, its coins are free, and no other is held up', async () => {
    const harness = await withTwoCoins();
    harness.signer.answers.signing = 'refused';
    const refused = await ordered(harness, 1);
    expect(harness.status(refused.watch)).toEqual({
      type: 'lost',
      reason: 'the signer refused the funding transaction: never',
    });
    expect([harness.state.broadcasts.size, await reservedSat(harness)]).toEqual([0, 0n]);
    expect(harness.state.reservations.size).toBe(0);
    harness.signer.answers.signing = 'yes';
    const other = await ordered(harness, 2);
    await harness.mine(1);
    expect(harness.status(other.watch)).toMatchObject({ type: 'confirmed' });
    expect(harness.status(refused.watch)).toMatchObject({ type: 'lost' });
    expect(refused.isBroadcast()).toBe(false);
    expect(harness.signer.calls.psbts).toHaveLength(2);
  });

  test('not for good is asked for again: a channel waits for its funding', async () => {
    const harness = await withTwoCoins();
    harness.signer.answers.signing = 'forbidden';
    const { watch, isBroadcast } = await ordered(harness, 1);
    await harness.clock.advance(29_000);
    await harness.turn();
    expect(harness.signer.calls.psbts).toHaveLength(1);
    harness.signer.answers.signing = 'yes';
    await harness.clock.advance(1_000);
    await harness.turn();
    expect([isBroadcast(), harness.status(watch)?.type]).toEqual([true, 'unconfirmed']);
  });

  test('as a payment sets nothing apart, and may be asked for again', async () => {
    const harness = await withTwoCoins();
    harness.signer.answers.signing = 'refused';
    expect(await codeOf(harness.wallet.sendCoins(payment))).toBe('failed_precondition');
    expect(await reservedSat(harness)).toBe(0n);
    harness.signer.answers.signing = 'yes';
    expect(await codeOf(harness.wallet.sendCoins(payment))).toBe('ok');
  });
});

test('only the console’s certificate spends, and only channel-manager’s funds', async () => {
  const harness = await withTwoCoins();
  const send = {
    address: 'bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080',
    valueSat: 50_000n,
    idempotencyKey: 'a',
  };
  const fund = { channelKeysId: keysId(1), scriptPubkey: FUNDING_SCRIPT, valueSat: 50_000n };
  for (const units of [['router'], ['ecdh'], ['claim', 'wallet', 'seal'], []]) {
    const wallet = harness.walletAs(...units);
    expect(await codeOf(wallet.sendCoins(send))).toBe('permission_denied');
    expect(await codeOf(wallet.fundChannel(fund))).toBe('permission_denied');
  }
  expect(await codeOf(harness.walletAs('channel', 'node').sendCoins(send))).toBe('permission_denied');
  expect(harness.state.reservations.size).toBe(0);
  expect(await codeOf(harness.walletAs('channel', 'node').fundChannel(fund))).toBe('ok');
  expect(await codeOf(harness.walletAs('console').sendCoins(send))).toBe('ok');
});

test('descriptors of every branch, with checksums, and where each stands', async () => {
  const harness = await startHarness();
  open.push(harness);
  await harness.mine(1);
  await harness.wallet.newAddress({ addressType: 'p2tr' });
  const { descriptors } = await harness.wallet.exportDescriptors({});
  expect(
    descriptors.map(({ addressType, internal, nextIndex, lastIndex }) => [
      addressType,
      internal,
      nextIndex,
      lastIndex,
    ]),
  ).toEqual([
    ['p2wpkh', false, 0, 19],
    ['p2wpkh', true, 0, 19],
    ['p2tr', false, 1, 20],
    ['p2tr', true, 0, 19],
  ]);
  for (const { descriptor } of descriptors) {
    const [body = '', checksum] = descriptor.split('#');
    expect(checksum).toBe(descriptorChecksum(body));
  }
  expect(descriptors[0]?.descriptor).toMatch(/^wpkh\(\[0a0b0c0d\/84h\/1h\/0h\]tpub[1-9A-Za-z]+\/0\/\*\)#/);
  expect(descriptors[3]?.descriptor).toMatch(/^tr\(\[0a0b0c0d\/86h\/1h\/0h\]tpub[1-9A-Za-z]+\/1\/\*\)#/);
});
