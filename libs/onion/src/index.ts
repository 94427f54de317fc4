/** Onion routing (BOLT 4): packets, payloads, blinded paths, onion messages, failures and attribution. */
export * from './attribution.ts';
export * from './blinded-fees.ts';
export * from './blinded-path.ts';
export * from './build.ts';
export * from './failure-disposition.ts';
export * from './failure-message.ts';
export * from './failure-packet.ts';
export * from './hop-instruction.ts';
export * from './onion-message.ts';
export * from './packet.ts';
export * from './payload.ts';
export * from './peel.ts';
export * from './recipient-data.ts';
