// The messages of BOLT 1, 2, 4 (onion_message) and 7, and what belongs to them.
export * from './message.ts';
export * from './declarations.ts';
export * from './gossip.ts';
export * from './queries.ts';
export * from './address.ts';
export * from './holder-features.ts';
export * from './short-channel-id.ts';
export * from './sanitize.ts';
export type { TlvRecord } from '@fulmen/codec';
