/** The channel's core: types, and the functions that a shell calls. Commitment transactions are at `@fulmen/channel/commitment/index`. */
export type * from './parameters.ts';
export type * from './htlc.ts';
export type * from './commitment-spec.ts';
export type * from './effect.ts';
export type * from './persist.ts';
export type * from './context.ts';
export type * from './input.ts';
export * from './state.ts';
export type { Step, StepResult } from './step.ts';
export type { ChannelError, ChannelErrorCode, Reaction } from './errors.ts';
export * from './config.ts';
export { applyReaction, channelStep } from './channel.ts';
export { openChannel } from './open/funder.ts';
export type { OpenRequest } from './open/funder.ts';
export { acceptChannel } from './open/fundee.ts';
export type { AcceptRequest } from './open/fundee.ts';
export type { HolderKeys } from './open/terms.ts';
export { decodeChannelType, encodeChannelType, isTypeNegotiated } from './open/channel-type.ts';
export type { ChannelTypeMeaning } from './open/channel-type.ts';
export { channelIdOf } from './open/establish.ts';
export { restoreStatically } from './open/restore-static.ts';
export type { StaticRestoration } from './open/restore-static.ts';
export { canCommit } from './commit.ts';
export { isHeld } from './freeze.ts';
export { signerProgress, signerWork } from './signer-work.ts';
export type { SignerMismatch, SignerProgress } from './signer-work.ts';
export {
  htlcDeadlines,
  isPastDeadline,
  isTooLateToOffer,
  nextDeadlineHeight,
  unsignedHtlcs,
  weighClosing,
} from './deadlines.ts';
export type { HtlcDeadline } from './deadlines.ts';
export { summary, unresolvedInboundHtlcs } from './summary.ts';
export type { ChannelSummary } from './summary.ts';
export { counterpartySpec, holderSpec } from './updates/spec.ts';
export { persistDelta } from './persist/delta.ts';
export { restore } from './persist/restore.ts';
export type { RestoreError } from './persist/restore.ts';
