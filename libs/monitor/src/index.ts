/** What a channel tells its monitor, and what the monitor makes of it. */
export * from './update.ts';
export {
  decodeChannelMonitorUpdate,
  decodeMonitorParameters,
  encodeChannelMonitorUpdate,
  encodeMonitorParameters,
} from './codec.ts';
export { applyUpdate, htlcKey, newMonitor } from './state.ts';
export type {
  AppliedUpdate,
  ChannelMonitor,
  CounterpartyCommitment,
  ForceClose,
  HolderCommitment,
  LiveHtlc,
  MonitorError,
} from './state.ts';
export { isAtHand, rebuildRevoked, withChunks, withoutChunks } from './rebuild.ts';
export type { RevokedCommitment } from './rebuild.ts';
export type { ArchiveChunk } from './archive.ts';
export { decodeMonitor, encodeMonitor, encodeWholeFrame, isSplit, splitMonitor } from './snapshot.ts';
export type { SplitMonitor, WholeFrame } from './snapshot.ts';
