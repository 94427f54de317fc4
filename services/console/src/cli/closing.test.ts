import {
  type ClosingChannel,
  SettlementServiceService,
  type Sweep,
  WalletServiceService,
} from '@fulmen/proto/chain/v1/chain';
import { type Handlers, RpcError } from '@fulmen/rpc';
import { describe, expect, test } from 'vitest';
import { channel, CHANNEL, CHANNEL_HEX, startCli } from '../testing/cli.ts';
import type { ManagerHandlers } from '../testing/harness.ts';

const TXID = new Uint8Array(32).fill(0xcd, 0, 16).fill(0xab, 16);
const TXID_HEX = Buffer.from(TXID.toReversed()).toString('hex');

const closing: ClosingChannel = {
  channelId: CHANNEL,
  closeType: 'holder',
  closingTxid: TXID,
  closingHeight: 1_200,
  stage: 'closed',
  outputs: [
    {
      txid: TXID,
      outputIndex: 0,
      valueSat: 400_000n,
      kind: 'to_local',
      status: 'maturing',
      waitsFor: 'its delay to end',
      untilHeight: 1_344,
      spentTxid: new Uint8Array(0),
      spentBy: '',
    },
    {
      txid: TXID,
      outputIndex: 2,
      valueSat: 10_000n,
      kind: 'htlc_offered_by_holder',
      status: 'spent',
      waitsFor: '',
      spentTxid: TXID,
      spentBy: 'holder',
    },
  ],
};

const unconfirmed: ClosingChannel = { ...closing, closingHeight: 0, stage: 'unconfirmed', outputs: [] };

const sweep: Sweep = {
  txid: TXID,
  outputIndex: 2,
  channelId: CHANNEL,
  kind: 'holder_htlc',
  valueSat: 10_000n,
  deadlineHeight: 1_250,
  budgetSat: 5_000n,
  feerateSatPerKw: 2_500,
  attempts: 2,
  sweepTxid: TXID,
  sweepFeeSat: 1_700n,
  nextAction: 'raise the fee at block 1,210',
  rejectReason: '',
};

async function startClosing(
  handlers: Partial<Handlers<SettlementServiceService>>,
  managers: Partial<ManagerHandlers> = {},
) {
  const cli = await startCli({ listChannels: () => Promise.resolve({ channels: [channel] }), ...managers });
  const server = cli.network.server('chain');
  const refuse = (): Promise<never> => Promise.reject(new RpcError('unimplemented', 'not here'));
  server.add(SettlementServiceService, {
    listClosingChannels: refuse,
    listSweeps: refuse,
    bumpSweep: refuse,
    ...handlers,
  });
  server.add(WalletServiceService, {
    newAddress: refuse,
    getAnchorReserve: refuse,
    fundChannel: refuse,
    releaseFunding: refuse,
    sendCoins: refuse,
    listTransactions: refuse,
    exportDescriptors: refuse,
    getBalance: () =>
      Promise.resolve({
        confirmedSat: 5_000n,
        unconfirmedSat: 600n,
        reservedSat: 70n,
        limboSat: 30_010n,
        limbo: [
          { valueSat: 10n, maturityHeight: 0, channelId: CHANNEL },
          { valueSat: 10_000n, maturityHeight: 1_344, channelId: CHANNEL },
          { valueSat: 20_000n, maturityHeight: 1_344, channelId: CHANNEL },
        ],
      }),
  });
  await server.listen();
  return cli;
}

describe('channels list --closing', () => {
  test('shows of each closed channel what waits for what until which height', async () => {
    const asked: unknown[] = [];
    const { run } = await startClosing({
      listClosingChannels: (request) => (asked.push(request), Promise.resolve({ channels: [closing] })),
    });
    const shown = await run(['channels', 'list', '--closing']);
    expect(shown).toMatchObject({ code: 0, stderr: '' });
    const lines = shown.stdout.split('\n');
    expect(lines[0]).toBe(`Channel 0102030405…1e1f20 closed by our commitment: ${TXID_HEX}, block 1,200`);
    expect(lines[2]).toMatch(
      /^ {2}ababababab…cdcdcd:0 +to_local +400,000 sat +maturing +its delay to end +1,344$/,
    );
    expect(lines[3]).toMatch(/^ {2}ababababab…cdcdcd:2 .* 10,000 sat +spent by us in ababababab…cdcdcd$/);
    await run(['channels', 'list', '--closing', '--closed']);
    expect(asked).toEqual([
      { includeResolved: false, limit: 1_000 },
      { includeResolved: true, limit: 1_000 },
    ]);
  });

  test('names channels whose closing transaction has not confirmed', async () => {
    const { run } = await startClosing(
      { listClosingChannels: () => Promise.resolve({ channels: [unconfirmed] }) },
      {
        listChannels: () =>
          Promise.resolve({
            channels: [
              { ...channel, channelId: CHANNEL.toReversed() },
              { ...channel, phase: 'closing_force', closingReason: 'asked' },
            ],
          }),
      },
    );
    const shown = await run(['channels', 'list', '--closing']);
    expect(shown.stdout.split('\n')[1]).toBe(
      '0102030405…1e1f20  closing_force  400,000.500 sat  closing transaction ababababab…cdcdcd to confirm  asked',
    );
    const parsed = JSON.parse((await run(['channels', 'list', '--closing', '-o', 'json'])).stdout) as {
      unconfirmed: unknown[];
      channels: unknown[];
    };
    expect([parsed.unconfirmed.length, parsed.channels.length]).toEqual([1, 0]);
  });

  test('says so when none is closing', async () => {
    const { run } = await startClosing({ listClosingChannels: () => Promise.resolve({ channels: [] }) });
    expect((await run(['channels', 'list', '--closing'])).stdout).toBe('No channel is closing.\n');
  });
});

describe('channels close --force', () => {
  test('warns of the delay and the cost, and tells the closing transaction once it is known', async () => {
    let closed = false;
    let asked = 0;
    const { run } = await startClosing(
      {
        listClosingChannels: () => {
          asked += 1;
          return Promise.resolve({ channels: closed && asked > 3 ? [unconfirmed] : [] });
        },
      },
      { closeChannel: () => ((closed = true), Promise.resolve({})) },
    );
    const result = await run(['channels', 'close', '101x2x1', '--force']);
    expect(result.code).toBe(0);
    expect(result.stderr).toMatch(/400,000\.500 sat can be spent only after the delay/);
    expect(result.stderr).toMatch(/2 payments in flight are settled on-chain/);
    expect(result.stderr).toMatch(/without --force the closing is cheaper/);
    expect(result.stdout).toBe(
      `channel        ${CHANNEL_HEX}\nclosing txid   ${TXID_HEX}\nwatch it with  fulmen channels list --closing\n`,
    );
    const piped = await run(['channels', 'close', '101x2x1', '--force', '-o', 'json']);
    expect(piped.stderr).toBe('');
    expect(JSON.parse(piped.stdout)).toEqual({ channel_id: CHANNEL_HEX, closing_txid: TXID_HEX });
  });

  test('with the peer takes feerates in sat/vB, and by force takes none', async () => {
    const asked: unknown[] = [];
    const { run } = await startClosing(
      {},
      {
        closeChannel: ({ feerateSatPerKw, maxFeerateSatPerKw }) => {
          asked.push([feerateSatPerKw, maxFeerateSatPerKw]);
          return Promise.resolve({});
        },
      },
    );
    const close = ['channels', 'close', '101x2x1'];
    expect((await run([...close, '--feerate', '3', '--max-feerate', '8'])).code).toBe(0);
    expect((await run(close)).code).toBe(0);
    expect(asked).toEqual([
      [750, 2_000],
      [undefined, undefined],
    ]);
    expect((await run([...close, '--force', '--feerate', '3'])).stderr).toMatch(
      /cannot be used with --force/,
    );
    expect(asked).toHaveLength(2);
  });

  test('does not wait for ever for the transaction', async () => {
    const { run } = await startClosing(
      { listClosingChannels: () => Promise.resolve({ channels: [] }) },
      { closeChannel: () => Promise.resolve({}) },
    );
    const result = await run(['channels', 'close', '101x2x1', '--force']);
    expect(result).toMatchObject({ code: 0, stdout: expect.stringMatching(/is closing\. Watch it with/) });
  });
});

describe('sweeps', () => {
  test('are listed with deadline, budget, feerate and what happens next', async () => {
    const { run } = await startClosing({ listSweeps: () => Promise.resolve({ sweeps: [sweep] }) });
    expect((await run(['sweeps', 'list'])).stdout.split('\n')[1]).toBe(
      'ababababab…cdcdcd:2  0102030405…1e1f20  holder_htlc  10,000 sat     1,250  5,000 sat  10 sat/vB      2  ' +
        'ababababab…cdcdcd  raise the fee at block 1,210',
    );
    expect(JSON.parse((await run(['sweeps', 'list', '-o', 'json'])).stdout)).toMatchObject({
      sweeps: [{ txid: TXID_HEX, output_index: 2, deadline_height: 1_250, sweep_txid: TXID_HEX }],
    });
  });

  test('are bumped by the name that the table shows, and audited', async () => {
    const bumped: unknown[] = [];
    const { run, audit } = await startClosing({
      listSweeps: () => Promise.resolve({ sweeps: [sweep, { ...sweep, outputIndex: 3 }] }),
      bumpSweep: ({ txid, outputIndex, feerateSatPerKw }) => {
        bumped.push([Buffer.from(txid).toString('hex'), outputIndex, feerateSatPerKw]);
        return Promise.resolve({});
      },
    });
    for (const name of [`${TXID_HEX}:2`, 'ababab:2', 'ababababab…cdcdcd:2'])
      expect((await run(['sweeps', 'bump', name, '25'])).code).toBe(0);
    expect(bumped).toEqual(Array.from({ length: 3 }, () => [Buffer.from(TXID).toString('hex'), 2, 6_250]));
    expect(audit()[0]).toMatchObject({ method: 'OnChainService.BumpSweep', outcome: 'ok' });
    expect(await run(['sweeps', 'bump', 'ffffff:2', '25'])).toMatchObject({
      code: 1,
      stderr: 'fulmen: No such output is being claimed. See: fulmen sweeps list\n',
    });
    expect((await run(['sweeps', 'bump', 'ababab', '25'])).code).toBe(3);
    expect((await run(['sweeps', 'bump', 'ababab:2', '0.1'])).stderr).toMatch(/<feerate> must be in sat\/vB/);
  });
});

test('onchain balance splits confirmed, unconfirmed, in limbo by maturity, and reserved', async () => {
  const { run } = await startClosing({});
  expect((await run(['onchain', 'balance'])).stdout).toBe(
    [
      'confirmed           5,000 sat',
      'unconfirmed         600 sat',
      'in limbo            30,010 sat',
      '  being claimed     10 sat',
      '  from block 1,344  30,000 sat',
      'reserved            70 sat',
      'in channels         400,000.500 sat\n',
    ].join('\n'),
  );
  expect((await run(['wallet', 'balance'])).stdout).toMatch(/in limbo/);
});
