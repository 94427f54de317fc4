/** How a channel ends on-chain: what is whose, what may be claimed, and the transactions that do. */
export * from './types.ts';
export { settle } from './settle.ts';
export { commitmentNumbers, lostHolderNumber } from './identify.ts';
export { CLAIM_SIGHASH_TYPE, assembleWitness, claimWitnessWeight } from './witness.ts';
export type { ClaimAnswer } from './witness.ts';
export * from './constants.ts';
export { isOverdue, isTooDear } from './worth.ts';
