/** What a backup of this node says, from the rows of its channels and the backup before. */
import type { BackupAddress, ChannelBackup, NodeBackup } from '@fulmen/backup';
import type { NetworkName } from '@fulmen/bitcoin';
import type { PartyParameters } from '@fulmen/channel';
import { type ColdChannel, decodeColdChannel } from '@fulmen/channel/persist/cold';
import { compareBytes, DecodeError, toHex } from '@fulmen/codec';
import type { PeerPresence } from '@fulmen/store';

/** Blocks that a reorganisation may take back before a channel that was just opened confirms. */
const REORG_MARGIN_BLOCKS = 144;

export interface BackupSources {
  readonly nodeId: Uint8Array;
  readonly network: NetworkName;
  readonly blockHeight: number;
  readonly nowUnixSeconds: number;
  /** Channels that are not closed. */
  readonly channels: readonly { readonly channelId: Uint8Array; readonly cold: Uint8Array }[];
  readonly peers: readonly Pick<PeerPresence, 'peerNodeId' | 'host' | 'port'>[];
  readonly previous: NodeBackup | undefined;
  /** Of the previous backup's channels: those known to be closed. */
  readonly isClosed: (channelId: Uint8Array) => boolean;
}

export interface BackupDraft {
  /** Its sequence follows the previous one's. */
  readonly backup: NodeBackup;
  /** Channels of the previous backup of which the database knows nothing: they stay, until somebody recovers them. */
  readonly unknown: readonly Uint8Array[];
  /** Channels whose rows cannot be read: they stay as they were in the previous backup, where they were in it. */
  readonly unreadable: readonly Uint8Array[];
}

/**
 * The next backup. A channel enters it with its first commit and leaves it when
 * it is known to be closed, never because it is missing: rows that were lost are
 * what a backup is for.
 */
export function draftBackup(sources: BackupSources): BackupDraft {
  const { previous, blockHeight } = sources;
  const before = new Map(previous?.channels.map((channel) => [toHex(channel.channelId), channel]));
  const addresses = new Map(
    sources.peers.flatMap((peer) => {
      const known = addressesOf(peer);
      return known.length === 0 ? [] : [[toHex(peer.peerNodeId), known] as const];
    }),
  );
  const channels = new Map<string, ChannelBackup>();
  const unreadable: Uint8Array[] = [];
  for (const { channelId, cold } of sources.channels) {
    const key = toHex(channelId);
    const old = before.get(key);
    const state = readCold(cold);
    if (state === undefined) unreadable.push(channelId);
    const entry = state === undefined ? old : entryOf(state, old, { addresses, blockHeight });
    if (entry !== undefined) channels.set(key, entry);
  }
  const read = new Set(sources.channels.map(({ channelId }) => toHex(channelId)));
  const unknown: Uint8Array[] = [];
  for (const [key, old] of before) {
    if (read.has(key) || sources.isClosed(old.channelId)) continue;
    unknown.push(old.channelId);
    channels.set(key, old);
  }
  return {
    backup: {
      nodeId: sources.nodeId,
      network: sources.network,
      keyScheme: 'native-v1',
      sequence: (previous?.sequence ?? 0n) + 1n,
      createdUnixSeconds: sources.nowUnixSeconds,
      blockHeight,
      coverage: 'full',
      channels: [...channels.values()].toSorted((a, b) => compareBytes(a.channelId, b.channelId)),
    },
    unknown,
    unreadable,
  };
}

function readCold(cold: Uint8Array): ColdChannel | undefined {
  try {
    return decodeColdChannel(cold);
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

function entryOf(
  state: ColdChannel,
  old: ChannelBackup | undefined,
  around: { readonly addresses: ReadonlyMap<string, readonly BackupAddress[]>; readonly blockHeight: number },
): ChannelBackup | undefined {
  const { parameters } = state;
  const [funding] = state.fundings;
  if (funding === undefined) return old;
  const { confirmation } = funding;
  const height =
    confirmation.type === 'confirmed'
      ? Number(confirmation.shortChannelId >> 40n)
      : Math.max(0, around.blockHeight - REORG_MARGIN_BLOCKS);
  return {
    channelId: state.channelId,
    channelKeysId: parameters.channelKeysId,
    counterpartyNodeId: parameters.counterpartyNodeId,
    // An address is better old than gone.
    addresses: around.addresses.get(toHex(parameters.counterpartyNodeId)) ?? old?.addresses ?? [],
    funder: parameters.funder,
    commitmentFormat: parameters.commitmentFormat,
    channelType: parameters.channelType,
    announce: parameters.announce,
    holder: termsOf(parameters.holder),
    counterparty: parameters.counterparty,
    fundingTxid: funding.fundingTxid,
    fundingOutputIndex: funding.fundingOutputIndex,
    fundingValueSat: funding.fundingValueSat,
    shutdownScript: state.shutdownScript,
    // A lower bound that was true stays true.
    searchFromHeight: old?.searchFromHeight ?? height,
  };
}

function termsOf({
  fundingPubkey: _fundingPubkey,
  revocationBasepoint: _revocationBasepoint,
  paymentBasepoint: _paymentBasepoint,
  delayedPaymentBasepoint: _delayedPaymentBasepoint,
  htlcBasepoint: _htlcBasepoint,
  ...terms
}: PartyParameters): ChannelBackup['holder'] {
  return terms;
}

function addressesOf({ host, port }: Pick<PeerPresence, 'host' | 'port'>): readonly BackupAddress[] {
  return host === undefined || port === undefined ? [] : [{ host, port }];
}
