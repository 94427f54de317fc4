/** The wallet is looked after while the signer is away: it is needed for addresses that are still to be derived alone. */
import { NETWORKS } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { secp256k1 } from '@fulmen/crypto/default';
import { RpcError } from '@fulmen/rpc';
import { storeRawTx } from '@fulmen/testing/devchain';
import { afterEach, expect, test } from 'vitest';
import { fakeSigner } from '../testing/fake-signer.ts';
import { type Harness, type HarnessOptions, SEED, payFrom, startHarness } from '../testing/harness.ts';

const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

const VALUE_SAT = 3_000_000n;

/** A signer that tells the wallet's descriptors as long as it is there. */
function signerAway(): { isAway: boolean; readonly signer: NonNullable<HarnessOptions['signer']> } {
  const signer = fakeSigner(secp256k1, SEED, NETWORKS.regtest);
  const state = {
    isAway: false,
    signer: {
      ...signer,
      getWalletDescriptors: (...args: Parameters<typeof signer.getWalletDescriptors>) =>
        state.isAway
          ? Promise.reject(new RpcError('unavailable', 'the signer is away'))
          : signer.getWalletDescriptors(...args),
    },
  };
  return state;
}

async function started(options: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  open.push(harness);
  return harness;
}

function mineWithPayment({ devChain }: Harness, script: Uint8Array): void {
  const stored = storeRawTx(payFrom(devChain, 1, [{ script, valueSat: VALUE_SAT }]).raw);
  if (stored === undefined) throw new TypeError('no transaction');
  devChain.mineWith([stored], ANYONE_SCRIPT);
}

const addressOf = async ({ wallet }: Harness): Promise<Uint8Array> =>
  Uint8Array.from((await wallet.newAddress({ addressType: 'p2wpkh' })).scriptPubkey);

const balanceOf = async ({ wallet }: Harness): Promise<bigint> => (await wallet.getBalance({})).confirmedSat;

test('a block that pays the wallet while the signer has been silent since the start', async () => {
  const state = signerAway();
  const before = await started({ signer: state.signer });
  await before.mine(110);
  const script = await addressOf(before);
  state.isAway = true;
  open.splice(open.indexOf(before), 1);
  const harness = await before.restart();
  open.push(harness);
  mineWithPayment(harness, script);
  await harness.turn();
  state.isAway = false;
  await harness.turn();
  expect(await balanceOf(harness)).toBe(VALUE_SAT);
});

test('a seed that was used before: blocks that came before the signer told its addresses are read again', async () => {
  const formerLife = await started({});
  await formerLife.mine(1);
  const script = await addressOf(formerLife);
  const state = signerAway();
  state.isAway = true;
  const harness = await started({ signer: state.signer });
  await harness.mine(110);
  mineWithPayment(harness, script);
  await harness.mine(3);
  state.isAway = false;
  for (let turn = 0; turn < 12; turn += 1) await harness.turn();
  expect(await balanceOf(harness)).toBe(VALUE_SAT);
  expect(harness.state.rescanFrom).toBeUndefined();
});
