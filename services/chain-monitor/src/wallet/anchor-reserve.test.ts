import { afterEach, describe, expect, test } from 'vitest';
import { toHex } from '@fulmen/codec';
import { encodeMonitorParameters } from '@fulmen/monitor';
import { p2wshScript } from '@fulmen/bitcoin';
import { RpcError } from '@fulmen/rpc';
import { storeRawTx } from '@fulmen/testing/devchain';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';
import { type Harness, payFrom, settle, startHarness } from '../testing/harness.ts';

const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

const FUNDING_SCRIPT = p2wshScript(Uint8Array.of(0x51));

/** A wallet with so many sat, and channels of these formats. */
async function walletWith(
  valueSat: bigint,
  formats: readonly ('anchors' | 'static_remotekey')[],
): Promise<Harness> {
  const harness = await startHarness();
  open.push(harness);
  await harness.mine(110);
  const { scriptPubkey } = await harness.wallet.newAddress({ addressType: '' });
  const paid = payFrom(harness.devChain, 1, [{ script: scriptPubkey, valueSat }]);
  const stored = storeRawTx(paid.raw);
  if (stored !== undefined) harness.devChain.submit(stored);
  await harness.mine(1);
  for (const [index, commitmentFormat] of formats.entries()) {
    const channelId = new Uint8Array(32).fill(index + 1);
    const funding = payFrom(harness.devChain, 2 + index, [{ script: FUNDING_SCRIPT, valueSat: 500_000n }]);
    harness.watch({
      channelId,
      fundingTxid: funding.txid,
      fundingOutputIndex: 0,
      fundingValueSat: 500_000n,
      scriptPubKey: FUNDING_SCRIPT,
      minimumDepth: 1,
    });
    harness.manager.monitorBirths.set(
      toHex(channelId),
      encodeMonitorParameters({ ...TEST_PARAMETERS, channelId, commitmentFormat }),
    );
  }
  await harness.turn();
  return harness;
}

async function refusalOf(call: Promise<unknown>): Promise<string> {
  const outcome = await call.then(
    () => 'done',
    (error: unknown) => (error instanceof RpcError ? `${error.code}: ${error.message}` : String(error)),
  );
  await settle();
  return outcome;
}

const send = (harness: Harness, valueSat: bigint) =>
  refusalOf(
    harness.wallet.sendCoins({
      address: 'bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080',
      valueSat,
      feerateSatPerKw: 253,
      idempotencyKey: `${valueSat}`,
    }),
  );

describe('the reserve for channels with anchors', () => {
  test('a wallet without such channels may be emptied', async () => {
    const harness = await walletWith(100_000n, ['static_remotekey']);
    expect(await harness.wallet.getAnchorReserve({})).toEqual({ requiredSat: 0n, missingSat: 0n });
    expect(await send(harness, 99_000n)).toBe('done');
  });

  test('no payment takes what is kept back, and the balance says so', async () => {
    const harness = await walletWith(100_000n, ['anchors', 'static_remotekey', 'anchors']);
    expect(await harness.wallet.getAnchorReserve({})).toEqual({ requiredSat: 20_000n, missingSat: 0n });
    expect(await harness.wallet.getBalance({})).toMatchObject({
      confirmedSat: 80_000n,
      reservedSat: 20_000n,
    });
    expect(await send(harness, 81_000n)).toMatch(/^failed_precondition: 20000 sat are kept back/);
    expect(await send(harness, 75_000n)).toBe('done');
  });

  test('a channel is funded only when its own reserve is left too; one that another opens needs it as well', async () => {
    const harness = await walletWith(115_000n, ['anchors']);
    const fund = (valueSat: bigint) =>
      refusalOf(
        harness.wallet.fundChannel({
          channelKeysId: Buffer.alloc(32, 9),
          scriptPubkey: Buffer.from(FUNDING_SCRIPT),
          valueSat,
        }),
      );
    expect(await fund(100_000n)).toMatch(/^failed_precondition: 20000 sat are kept back/);
    expect((await harness.wallet.getAnchorReserve({})).missingSat).toBe(0n);
    expect(await fund(94_000n)).toBe('done');
    // Its change is not there yet, but comes.
    expect((await harness.wallet.getAnchorReserve({})).missingSat).toBe(0n);
  });

  test('it does not grow without end; one more channel needs it before it is accepted', async () => {
    const harness = await walletWith(
      200_000n,
      Array.from({ length: 12 }, () => 'anchors' as const),
    );
    expect((await harness.wallet.getAnchorReserve({})).requiredSat).toBe(100_000n);
    const poor = await walletWith(9_000n, []);
    expect((await poor.wallet.getAnchorReserve({})).missingSat).toBe(1_000n);
  });
});
