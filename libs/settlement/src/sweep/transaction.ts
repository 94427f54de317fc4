/** The unsigned transaction of a planned sweep. */
import type { Tx } from '@fulmen/bitcoin';
import type { PlannedSweep } from './types.ts';
import { plannedTxInput } from './weights.ts';

/** `homeScript`: a P2WPKH script of the wallet's. */
export function sweepTransaction(sweep: PlannedSweep, homeScript: Uint8Array): Tx {
  const home =
    sweep.homeSat === undefined ? [] : [{ valueSat: sweep.homeSat, script: sweep.homeScript ?? homeScript }];
  return {
    version: 2,
    locktime: sweep.locktime,
    inputs: sweep.inputs.map(plannedTxInput),
    outputs: [...sweep.outputs, ...home],
  };
}
