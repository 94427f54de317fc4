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
export { rebuildRevoked } from './rebuild.ts';
export type { RevokedCommitment } from './rebuild.ts';
export { decodeMonitor, encodeMonitor } from './snapshot.ts';
