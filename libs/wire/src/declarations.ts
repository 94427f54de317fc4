// Every message this node speaks, one declaration each: fields in wire order under the camelCase of
// their BOLT names, a count or length and its data collapsed into one field.
import {
  array16,
  bigsize,
  bytes16,
  defineMessage,
  fixedBytes,
  point,
  restArray,
  restBytes,
  struct,
  tlv,
  u16,
  u32,
  u64,
  u8,
} from '@fulmen/codec';
import {
  attributionData,
  chainHash,
  channelId,
  featureVector,
  secret,
  sha256,
  shortChannelIdField,
  signature,
} from './fields.ts';

/** Bytes of a payment onion (BOLT 4). */
export const ONION_PACKET_LENGTH = 1366;

const openingTlvs = {
  upfrontShutdownScript: tlv(0, restBytes),
  channelType: tlv(1, restBytes),
} as const;

const closingFields = {
  channelId,
  closerScriptpubkey: bytes16,
  closeeScriptpubkey: bytes16,
  feeSatoshis: u64,
  locktime: u32,
} as const;

const closingTlvs = {
  closerOutputOnly: tlv(1, signature),
  closeeOutputOnly: tlv(2, signature),
  closerAndCloseeOutputs: tlv(3, signature),
} as const;

/**
 * What follows the fields of a message that its node signed and others pass on: kept as it came, for the signatures cover
 * it. BOLT 1: "upon receiving a message with an `extension`: MAY ignore the `extension`. Otherwise, if the `extension` is
 * invalid: MUST close the connection." Whoever passes it on has not written it and, as LDK, need not have read it.
 */
const excessData = restBytes;

/** The declarations by BOLT name. */
export const MESSAGES = {
  // BOLT 1
  warning: defineMessage({ name: 'warning', type: 1, fields: { channelId, data: bytes16 } }),
  stfu: defineMessage({ name: 'stfu', type: 2, fields: { channelId, initiator: u8 } }),
  peer_storage: defineMessage({ name: 'peer_storage', type: 7, fields: { blob: bytes16 } }),
  peer_storage_retrieval: defineMessage({
    name: 'peer_storage_retrieval',
    type: 9,
    fields: { blob: bytes16 },
  }),
  init: defineMessage({
    name: 'init',
    type: 16,
    fields: { globalfeatures: featureVector, features: featureVector },
    tlvs: { networks: tlv(1, restArray(chainHash)), remoteAddr: tlv(3, restBytes) },
  }),
  error: defineMessage({ name: 'error', type: 17, fields: { channelId, data: bytes16 } }),
  ping: defineMessage({ name: 'ping', type: 18, fields: { numPongBytes: u16, ignored: bytes16 } }),
  pong: defineMessage({ name: 'pong', type: 19, fields: { ignored: bytes16 } }),

  // BOLT 2, "Channel Establishment v1"
  open_channel: defineMessage({
    name: 'open_channel',
    type: 32,
    fields: {
      chainHash,
      temporaryChannelId: channelId,
      fundingSatoshis: u64,
      pushMsat: u64,
      dustLimitSatoshis: u64,
      maxHtlcValueInFlightMsat: u64,
      channelReserveSatoshis: u64,
      htlcMinimumMsat: u64,
      feeratePerKw: u32,
      toSelfDelay: u16,
      maxAcceptedHtlcs: u16,
      fundingPubkey: point,
      revocationBasepoint: point,
      paymentBasepoint: point,
      delayedPaymentBasepoint: point,
      htlcBasepoint: point,
      firstPerCommitmentPoint: point,
      channelFlags: u8,
    },
    tlvs: openingTlvs,
  }),
  accept_channel: defineMessage({
    name: 'accept_channel',
    type: 33,
    fields: {
      temporaryChannelId: channelId,
      dustLimitSatoshis: u64,
      maxHtlcValueInFlightMsat: u64,
      channelReserveSatoshis: u64,
      htlcMinimumMsat: u64,
      minimumDepth: u32,
      toSelfDelay: u16,
      maxAcceptedHtlcs: u16,
      fundingPubkey: point,
      revocationBasepoint: point,
      paymentBasepoint: point,
      delayedPaymentBasepoint: point,
      htlcBasepoint: point,
      firstPerCommitmentPoint: point,
    },
    tlvs: openingTlvs,
  }),
  funding_created: defineMessage({
    name: 'funding_created',
    type: 34,
    fields: { temporaryChannelId: channelId, fundingTxid: sha256, fundingOutputIndex: u16, signature },
  }),
  funding_signed: defineMessage({ name: 'funding_signed', type: 35, fields: { channelId, signature } }),
  channel_ready: defineMessage({
    name: 'channel_ready',
    type: 36,
    fields: { channelId, secondPerCommitmentPoint: point },
    tlvs: { shortChannelId: tlv(1, shortChannelIdField) },
  }),

  // BOLT 2, "Channel Close"
  shutdown: defineMessage({ name: 'shutdown', type: 38, fields: { channelId, scriptpubkey: bytes16 } }),
  closing_signed: defineMessage({
    name: 'closing_signed',
    type: 39,
    fields: { channelId, feeSatoshis: u64, signature },
    tlvs: { feeRange: tlv(1, struct({ minFeeSatoshis: u64, maxFeeSatoshis: u64 })) },
  }),
  closing_complete: defineMessage({
    name: 'closing_complete',
    type: 40,
    fields: closingFields,
    tlvs: closingTlvs,
  }),
  closing_sig: defineMessage({ name: 'closing_sig', type: 41, fields: closingFields, tlvs: closingTlvs }),

  // BOLT 2, "Normal Operation"
  start_batch: defineMessage({
    name: 'start_batch',
    type: 127,
    fields: { channelId, batchSize: u16 },
    tlvs: { messageType: tlv(1, u16) },
  }),
  update_add_htlc: defineMessage({
    name: 'update_add_htlc',
    type: 128,
    fields: {
      channelId,
      id: u64,
      amountMsat: u64,
      paymentHash: sha256,
      cltvExpiry: u32,
      onionRoutingPacket: fixedBytes(ONION_PACKET_LENGTH),
    },
    tlvs: { pathKey: tlv(0, point) },
  }),
  update_fulfill_htlc: defineMessage({
    name: 'update_fulfill_htlc',
    type: 130,
    fields: { channelId, id: u64, paymentPreimage: secret },
    tlvs: { attributionData: tlv(1, attributionData) },
  }),
  update_fail_htlc: defineMessage({
    name: 'update_fail_htlc',
    type: 131,
    fields: { channelId, id: u64, reason: bytes16 },
    tlvs: { attributionData: tlv(1, attributionData) },
  }),
  commitment_signed: defineMessage({
    name: 'commitment_signed',
    type: 132,
    fields: { channelId, signature, htlcSignatures: array16(signature) },
    tlvs: { fundingTxid: tlv(1, sha256) },
  }),
  revoke_and_ack: defineMessage({
    name: 'revoke_and_ack',
    type: 133,
    fields: { channelId, perCommitmentSecret: secret, nextPerCommitmentPoint: point },
  }),
  update_fee: defineMessage({ name: 'update_fee', type: 134, fields: { channelId, feeratePerKw: u32 } }),
  update_fail_malformed_htlc: defineMessage({
    name: 'update_fail_malformed_htlc',
    type: 135,
    fields: { channelId, id: u64, sha256OfOnion: sha256, failureCode: u16 },
  }),
  channel_reestablish: defineMessage({
    name: 'channel_reestablish',
    type: 136,
    fields: {
      channelId,
      nextCommitmentNumber: u64,
      nextRevocationNumber: u64,
      yourLastPerCommitmentSecret: secret,
      myCurrentPerCommitmentPoint: point,
    },
    tlvs: {
      nextFunding: tlv(1, struct({ nextFundingTxid: sha256, retransmitFlags: u8 })),
      myCurrentFundingLocked: tlv(5, struct({ myCurrentFundingLockedTxid: sha256, retransmitFlags: u8 })),
    },
  }),

  // BOLT 4, "Onion Messages"
  onion_message: defineMessage({
    name: 'onion_message',
    type: 513,
    fields: { pathKey: point, onionMessagePacket: bytes16 },
  }),

  // BOLT 7
  channel_announcement: defineMessage({
    name: 'channel_announcement',
    type: 256,
    fields: {
      nodeSignature1: signature,
      nodeSignature2: signature,
      bitcoinSignature1: signature,
      bitcoinSignature2: signature,
      features: featureVector,
      chainHash,
      shortChannelId: shortChannelIdField,
      nodeId1: point,
      nodeId2: point,
      bitcoinKey1: point,
      bitcoinKey2: point,
      excessData,
    },
  }),
  node_announcement: defineMessage({
    name: 'node_announcement',
    type: 257,
    fields: {
      signature,
      features: featureVector,
      timestamp: u32,
      nodeId: point,
      rgbColor: fixedBytes(3),
      alias: fixedBytes(32),
      addresses: bytes16,
      excessData,
    },
  }),
  channel_update: defineMessage({
    name: 'channel_update',
    type: 258,
    fields: {
      signature,
      chainHash,
      shortChannelId: shortChannelIdField,
      timestamp: u32,
      messageFlags: u8,
      channelFlags: u8,
      cltvExpiryDelta: u16,
      htlcMinimumMsat: u64,
      feeBaseMsat: u32,
      feeProportionalMillionths: u32,
      htlcMaximumMsat: u64,
      excessData,
    },
  }),
  announcement_signatures: defineMessage({
    name: 'announcement_signatures',
    type: 259,
    fields: {
      channelId,
      shortChannelId: shortChannelIdField,
      nodeSignature: signature,
      bitcoinSignature: signature,
    },
  }),
  query_short_channel_ids: defineMessage({
    name: 'query_short_channel_ids',
    type: 261,
    fields: { chainHash, encodedShortIds: bytes16 },
    tlvs: { queryFlags: tlv(1, struct({ encodingType: u8, encodedQueryFlags: restBytes })) },
  }),
  reply_short_channel_ids_end: defineMessage({
    name: 'reply_short_channel_ids_end',
    type: 262,
    fields: { chainHash, fullInformation: u8 },
  }),
  query_channel_range: defineMessage({
    name: 'query_channel_range',
    type: 263,
    fields: { chainHash, firstBlocknum: u32, numberOfBlocks: u32 },
    tlvs: { queryOption: tlv(1, bigsize) },
  }),
  reply_channel_range: defineMessage({
    name: 'reply_channel_range',
    type: 264,
    fields: {
      chainHash,
      firstBlocknum: u32,
      numberOfBlocks: u32,
      syncComplete: u8,
      encodedShortIds: bytes16,
    },
    tlvs: {
      timestamps: tlv(1, struct({ encodingType: u8, encodedTimestamps: restBytes })),
      checksums: tlv(3, restArray(struct({ checksumNodeId1: u32, checksumNodeId2: u32 }))),
    },
  }),
  gossip_timestamp_filter: defineMessage({
    name: 'gossip_timestamp_filter',
    type: 265,
    fields: { chainHash, firstTimestamp: u32, timestampRange: u32 },
  }),
} as const;
