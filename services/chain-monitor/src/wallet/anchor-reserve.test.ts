import { afterEach, describe, expect, test } from 'vitest';
import { toHex } from '@fulmen/codec';
import { encodeMonitorParameters } from '@fulmen/monitor';
import { p2wshScript } from '@fulmen/bitcoin';
import { RpcError } from '@fulmen/rpc';
import { storeRawTx } from '@fulmen/testing/devchain';
import type { FundingRecord, SettlementRecord } from '@fulmen/store/chain/chain-store';
import { type SummaryOutput, encodeSummary } from '../settlement/summary.ts';
import { ChainView } from '../state/view.ts';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';
import { type Harness, payFrom, settle, startHarness } from '../testing/harness.ts';
import { AnchorReserve } from './anchor-reserve.ts';
import { EMPTY_SNAPSHOT } from '../testing/empty-snapshot.ts';

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

  test('change that came, and was spent, does not come again', async () => {
    const harness = await walletWith(100_000n, []);
    const channelKeysId = new Uint8Array(32).fill(9);
    const { transaction } = await harness.wallet.fundChannel({
      channelKeysId: Buffer.from(channelKeysId),
      scriptPubkey: Buffer.from(FUNDING_SCRIPT),
      valueSat: 80_000n,
      feerateSatPerKw: 253,
    });
    const transactions = [Uint8Array.from(transaction)];
    harness.manager.broadcasts.push({ kind: 'funding', channelId: channelKeysId, transactions });
    await harness.turn();
    await harness.mine(1);
    expect((await harness.wallet.getAnchorReserve({})).missingSat).toBe(0n);
    // Leaves too little for change.
    expect(await send(harness, 19_500n)).toBe('done');
    await harness.mine(1);
    expect((await harness.wallet.getAnchorReserve({})).missingSat).toBe(10_000n);
    // The spent change is buried and forgotten.
    for (let blocks = 0; blocks < 300; blocks += 50) await harness.mine(50);
    expect((await harness.wallet.getAnchorReserve({})).missingSat).toBe(10_000n);
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

describe('a channel that closes', () => {
  const channelId = new Uint8Array(32).fill(1);
  const output = (status: SummaryOutput['status'], kind: SummaryOutput['kind']): SummaryOutput => ({
    txid: new Uint8Array(32),
    outputIndex: 0,
    valueSat: 50_000n,
    kind,
    status,
    waitsFor: '',
  });

  /** What is kept back while the commitment of a channel with anchors is in a block. */
  async function reservedSat(settlement: Partial<SettlementRecord> | undefined): Promise<bigint> {
    const view = new ChainView({ ...EMPTY_SNAPSHOT, fundings: [fundingOf(channelId)] });
    view.apply({
      fundings: [{ ...fundingOf(channelId), spent: { txid: new Uint8Array(32), height: 7 } }],
      settlements: settlement === undefined ? [] : [{ ...settlementOf(channelId), ...settlement }],
    });
    const reserve = new AnchorReserve(
      {
        loadMonitors: async (ids) =>
          ids.map((id) => ({
            channelId: id,
            updateId: 0n,
            snapshot: undefined,
            birth: encodeMonitorParameters({
              ...TEST_PARAMETERS,
              channelId: id,
              commitmentFormat: 'anchors',
            }),
            closeState: 'ordered',
          })),
      },
      { perChannelSat: 10_000n, maximumChannels: 10 },
    );
    return reserve.requiredSat(view, 0);
  }

  const summaryOf = (...outputs: readonly SummaryOutput[]) => ({ summary: encodeSummary(outputs) });

  test.each(['maturing', 'claimable', 'preimage_unknown'] as const)(
    'keeps its reserve while an HTLC of the holder’s commitment is %s: the wallet pays for its transaction',
    async (status) => {
      const summary = summaryOf(output('spent', 'anchor'), output(status, 'htlc_offered_by_holder'));
      expect(await reservedSat(summary)).toBe(10_000n);
      expect(await reservedSat(summaryOf(output(status, 'htlc_offered_by_counterparty')))).toBe(10_000n);
    },
  );

  test('keeps it until it is known what became of it', async () => {
    expect(await reservedSat(undefined)).toBe(10_000n);
  });

  test('needs none once its HTLCs are spent, nor for what pays for itself', async () => {
    const delayed = output('maturing', 'second_stage');
    const spent = summaryOf(output('spent', 'htlc_offered_by_holder'), delayed);
    const open = summaryOf(output('maturing', 'htlc_offered_by_holder'));
    expect(await reservedSat(spent)).toBe(0n);
    expect(await reservedSat({ ...open, stage: 'resolved' })).toBe(0n);
    for (const closeType of ['counterparty', 'revoked', 'mutual'])
      expect(await reservedSat({ ...open, closeType })).toBe(0n);
  });
});

function fundingOf(channelId: Uint8Array): FundingRecord {
  return {
    channelId,
    fundingTxid: new Uint8Array(32).fill(5),
    fundingOutputIndex: 0,
    fundingValueSat: 500_000n,
    scriptPubKey: FUNDING_SCRIPT,
    minimumDepth: 1,
  };
}

function settlementOf(channelId: Uint8Array): SettlementRecord {
  return {
    channelId,
    stage: 'closed',
    closeType: 'holder',
    closeTxid: new Uint8Array(32),
    closeHeight: 7,
    summary: '[]',
    toldFulfilled: [],
    toldFailed: [],
  };
}
