/** Bitcoin as Lightning needs it: transactions, scripts, signature hashes, fees, addresses, blocks. PSBTs and the bitcoinjs bridge are imported by path. */
export { BitcoinError } from './errors.ts';
export type { BitcoinErrorCode } from './errors.ts';
export * from './transaction.ts';
export * from './opcodes.ts';
export * from './script.ts';
export * from './sighash.ts';
export * from './fees.ts';
export * from './address.ts';
export * from './signature.ts';
export * from './networks.ts';
export * from './block.ts';
export * from './taproot.ts';
export * from './descriptor.ts';
