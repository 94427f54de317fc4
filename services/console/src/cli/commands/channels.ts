/** channels list, open, close, policy; forwards list. */
import type { Command } from 'commander';
import type { Channel, ChannelNotSet, Forward } from '@fulmen/proto/manager/v1/manager';
import { type CliContext, examples } from '../context.ts';
import { hex, msat, sat, scid, short, time, txid } from '../format.ts';
import { CliError, usage } from '../io.ts';
import { card, type Column, table } from '../output.ts';
import * as parse from '../parse.ts';
import { listChannels, resolveChannel } from './channel-names.ts';
import { closeCommand, listClosing } from './closing.ts';

/** A peer has a minute to answer an opening. */
const NEGOTIATION_DEADLINE_MS = 100_000;
/** Every channel is set at its owner, one commit each. */
const EVERY_DEADLINE_MS = 125_000;

export function channelCommands(program: Command, context: CliContext): void {
  const channels = program.command('channels').description('Channels: list, open, close, fees');
  examples(channels, [
    ['channels list', ''],
    ['channels open 03ab…@10.0.0.7:9735 1000000', 'connect, then open with 1,000,000 sat'],
    ['channels close 700000x12x0', ''],
  ]);
  listCommand(channels, context);
  openCommand(channels, context);
  closeCommand(channels, context);
  policyCommand(channels, context);

  const forwards = program.command('forwards').description('Payments forwarded for others');
  examples(forwards, [['forwards list', '']]);
  const list = forwards
    .command('list')
    .option('--limit <n>', 'how many, the newest first', '100')
    .description('The latest forwards')
    .action(async (options: { limit: string }) => {
      const request = { limit: parse.whole('--limit', options.limit, 1, 1000) };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.ChannelServiceService,
        (client, call) => client.listForwards(request, call),
      );
      context.print(answer, (found) => table(found.forwards, FORWARDS, 'No forwards.'));
    });
  examples(list, [['forwards list --limit 20', 'the latest 20']]);
}

function listCommand(channels: Command, context: CliContext): void {
  const list = channels
    .command('list')
    .option('--closed', 'closed ones too')
    .option('--closing', 'only those that are closing or closed: what waits for what until which height')
    .description('Channels with their balances')
    .action(async (options: { closed?: true; closing?: true }) => {
      const session = await context.session();
      if (options.closing === true) {
        await listClosing(session, context, options.closed === true ? 'include' : 'exclude');
        return;
      }
      const answer = await listChannels(session, options.closed === true ? 'all' : 'current');
      context.print({ channels: answer }, () =>
        table(
          answer,
          CHANNELS,
          'No channels. Open one with: fulmen channels open <node id>@<host>:<port> <sat>',
        ),
      );
    });
  examples(list, [
    ['channels list', 'current channels'],
    ['channels list --closed -o json', 'every channel, in full'],
    ['channels list --closing', 'what closed channels wait for'],
    ['channels list --closing --closed', 'with those that are resolved'],
  ]);
}

interface OpenFlags {
  readonly private?: true;
  readonly pushMsat?: string;
  readonly feerate?: string;
  readonly shutdownScript?: string;
  readonly type?: string;
  readonly scidAlias?: true;
  readonly zeroConf?: true;
  readonly idempotencyKey?: string;
}

function openCommand(channels: Command, context: CliContext): void {
  const open = channels
    .command('open')
    .argument('<peer>', 'node id; with @host:port to connect first')
    .argument('<amount_sat>', 'what this node puts in')
    .option('--private', 'do not announce the channel')
    .option('--push-msat <msat>', 'give this much to the peer')
    .option('--feerate <sat/vB>', 'of the funding transaction')
    .option('--shutdown-script <hex>', 'promise to close to this script; the signer must allow it')
    .option('--type <format>', 'anchors or static_remotekey; anchors where the peer knows them')
    .option('--scid-alias', 'tell nobody where the channel is (needs --private)')
    .option('--zero-conf', 'use it before its funding confirms, if the peer agrees')
    .option('--idempotency-key <text>', 'asking twice with one key opens one channel')
    .description('Open a channel')
    .action(async (peer: string, amount: string, options: OpenFlags) => {
      const target = peer.includes('@') ? parse.nodeUri(peer) : { nodeId: parse.nodeId(peer) };
      const request = {
        nodeId: target.nodeId,
        fundingSat: parse.amountSat('<amount_sat>', amount),
        pushMsat: options.pushMsat === undefined ? 0n : parse.amountMsat('--push-msat', options.pushMsat),
        announce: options.private !== true,
        ...(options.feerate === undefined ? {} : { fundingFeerateSatPerKw: parse.feerate(options.feerate) }),
        idempotencyKey: options.idempotencyKey ?? '',
        ...(options.shutdownScript === undefined
          ? {}
          : { shutdownScript: parse.script('--shutdown-script', options.shutdownScript) }),
        ...(options.type === undefined ? {} : { commitmentFormat: options.type }),
        ...(options.scidAlias === true ? { scidAlias: true } : {}),
        ...(options.zeroConf === true ? { zeroConf: true } : {}),
      };
      const session = await context.session();
      if ('host' in target) {
        await session.call(
          (d) => d.PeerServiceService,
          (client, call) => client.connectPeer(target, call),
          NEGOTIATION_DEADLINE_MS,
        );
      }
      const answer = await session.call(
        (d) => d.ChannelServiceService,
        (client, call) => client.openChannel(request, call),
        NEGOTIATION_DEADLINE_MS,
      );
      context.print(answer, ({ channelId, fundingTxid, fundingOutputIndex }) =>
        card([
          ['channel', hex(channelId)],
          ['funding', fundingTxid.length === 0 ? '' : `${txid(fundingTxid)}:${fundingOutputIndex}`],
          ['capacity', sat(request.fundingSat)],
        ]),
      );
    });
  examples(open, [
    ['channels open 03ab… 1_000_000', 'with a connected peer'],
    ['channels open 03ab…@10.0.0.7:9735 1000000 --private', 'connect first'],
    ['channels open 03ab… 5000000 --feerate 3.5', ''],
    ['channels open 03ab… 500000 --private --scid-alias --zero-conf', 'with a wallet that trusts this node'],
  ]);
}

interface PolicyFlags {
  readonly feeBaseMsat?: string;
  readonly feePpm?: string;
  readonly cltvDelta?: string;
  readonly minHtlcMsat?: string;
  readonly maxHtlcMsat?: string;
}

const U32_MAX = 0xffff_ffff;

function policyCommand(channels: Command, context: CliContext): void {
  const policy = channels
    .command('policy')
    .argument('<channel>', 'a channel as in close, or "all"')
    .option('--fee-base-msat <msat>', 'fee for each forwarded payment')
    .option('--fee-ppm <millionths>', 'fee in millionths of the amount')
    .option('--cltv-delta <blocks>', 'blocks between the incoming and the outgoing expiry')
    .option('--min-htlc-msat <msat>', 'smallest payment to forward')
    .option('--max-htlc-msat <msat>', 'largest payment to forward')
    .description('Set what forwarding through a channel costs')
    .action(async (channel: string, options: PolicyFlags) => {
      if (Object.keys(options).length === 0)
        throw usage('Say what to change: see fulmen channels policy --help.');
      const { feeBaseMsat, feePpm, cltvDelta, minHtlcMsat, maxHtlcMsat } = options;
      const changes = {
        ...(feeBaseMsat === undefined
          ? {}
          : { feeBaseMsat: parse.whole('--fee-base-msat', feeBaseMsat, 0, U32_MAX) }),
        ...(feePpm === undefined
          ? {}
          : { feeProportionalMillionths: parse.whole('--fee-ppm', feePpm, 0, U32_MAX) }),
        ...(cltvDelta === undefined
          ? {}
          : { cltvExpiryDelta: parse.whole('--cltv-delta', cltvDelta, 1, 65_535) }),
        ...(minHtlcMsat === undefined
          ? {}
          : { htlcMinimumMsat: parse.amountMsat('--min-htlc-msat', minHtlcMsat) }),
        ...(maxHtlcMsat === undefined
          ? {}
          : { htlcMaximumMsat: parse.amountMsat('--max-htlc-msat', maxHtlcMsat) }),
      };
      const reference = channel === 'all' ? undefined : parse.channelReference(channel);
      const session = await context.session();
      const channelId =
        reference === undefined ? new Uint8Array(0) : await resolveChannel(session, reference);
      const answer = await session.call(
        (d) => d.ChannelServiceService,
        (client, call) => client.updateChannelPolicy({ channelId, ...changes }, call),
        reference === undefined ? EVERY_DEADLINE_MS : undefined,
      );
      const { notSet } = answer;
      context.print(
        answer,
        (done) =>
          `Policy of ${done.channels} ${done.channels === 1 ? 'channel' : 'channels'} set.\n` +
          (notSet.length === 0 ? '' : `\n${table(notSet, NOT_SET, '')}`),
      );
      if (notSet.length > 0)
        throw new CliError(
          `${notSet.length} of ${answer.channels + notSet.length} channels are not set. Ask again, or look at the reasons.`,
        );
    });
  examples(policy, [
    ['channels policy all --fee-base-msat 0 --fee-ppm 250', 'every channel'],
    ['channels policy 700000x12x0 --cltv-delta 80', ''],
  ]);
}

const NOT_SET: readonly Column<ChannelNotSet>[] = [
  { title: 'NOT SET', value: ({ channelId }) => short(hex(channelId)) },
  { title: 'REASON', value: ({ reason }) => reason },
];

const CHANNELS: readonly Column<Channel>[] = [
  { title: 'CHANNEL', value: ({ channelId }) => short(hex(channelId)) },
  { title: 'SCID', value: ({ shortChannelId }) => scid(shortChannelId) },
  { title: 'PEER', value: ({ counterpartyNodeId }) => short(hex(counterpartyNodeId)) },
  {
    title: 'STATE',
    value: ({ phase, peerConnected, announced }) =>
      [phase, ...(announced ? [] : ['private']), ...(peerConnected ? [] : ['peer offline'])].join(', '),
  },
  { title: 'CAPACITY', value: ({ capacitySat }) => sat(capacitySat), align: 'right' },
  { title: 'OURS', value: ({ holderBalanceMsat }) => msat(holderBalanceMsat), align: 'right' },
  { title: 'THEIRS', value: ({ counterpartyBalanceMsat }) => msat(counterpartyBalanceMsat), align: 'right' },
  { title: 'CAN SEND', value: ({ outboundCapacityMsat }) => msat(outboundCapacityMsat), align: 'right' },
  { title: 'HTLCS', value: ({ htlcsInFlight }) => String(htlcsInFlight), align: 'right' },
];

const FORWARDS: readonly Column<Forward>[] = [
  { title: 'TIME', value: ({ createdUnixMs }) => time(createdUnixMs) },
  { title: 'FROM', value: ({ inboundChannelId }) => short(hex(inboundChannelId)) },
  { title: 'TO', value: ({ outboundChannelId }) => short(hex(outboundChannelId)) },
  { title: 'AMOUNT', value: ({ outboundAmountMsat }) => msat(outboundAmountMsat), align: 'right' },
  {
    title: 'FEE',
    value: ({ inboundAmountMsat, outboundAmountMsat }) => msat(inboundAmountMsat - outboundAmountMsat),
    align: 'right',
  },
  { title: 'STATUS', value: ({ status }) => status },
];
