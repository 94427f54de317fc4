/** The settlement's tables of the in-memory twin, and what they tell the manager's. */
import { mergedResolution, type ResolutionEntry } from '../manager/memory-state.ts';
import type { HtlcSource, Resolution, StoreEvent } from '../manager/manager-store.ts';
import { hexKey, sourceKey } from '../manager/source.ts';
import type * as port from './chain-store.ts';

/** A channel of the manager, as far as chain-monitor looks. */
export interface ManagerChannel {
  readonly row: {
    readonly channelKeysId: Uint8Array;
    readonly shard?: number;
    readonly phase?: string;
    readonly holderIsFunder?: boolean;
  };
  readonly outgoing?: ReadonlyMap<bigint, { readonly source: HtlcSource; readonly sourceShard: number }>;
  /** The last update of its monitor that its row knows of. */
  readonly monitorUpdateId?: bigint;
  closingDecision?: string | undefined;
  /** Of forwards that were fulfilled past their deadline and have left it; absent: none. */
  readonly fulfilledLate?: { readonly amountMsat: bigint; readonly updateId: bigint } | undefined;
}

/** What a settlement writes to the manager. */
export interface ManagerOutcomes {
  readonly channels: ReadonlyMap<string, ManagerChannel>;
  readonly resolutions: Map<string, ResolutionEntry>;
  readonly preimages: Map<
    string,
    { readonly channelId: Uint8Array; readonly htlcId: bigint; readonly preimage: Uint8Array }
  >;
  readonly outbox: StoreEvent[];
}

export const outPointKey = (at: port.WalletOutPoint): string => `${hexKey(at.txid)}:${at.outputIndex}`;

export class MemorySettlementTables {
  /** By channel and txid. */
  readonly spends = new Map<string, port.SpendRecord>();
  readonly settlements = new Map<string, port.SettlementRecord>();
  readonly claims = new Map<string, port.ClaimRecord>();
  readonly sweeps = new Map<string, port.SweepRecord>();

  write(turn: port.ChainTurn, manager: ManagerOutcomes): void {
    for (const at of turn.forgottenSpends ?? []) this.spends.delete(spendKey(at));
    for (const row of turn.spends ?? []) this.spends.set(spendKey(row), row);
    for (const id of turn.forgottenSettlements ?? []) this.settlements.delete(hexKey(id));
    for (const row of turn.settlements ?? []) this.settlements.set(hexKey(row.channelId), row);
    for (const at of turn.forgottenClaims ?? []) this.claims.delete(outPointKey(at));
    for (const row of turn.claims ?? []) this.claims.set(outPointKey(row.outPoint), row);
    for (const id of turn.forgottenSweeps ?? []) this.sweeps.delete(hexKey(id));
    for (const row of turn.sweeps ?? []) this.sweeps.set(hexKey(row.sweepId), row);
    for (const outcome of turn.outcomes ?? []) tell(manager, outcome);
    for (const { type, timeUnixMs, body } of turn.events ?? [])
      manager.outbox.push({ type, timeUnixMs, body });
  }

  snapshot(): Pick<port.ChainSnapshot, 'spends' | 'settlements' | 'claims' | 'sweeps'> {
    const spends = [...this.spends.values()].sort((a, b) => a.height - b.height || a.txIndex - b.txIndex);
    const atWork = new Set(spends.map(({ channelId }) => hexKey(channelId)));
    return {
      spends,
      settlements: [...this.settlements.values()].filter(({ channelId }) => atWork.has(hexKey(channelId))),
      claims: [...this.claims.values()],
      sweeps: [...this.sweeps.values()],
    };
  }

  list(resolved: 'include' | 'exclude', limit: number): readonly port.SettlementRecord[] {
    return [...this.settlements.values()]
      .filter(({ stage }) => resolved === 'include' || stage === 'closed')
      .sort((a, b) => b.closeHeight - a.closeHeight || (hexKey(a.channelId) < hexKey(b.channelId) ? -1 : 1))
      .slice(0, limit);
  }
}

const spendKey = (row: { readonly channelId: Uint8Array; readonly txid: Uint8Array }): string =>
  `${hexKey(row.channelId)}:${hexKey(row.txid)}`;

function tell(manager: ManagerOutcomes, { channelId, htlcId, outcome }: port.UpstreamOutcome): void {
  const link = manager.channels.get(hexKey(channelId))?.outgoing?.get(htlcId);
  if (link === undefined) return;
  const { source, sourceShard } = link;
  const resolution: Resolution = {
    source,
    sourceShard,
    outcome:
      outcome.type === 'fulfilled'
        ? { type: 'fulfilled', preimage: outcome.preimage }
        : { type: 'failed_here', failure: outcome.failure },
  };
  const key = sourceKey(source);
  const merged = mergedResolution(manager.resolutions.get(key), [resolution], source);
  if (merged !== undefined) manager.resolutions.set(key, merged);
  if (outcome.type === 'fulfilled' && source.type === 'htlc' && !manager.preimages.has(key))
    manager.preimages.set(key, {
      channelId: source.channelId,
      htlcId: source.htlcId,
      preimage: outcome.preimage,
    });
}
