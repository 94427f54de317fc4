/** BOLT 3: commitment, second-stage and closing transactions. */
export * from './types.ts';
export { CommitmentError } from './errors.ts';
export type { CommitmentErrorCode } from './errors.ts';
export { commitmentFormat } from './format.ts';
export type { CommitmentFormat } from './format.ts';
export * from './fees.ts';
export * from './build.ts';
export * from './sign.ts';
export * from './closing.ts';
export * from './from-monitor.ts';
export * from './scripts/funding.ts';
export * from './scripts/to-local.ts';
export * from './scripts/to-remote.ts';
export * from './scripts/anchor.ts';
export * from './scripts/htlc.ts';
