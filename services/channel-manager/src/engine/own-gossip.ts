/**
 * Our own gossip: the terms of a channel for its counterparty or the world,
 * and announcements whose halves both sides have signed. The signer signs, the
 * router stores and relays.
 */
import { decodeChannelType, type EstablishedChannel, primaryFunding } from '@fulmen/channel';
import { compareBytes, InternalError } from '@fulmen/codec';
import { encodeMessage, make, type MessageOf, gossipSignedBytes } from '@fulmen/wire';
import { sha256d } from '@fulmen/crypto';
import { patiently } from '../signing/patiently.ts';
import type { ChannelActor } from './channel-actor.ts';
import { publishedLimits } from './policy.ts';
import type { EnginePorts, NodeView } from './ports.ts';

/** BOLT 7, `message_flags`: must_be_one, and dont_forward for private channels. */
const MUST_BE_ONE = 1;
const DONT_FORWARD = 2;
/** `channel_flags`: the channel is not available in this direction. */
const DISABLE = 2;
const EMPTY_SIGNATURE = new Uint8Array(64);

/** What we ask for forwarding over a channel, as a channel_update says it. */
export interface OwnTerms {
  readonly cltvExpiryDelta: number;
  readonly htlcMinimumMsat: bigint;
  readonly htlcMaximumMsat: bigint;
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
}

/** undefined while the channel is only being opened. */
export function ownTerms({ state, policy }: Pick<ChannelActor, 'state' | 'policy'>): OwnTerms | undefined {
  if (state.type !== 'established') return undefined;
  return {
    cltvExpiryDelta: policy.cltvExpiryDelta,
    feeBaseMsat: policy.feeBaseMsat,
    feeProportionalMillionths: policy.feeProportionalMillionths,
    ...publishedLimits(state, policy),
  };
}

/**
 * The lesser node id is the first. BOLT 7: "if the origin node is `node_id_1` in the message: MUST set the `direction`
 * bit of `channel_flags` to 0."
 */
export function ownDirection(node: Pick<NodeView, 'nodeId'>, state: EstablishedChannel): 0 | 1 {
  return compareBytes(node.nodeId, state.parameters.counterpartyNodeId) < 0 ? 0 : 1;
}

/**
 * The name by which the counterparty finds the channel, in our terms and in onions that it gets by our hints: the alias
 * that it gave (BOLT 7), if it gave one. BOLT 2 asks it to give one where the channel type hides the real scid: without,
 * the channel has no such name.
 */
export function peersScid(state: EstablishedChannel): bigint | undefined {
  return state.counterpartyAliasScid ?? (hidesRealScid(state) ? undefined : realScid(state));
}

/**
 * The time of a channel's next update, in seconds. BOLT 7: "MUST set `timestamp` to greater than 0, AND to greater than
 * any previously-sent `channel_update` for this `short_channel_id`."
 *
 * @param known of the last update that others have
 */
export function nextUpdateTimestamp(
  { runtime }: Pick<EnginePorts, 'runtime'>,
  actor: ChannelActor,
  known: number,
): number {
  const now = Math.floor(runtime.wallClockMs() / 1_000);
  actor.lastUpdateTimestamp = Math.max(now, known + 1, actor.lastUpdateTimestamp + 1);
  return actor.lastUpdateTimestamp;
}

/** The channel_update under any name of the channel, for whoever uses that name. */
export function channelUpdateUnder(
  ports: EnginePorts,
  node: NodeView,
  actor: ChannelActor,
  shortChannelId: bigint,
): Promise<Uint8Array | undefined> {
  const timestamp = nextUpdateTimestamp(ports, actor, 0);
  return signedUpdate(ports, node, actor, { shortChannelId, timestamp, isDisabled: false });
}

/** The channel_update for our direction, signed. */
export async function signedUpdate(
  ports: Pick<EnginePorts, 'runtime' | 'signer'>,
  node: Pick<NodeView, 'nodeId' | 'chainHash'>,
  actor: ChannelActor,
  {
    shortChannelId,
    timestamp,
    isDisabled,
  }: {
    readonly shortChannelId: bigint;
    /** Seconds since 1970. */
    readonly timestamp: number;
    readonly isDisabled: boolean;
  },
): Promise<Uint8Array | undefined> {
  const { state } = actor;
  const terms = ownTerms(actor);
  if (state.type !== 'established' || terms === undefined) return undefined;
  const unsigned = make('channel_update', {
    signature: EMPTY_SIGNATURE,
    chainHash: node.chainHash,
    shortChannelId,
    timestamp,
    messageFlags: state.parameters.announce ? MUST_BE_ONE : MUST_BE_ONE | DONT_FORWARD,
    channelFlags: ownDirection(node, state) | (isDisabled ? DISABLE : 0),
    ...terms,
    excessData: new Uint8Array(0),
  });
  const { nodeSignature } = await patiently(
    ports.runtime,
    () => actor.stopped,
    () =>
      ports.signer.signGossip({
        message: { $case: 'channelUpdate', value: gossipSignedBytes(encodeMessage(unsigned)) },
        channelKeysId: new Uint8Array(0),
      }),
  );
  return encodeMessage({ ...unsigned, signature: nodeSignature });
}

/** The short channel id of the confirmed funding output. */
export function realScid(state: EstablishedChannel): bigint | undefined {
  const { confirmation } = primaryFunding(state);
  return confirmation.type === 'confirmed' ? confirmation.shortChannelId : undefined;
}

/** Whether nobody but the two is to know the real scid: option_scid_alias in the channel type. */
export function hidesRealScid({ parameters }: EstablishedChannel): boolean {
  return decodeChannelType(parameters.channelType)?.scidAlias === 'scid_alias';
}

/** The channel_announcement without signatures. */
function unsignedAnnouncement(
  node: NodeView,
  state: EstablishedChannel,
  shortChannelId: bigint,
): { message: MessageOf<'channel_announcement'>; holderIsFirst: boolean } {
  const funding = primaryFunding(state);
  const counterparty = state.parameters.counterpartyNodeId;
  const holderIsFirst = compareBytes(node.nodeId, counterparty) < 0;
  const ordered = <T>(holder: T, other: T): [T, T] => (holderIsFirst ? [holder, other] : [other, holder]);
  const [nodeId1, nodeId2] = ordered(node.nodeId, counterparty);
  const [bitcoinKey1, bitcoinKey2] = ordered(funding.holderFundingPubkey, funding.counterpartyFundingPubkey);
  const message = make('channel_announcement', {
    nodeSignature1: EMPTY_SIGNATURE,
    nodeSignature2: EMPTY_SIGNATURE,
    bitcoinSignature1: EMPTY_SIGNATURE,
    bitcoinSignature2: EMPTY_SIGNATURE,
    features: new Uint8Array(0),
    chainHash: node.chainHash,
    shortChannelId,
    nodeId1,
    nodeId2,
    bitcoinKey1,
    bitcoinKey2,
    excessData: new Uint8Array(0),
  });
  return { message, holderIsFirst };
}

/** Our half of an announcement. */
export async function announcementSignatures(
  ports: EnginePorts,
  node: NodeView,
  actor: ChannelActor,
  shortChannelId: bigint,
): Promise<{ node: Uint8Array; bitcoin: Uint8Array }> {
  const { state } = actor;
  if (state.type !== 'established') throw new InternalError('only an established channel is announced');
  const { message } = unsignedAnnouncement(node, state, shortChannelId);
  const answer = await patiently(
    ports.runtime,
    () => actor.stopped,
    () =>
      ports.signer.signGossip({
        message: { $case: 'channelAnnouncement', value: gossipSignedBytes(encodeMessage(message)) },
        channelKeysId: actor.channelKeysId,
      }),
  );
  return { node: answer.nodeSignature, bitcoin: answer.bitcoinSignature };
}

/** Both halves joined; undefined when the counterparty's do not verify. */
export async function fullAnnouncement(
  ports: EnginePorts,
  node: NodeView,
  actor: ChannelActor,
  theirs: {
    readonly shortChannelId: bigint;
    readonly nodeSignature: Uint8Array;
    readonly bitcoinSignature: Uint8Array;
  },
): Promise<Uint8Array | undefined> {
  const { state } = actor;
  if (state.type !== 'established') return undefined;
  const { message, holderIsFirst } = unsignedAnnouncement(node, state, theirs.shortChannelId);
  const hash = sha256d(gossipSignedBytes(encodeMessage(message)));
  const counterpartyFundingPubkey = primaryFunding(state).counterpartyFundingPubkey;
  const valid =
    ports.secp.verify(hash, theirs.nodeSignature, state.parameters.counterpartyNodeId) &&
    ports.secp.verify(hash, theirs.bitcoinSignature, counterpartyFundingPubkey);
  if (!valid) return undefined;
  const ours = await announcementSignatures(ports, node, actor, theirs.shortChannelId);
  const [nodeSignature1, nodeSignature2] = holderIsFirst
    ? [ours.node, theirs.nodeSignature]
    : [theirs.nodeSignature, ours.node];
  const [bitcoinSignature1, bitcoinSignature2] = holderIsFirst
    ? [ours.bitcoin, theirs.bitcoinSignature]
    : [theirs.bitcoinSignature, ours.bitcoin];
  return encodeMessage({ ...message, nodeSignature1, nodeSignature2, bitcoinSignature1, bitcoinSignature2 });
}
