/** How many bytes of messages the graph holds, and takes. */
import { compareBytes } from '@fulmen/codec';
import { fakeSecp256k1 as secp } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import {
  DEFAULT_GRAPH_LIMITS,
  MAX_GOSSIP_BYTES,
  NetworkGraph,
  applyChannelAnnouncement,
  applyChannelUpdate,
  applyNodeAnnouncement,
  restoreChannel,
  restoreNode,
} from './index.ts';
import {
  SYNTHETIC_CHAIN_HASH,
  syntheticAnnouncement,
  syntheticKey,
  syntheticNode,
  syntheticUpdate,
} from './synthetic.ts';

const NOW = 1_700_000_000;
const FUNDING = { capacitySat: 1_000_000n };
const idOf = (key: number): Uint8Array => secp.publicKeyOf(syntheticKey(key));

function code(result: { readonly ok: boolean; readonly error?: { readonly code: string } }): string {
  return result.error?.code ?? 'ok';
}

describe('bytes', () => {
  /** A graph with one channel and both its updates, and no room for more. */
  function fullGraph() {
    const keys: readonly [number, number] = compareBytes(idOf(1), idOf(2)) < 0 ? [1, 2] : [2, 1];
    const announcement = syntheticAnnouncement(secp, 1n, keys);
    const updates = keys.map((key, channelFlags) =>
      syntheticUpdate(secp, key, { shortChannelId: 1n, timestamp: NOW - 9, channelFlags }),
    );
    const held = [announcement, ...updates].reduce((sum, { raw }) => sum + raw.length, 0);
    const limits = { ...DEFAULT_GRAPH_LIMITS, maxRawBytes: held };
    const graph = new NetworkGraph(SYNTHETIC_CHAIN_HASH, limits);
    applyChannelAnnouncement(graph, announcement.message, announcement.raw, FUNDING, NOW);
    for (const { message, raw } of updates) applyChannelUpdate(graph, message, raw, NOW);
    expect(graph.rawBytes).toBe(held);
    return { graph, keys };
  }

  test('a graph full of bytes takes what replaces, and nothing that grows', () => {
    const { graph, keys } = fullGraph();
    const newer = syntheticUpdate(secp, keys[0], { shortChannelId: 1n, timestamp: NOW });
    expect(code(applyChannelUpdate(graph, newer.message, newer.raw, NOW))).toBe('ok');
    const longer = Uint8Array.of(...newer.raw, 0xfd, 0xff, 0xff, 0);
    const later = { ...newer.message, timestamp: NOW + 1 };
    expect(code(applyChannelUpdate(graph, later, longer, NOW))).toBe('graph_full');
    const node = syntheticNode(secp, 1, NOW);
    expect(code(applyNodeAnnouncement(graph, node.message, node.raw, NOW))).toBe('graph_full');
    expect(restoreNode(graph, node.raw)).toBe(false);
    const other = syntheticAnnouncement(secp, 2n, [1, 2]);
    expect(code(applyChannelAnnouncement(graph, other.message, other.raw, FUNDING, NOW))).toBe('graph_full');
    graph.removeChannel(graph.channelIndex(1n) ?? -1);
    expect(graph.rawBytes).toBe(0);
    expect(code(applyChannelAnnouncement(graph, other.message, other.raw, FUNDING, NOW))).toBe('ok');
  });

  test('what was stored beyond the bound for one message is not put back', () => {
    const { graph } = fullGraph();
    const long = syntheticAnnouncement(secp, 3n, [1, 2], new Uint8Array(MAX_GOSSIP_BYTES));
    const stored = { capacitySat: 1n, receivedAtSeconds: NOW, spentHeight: 0, announcement: long.raw };
    expect(restoreChannel(graph, { ...stored, updates: [undefined, undefined] })).toBe(false);
    expect(restoreNode(graph, syntheticNode(secp, 1, NOW, new Uint8Array(MAX_GOSSIP_BYTES)).raw)).toBe(false);
  });
});
