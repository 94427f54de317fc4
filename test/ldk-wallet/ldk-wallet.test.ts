// The wallet process, twice, on the development chain.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { address, networks, payments, script, Transaction } from 'bitcoinjs-lib';
import { startDevChain } from '@fulmen/testing/devchain/index';
import { afterEach, expect, test } from 'vitest';
import { ChainRpc } from './chain.ts';
import { fromDisplayHash } from './ldk.ts';
import { runCheat, runScenario, type ScenarioChain } from './scenario.ts';

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const SUBSIDY_SAT = 5_000_000_000n;
const FEE_SAT = 1_000n;

/** A chain whose coinbases pay a key of the test, one coinbase for each funding. */
async function devChain(): Promise<ScenarioChain> {
  const running = await startDevChain({ port: 0, rpcUser: 'test', rpcPassword: 'test', network: 'regtest' });
  cleanups.push(() => running.stop());
  const url = `http://test:test@127.0.0.1:${running.port}`;
  const rpc = new ChainRpc(url);
  const secret = Uint8Array.from(createHash('sha256').update('miner').digest());
  const pubkey = secp256k1.getPublicKey(secret, true);
  const miner = payments.p2wpkh({ pubkey, network: networks.regtest });
  const code = payments.p2pkh({ pubkey, network: networks.regtest }).output ?? new Uint8Array();
  const mine = async (count: number) => void (await rpc.call('generatetoaddress', count, miner.address));
  await mine(110);
  let coinbase = 1;
  return {
    url,
    mine,
    async fund(to, sat) {
      const block = await rpc.call<{ tx: string[] }>('getblock', await rpc.call('getblockhash', coinbase), 1);
      coinbase += 1;
      const transaction = new Transaction();
      transaction.version = 2;
      transaction.addInput(fromDisplayHash(block.tx[0] ?? ''), 0);
      transaction.addOutput(address.toOutputScript(to, networks.regtest), BigInt(sat));
      transaction.addOutput(miner.output ?? new Uint8Array(), SUBSIDY_SAT - BigInt(sat) - FEE_SAT);
      const digest = transaction.hashForWitnessV0(0, code, SUBSIDY_SAT, Transaction.SIGHASH_ALL);
      const signature = secp256k1.sign(digest, secret, { prehash: false });
      transaction.setWitness(0, [script.signature.encode(signature, Transaction.SIGHASH_ALL), pubkey]);
      await rpc.call('sendrawtransaction', transaction.toHex());
    },
    async reorg(depth) {
      const height = await rpc.call<number>('getblockcount');
      await rpc.call('invalidateblock', await rpc.call('getblockhash', height - depth + 1));
      // Another address, or the same block would come again.
      const other = payments.p2wpkh({
        pubkey: secp256k1.getPublicKey(fromDisplayHash('01'.repeat(32)), true),
        network: networks.regtest,
      });
      await rpc.call('generatetoaddress', depth + 1, other.address);
    },
  };
}

test('two wallets open, pay, survive kill -9 and a reorg, and close', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-ldk-'));
  cleanups.push(() => fs.rmSync(dir, { recursive: true, force: true }));
  const steps: string[] = [];
  await runScenario(await devChain(), { dir, anchors: true, log: (step) => steps.push(step) });
  expect(steps).toHaveLength(7);
}, 150_000);

test('a wallet that is set back broadcasts a revoked commitment, and another LDK wallet punishes it', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-ldk-'));
  cleanups.push(() => fs.rmSync(dir, { recursive: true, force: true }));
  await runCheat(await devChain(), dir);
}, 120_000);
