/** What the tests of the router ask and announce. */
import { compareBytes, concatBytes, fromHex } from '@fulmen/codec';
import { sha256d } from '@fulmen/crypto';
import { syntheticAnnouncement, syntheticKey, syntheticNode, syntheticUpdate } from '@fulmen/graph/synthetic';
import type { FindRouteRequest } from '@fulmen/proto/router/v1/router';
import { gossipSignedBytes, shortChannelId } from '@fulmen/wire';
import { type FakeGateway, Fleet, HEIGHT, NOW_SECONDS } from '../testing/fleet.ts';
import { until } from '../testing/manual-runtime.ts';

export const fleetOf = async (): Promise<Fleet> => {
  const fleet = new Fleet();
  await fleet.startChain();
  return fleet;
};

export const idOf = (fleet: Fleet, key: number): Uint8Array => fleet.secp.publicKeyOf(syntheticKey(key));

/** A channel between two keys: announcement, both updates and both nodes, funded on the chain. */
export function channelOf(
  fleet: Fleet,
  block: number,
  keys: readonly [number, number],
  capacitySat = 1_000_000n,
) {
  const scid = shortChannelId.from(block, 1, 0);
  const announcement = syntheticAnnouncement(fleet.secp, scid, keys);
  fleet.chain.fund(announcement.message, capacitySat);
  const sorted = [...keys].sort((a, b) => compareBytes(idOf(fleet, a), idOf(fleet, b)));
  const updates = sorted.map((key, direction) =>
    syntheticUpdate(fleet.secp, key, {
      shortChannelId: scid,
      timestamp: NOW_SECONDS - 100,
      channelFlags: direction,
      htlcMaximumMsat: capacitySat * 1_000n,
    }),
  );
  const nodes = sorted.map((key) => syntheticNode(fleet.secp, key, NOW_SECONDS - 50));
  return {
    scid,
    /** In the order of the node ids. */
    keys: sorted,
    announcement,
    updates,
    nodes,
    raw: [announcement, ...updates, ...nodes].map(({ raw }) => raw),
  };
}

/** A gossip message with more at its end, signed anew by these keys. */
export function longer(
  fleet: Fleet,
  raw: Uint8Array | undefined,
  tailHex: string,
  keys: readonly number[],
): Uint8Array {
  const bytes = concatBytes(raw ?? new Uint8Array(0), fromHex(tailHex));
  const hash = sha256d(gossipSignedBytes(bytes));
  for (const [index, key] of keys.entries())
    bytes.set(fleet.secp.sign(hash, syntheticKey(key)), 2 + 64 * index);
  return bytes;
}

/** A line of channels 1-2, 2-3, …: node 1 is the first counterparty of a payer. */
export const lineOf = (fleet: Fleet, length: number) =>
  Array.from({ length }, (_, index) => channelOf(fleet, 700_000 + index, [index + 1, index + 2]));

export const info = (fleet: Fleet, address = 'router') => fleet.client(address).getGraphInfo({});

export async function learn(
  fleet: Fleet,
  gateway: FakeGateway,
  peer: Uint8Array,
  channels: readonly { raw: Uint8Array[] }[],
): Promise<void> {
  await gateway.say(peer, ...channels.flatMap(({ raw }) => raw));
  await until(async () => (await info(fleet)).updates === 2 * channels.length);
}

export const request = (
  fleet: Fleet,
  payee: number,
  fields: Partial<FindRouteRequest> = {},
): FindRouteRequest => ({
  payeeNodeId: idOf(fleet, payee),
  amountMsat: 100_000n,
  finalCltvDelta: 18,
  maxParts: 1,
  minPartMsat: 0n,
  uses: [],
  hints: [],
  firstHops: [
    {
      shortChannelId: 42n,
      counterpartyNodeId: idOf(fleet, 1),
      outboundCapacityMsat: 500_000n,
      htlcMinimumMsat: 1n,
      htlcMaximumMsat: 400_000n,
    },
  ],
  maxFeeMsat: 50_000n,
  maxTotalCltvDelta: 0,
  currentHeight: HEIGHT,
  avoid: [],
  ...fields,
});
