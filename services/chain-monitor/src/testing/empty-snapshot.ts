/** The rows of a chain-monitor that has seen nothing. */
export const EMPTY_SNAPSHOT = {
  blocks: [],
  fundings: [],
  broadcasts: [],
  addresses: [],
  utxos: [],
  reservations: [],
  spends: [],
  settlements: [],
  claims: [],
  sweeps: [],
  rescanFrom: undefined,
  scannedFrom: undefined,
};
