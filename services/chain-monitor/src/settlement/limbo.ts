/** What the node owns in closed channels and has not in its wallet yet: the wallet's balance says it apart. */
import { toHex } from '@fulmen/codec';
import type { ClaimRecord, SettlementRecord, SweepRecord } from '@fulmen/store/chain/chain-store';
import { decodeSummary, inLimbo } from './summary.ts';

export interface LimboOutput {
  readonly channelId: Uint8Array;
  readonly valueSat: bigint;
  /** From this height on it can be claimed; 0: it can now. */
  readonly maturityHeight: number;
}

export interface LimboFacts {
  /** Not resolved. */
  readonly settlements: Iterable<SettlementRecord>;
  readonly claims: Iterable<ClaimRecord>;
  readonly sweeps: Iterable<SweepRecord>;
  /** Whether the wallet counts an output of this transaction already. */
  readonly isInWallet: (txid: Uint8Array) => boolean;
}

/** Its second stage goes to a delayed output, not to the wallet. */
const SECOND_STAGE_CLAIM = 'holder_htlc';

/** Nothing that the wallet counts already: a sweep in the mempool is unconfirmed money, not limbo. */
export function limboOf({ settlements, claims, sweeps, isInWallet }: LimboFacts): readonly LimboOutput[] {
  const arriving = new Set<string>();
  for (const { txid, sweepId } of sweeps) if (isInWallet(txid)) arriving.add(toHex(sweepId));
  const counted = new Set<string>();
  for (const { outPoint, sweepId, kind } of claims)
    if (sweepId !== undefined && kind !== SECOND_STAGE_CLAIM && arriving.has(toHex(sweepId)))
      counted.add(`${toHex(outPoint.txid)}:${outPoint.outputIndex}`);
  const limbo: LimboOutput[] = [];
  for (const { channelId, summary } of settlements)
    for (const output of inLimbo(decodeSummary(summary))) {
      if (counted.has(`${toHex(output.txid)}:${output.outputIndex}`)) continue;
      const maturityHeight = output.status === 'maturing' ? (output.untilHeight ?? 0) : 0;
      limbo.push({ channelId, valueSat: output.valueSat, maturityHeight });
    }
  return limbo;
}
