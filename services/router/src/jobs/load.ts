/** The graph from the store, and after that what changed in it. */
import { NetworkGraph, restoreChannel, restoreNode, writeUpdate } from '@fulmen/graph';
import type { ChannelUpdate, StoredChannel } from '@fulmen/graph';
import { equalBytes } from '@fulmen/codec';
import { LiquidityScorer } from '@fulmen/payment';
import { decodeMessage } from '@fulmen/wire';
import type { RouterContext } from '../ports.ts';

const PAGE = 2_000;

/** Loads everything anew; returns the revision from which to follow. */
export async function loadGraph(context: RouterContext): Promise<bigint> {
  const { store, state, runtime, logger } = context;
  const graph = new NetworkGraph(state.graph.chainHash);
  const start = await store.startLoad();
  for (const nodeId of start.bannedNodes) graph.blacklist(nodeId);
  let unusable = 0;
  for (let from: bigint | undefined = 0n; from !== undefined;) {
    const page: Awaited<ReturnType<typeof store.loadChannels>> = await store.loadChannels(from, PAGE);
    for (const channel of page.channels) if (!restoreChannel(graph, channel)) unusable += 1;
    from = page.next;
    await runtime.sleep(0);
  }
  for (let from: Uint8Array | undefined = new Uint8Array(0); from !== undefined;) {
    const page: Awaited<ReturnType<typeof store.loadNodes>> = await store.loadNodes(from, PAGE);
    for (const raw of page.nodes) if (!restoreNode(graph, raw)) unusable += 1;
    from = page.next;
    await runtime.sleep(0);
  }
  state.graph = graph;
  state.ownNodeId ??= start.ownNodeId;
  await loadScores(context);
  logger.info({ channels: graph.channelCount, nodes: graph.nodeCount, unusable }, 'the graph is loaded');
  showSize(context);
  return start.revision;
}

/** Takes over the scores that the writer saved. */
export async function loadScores(context: RouterContext): Promise<void> {
  const bytes = await context.store.loadScores();
  if (bytes === undefined) return;
  const scorer = LiquidityScorer.decode(bytes);
  // Scores are worth nothing but time: without them they are learnt again.
  if (scorer.ok) context.state.scorer = scorer.value;
  else context.logger.warn({ reason: scorer.error }, 'the stored scores cannot be read');
}

/** Takes over what came after `revision`; returns the revision reached. */
export async function followGraph(context: RouterContext, revision: bigint): Promise<bigint> {
  const changes = await context.store.changesSince(revision);
  if (changes.kind === 'too_old') return loadGraph(context);
  const { graph } = context.state;
  for (const nodeId of changes.bannedNodes) graph.blacklist(nodeId);
  for (const scid of changes.removedChannels) {
    const channel = graph.channelIndex(scid);
    if (channel !== undefined) graph.removeChannel(channel);
  }
  for (const stored of changes.channels) replaceChannel(graph, stored);
  for (const raw of changes.nodes) restoreNode(graph, raw);
  showSize(context);
  return changes.revision;
}

/** Publishes how large the graph is. */
export function showSize({ state, metrics }: RouterContext): void {
  metrics.channels.set(state.graph.channelCount);
  metrics.nodes.set(state.graph.nodeCount);
  metrics.graphBytes.set(state.graph.rawBytes);
}

/** Brings a channel to its stored form without losing what its nodes said of themselves. */
function replaceChannel(graph: NetworkGraph, stored: StoredChannel): void {
  const announcement = decodeMessage(stored.announcement);
  if (!announcement.ok || announcement.value.type !== 'channel_announcement') return;
  const channel = graph.channelIndex(announcement.value.shortChannelId);
  const known = channel === undefined ? undefined : graph.channelAnnouncementRaw[channel];
  if (channel === undefined || known === undefined || !equalBytes(known, stored.announcement)) {
    if (channel !== undefined) graph.removeChannel(channel);
    restoreChannel(graph, stored);
    return;
  }
  graph.channelCapacitySat[channel] = Number(stored.capacitySat);
  graph.channelSpentHeight[channel] = stored.spentHeight;
  for (const direction of [0, 1] as const) {
    const raw = stored.updates[direction];
    const update = raw === undefined ? undefined : decodeMessage(raw);
    if (raw === undefined || update?.ok !== true || update.value.type !== 'channel_update') continue;
    writeUpdate(graph, 2 * channel + direction, update.value satisfies ChannelUpdate, raw);
  }
}
