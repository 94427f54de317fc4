/**
 * A spend that the monitor cannot explain: a commitment of the holder's that was revoked or is newer than the monitor,
 * or a leaked key. BOLT 5: "MUST send a warning regarding lost funds." Outputs that happen to pay the holder's keys are
 * claimed, and preimages are read, as after a loss of data; it can do no harm.
 */
import type { MonitorFunding } from '@fulmen/monitor';
import type { CloseScope, Resolution } from '../scope.ts';
import { resolveDataLoss } from './data-loss.ts';

export function resolveUnknownSpend(scope: CloseScope, funding: MonitorFunding): Resolution {
  return resolveDataLoss(scope, funding);
}
