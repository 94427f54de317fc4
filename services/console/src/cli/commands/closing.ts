/** channels close, and what closed channels wait for. */
import type { Command } from 'commander';
import type { ClosingChannel, ClosingOutput } from '@fulmen/proto/chain/v1/chain';
import type { Channel } from '@fulmen/proto/manager/v1/manager';
import { type CliContext, examples } from '../context.ts';
import { grouped, hex, msat, sat, short, txid } from '../format.ts';
import { usage } from '../io.ts';
import { card, type Column, table } from '../output.ts';
import * as parse from '../parse.ts';
import type { Session } from '../session.ts';
import { listChannels, resolveChannel } from './channel-names.ts';

/** A peer has a minute to answer a closing. */
const NEGOTIATION_DEADLINE_MS = 100_000;
/** How long the closing transaction of a force close is waited for. */
const TXID_TRIES = 20;
const TXID_PAUSE_MS = 500;
const MAX_LISTED = 1_000;

interface CloseFlags {
  readonly force?: true;
  readonly toScript?: string;
  readonly feerate?: string;
  readonly maxFeerate?: string;
}

export function closeCommand(channels: Command, context: CliContext): void {
  const close = channels
    .command('close')
    .argument('<channel>', 'channel id (or its beginning), <txid>:<index>, or short channel id')
    .option('--force', 'without the peer: broadcast the latest commitment')
    .option('--to-script <hex>', "pay our part to this script instead of the wallet's")
    .option('--feerate <sat/vB>', 'to aim at where we pay the fee, or the least that the peer may pay')
    .option('--max-feerate <sat/vB>', 'the most that we pay')
    .description('Close a channel')
    .action(async (channel: string, options: CloseFlags) => {
      const reference = parse.channelReference(channel);
      const script = options.toScript;
      if (script !== undefined && !/^([0-9a-f]{2}){1,42}$/i.test(script))
        throw usage('--to-script must be 1 to 42 bytes in hex.');
      if (script !== undefined && options.force === true)
        throw usage('--to-script cannot be used with --force: a commitment pays the wallet.');
      if ((options.feerate !== undefined || options.maxFeerate !== undefined) && options.force === true)
        throw usage('--feerate and --max-feerate cannot be used with --force: a commitment has its feerate.');
      const { feerate, maxFeerate } = options;
      const feerates = {
        ...(feerate === undefined ? {} : { feerateSatPerKw: parse.feerate(feerate) }),
        ...(maxFeerate === undefined
          ? {}
          : { maxFeerateSatPerKw: parse.feerate(maxFeerate, '--max-feerate') }),
      };
      const session = await context.session();
      const channelId = await resolveChannel(session, reference);
      const isForced = options.force === true;
      if (isForced) await warn(session, context, channelId);
      const request = {
        channelId,
        force: isForced,
        ...(script === undefined ? {} : { scriptPubkey: Uint8Array.from(Buffer.from(script, 'hex')) }),
        ...feerates,
      };
      await session.call(
        (d) => d.ChannelServiceService,
        (client, call) => client.closeChannel(request, call),
        NEGOTIATION_DEADLINE_MS,
      );
      const closingTxid = isForced ? await closingTxidOf(session, context, channelId) : undefined;
      // As before for a closing with the peer: its transaction is not agreed yet.
      context.print(closingTxid === undefined ? {} : { channelId, closingTxid }, () =>
        closingTxid === undefined
          ? `Channel ${hex(channelId)} is closing. Watch it with: fulmen channels list --closing\n`
          : card([
              ['channel', hex(channelId)],
              ['closing txid', txid(closingTxid)],
              ['watch it with', 'fulmen channels list --closing'],
            ]),
      );
    });
  examples(close, [
    ['channels close 700000x12x0', 'with the peer'],
    ['channels close 5f3a09 --force', 'alone, when the peer is gone'],
    ['channels close 5f3a09 --feerate 3 --max-feerate 8', 'for 3 sat/vB, and never more than 8'],
  ]);
}

/** What a force close costs, before it is asked for. */
async function warn(session: Session, context: CliContext, channelId: Uint8Array): Promise<void> {
  const channel = (await listChannels(session, 'current')).find(
    (one) => Buffer.compare(one.channelId, channelId) === 0,
  );
  const ours = channel === undefined ? 'our part' : `our ${msat(channel.holderBalanceMsat)}`;
  const htlcs = channel?.htlcsInFlight ?? 0;
  context.tell(
    `Closing by force: ${ours} can be spent only after the delay that the peer asked for (often 144 to 2016 blocks), ` +
      'and the commitment, its fee bump and each sweep cost on-chain fees.' +
      (htlcs === 0
        ? ''
        : ` ${htlcs} payments in flight are settled on-chain: each costs a transaction, and ends at its expiry at latest.`) +
      (channel?.peerConnected === true
        ? ' The peer is connected: without --force the closing is cheaper and at once.'
        : ''),
  );
}

async function closingTxidOf(
  session: Session,
  context: CliContext,
  channelId: Uint8Array,
): Promise<Uint8Array | undefined> {
  for (let tried = 0; tried < TXID_TRIES; tried += 1) {
    // The close is decided: that its transaction cannot be told now is no failure of it.
    const answer = await session
      .call(
        (d) => d.ChannelServiceService,
        (client, call) => client.listClosingChannels({ includeResolved: false, limit: MAX_LISTED }, call),
      )
      .catch(() => undefined);
    if (answer === undefined) return undefined;
    const closing = answer.channels.find((one) => Buffer.compare(one.channelId, channelId) === 0);
    if (closing !== undefined) return closing.closingTxid;
    await context.io.sleep(TXID_PAUSE_MS, context.io.interrupted);
  }
  return undefined;
}

/** Channels whose closing transaction has not confirmed, and closed ones with what each output waits for. */
export async function listClosing(
  session: Session,
  context: CliContext,
  resolved: 'include' | 'exclude',
): Promise<void> {
  const [{ channels }, current] = await Promise.all([
    session.call(
      (d) => d.ChannelServiceService,
      (client, call) =>
        client.listClosingChannels({ includeResolved: resolved === 'include', limit: MAX_LISTED }, call),
    ),
    listChannels(session, 'current'),
  ]);
  const closed = channels.filter(({ stage }) => stage !== 'unconfirmed');
  const closedIds = new Set(closed.map(({ channelId }) => hex(channelId)));
  const broadcast = new Map(
    channels
      .filter(({ stage }) => stage === 'unconfirmed')
      .map(({ channelId, closingTxid }) => [hex(channelId), closingTxid]),
  );
  const waiting = current.filter(
    ({ channelId, phase }) =>
      (CLOSING_PHASES.has(phase) || broadcast.has(hex(channelId))) && !closedIds.has(hex(channelId)),
  );
  // Closed to the manager, and its transaction is not buried, or a reorganisation took it out of its block.
  const waitingIds = new Set(waiting.map(({ channelId }) => hex(channelId)));
  const alone = channels.filter(
    ({ channelId, stage }) => stage === 'unconfirmed' && !waitingIds.has(hex(channelId)),
  );
  const unconfirmed = waiting.map((channel) => ({
    ...channel,
    closingTxid: broadcast.get(hex(channel.channelId)) ?? channel.closingTxid,
  }));
  context.print({ unconfirmed, channels: [...alone, ...closed] }, () => {
    if (unconfirmed.length + alone.length + closed.length === 0) return 'No channel is closing.\n';
    const head = unconfirmed.length === 0 ? [] : [table(unconfirmed, UNCONFIRMED, '')];
    return [...head, ...alone.map(renderUnconfirmed), ...closed.map(renderClosing)].join('\n');
  });
}

/** Those of the channel's core, before the chain has the closing transaction. */
const CLOSING_PHASES = new Set([
  'shutting_down',
  'negotiating_closing',
  'closing_mutual',
  'closing_force',
  'passive',
]);

function renderUnconfirmed({ channelId, closingTxid }: ClosingChannel): string {
  return `Channel ${short(hex(channelId))}: closing transaction ${txid(closingTxid)} waits for a block\n`;
}

const CLOSE_TYPES: Readonly<Record<string, string>> = {
  mutual: 'closed cooperatively',
  holder: 'closed by our commitment',
  counterparty: 'closed by the counterparty’s commitment',
  counterparty_next: 'closed by the counterparty’s newest commitment',
  revoked: 'BREACH: the counterparty broadcast a revoked commitment',
  data_loss: 'closed by a commitment newer than our data',
  unknown: 'ALARM: spent by a transaction that the node cannot explain',
};

function renderClosing({
  channelId,
  closeType,
  closingTxid,
  closingHeight,
  stage,
  outputs,
}: ClosingChannel): string {
  const how = CLOSE_TYPES[closeType] ?? closeType;
  const head = `Channel ${short(hex(channelId))} ${how}: ${txid(closingTxid)}, block ${grouped(closingHeight)}`;
  return `${head}${stage === 'resolved' ? ', resolved' : ''}\n${table(outputs, OUTPUTS, 'Nothing of it is ours.')}`;
}

const UNCONFIRMED: readonly Column<Channel>[] = [
  { title: 'CHANNEL', value: ({ channelId }) => short(hex(channelId)) },
  { title: 'STATE', value: ({ phase }) => phase },
  { title: 'OURS', value: ({ holderBalanceMsat }) => msat(holderBalanceMsat), align: 'right' },
  {
    title: 'WAITS FOR',
    value: ({ closingTxid }) =>
      closingTxid.length === 32
        ? `closing transaction ${short(txid(closingTxid))} to confirm`
        : 'the closing transaction',
  },
  { title: 'REASON', value: ({ closingReason }) => closingReason },
];

const OUTPUTS: readonly Column<ClosingOutput>[] = [
  { title: '  OUTPUT', value: (output) => `  ${short(txid(output.txid))}:${output.outputIndex}` },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'VALUE', value: ({ valueSat }) => sat(valueSat), align: 'right' },
  {
    title: 'STATUS',
    value: ({ status, spentBy, spentTxid }) =>
      spentTxid.length === 32
        ? `spent by ${spentBy === 'holder' ? 'us' : 'them'} in ${short(txid(spentTxid))}`
        : status,
  },
  { title: 'WAITS FOR', value: ({ waitsFor }) => waitsFor },
  {
    title: 'UNTIL BLOCK',
    value: ({ untilHeight }) => (untilHeight === undefined ? '' : grouped(untilHeight)),
    align: 'right',
  },
];
