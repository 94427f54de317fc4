/** The channel's core: types, and the functions that a shell calls. Commitment transactions are at `@fulmen/channel/commitment/*`. */
export type * from './parameters.ts';
export type * from './htlc.ts';
export type * from './commitment-spec.ts';
export type * from './effect.ts';
export type * from './persist.ts';
export type * from './context.ts';
export type * from './input.ts';
export type * from './state.ts';
export type * from './step.ts';
export type { ChannelError, ChannelErrorCode, Reaction } from './errors.ts';
export { defaultChannelConfig } from './config.ts';
export type { ChannelConfig } from './config.ts';
