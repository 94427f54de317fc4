/**
 * A made-up network from a seed, signed with whatever curve is given: for
 * tests and benches of everything that reads a graph. Deterministic.
 */
import type { Secp256k1 } from '@fulmen/crypto';
import { sha256, sha256d } from '@fulmen/crypto';
import { compareBytes } from '@fulmen/codec';
import {
  encodeMessage,
  gossipSignedBytes,
  make,
  shortChannelId as scids,
  withGossipSignatures,
} from '@fulmen/wire';
import { applyChannelAnnouncement, applyChannelUpdate } from './apply.ts';
import { NetworkGraph } from './graph.ts';
import type { ChannelAnnouncement, ChannelUpdate, NodeAnnouncement } from './messages.ts';
import { decodeChannelUpdate } from './messages.ts';

/** Regtest's genesis hash in wire order, for networks that are made up. */
export const SYNTHETIC_CHAIN_HASH: Uint8Array = sha256(Uint8Array.of(0));

/** The secret key of a made-up node or funding key. */
export function syntheticKey(index: number): Uint8Array {
  const seed = new Uint8Array(8);
  new DataView(seed.buffer).setUint32(0, index);
  return sha256(seed);
}

/** A message with its bytes. */
export interface Signed<M> {
  readonly message: M;
  readonly raw: Uint8Array;
}

const NO_SIGNATURE = new Uint8Array(64);
const NOTHING = new Uint8Array(0);

/** A signed channel_announcement between two key indexes. */
export function syntheticAnnouncement(
  secp: Secp256k1,
  shortChannelId: bigint,
  keys: readonly [number, number],
  features: Uint8Array = new Uint8Array(0),
): Signed<ChannelAnnouncement> {
  const secrets = keys
    .map(syntheticKey)
    .sort((a, b) => compareBytes(secp.publicKeyOf(a), secp.publicKeyOf(b)));
  const [secret1 = syntheticKey(0), secret2 = syntheticKey(1)] = secrets;
  const unsigned = make('channel_announcement', {
    nodeSignature1: NO_SIGNATURE,
    nodeSignature2: NO_SIGNATURE,
    bitcoinSignature1: NO_SIGNATURE,
    bitcoinSignature2: NO_SIGNATURE,
    features,
    chainHash: SYNTHETIC_CHAIN_HASH,
    shortChannelId,
    nodeId1: secp.publicKeyOf(secret1),
    nodeId2: secp.publicKeyOf(secret2),
    bitcoinKey1: secp.publicKeyOf(secret1),
    bitcoinKey2: secp.publicKeyOf(secret2),
    excessData: NOTHING,
  });
  const hash = sha256d(gossipSignedBytes(unsigned));
  const [signature1, signature2] = [secp.sign(hash, secret1), secp.sign(hash, secret2)];
  const message = {
    ...unsigned,
    nodeSignature1: signature1,
    nodeSignature2: signature2,
    bitcoinSignature1: signature1,
    bitcoinSignature2: signature2,
  };
  return { message, raw: withGossipSignatures(unsigned, [signature1, signature2, signature1, signature2]) };
}

/** Terms for a made-up update; what is absent is moderate. */
export type SyntheticTerms = Partial<
  Omit<ChannelUpdate, 'type' | 'signature' | 'chainHash' | 'tlvs' | 'unknownTlvs'>
> & {
  readonly shortChannelId: bigint;
  readonly timestamp: number;
};

/** A channel_update signed by a key index, which must be the end that `channelFlags` names. */
export function syntheticUpdate(secp: Secp256k1, key: number, terms: SyntheticTerms): Signed<ChannelUpdate> {
  const unsigned = make('channel_update', {
    signature: NO_SIGNATURE,
    chainHash: SYNTHETIC_CHAIN_HASH,
    messageFlags: 1,
    channelFlags: 0,
    cltvExpiryDelta: 40,
    htlcMinimumMsat: 1n,
    feeBaseMsat: 1000,
    feeProportionalMillionths: 100,
    htlcMaximumMsat: 1_000_000_000n,
    excessData: NOTHING,
    ...terms,
  });
  const signature = secp.sign(sha256d(gossipSignedBytes(unsigned)), syntheticKey(key));
  return { message: { ...unsigned, signature }, raw: withGossipSignatures(unsigned, [signature]) };
}

/** A node_announcement signed by a key index. */
export function syntheticNode(
  secp: Secp256k1,
  key: number,
  timestamp: number,
  addresses: Uint8Array = new Uint8Array(0),
): Signed<NodeAnnouncement> {
  const unsigned = make('node_announcement', {
    signature: NO_SIGNATURE,
    features: new Uint8Array(0),
    timestamp,
    nodeId: secp.publicKeyOf(syntheticKey(key)),
    rgbColor: new Uint8Array(3),
    alias: new Uint8Array(32),
    addresses,
    excessData: NOTHING,
  });
  const signature = secp.sign(sha256d(gossipSignedBytes(unsigned)), syntheticKey(key));
  return { message: { ...unsigned, signature }, raw: withGossipSignatures(unsigned, [signature]) };
}

/** A linear congruential sequence of numbers in [0, 1): enough for shapes, useless for secrets. */
export function* syntheticRandom(seed: number): Generator<number, never> {
  let state = seed >>> 0;
  for (;;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state / 2 ** 32;
  }
}

/** The id of node `index` in `syntheticGraph`: no key belongs to it. */
export function syntheticNodeId(index: number): Uint8Array {
  const id = new Uint8Array(33);
  id[0] = 2;
  id.set(sha256(Uint8Array.of(index >> 24, index >> 16, index >> 8, index)), 1);
  return id;
}

/**
 * A graph without signatures, whose degrees are as uneven as the real
 * network's: a new node prefers nodes that have many channels.
 */
export function syntheticGraph(
  nodes: number,
  channels: number,
  seed: number,
  nowSeconds: number,
): NetworkGraph {
  const random = syntheticRandom(seed);
  const graph = new NetworkGraph(SYNTHETIC_CHAIN_HASH);
  const ids = Array.from({ length: nodes }, (_, index) => syntheticNodeId(index));
  const ends: number[] = [];
  const pick = (below: number): number => Math.floor(random.next().value * below);
  for (let channel = 0; channel < channels; channel++) {
    const a = channel < nodes - 1 ? channel + 1 : pick(nodes);
    let b =
      ends.length > 0 && random.next().value < 0.8
        ? (ends[pick(ends.length)] ?? 0)
        : pick(Math.min(channel + 1, nodes));
    if (b === a) b = (a + 1) % nodes;
    ends.push(a, b);
    const [idA = ids[0], idB = ids[0]] = [ids[a], ids[b]];
    if (idA === undefined || idB === undefined || a === b) continue;
    const [nodeId1, nodeId2] = compareBytes(idA, idB) < 0 ? [idA, idB] : [idB, idA];
    const scid = scids.from(500_000 + (channel >> 3), channel & 7, 0);
    const capacitySat = BigInt(100_000 + pick(10_000_000));
    const announcement = make('channel_announcement', {
      nodeSignature1: NO_SIGNATURE,
      nodeSignature2: NO_SIGNATURE,
      bitcoinSignature1: NO_SIGNATURE,
      bitcoinSignature2: NO_SIGNATURE,
      features: new Uint8Array(0),
      chainHash: SYNTHETIC_CHAIN_HASH,
      shortChannelId: scid,
      nodeId1,
      nodeId2,
      bitcoinKey1: nodeId1,
      bitcoinKey2: nodeId2,
      excessData: NOTHING,
    });
    applyChannelAnnouncement(graph, announcement, encodeMessage(announcement), { capacitySat }, nowSeconds);
    for (const direction of [0, 1]) {
      const raw = encodeMessage(
        make('channel_update', {
          signature: NO_SIGNATURE,
          chainHash: SYNTHETIC_CHAIN_HASH,
          shortChannelId: scid,
          timestamp: nowSeconds - 1,
          messageFlags: 1,
          channelFlags: direction | (random.next().value < 0.05 ? 2 : 0),
          cltvExpiryDelta: 18 + pick(126),
          htlcMinimumMsat: BigInt(1 + pick(random.next().value < 0.2 ? 100_000 : 1_000)),
          feeBaseMsat: pick(2_000),
          feeProportionalMillionths: pick(2_000),
          htlcMaximumMsat: (capacitySat * 1000n * BigInt(50 + pick(50))) / 100n,
          excessData: NOTHING,
        }),
      );
      const update = decodeChannelUpdate(raw);
      if (update !== undefined) applyChannelUpdate(graph, update, raw, nowSeconds);
    }
  }
  return graph;
}
