/** The key that names an HTLC's source in rows: one byte of type, then the identity. */
import type { CommitUnit, HtlcSource } from './manager-store.ts';

const TYPE_HTLC = 0;
const TYPE_PAYMENT = 1;
const CHANNEL_ID_BYTES = 32;

/** 41 bytes for an HTLC; 1 + the attempt's id for a payment. */
export function encodeSource(source: HtlcSource): Uint8Array {
  if (source.type === 'payment') {
    const key = new Uint8Array(1 + source.attemptId.length);
    key[0] = TYPE_PAYMENT;
    key.set(source.attemptId, 1);
    return key;
  }
  const key = new Uint8Array(1 + CHANNEL_ID_BYTES + 8);
  key[0] = TYPE_HTLC;
  key.set(source.channelId, 1);
  new DataView(key.buffer).setBigUint64(1 + CHANNEL_ID_BYTES, source.htlcId);
  return key;
}

/** The inverse of encodeSource. */
export function decodeSource(key: Uint8Array): HtlcSource {
  if (key[0] === TYPE_PAYMENT) return { type: 'payment', attemptId: key.slice(1) };
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  return {
    type: 'htlc',
    channelId: key.slice(1, 1 + CHANNEL_ID_BYTES),
    htlcId: view.getBigUint64(1 + CHANNEL_ID_BYTES),
  };
}

/** Any bytes as a Map's key. */
export const hexKey = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');

/** A source as a Map's key. */
export const sourceKey = (source: HtlcSource): string => hexKey(encodeSource(source));

/** The row that a unit is about, which its claims bear: a channel's id or a payment's hash. A shard's answer has none. */
export function identityOf(unit: CommitUnit): Uint8Array {
  switch (unit.kind) {
    case 'channel':
      return unit.commit.channelId;
    case 'payment':
      return unit.commit.paymentHash;
    case 'shard':
      return new Uint8Array(0);
  }
}
