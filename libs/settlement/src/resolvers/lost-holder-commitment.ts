/**
 * A commitment of the holder's own that this monitor knows nothing of: the node closed the channel, lost its databases,
 * and came back from a static backup. What it holds is not known, but its number is in the transaction, the signer
 * knows the point of every number, and so the balance's script can be built and found. HTLCs are lost with the
 * counterparty's signatures on their second stages.
 */
import type { Tx } from '@fulmen/bitcoin';
import { p2wshScript } from '@fulmen/bitcoin';
import { commitmentKeysOf } from '@fulmen/channel/commitment/build';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import { toLocalScript } from '@fulmen/channel/commitment/scripts/to-local';
import { equalBytes } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { ChannelMonitor, MonitorFunding } from '@fulmen/monitor';
import type { CloseScope, Resolution } from '../scope.ts';
import { resolveAnchor } from './anchor.ts';
import { resolveToLocal } from './to-local.ts';

export interface LostHolderCommitment {
  readonly commitmentNumber: bigint;
  /** Of to_local. */
  readonly outputIndex: number;
  readonly witnessScript: Uint8Array;
}

/** Whether a monitor may have lost a holder commitment of this number. */
export function mayBeLost({ holderCommitment }: ChannelMonitor, commitmentNumber: bigint): boolean {
  return holderCommitment === undefined || commitmentNumber > holderCommitment.content.commitmentNumber;
}

/** Finds to_local by its script; without one there is nothing of the holder's but an anchor. */
export function findLostBalance(
  secp: Secp256k1,
  { parameters }: ChannelMonitor,
  tx: Tx,
  at: { readonly commitmentNumber: bigint; readonly perCommitmentPoint: Uint8Array },
): LostHolderCommitment | undefined {
  const keys = commitmentKeysOf(secp, {
    parameters: commitmentParametersOfMonitor(parameters),
    owner: 'holder',
    perCommitmentPoint: at.perCommitmentPoint,
  });
  const witnessScript = toLocalScript({
    revocationPubkey: keys.revocationPubkey,
    delayedPubkey: keys.broadcasterDelayedPubkey,
    delayBlocks: parameters.holder.selfDelayBlocks,
  });
  const scriptPubKey = p2wshScript(witnessScript);
  const outputIndex = tx.outputs.findIndex(({ script }) => equalBytes(script, scriptPubKey));
  return outputIndex < 0 ? undefined : { commitmentNumber: at.commitmentNumber, outputIndex, witnessScript };
}

/** The holder's balance, after the delay that the counterparty asked for. */
export function resolveLostHolderCommitment(
  scope: CloseScope,
  funding: MonitorFunding,
  { commitmentNumber, outputIndex, witnessScript }: LostHolderCommitment,
): Resolution {
  const { tx, txid } = scope.close;
  const output = tx.outputs[outputIndex];
  const balance =
    output === undefined
      ? []
      : [
          resolveToLocal(
            scope,
            {
              outPoint: { txid, outputIndex },
              valueSat: output.valueSat,
              scriptPubKey: output.script,
              witnessScript,
            },
            commitmentNumber,
          ),
        ];
  return {
    outputs: [...balance, ...resolveAnchor(scope, funding)],
    ends: new Map(),
    trimmed: new Set(),
    content: 'unknown',
    alsoWatched: [],
  };
}
