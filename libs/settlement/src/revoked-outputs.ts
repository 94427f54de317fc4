/**
 * Finds what the revocation opens in a cheater's transaction: by script and
 * value, each output once, whatever else the transaction has. No signature
 * hashes are needed, so that a breach with a thousand HTLCs takes milliseconds.
 */
import { p2wshScript } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { commitmentKeysOf } from '@fulmen/channel/commitment/build';
import { htlcSide } from '@fulmen/channel/commitment/fees';
import { commitmentFormat } from '@fulmen/channel/commitment/format';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import { toLocalScript } from '@fulmen/channel/commitment/scripts/to-local';
import { toHex } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { MonitorHtlc, MonitorParameters, RevokedCommitment } from '@fulmen/monitor';

/** An output of the cheater's transaction. */
export interface MatchedOutput {
  readonly outputIndex: number;
  readonly valueSat: bigint;
  readonly scriptPubKey: Uint8Array;
  readonly witnessScript: Uint8Array;
}

export interface RevokedOutputs {
  /** The counterparty's balance. */
  readonly toLocal: MatchedOutput | undefined;
  readonly htlcs: readonly (MatchedOutput & { readonly htlc: MonitorHtlc })[];
  /** Script of to_local and of every second stage. */
  readonly delayedScript: Uint8Array;
  readonly delayedScriptPubKey: Uint8Array;
}

/** The transaction's outputs by script, in their order. */
function outputsByScript(tx: Tx): Map<string, number[]> {
  const byScript = new Map<string, number[]>();
  for (const [index, { script }] of tx.outputs.entries()) {
    const key = toHex(script);
    const known = byScript.get(key);
    if (known === undefined) byScript.set(key, [index]);
    else known.push(index);
  }
  return byScript;
}

/** BOLT 3's order of HTLCs that share value and script: twins then get the outputs that the builder gave them. */
function byOutputOrder(a: MonitorHtlc, b: MonitorHtlc): number {
  return a.cltvExpiryHeight - b.cltvExpiryHeight || (a.id < b.id ? -1 : 1);
}

/** Undefined when nothing of the transaction is this revoked commitment's. */
export function matchRevoked(
  secp: Secp256k1,
  monitorParameters: MonitorParameters,
  { htlcs, secret }: RevokedCommitment,
  tx: Tx,
): RevokedOutputs | undefined {
  const parameters = commitmentParametersOfMonitor(monitorParameters);
  const format = commitmentFormat(parameters.commitmentFormat);
  const perCommitmentPoint = secp.publicKeyOf(secret);
  const keys = commitmentKeysOf(secp, { parameters, owner: 'counterparty', perCommitmentPoint });
  const delayedScript = toLocalScript({
    revocationPubkey: keys.revocationPubkey,
    delayedPubkey: keys.broadcasterDelayedPubkey,
    delayBlocks: parameters.holder.toSelfDelayBlocks,
  });
  const delayedScriptPubKey = p2wshScript(delayedScript);

  const byScript = outputsByScript(tx);
  /** Takes the first output of this script, and of this value when one is given. */
  const take = (
    witnessScript: Uint8Array,
    scriptPubKey: Uint8Array,
    valueSat?: bigint,
  ): MatchedOutput | undefined => {
    const candidates = byScript.get(toHex(scriptPubKey)) ?? [];
    const at = candidates.findIndex(
      (index) => valueSat === undefined || tx.outputs[index]?.valueSat === valueSat,
    );
    const outputIndex = candidates[at];
    const output = outputIndex === undefined ? undefined : tx.outputs[outputIndex];
    if (outputIndex === undefined || output === undefined) return undefined;
    candidates.splice(at, 1);
    return { outputIndex, valueSat: output.valueSat, scriptPubKey, witnessScript };
  };

  const toLocal = take(delayedScript, delayedScriptPubKey);
  const matched: (MatchedOutput & { readonly htlc: MonitorHtlc })[] = [];
  for (const htlc of [...htlcs].sort(byOutputOrder)) {
    const witnessScript =
      htlcSide('counterparty', htlc.direction) === 'offered'
        ? format.offeredHtlcScript(keys, htlc.paymentHash)
        : format.receivedHtlcScript(keys, htlc);
    const output = take(witnessScript, p2wshScript(witnessScript), htlc.amountMsat / 1000n);
    if (output !== undefined) matched.push({ ...output, htlc });
  }
  matched.sort((a, b) => a.outputIndex - b.outputIndex);
  const toRemote = format.toRemote(parameters.holder.paymentBasepoint).scriptPubKey;
  if (toLocal === undefined && matched.length === 0 && !byScript.has(toHex(toRemote))) return undefined;
  return { toLocal, htlcs: matched, delayedScript, delayedScriptPubKey };
}
