/**
 * What counterparties ask for HTLCs that they forward to this node, which they tell in channel_updates for nobody else
 * when the channel is not announced: payers learn it from the hints of our invoices.
 */
import type { EstablishedChannel } from '@fulmen/channel';
import { compareBytes, equalBytes } from '@fulmen/codec';
import {
  CHANNEL_FLAG_DIRECTION,
  CHANNEL_FLAG_DISABLE,
  checkChannelUpdate,
  decodeChannelUpdate,
} from '@fulmen/graph';
import type { Peer } from '../peers/peer.ts';
import type { ChannelActor } from './channel-actor.ts';
import { peersScid, realScid } from './own-gossip.ts';
import type { EnginePorts, NodeView } from './ports.ts';

/** Scids by which onions and channel_updates may name a channel. */
export function scidsOf(state: EstablishedChannel): bigint[] {
  const real = realScid(state);
  return [state.aliasScid, state.counterpartyAliasScid, real].filter((scid) => scid !== undefined);
}

/**
 * Whether a channel is more than its counterparty's word: a block has its funding, or had it as deep as it must be, or this
 * node trusts the funder, or pays itself. An opening costs a peer nothing until then.
 */
export function isBacked(state: EstablishedChannel): boolean {
  if (state.parameters.funder === 'holder' || realScid(state) !== undefined) return true;
  const { phase } = state;
  switch (phase.type) {
    case 'awaiting_channel_ready':
    case 'open':
    // Only this node's own doing, or a proof of the counterparty's that there were later states.
    case 'passive':
      return true;
    case 'shutting_down':
    case 'negotiating_closing':
      return phase.channelReady === 'sent';
    case 'awaiting_funding_confirmations':
    case 'closing_mutual':
    case 'closing_force':
    case 'closed':
      return false;
  }
}

/**
 * Stores the terms of a channel_update from the peer itself, and resolves with the channel that they are of; one that
 * is not its own, or of another channel, changes nothing.
 */
export async function learnTerms(
  ports: Pick<EnginePorts, 'secp' | 'store' | 'logger'>,
  node: Pick<NodeView, 'nodeId' | 'chainHash'>,
  peer: Peer,
  raw: Uint8Array,
): Promise<ChannelActor | undefined> {
  const update = decodeChannelUpdate(raw);
  if (update === undefined || !equalBytes(update.chainHash, node.chainHash)) return undefined;
  const actor = actorOf(peer, update.shortChannelId);
  if (actor?.state.type !== 'established') return undefined;
  const direction = compareBytes(peer.nodeId, node.nodeId) < 0 ? 0 : 1;
  if ((update.channelFlags & CHANNEL_FLAG_DIRECTION) !== direction) return undefined;
  if (!checkChannelUpdate(ports.secp, update, raw, peer.nodeId).ok) return undefined;
  // BOLT 7: the update may name the channel by the alias that this node gave; onions name it by the counterparty's.
  const shortChannelId = peersScid(actor.state);
  if (shortChannelId === undefined) return undefined;
  try {
    await ports.store.setCounterpartyPolicy(actor.fence, actor.channelId, {
      shortChannelId,
      feeBaseMsat: update.feeBaseMsat,
      feeProportionalMillionths: update.feeProportionalMillionths,
      cltvExpiryDelta: update.cltvExpiryDelta,
      state: update.channelFlags & CHANNEL_FLAG_DISABLE ? 'disabled' : 'enabled',
      timestampUnixSeconds: update.timestamp,
    });
  } catch (error) {
    ports.logger.warn(
      { err: error, peer: peer.key },
      'a peer’s terms could not be stored; it tells them again',
    );
  }
  return actor;
}

function actorOf(peer: Peer, shortChannelId: bigint): ChannelActor | undefined {
  for (const actor of peer.channels.values()) {
    if (actor.state.type === 'established' && scidsOf(actor.state).includes(shortChannelId)) return actor;
  }
  return undefined;
}
