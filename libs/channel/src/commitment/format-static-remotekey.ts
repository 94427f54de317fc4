/** Commitments of channel type option_static_remotekey without anchors: every transaction pays the commitment's feerate. */
import { SIGHASH } from '@fulmen/bitcoin';
import type { CommitmentFormat } from './format.ts';
import { offeredHtlcScript, receivedHtlcScript } from './scripts/htlc.ts';
import { toRemoteKeyHash } from './scripts/to-remote.ts';

export const staticRemotekeyFormat: CommitmentFormat = {
  name: 'static_remotekey',
  commitmentBaseWeight: 724,
  htlcOutputWeight: 172,
  htlcTimeoutWeight: 663,
  htlcSuccessWeight: 703,
  htlcTransactionFeerateSatPerKw: (commitmentFeerateSatPerKw) => commitmentFeerateSatPerKw,
  htlcInputSequence: 0,
  counterpartyHtlcSighashType: SIGHASH.ALL,
  anchorSat: 0n,
  toRemote: toRemoteKeyHash,
  offeredHtlcScript: (keys, paymentHash) => offeredHtlcScript(keys, paymentHash, 'none'),
  receivedHtlcScript: (keys, htlc) => receivedHtlcScript(keys, htlc, 'none'),
};
