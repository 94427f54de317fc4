/** The settlement's half of a turn in the making. */
import { toHex } from '@fulmen/codec';
import type {
  ChainEvent,
  ChainTurn,
  ClaimRecord,
  SettlementRecord,
  SpendRecord,
  SweepRecord,
  UpstreamOutcome,
  WalletOutPoint,
} from '@fulmen/store/chain/chain-store';
import { outPointKey } from './keys.ts';
import type { ChainView } from './view.ts';

type Change<R, K> = { readonly type: 'put'; readonly record: R } | { readonly type: 'drop'; readonly key: K };

/** Records of one kind, the last put or drop of each key counting. */
class Changes<R, K> {
  readonly #stored: ReadonlyMap<string, R>;
  readonly #changed = new Map<string, Change<R, K>>();

  constructor(stored: ReadonlyMap<string, R>) {
    this.#stored = stored;
  }

  get(key: string): R | undefined {
    const change = this.#changed.get(key);
    if (change === undefined) return this.#stored.get(key);
    return change.type === 'put' ? change.record : undefined;
  }

  /** Every record as this turn leaves it. */
  *all(): Iterable<R> {
    for (const [key, record] of this.#stored) if (!this.#changed.has(key)) yield record;
    for (const change of this.#changed.values()) if (change.type === 'put') yield change.record;
  }

  put(key: string, record: R): void {
    this.#changed.set(key, { type: 'put', record });
  }

  drop(key: string, id: K): void {
    this.#changed.set(key, { type: 'drop', key: id });
  }

  puts(): R[] {
    return [...this.#changed.values()].flatMap((change) => (change.type === 'put' ? [change.record] : []));
  }

  drops(): K[] {
    return [...this.#changed.values()].flatMap((change) => (change.type === 'drop' ? [change.key] : []));
  }
}

interface SpendKey {
  readonly channelId: Uint8Array;
  readonly txid: Uint8Array;
}

const spendKey = ({ channelId, txid }: SpendKey): string => `${toHex(channelId)}:${toHex(txid)}`;
const keyOf = ({ txid, outputIndex }: WalletOutPoint): string => outPointKey(txid, outputIndex);

export class SettlementDraft {
  readonly #view: ChainView;
  readonly #spends = new Changes<SpendRecord, SpendKey>(new Map());
  readonly #settlements: Changes<SettlementRecord, Uint8Array>;
  readonly #claims: Changes<ClaimRecord, WalletOutPoint>;
  readonly #sweeps: Changes<SweepRecord, Uint8Array>;
  readonly #outcomes: UpstreamOutcome[] = [];
  readonly #events: ChainEvent[] = [];

  constructor(view: ChainView) {
    this.#view = view;
    this.#settlements = new Changes(view.settlements);
    this.#claims = new Changes(view.claims);
    this.#sweeps = new Changes(view.sweeps);
  }

  /** A channel's facts as this turn leaves them, in the order of the chain. */
  spends(channelId: string): readonly SpendRecord[] {
    const gone = new Set(this.#spends.drops().map(spendKey));
    const put = this.#spends.puts().filter((record) => toHex(record.channelId) === channelId);
    const replaced = new Set(put.map(spendKey));
    const kept = [...(this.#view.spends.get(channelId)?.values() ?? [])].filter(
      (record) => !gone.has(spendKey(record)) && !replaced.has(spendKey(record)),
    );
    return [...kept, ...put].sort((a, b) => a.height - b.height || a.txIndex - b.txIndex);
  }

  putSpend(record: SpendRecord): void {
    this.#spends.put(spendKey(record), record);
  }

  forgetSpend({ channelId, txid }: SpendKey): void {
    this.#spends.drop(spendKey({ channelId, txid }), { channelId, txid });
  }

  settlement(channelId: string): SettlementRecord | undefined {
    return this.#settlements.get(channelId);
  }

  putSettlement(record: SettlementRecord): void {
    this.#settlements.put(toHex(record.channelId), record);
  }

  forgetSettlement(channelId: Uint8Array): void {
    this.#settlements.drop(toHex(channelId), channelId);
  }

  /** By outpoint key. */
  claim(key: string): ClaimRecord | undefined {
    return this.#claims.get(key);
  }

  claims(): Iterable<ClaimRecord> {
    return this.#claims.all();
  }

  putClaim(record: ClaimRecord): void {
    this.#claims.put(keyOf(record.outPoint), record);
  }

  dropClaim(at: WalletOutPoint): void {
    this.#claims.drop(keyOf(at), { txid: at.txid, outputIndex: at.outputIndex });
  }

  sweep(sweepId: string): SweepRecord | undefined {
    return this.#sweeps.get(sweepId);
  }

  sweeps(): Iterable<SweepRecord> {
    return this.#sweeps.all();
  }

  putSweep(record: SweepRecord): void {
    this.#sweeps.put(toHex(record.sweepId), record);
  }

  dropSweep(sweepId: Uint8Array): void {
    this.#sweeps.drop(toHex(sweepId), sweepId);
  }

  /** The end of an HTLC, for whoever it came from. */
  tell(outcome: UpstreamOutcome): void {
    this.#outcomes.push(outcome);
  }

  event(event: ChainEvent): void {
    this.#events.push(event);
  }

  turn(): ChainTurn {
    const some = <K extends keyof ChainTurn>(name: K, rows: NonNullable<ChainTurn[K]> & readonly unknown[]) =>
      rows.length === 0 ? {} : ({ [name]: rows } as unknown as Pick<ChainTurn, K>);
    return {
      ...some('spends', this.#spends.puts()),
      ...some('forgottenSpends', this.#spends.drops()),
      ...some('settlements', this.#settlements.puts()),
      ...some('forgottenSettlements', this.#settlements.drops()),
      ...some('claims', this.#claims.puts()),
      ...some('forgottenClaims', this.#claims.drops()),
      ...some('sweeps', this.#sweeps.puts()),
      ...some('forgottenSweeps', this.#sweeps.drops()),
      ...some('outcomes', this.#outcomes),
      ...some('events', this.#events),
    };
  }
}
