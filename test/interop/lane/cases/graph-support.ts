/** What the cases of gossip share: channels between two peers, and the fleet's graph in the peers' words. */
import type { GraphPolicy as FleetPolicy } from '@fulmen/proto/router/v1/router';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { InteropPeer, PeerChannel } from '../peer.ts';
import type { GraphChannel, GraphPolicy, NewPolicy } from '../peer-graph.ts';
import type { World } from '../world.ts';

export const CHANNEL_SAT = 3_000_000n;
/** A node's first word about its new channel takes less. */
const UPDATE_LATE_MS = 5_000;
const FIRST_TERMS: NewPolicy = { feeBaseMsat: 1_001n, feeProportionalMillionths: 1, cltvExpiryDelta: 80 };

/** A usable channel as its peer shows it, with a short channel id. */
export type PublicChannel = PeerChannel & { readonly shortChannelId: bigint };

/** An announced channel between two peers that the fleet has no part in. */
export async function channelBetween(
  world: World,
  opener: InteropPeer,
  acceptor: InteropPeer,
): Promise<PublicChannel> {
  await join(opener, acceptor);
  await opener.open({ nodeId: acceptor.nodeId, fundingSat: CHANNEL_SAT, announce: 'announced' });
  const channel = await world.minedUntil(`${opener.name} and ${acceptor.name} have a channel`, async () => {
    const theirs = (await acceptor.channels()).find((one) => one.counterpartyNodeId === opener.nodeId);
    const ours = (await opener.channels()).find((one) => one.counterpartyNodeId === acceptor.nodeId);
    if (theirs?.isUsable !== true || ours?.isUsable !== true || ours.shortChannelId === undefined)
      return undefined;
    return { ...ours, shortChannelId: ours.shortChannelId };
  });
  await untilTold(channel, opener, acceptor);
  await untilTold(channel, acceptor, opener);
  return channel;
}

/**
 * A node knows the terms of the channel's other end. LDK drops an update that overtakes the channel, and says none again
 * until its terms change.
 */
async function untilTold(
  { channelId, shortChannelId }: PublicChannel,
  teller: InteropPeer,
  listener: InteropPeer,
): Promise<void> {
  let lateMs = performance.now() + UPDATE_LATE_MS;
  await until(`${listener.name} knows the terms of ${teller.name}`, async () => {
    if (policyBy(await listener.graph.channel(shortChannelId), teller.nodeId) !== undefined) return true;
    if (performance.now() < lateMs) return undefined;
    lateMs = performance.now() + UPDATE_LATE_MS;
    await teller.graph.setPolicy(channelId, FIRST_TERMS);
    return undefined;
  });
}

/** Connects one peer to another. */
export async function join(from: InteropPeer, to: InteropPeer): Promise<void> {
  await from.connect(to.nodeId, to.port);
  await until(`${from.name} is connected to ${to.name}`, async () =>
    (await from.isConnected(to.nodeId)) && (await to.isConnected(from.nodeId)) ? true : undefined,
  );
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What the fleet's public API shows of a channel. */
export async function fleetsView(
  world: World,
  shortChannelId: bigint,
): Promise<(GraphChannel & { readonly capacitySat: bigint; readonly spentHeight: number }) | undefined> {
  const { channel } = await world.node.graph.lookupChannel({ shortChannelId }, world.node.auth());
  if (channel === undefined) return undefined;
  const { nodeId1, nodeId2, policy1, policy2, capacitySat, spentHeight } = channel;
  return {
    shortChannelId,
    nodeId1: hex(nodeId1),
    nodeId2: hex(nodeId2),
    policy1: policy1 && policyOf(policy1),
    policy2: policy2 && policyOf(policy2),
    capacitySat,
    spentHeight,
  };
}

function policyOf(policy: FleetPolicy): GraphPolicy {
  const { feeBaseMsat, ...rest } = policy;
  return { ...rest, feeBaseMsat: BigInt(feeBaseMsat) };
}

/** The terms of one end of a channel. */
export function policyBy(channel: GraphChannel | undefined, nodeId: string): GraphPolicy | undefined {
  return channel?.nodeId1 === nodeId ? channel.policy1 : channel?.policy2;
}

/** Waits until `view` shows the terms that a node has set. */
export async function untilTerms(
  what: string,
  view: () => Promise<GraphChannel | undefined>,
  nodeId: string,
  terms: NewPolicy,
): Promise<void> {
  await until(what, async () => {
    const policy = policyBy(await view(), nodeId);
    return policy?.feeBaseMsat === terms.feeBaseMsat &&
      policy.feeProportionalMillionths === terms.feeProportionalMillionths &&
      policy.cltvExpiryDelta === terms.cltvExpiryDelta
      ? true
      : undefined;
  });
}

/** Waits until both graphs say the same of a channel, with the terms of both ends. */
export async function untilSame(
  what: string,
  one: () => Promise<GraphChannel | undefined>,
  other: () => Promise<GraphChannel | undefined>,
): Promise<GraphChannel> {
  let difference = '';
  return until(what, async () => {
    const [a, b] = await Promise.all([one(), other()]);
    if (a?.policy1 === undefined || a.policy2 === undefined || b === undefined) return undefined;
    difference = differenceOf(a, b);
    ensure(difference === '', difference);
    return a;
  });
}

function differenceOf(a: GraphChannel, b: GraphChannel): string {
  const shown = ({ nodeId1, nodeId2, policy1, policy2 }: GraphChannel): string =>
    JSON.stringify([nodeId1, nodeId2, ordered(policy1), ordered(policy2)]);
  return shown(a) === shown(b) ? '' : `${shown(a)} is not ${shown(b)}`;
}

function ordered(policy: GraphPolicy | undefined): readonly unknown[] {
  if (policy === undefined) return [];
  const { timestamp, feeBaseMsat, feeProportionalMillionths, cltvExpiryDelta, disabled } = policy;
  return [timestamp, String(feeBaseMsat), feeProportionalMillionths, cltvExpiryDelta, disabled];
}
