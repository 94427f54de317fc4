/**
 * Commitments of option_anchors (zero-fee HTLC transactions): fees are added
 * when a transaction is broadcast, by a child of an anchor for the commitment
 * and by further inputs for second-stage transactions. That is why the other
 * party signs the latter with SINGLE|ANYONECANPAY.
 */
import { SIGHASH } from '@fulmen/bitcoin';
import type { CommitmentFormat } from './format.ts';
import { ANCHOR_OUTPUT_SAT } from './scripts/anchor.ts';
import { offeredHtlcScript, receivedHtlcScript } from './scripts/htlc.ts';
import { toRemoteDelayed } from './scripts/to-remote.ts';

export const anchorsFormat: CommitmentFormat = {
  name: 'anchors',
  commitmentBaseWeight: 1124,
  htlcOutputWeight: 172,
  htlcTimeoutWeight: 666,
  htlcSuccessWeight: 706,
  // BOLT 3: "If `option_anchors` applies: MUST be 0."
  htlcTransactionFeerateSatPerKw: () => 0,
  htlcInputSequence: 1,
  counterpartyHtlcSighashType: SIGHASH.SINGLE_ANYONECANPAY,
  anchorSat: ANCHOR_OUTPUT_SAT,
  toRemote: toRemoteDelayed,
  offeredHtlcScript: (keys, paymentHash) => offeredHtlcScript(keys, paymentHash, 'one_block'),
  receivedHtlcScript: (keys, htlc) => receivedHtlcScript(keys, htlc, 'one_block'),
};
