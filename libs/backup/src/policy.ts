/** Which backup may take the place of which, and what fits where only so many bytes are kept. */
import { compareBytes, equalBytes, toHex } from '@fulmen/codec';
import type { ChannelBackup, NodeBackup, ReplacementFault } from './backup.ts';
import { encodeChannel, encodeContent } from './codec.ts';
import { SEAL_OVERHEAD } from './seal.ts';

/**
 * Why `next` must not take the place of `existing`; undefined: it may. A
 * database that was lost and begins anew has no channels and low numbers:
 * neither gets past this, so that the way back is never overwritten.
 * `isClosed` knows the channels that the writer's database has as closed.
 */
export function replacementFault(
  existing: NodeBackup,
  next: NodeBackup,
  isClosed: (channelId: Uint8Array) => boolean,
): ReplacementFault | undefined {
  if (!equalBytes(existing.nodeId, next.nodeId)) return { type: 'other_node' };
  if (existing.network !== next.network) return { type: 'other_network' };
  if (next.sequence < existing.sequence)
    return { type: 'older', sequence: next.sequence, existingSequence: existing.sequence };
  const kept = new Set(next.channels.map(({ channelId }) => toHex(channelId)));
  const forgotten = existing.channels
    .map(({ channelId }) => channelId)
    .filter((channelId) => !kept.has(toHex(channelId)) && !isClosed(channelId));
  return forgotten.length === 0 ? undefined : { type: 'forgets_channels', channelIds: forgotten };
}

/** A sentence for people. */
export function describeReplacementFault(fault: ReplacementFault): string {
  switch (fault.type) {
    case 'other_node':
      return 'the existing backup is another node’s';
    case 'other_network':
      return 'the existing backup is of another network';
    case 'older':
      return `the existing backup is newer (${fault.existingSequence}) than this one (${fault.sequence})`;
    case 'forgets_channels':
      return `the existing backup has ${fault.channelIds.length} channels that this node does not know`;
  }
}

/** Whether two backups say the same of the same channels. */
export function isSameContent(a: NodeBackup, b: NodeBackup): boolean {
  return (
    equalBytes(a.nodeId, b.nodeId) &&
    a.network === b.network &&
    a.channels.length === b.channels.length &&
    a.channels.every((channel, i) => {
      const other = b.channels[i];
      return other !== undefined && equalBytes(encodeChannel(channel), encodeChannel(other));
    })
  );
}

/**
 * The backup as far as it fits into `maximumBytes` once sealed: the channels
 * with `keeper`, who is sure to be asked first, then the largest ones. Sealed, it
 * never is longer; a backup without any channel always fits into 256 bytes.
 */
export function fitted(backup: NodeBackup, keeper: Uint8Array, maximumBytes: number): NodeBackup {
  const { nodeId: _nodeId, sequence: _sequence, ...content } = backup;
  if (encodeContent(content).length + SEAL_OVERHEAD <= maximumBytes) return backup;
  // The count of fewer channels is never longer than that of all of them.
  let room = maximumBytes - SEAL_OVERHEAD - encodeContent({ ...content, channels: [] }).length - 8;
  const isKeepers = (channel: ChannelBackup): boolean => equalBytes(channel.counterpartyNodeId, keeper);
  const byWorth = backup.channels.toSorted((a, b) => {
    if (isKeepers(a) !== isKeepers(b)) return isKeepers(a) ? -1 : 1;
    if (a.fundingValueSat !== b.fundingValueSat) return a.fundingValueSat > b.fundingValueSat ? -1 : 1;
    return compareBytes(a.channelId, b.channelId);
  });
  const chosen: ChannelBackup[] = [];
  for (const channel of byWorth) {
    const { length } = encodeChannel(channel);
    if (length > room) continue;
    room -= length;
    chosen.push(channel);
  }
  return {
    ...backup,
    coverage: 'part',
    channels: chosen.toSorted((a, b) => compareBytes(a.channelId, b.channelId)),
  };
}

/** What several backups of one node know together; of a channel that is in many, what the newest says. Undefined for none. */
export function merged(backups: readonly NodeBackup[]): NodeBackup | undefined {
  const [newest, ...others] = backups.toSorted((a, b) =>
    a.sequence === b.sequence ? 0 : a.sequence > b.sequence ? -1 : 1,
  );
  if (newest === undefined) return undefined;
  const channels = new Map(newest.channels.map((channel) => [toHex(channel.channelId), channel]));
  for (const other of others) {
    if (!equalBytes(other.nodeId, newest.nodeId) || other.network !== newest.network) continue;
    for (const channel of other.channels) {
      const key = toHex(channel.channelId);
      if (!channels.has(key)) channels.set(key, channel);
    }
  }
  return {
    ...newest,
    channels: [...channels.values()].toSorted((a, b) => compareBytes(a.channelId, b.channelId)),
  };
}
