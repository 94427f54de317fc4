/** PublishOwn: messages that this node signed are checked, kept, and then sent to all peers at once. */
import { equalBytes } from '@fulmen/codec';
import type { ChannelAnnouncement, Rejection } from '@fulmen/graph';
import {
  checkChannelAnnouncement,
  checkChannelUpdate,
  checkNodeAnnouncement,
  precheckChannelUpdate,
  precheckNodeAnnouncement,
  utxoLookupOf,
} from '@fulmen/graph';
import type { PublishOwnRequest } from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import type { Result } from '@fulmen/codec';
import { decodeMessage } from '@fulmen/wire';
import type { Outcome } from '../gossip/pipeline.ts';
import type { Writer } from '../gossip/writer.ts';
import type { RouterContext } from '../ports.ts';
import { nowSeconds } from '../ports.ts';

const MAX_MESSAGES = 1_000;

/** Refusals that say "known already": nothing to do, nothing wrong. */
const KNOWN: ReadonlySet<Outcome> = new Set<Outcome>(['accepted', 'duplicate', 'stale']);

/**
 * Answers when all are in the store.
 * @throws RpcError `invalid_argument` for bytes that are no gossip or a wrong signature, `failed_precondition` for
 * what the graph or the chain refuses, `unavailable` while the chain or the store cannot be asked; messages of the
 * request may have been published then, or are once the store is back, and an identical retry is harmless
 */
export async function publishOwnRpc(
  context: RouterContext,
  writer: Writer,
  request: PublishOwnRequest,
): Promise<void> {
  if (request.messages.length > MAX_MESSAGES) throw new RpcError('invalid_argument', 'too many messages');
  for (const message of request.messages) {
    const raw = Uint8Array.from(message);
    const outcome = await publish(context, writer, raw);
    if (!KNOWN.has(outcome)) throw new RpcError('failed_precondition', outcome.replaceAll('_', ' '));
    if (outcome === 'accepted') writer.sendOnceSaved(raw);
  }
  await writer.persister.flush();
}

async function publish(context: RouterContext, writer: Writer, raw: Uint8Array): Promise<Outcome> {
  const { state, secp, runtime } = context;
  const decoded = decodeMessage(raw);
  if (!decoded.ok) throw new RpcError('invalid_argument', `not a message: ${decoded.error.message}`);
  const message = decoded.value;
  switch (message.type) {
    case 'channel_announcement':
      requireSigned(checkChannelAnnouncement(secp, message, raw));
      return publishChannel(context, writer, message, raw);
    case 'channel_update': {
      const signer = precheckChannelUpdate(state.graph, message, raw, nowSeconds(runtime));
      if (!signer.ok) return signer.error.code;
      requireSigned(checkChannelUpdate(secp, message, raw, signer.value));
      return writer.pipeline.acceptUpdate(message, raw, undefined);
    }
    case 'node_announcement': {
      requireSigned(checkNodeAnnouncement(secp, message, raw));
      const checked = precheckNodeAnnouncement(state.graph, message, raw, nowSeconds(runtime));
      if (!checked.ok) return checked.error.code;
      if (state.ownNodeId === undefined || !equalBytes(state.ownNodeId, message.nodeId)) {
        state.ownNodeId = message.nodeId;
        writer.journal.ownNodeId(message.nodeId);
      }
      return writer.pipeline.acceptNode(message, raw, undefined);
    }
    default:
      throw new RpcError('invalid_argument', `${message.type} is not gossip`);
  }
}

/**
 * The chain must not contradict an announcement of ours. If it does not show
 * the output, the announcement is taken at its word, with no known capacity,
 * and asked again in its turn: our own view of the chain may lag.
 */
async function publishChannel(
  context: RouterContext,
  writer: Writer,
  message: ChannelAnnouncement,
  raw: Uint8Array,
): Promise<Outcome> {
  const { graph } = context.state;
  const known = graph.channelIndex(message.shortChannelId);
  const knownRaw = known === undefined ? undefined : graph.channelAnnouncementRaw[known];
  if (knownRaw !== undefined && equalBytes(knownRaw, raw)) return 'duplicate';
  if (!equalBytes(message.chainHash, graph.chainHash)) return 'unknown_chain';
  const outcome = await writer.lookups.ask(utxoLookupOf(message));
  if (outcome.kind === 'unavailable') throw new RpcError('unavailable', 'chain-monitor does not answer');
  if (outcome.kind === 'wrong_script') return 'wrong_script';
  const capacitySat = outcome.kind === 'found' ? outcome.capacitySat : 0n;
  return writer.pipeline.acceptAnnouncement(message, raw, capacitySat, undefined);
}

function requireSigned(checked: Result<unknown, Rejection>): void {
  if (!checked.ok) throw new RpcError('invalid_argument', checked.error.code.replaceAll('_', ' '));
}
