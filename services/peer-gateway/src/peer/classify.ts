/** Which message goes where, by its type number alone. */

export type MessageRoute =
  | 'init'
  | 'ping'
  | 'pong'
  | 'manager'
  | 'gossip'
  | 'unsupported'
  | 'unknown_even'
  | 'ignored';

const INIT = 16;
const PING = 18;
const PONG = 19;
/** Offered to nobody, so whoever sends them does so in vain: onion messages. */
const ONION_MESSAGE = 513;

/** warning, stfu, peer_storage, peer_storage_retrieval, error; start_batch; announcement_signatures. */
const MANAGER_TYPES: ReadonlySet<number> = new Set([1, 2, 7, 9, 17, 127, 259]);
/** announcements and channel_update; queries, replies and the timestamp filter. */
const GOSSIP_TYPES: ReadonlySet<number> = new Set([256, 257, 258, 261, 262, 263, 264, 265]);

/** Openings and closings v1 (32 to 39), updates and reestablish (128 to 136). */
function isChannelType(type: number): boolean {
  return (type >= 32 && type <= 39 && type !== 37) || (type >= 128 && type <= 136 && type !== 129);
}

/** Where a message of this type goes after init. */
export function routeOf(type: number): MessageRoute {
  if (type === INIT) return 'init';
  if (type === PING) return 'ping';
  if (type === PONG) return 'pong';
  if (isChannelType(type) || MANAGER_TYPES.has(type)) return 'manager';
  if (GOSSIP_TYPES.has(type)) return 'gossip';
  if (type === ONION_MESSAGE) return 'unsupported';
  // BOLT 1: "upon receiving a message of unknown, odd type: MUST ignore the received message";
  // "of unknown, even type: MUST close the connection".
  return type % 2 === 0 ? 'unknown_even' : 'ignored';
}

/** gossip_timestamp_filter: type, chain hash, first timestamp, range; nothing optional follows that matters. */
const TIMESTAMP_FILTER = 265;
const MAX_TIMESTAMP_FILTER_BYTES = 64;

/** A filter short enough to be remembered. */
export function isTimestampFilter(message: Uint8Array): boolean {
  return typeOf(message) === TIMESTAMP_FILTER && message.length <= MAX_TIMESTAMP_FILTER_BYTES;
}

const CHANNEL_UPDATE = 258;
/** Type, signature and chain hash come before it. */
const UPDATE_SCID_OFFSET = 2 + 64 + 32;

/** The channel that a channel_update is about; undefined for other messages. */
export function updatedScid(message: Uint8Array): bigint | undefined {
  if (typeOf(message) !== CHANNEL_UPDATE || message.length < UPDATE_SCID_OFFSET + 8) return undefined;
  return new DataView(message.buffer, message.byteOffset).getBigUint64(UPDATE_SCID_OFFSET);
}

/** The type number of a whole message; undefined when it is shorter than that. */
export function typeOf(message: Uint8Array): number | undefined {
  const [high, low] = message;
  return high === undefined || low === undefined ? undefined : (high << 8) | low;
}
