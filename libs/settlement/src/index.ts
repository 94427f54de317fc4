/** How a channel ends on-chain: what is whose, what may be claimed, and the transactions that do. */
export * from './types.ts';
