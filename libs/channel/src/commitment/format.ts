/**
 * The commitment formats, as strategies behind one interface: nothing else in
 * the project asks which format a channel has. A new format is a file beside
 * these and an entry in the table.
 */
import type { CommitmentKeys } from '@fulmen/keys';
import type { CommitmentFormatName } from '../parameters.ts';
import { anchorsFormat } from './format-anchors.ts';
import { staticRemotekeyFormat } from './format-static-remotekey.ts';
import type { ToRemoteScripts } from './scripts/to-remote.ts';

export interface CommitmentFormat {
  readonly name: CommitmentFormatName;
  /** Expected weight without HTLCs (BOLT 3, "Fee Calculation"). */
  readonly commitmentBaseWeight: number;
  /** Added by every untrimmed HTLC. */
  readonly htlcOutputWeight: number;
  /** Expected weight of HTLC-timeout and HTLC-success transactions. */
  readonly htlcTimeoutWeight: number;
  readonly htlcSuccessWeight: number;
  /** Feerate that second-stage transactions pay when the commitment's is this: the same, or none. */
  htlcTransactionFeerateSatPerKw(commitmentFeerateSatPerKw: number): number;
  /** Sequence of a second-stage transaction's input, and of every direct claim of an HTLC. */
  readonly htlcInputSequence: number;
  /** Hash type of the other party's signature over a second-stage transaction. */
  readonly counterpartyHtlcSighashType: number;
  /** Value of each of the two anchors; 0n: none exist. */
  readonly anchorSat: bigint;
  toRemote(publicKey: Uint8Array): ToRemoteScripts;
  offeredHtlcScript(keys: CommitmentKeys, paymentHash: Uint8Array): Uint8Array;
  receivedHtlcScript(
    keys: CommitmentKeys,
    htlc: { readonly paymentHash: Uint8Array; readonly cltvExpiryHeight: number },
  ): Uint8Array;
}

const FORMATS: Readonly<Record<CommitmentFormatName, CommitmentFormat>> = {
  static_remotekey: staticRemotekeyFormat,
  anchors: anchorsFormat,
};

/** The strategy of a channel's format. */
export function commitmentFormat(name: CommitmentFormatName): CommitmentFormat {
  return FORMATS[name];
}
