/** Channels as people name them. */
import type { Channel } from '@fulmen/proto/manager/v1/manager';
import { hex, txid } from '../format.ts';
import { CliError } from '../io.ts';
import type * as parse from '../parse.ts';
import type { Session } from '../session.ts';

export async function listChannels(session: Session, which: 'all' | 'current'): Promise<readonly Channel[]> {
  const { channels } = await session.call(
    (d) => d.ChannelServiceService,
    (client, call) => client.listChannels({ includeClosed: which === 'all' }, call),
  );
  return channels;
}

/** @throws CliError when none or several are named like that */
export async function resolveChannel(
  session: Session,
  reference: parse.ChannelReference,
): Promise<Uint8Array> {
  if (reference.type === 'id') return reference.channelId;
  const found = (await listChannels(session, 'current')).filter((channel) => {
    switch (reference.type) {
      case 'prefix':
        return hex(channel.channelId).startsWith(reference.prefix);
      case 'outpoint':
        return txid(channel.fundingTxid) === reference.txid && channel.fundingOutputIndex === reference.index;
      case 'scid':
        return channel.shortChannelId === reference.scid || channel.holderAliasScid === reference.scid;
    }
  });
  const [channel, second] = found;
  if (channel === undefined) throw new CliError('There is no such channel. See: fulmen channels list');
  if (second !== undefined)
    throw new CliError(`${found.length} channels are named like that. Give more digits.`);
  return channel.channelId;
}
