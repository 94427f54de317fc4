import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, test } from 'vitest';
import { encodeTx, p2pkhScript, P2A_SCRIPT, txidHex, withWitness } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { BitcoindRpc } from '@fulmen/chain';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { toHex } from '@fulmen/bitcoin/bytes';
import { DevChain } from './devchain.ts';
import { Rejection, storeTx } from './model.ts';
import type { BlockNode } from './model.ts';
import { startDevChain } from './start.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0).toReversed()) close();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'fulmen-devchain-'));
  closers.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function reward(node: BlockNode | undefined): { txid: string; vout: number; valueSat: bigint } {
  const stored = node?.transactions[0];
  return { txid: stored?.txid ?? '', vout: 0, valueSat: stored?.tx.outputs[0]?.valueSat ?? 0n };
}

function reasonOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (error instanceof Rejection) return error.reason;
    throw error;
  }
}

/** What must be the same after a restart. */
function summary(dev: DevChain): unknown {
  return {
    tip: dev.chain.tip.hash,
    blocks: dev.chain.blockCount,
    coins: [...dev.chain.coins()].map(([key, coin]) => `${key}=${coin.valueSat}@${coin.height}`).toSorted(),
    mempool: dev.mempool.entries().map(({ stored }) => stored.wtxid),
  };
}

function busy(dev: DevChain): void {
  const [first, second] = dev.mine(110, ANYONE_SCRIPT);
  const one = reward(first);
  const two = reward(second);
  dev.submit(storeTx(spendAnyone([one], [one.valueSat - 1000n])));
  dev.submit(storeTx(spendAnyone([one], [one.valueSat - 5000n])));
  dev.mine(1, ANYONE_SCRIPT);
  dev.reorg(2, P2A_SCRIPT);
  const parent = spendAnyone([two], [two.valueSat], { version: 3 });
  const child = spendAnyone([{ txid: txidHex(parent), vout: 0 }], [two.valueSat - 9000n], { version: 3 });
  expect(dev.submitPackage([parent, child].map(storeTx)).message).toBe('success');
  expect(dev.mempool.size).toBe(3);
}

describe('a restart', () => {
  test('restores blocks, stale ones too, and the mempool', () => {
    const dataDir = folder();
    const before = new DevChain({ dataDir });
    busy(before);
    const expected = summary(before);
    before.close();
    const after = new DevChain({ dataDir });
    expect(summary(after)).toEqual(expected);
    after.mine(1, ANYONE_SCRIPT);
    expect(after.mempool.size).toBe(0);
    after.close();
  });

  test('cuts off a torn or damaged end, whatever its length', () => {
    const dataDir = folder();
    const file = join(dataDir, 'devchain.journal');
    const dev = new DevChain({ dataDir });
    dev.mine(3, ANYONE_SCRIPT);
    const whole = readFileSync(file).length;
    const { hash } = dev.chain.tip;
    dev.mine(1, ANYONE_SCRIPT);
    dev.close();
    const all = readFileSync(file);
    for (const length of [whole, whole + 1, whole + 8, whole + 9, whole + 50, all.length - 1]) {
      truncateSync(file, length);
      const again = new DevChain({ dataDir });
      expect(again.chain.tip.hash).toBe(hash);
      again.close();
      expect(readFileSync(file).length).toBe(whole);
      writeFileSync(file, all);
    }
    const damaged = Buffer.from(all);
    damaged[whole + 20] = (damaged[whole + 20] ?? 0) ^ 1;
    writeFileSync(file, damaged);
    appendFileSync(file, Buffer.from([9, 9, 9]));
    const again = new DevChain({ dataDir });
    expect(again.chain.tip.hash).toBe(hash);
    again.close();
  });

  test('of the process after kill -9 resumes at the last answer', async () => {
    const dataDir = folder();
    const start = async () => {
      const child = spawn(
        process.execPath,
        [join(import.meta.dirname, '../../../../test/devchain/main.ts')],
        {
          env: {
            ...process.env,
            NODE_OPTIONS: '',
            FULMEN_DEVCHAIN_PORT: '0',
            FULMEN_DEVCHAIN_DATA_DIR: dataDir,
            FULMEN_DEVCHAIN_RPC_USER: 'u',
            FULMEN_DEVCHAIN_RPC_PASSWORD: 'p',
          },
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      closers.push(() => child.kill('SIGKILL'));
      const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
      const { port } = JSON.parse(line) as { port: number };
      const rpc = new BitcoindRpc({
        host: '127.0.0.1',
        port,
        auth: { kind: 'password', user: 'u', password: 'p' },
      });
      closers.push(() => rpc.close());
      return { child, rpc };
    };
    const first = await start();
    const hashes = (await first.rpc.call('generatetoaddress', 101, 'bcrt1pfeesnyr2tx')) as string[];
    expect(hashes.length).toBe(101);
    const block = (await first.rpc.call('getblock', hashes[0], 1)) as { tx: string[] };
    const tx = withWitness(spendAnyone([{ txid: block.tx[0] ?? '', vout: 0 }], [4_999_000_000n]), 0, []);
    const txid = await first.rpc.call('sendrawtransaction', toHex(encodeTx(tx)), 0);
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    const second = await start();
    expect(await second.rpc.call('getbestblockhash')).toBe(hashes[100]);
    expect(await second.rpc.call('getrawmempool')).toEqual([txid]);
    const exited = once(second.child, 'exit');
    expect(await second.rpc.call('stop')).toBe('Bitcoin Core stopping');
    expect((await exited)[0]).toBe(0);
  });
});

describe('rules of the chain', () => {
  test('only regtest exists', async () => {
    for (const network of ['mainnet', 'main', 'testnet', 'signet', '']) {
      await expect(startDevChain({ port: 0, rpcUser: 'u', rpcPassword: 'p', network })).rejects.toThrow(
        'regtest only',
      );
    }
  });

  test('a block that breaks a rule is refused and leaves no trace', () => {
    const dev = new DevChain();
    const [first] = dev.mine(101, ANYONE_SCRIPT);
    const coin = reward(first);
    const before = summary(dev);
    const spend = (value: bigint): Tx => spendAnyone([coin], [value]);
    const attempt = (...transactions: Tx[]): string | undefined =>
      reasonOf(() => dev.mineWith(transactions.map(storeTx), ANYONE_SCRIPT));
    expect(attempt(spend(coin.valueSat + 1n))).toBe('bad-txns-in-belowout');
    expect(attempt(spend(1n), spend(2n))).toBe('bad-txns-inputs-missingorspent');
    const badScript = withWitness(spend(1000n), 0, [Uint8Array.from([0x52])]);
    expect(attempt(badScript)).toBe('mandatory-script-verify-flag-failed (Witness program hash mismatch)');
    expect(attempt(spendAnyone([reward(dev.chain.at(50))], [1n]))).toBe(
      'bad-txns-premature-spend-of-coinbase',
    );
    expect(attempt(spendAnyone([coin], [1n], { locktime: 500 }))).toBe('bad-txns-nonfinal');
    expect(attempt(spendAnyone([{ ...coin, sequence: 500 }], [1n]))).toBe('bad-txns-nonfinal');
    const { tip } = dev.chain;
    expect(reasonOf(() => dev.submitBlock(tip.raw))).toBe('duplicate');
    expect({ ...(summary(dev) as object), blocks: 0 }).toEqual({ ...(before as object), blocks: 0 });
    dev.mine(1, ANYONE_SCRIPT);
    expect(dev.chain.tip.height).toBe(102);
  });

  test('the subsidy halves every 150 blocks, and fees go to the miner', () => {
    const dev = new DevChain();
    const nodes = dev.mine(150, ANYONE_SCRIPT);
    expect(reward(nodes[148]).valueSat).toBe(5_000_000_000n);
    expect(reward(nodes[149]).valueSat).toBe(2_500_000_000n);
    const coin = reward(nodes[0]);
    dev.submit(storeTx(spendAnyone([coin], [coin.valueSat - 7000n])));
    expect(reward(dev.mine(1, ANYONE_SCRIPT)[0]).valueSat).toBe(2_500_007_000n);
  });

  test('a longer chain from outside wins, and losing transactions wait again', () => {
    const now = (): number => 1_800_000_000;
    const ours = new DevChain({ now });
    const theirs = new DevChain({ now });
    for (const { raw } of ours.mine(101, ANYONE_SCRIPT)) theirs.submitBlock(raw);
    const coin = reward(ours.chain.at(1));
    const tx = storeTx(spendAnyone([coin], [coin.valueSat - 1000n]));
    ours.submit(tx);
    ours.mine(1, ANYONE_SCRIPT);
    const branch = theirs.mine(2, p2pkhScript(new Uint8Array(20)));
    ours.submitBlock((branch[0] as BlockNode).raw);
    expect(ours.chain.transaction(tx.txid)).toBeDefined();
    ours.submitBlock((branch[1] as BlockNode).raw);
    expect(ours.chain.tip.hash).toBe(theirs.chain.tip.hash);
    expect(ours.mempool.get(tx.txid)).toBeDefined();
  });

  test('full blocks take the best paid first', () => {
    const dev = new DevChain({ minedBlockWeight: 8000 + 4 * 110 });
    const nodes = dev.mine(105, ANYONE_SCRIPT);
    const fees = [1000n, 9000n, 5000n];
    const ids = fees.map((fee, index) => {
      const coin = reward(nodes[index]);
      const stored = storeTx(spendAnyone([coin], [coin.valueSat - fee]));
      dev.submit(stored);
      return stored.txid;
    });
    const mined = Array.from({ length: 3 }, () => dev.mine(1, ANYONE_SCRIPT)[0]?.transactions[1]?.txid);
    expect(mined).toEqual([ids[1], ids[2], ids[0]]);
  });
});

test('the minimum relay fee is a setting', () => {
  for (const [feerate, vbytes] of [
    [1000, 1],
    [100, 10],
  ] as const) {
    const dev = new DevChain({
      policy: { minRelayFeerateSatPerKvb: feerate, incrementalRelayFeerateSatPerKvb: feerate },
    });
    const coin = reward(dev.mine(101, ANYONE_SCRIPT)[0]);
    const { vsize } = storeTx(spendAnyone([coin], [coin.valueSat]));
    const needed = BigInt(Math.ceil(vsize / vbytes));
    const pay = (fee: bigint): string | undefined =>
      reasonOf(() => dev.submit(storeTx(spendAnyone([coin], [coin.valueSat - fee]))));
    expect(pay(needed - 1n)).toBe('min relay fee not met');
    expect(pay(needed)).toBeUndefined();
    // A replacement pays for its own relay on top.
    expect(pay(2n * needed - 1n)).toBe('insufficient fee');
    expect(pay(2n * needed)).toBeUndefined();
  }
});

describe('ephemeral dust', () => {
  test('lives only in a package whose child spends it', () => {
    const dev = new DevChain();
    const nodes = dev.mine(105, ANYONE_SCRIPT);
    const coin = reward(nodes[0]);
    const dusty = (fee: bigint): Tx => {
      const tx = spendAnyone([coin], [coin.valueSat - fee], { version: 3 });
      return { ...tx, outputs: [...tx.outputs, { valueSat: 0n, script: P2A_SCRIPT }] };
    };
    expect(reasonOf(() => dev.submit(storeTx(dusty(1000n))))).toBe('dust');
    const parent = dusty(0n);
    const txid = txidHex(parent);
    const leaves = spendAnyone([{ txid, vout: 0 }], [coin.valueSat - 5000n], { version: 3 });
    const left = dev.submitPackage([parent, leaves].map(storeTx));
    expect(left.verdicts.map(({ rejection }) => rejection?.reason)).toContain('missing-ephemeral-spends');
    const fees = reward(nodes[1]);
    const takes = withWitness(
      spendAnyone([{ txid, vout: 1 }, fees], [fees.valueSat - 5000n], { version: 3 }),
      0,
      [],
    );
    expect(dev.submitPackage([parent, takes].map(storeTx)).message).toBe('success');
    const two: Tx = { ...parent, outputs: [...parent.outputs, { valueSat: 1n, script: P2A_SCRIPT }] };
    expect(reasonOf(() => dev.submit(storeTx(two)))).toBe('dust');
  });
});
