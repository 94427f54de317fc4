/**
 * Gossip of the node's own. Each message is taken apart first: a hash is never
 * signed for its own sake, and the bytes of one kind can pass for no other.
 */
import type { SignGossipRequest, SignGossipResponse } from '@fulmen/proto/signer/v1/signer';
import { DecodeError, type Reader, compareBytes, decodeWith, equalBytes, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { sha256d } from '@fulmen/crypto';
import { decoding, fixed } from '../decode.ts';
import { refuse } from '../enforcement/refuse.ts';
import type { Refusal, SignerChannelState } from '../enforcement/types.ts';
import { orRefuse, runUnary, secretsOf } from '../signer.ts';
import type { Signer } from '../signer.ts';

/** The wire's limit for a message. */
const MAX_MESSAGE_LENGTH = 65_535;
const NO_SIGNATURE = new Uint8Array(0);

export async function signGossip(signer: Signer, request: SignGossipRequest): Promise<SignGossipResponse> {
  const operation = 'sign_gossip';
  const { message } = request;
  if (message === undefined || message.value.length > MAX_MESSAGE_LENGTH)
    return orRefuse(signer, operation, refuse('policy-gossip', 'no message'));
  const bytes = Uint8Array.from(message.value);
  const channelKeysId =
    request.channelKeysId.length === 0
      ? undefined
      : orRefuse(
          signer,
          operation,
          decoding(() => fixed('channel_keys_id', request.channelKeysId, 32)),
        );
  const hash = sha256d(bytes);
  return runUnary<SignGossipResponse>(signer, operation, {
    priority: 'channel',
    channelKeysId,
    evaluate: ({ channel }) => {
      const checked = check(signer, message.$case, bytes, channel);
      if (!checked.ok) return checked;
      const fundingKeyToo = message.$case === 'channelAnnouncement' && channelKeysId !== undefined;
      const answer = {
        nodeSignature: signer.secp.sign(hash, signer.keys.nodeSecret),
        bitcoinSignature: fundingKeyToo
          ? signer.secp.sign(hash, secretsOf(signer, channelKeysId).fundingSecret)
          : NO_SIGNATURE,
      };
      return { ok: true, value: { answer, audit: { operation, channelKeysId, detail: hash } } };
    },
  });
}

type GossipKind = NonNullable<SignGossipRequest['message']>['$case'];

function check(
  signer: Signer,
  kind: GossipKind,
  bytes: Uint8Array,
  channel: SignerChannelState | undefined,
): Result<void, Refusal> {
  switch (kind) {
    case 'channelAnnouncement':
      return channel === undefined
        ? refuse('policy-gossip', 'an announcement needs its registered channel')
        : announcement(signer, bytes, channel);
    case 'channelUpdate':
      return update(signer, bytes, channel);
    case 'nodeAnnouncement':
      return nodeAnnouncement(signer, bytes);
  }
}

/** Runs a reader over a message's start; what follows is allowed (future fields). */
function start<T>(bytes: Uint8Array, read: (reader: Reader) => T): Result<T, Refusal> {
  const decoded = decodeWith(bytes, (reader) => {
    const value = read(reader);
    reader.rest();
    return value;
  });
  return decoded.ok ? decoded : refuse('policy-gossip', decoded.error.message);
}

function announcement(
  signer: Signer,
  bytes: Uint8Array,
  { registration }: SignerChannelState,
): Result<void, Refusal> {
  const fields = start(bytes, (reader) => {
    reader.view(reader.u16());
    const chainHash = reader.bytes(32);
    reader.u64();
    return {
      chainHash,
      nodeIds: [reader.bytes(33), reader.bytes(33)],
      bitcoinKeys: [reader.bytes(33), reader.bytes(33)],
    };
  });
  if (!fields.ok) return fields;
  const { chainHash, nodeIds, bitcoinKeys } = fields.value;
  if (!registration.announce) return refuse('policy-gossip', 'the channel is not to be announced');
  if (!equalBytes(chainHash, signer.network.chainHash)) return refuse('policy-gossip', 'another chain');
  // BOLT 7: "node_id_1 and node_id_2 … such that node_id_1 is the lexicographically-lesser"
  const ours = { nodeId: signer.keys.nodeId, bitcoinKey: registration.funding.holderFundingPubkey };
  const theirs = {
    nodeId: registration.counterpartyNodeId,
    bitcoinKey: registration.funding.counterpartyFundingPubkey,
  };
  const expected = compareBytes(ours.nodeId, theirs.nodeId) < 0 ? [ours, theirs] : [theirs, ours];
  const fits = expected.every(
    (side, i) =>
      equalBytes(side.nodeId, nodeIds[i] ?? NO_SIGNATURE) &&
      equalBytes(side.bitcoinKey, bitcoinKeys[i] ?? NO_SIGNATURE),
  );
  return fits ? ok(undefined) : refuse('policy-gossip', 'not this channel’s nodes and funding keys');
}

function update(
  signer: Signer,
  bytes: Uint8Array,
  channel: SignerChannelState | undefined,
): Result<void, Refusal> {
  const fields = start(bytes, (reader) => {
    const chainHash = reader.bytes(32);
    reader.view(8 + 4 + 1);
    const channelFlags = reader.u8();
    // cltv_expiry_delta, htlc_minimum_msat, fee_base_msat, fee_proportional_millionths, htlc_maximum_msat
    reader.view(2 + 8 + 4 + 4 + 8);
    return { chainHash, channelFlags };
  });
  if (!fields.ok) return fields;
  if (!equalBytes(fields.value.chainHash, signer.network.chainHash))
    return refuse('policy-gossip', 'another chain');
  if (channel === undefined) return ok(undefined);
  // BOLT 7: direction 0 is the update of node_id_1.
  const direction = compareBytes(signer.keys.nodeId, channel.registration.counterpartyNodeId) < 0 ? 0 : 1;
  return (fields.value.channelFlags & 1) === direction
    ? ok(undefined)
    : refuse('policy-gossip', 'the counterparty’s direction');
}

function nodeAnnouncement(signer: Signer, bytes: Uint8Array): Result<void, Refusal> {
  const fields = start(bytes, (reader) => {
    reader.view(reader.u16());
    reader.u32();
    const nodeId = reader.bytes(33);
    // rgb_color and alias, then the addresses.
    reader.view(3 + 32);
    const addressesLength = reader.u16();
    if (addressesLength > reader.remaining) throw new DecodeError('truncated', 'addresses');
    return { nodeId };
  });
  if (!fields.ok) return fields;
  return equalBytes(fields.value.nodeId, signer.keys.nodeId)
    ? ok(undefined)
    : refuse('policy-gossip', 'another node');
}
