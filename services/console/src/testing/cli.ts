/** A console with fakes behind it, and the command line in front of it. */
import type { Channel, VerifyBackupResponse } from '@fulmen/proto/manager/v1/manager';
import type { CliIo } from '../cli/io.ts';
import { runCli } from '../cli/program.ts';
import { ADMIN, type ManagerHandlers, startTestConsole, type TestConsoleOptions } from './harness.ts';

export const NODE_ID = Uint8Array.of(2, ...new Uint8Array(32).fill(0xab));
export const NODE_HEX = Buffer.from(NODE_ID).toString('hex');
export const CHANNEL = Uint8Array.from({ length: 32 }, (_, index) => index + 1);
export const CHANNEL_HEX = Buffer.from(CHANNEL).toString('hex');
export const channel: Channel = {
  channelId: CHANNEL,
  counterpartyNodeId: NODE_ID,
  phase: 'open',
  peerConnected: true,
  capacitySat: 1_000_000n,
  holderBalanceMsat: 400_000_500n,
  counterpartyBalanceMsat: 599_999_500n,
  outboundCapacityMsat: 390_000_000n,
  inboundCapacityMsat: 1n,
  htlcsInFlight: 2,
  fundingTxid: CHANNEL,
  fundingOutputIndex: 1,
  shortChannelId: (101n << 40n) | (2n << 16n) | 1n,
  holderAliasScid: 0n,
  announced: false,
  holderIsFunder: true,
  channelType: 'anchors',
  shard: 5,
  ownerReplicaId: 'a',
  feeBaseMsat: 1n,
  feeProportionalMillionths: 2,
  cltvExpiryDelta: 3,
  closingReason: '',
  closingTxid: new Uint8Array(0),
};

/** A channel of a backup. */
export const ENTRY = {
  channelId: CHANNEL,
  counterpartyNodeId: NODE_ID,
  addresses: ['203.0.113.7:9735'],
  fundingTxid: CHANNEL,
  fundingOutputIndex: 1,
  capacitySat: 1_000_000n,
  holderIsFunder: true,
  channelType: 'anchors',
  phase: 'open',
};
/** What a manager says of a good backup. */
export const VERIFIED: VerifyBackupResponse = {
  sequence: 17n,
  createdUnixSeconds: 1_790_000_000n,
  blockHeight: 120,
  network: 'regtest',
  coverage: 'full',
  channels: [ENTRY],
  missingChannelIds: [],
  verdict: 'current',
};

export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A node whose managers do as told, and the command line in front of it. */
export async function startCli(handlers: Partial<ManagerHandlers>, options: TestConsoleOptions = {}) {
  const testConsole = await startTestConsole(options);
  await testConsole.serve('manager-a', handlers);
  const run = async (
    args: readonly string[],
    changes: Partial<CliIo> & { files?: Record<string, string> } = {},
  ): Promise<Run> => {
    let stdout = '';
    let stderr = '';
    const files = changes.files ?? {
      '/checkout/.fulmen/cli.json': '{"address":"console:1","tokenFile":"token"}',
      '/checkout/token': ADMIN,
    };
    const connector = testConsole.network.connector('user', []);
    const io: CliIo = {
      stdout: (text) => void (stdout += text),
      stderr: (text) => void (stderr += text),
      isTerminal: true,
      environment: {},
      readFile: (file) =>
        files[file] === undefined ? Promise.reject(new RangeError(file)) : Promise.resolve(files[file]),
      appendLine: () => Promise.resolve(),
      readBytes: () => Promise.resolve(undefined),
      replaceBytes: () => Promise.resolve(),
      randomBytes: (length) => new Uint8Array(length).fill(1),
      sleep: () => Promise.resolve(),
      connector: () =>
        Promise.resolve({
          client: (definition, address) =>
            connector.client(definition, address === 'console:1' ? 'console' : address),
          close: () => connector.close(),
        }),
      checkout: '/checkout',
      interrupted: new AbortController().signal,
      ...changes,
    };
    const code = await runCli(args, io);
    return { code, stdout, stderr };
  };
  return { ...testConsole, run };
}
