/** SettlementService: what becomes of closed channels, and what is being brought home from them. */
import { decodeTx, FEERATE_FLOOR_SAT_PER_KW, txid as txidOf } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type {
  ClosingChannel,
  ClosingOutput,
  SettlementServiceService,
  Sweep,
} from '@fulmen/proto/chain/v1/chain';
import { type Handlers, RpcError } from '@fulmen/rpc';
import type {
  BroadcastRecord,
  ChainStore,
  ClaimRecord,
  SettlementRecord,
  SweepRecord,
  WalletOutPoint,
} from '@fulmen/store/chain/chain-store';
import { decodeSummary, type SummaryOutput } from '../settlement/summary.ts';
import { answer } from './errors.ts';

/** Closed channels of one answer. */
const MAX_LISTED = 1_000;
const DEFAULT_LISTED = 100;
/** Outputs of one answer; the channels beyond them are left out, the oldest first. */
const MAX_OUTPUTS = 10_000;
/** Claims of one answer: the most urgent ones. */
const MAX_SWEEPS = 5_000;

/** What a `ChainView` holds of it. */
export interface UnderWay {
  readonly claims: ReadonlyMap<string, ClaimRecord>;
  readonly sweeps: ReadonlyMap<string, SweepRecord>;
  readonly broadcasts: ReadonlyMap<string, BroadcastRecord>;
}

export interface SettlementServiceParts {
  readonly store: Pick<ChainStore, 'listSettlements'>;
  /** @throws NotWriterError on a standby. */
  readonly underWay: () => Promise<UnderWay>;
  readonly sweeper: {
    /** @throws RpcError not_found when no such output is being claimed. */
    bump(outPoint: WalletOutPoint, feerateSatPerKw: number): Promise<void>;
  };
  readonly leaderAddress: () => string | undefined;
  readonly maximumFeerateSatPerKw: number;
}

export function settlementHandlers(parts: SettlementServiceParts): Handlers<SettlementServiceService> {
  const { store, underWay, sweeper, leaderAddress, maximumFeerateSatPerKw } = parts;
  return {
    listClosingChannels: ({ includeResolved, limit }) =>
      answer(async () => {
        if (limit > MAX_LISTED)
          throw new RpcError('invalid_argument', `a list has at most ${MAX_LISTED} channels`);
        const settlements = await store.listSettlements({
          resolved: includeResolved ? 'include' : 'exclude',
          limit: limit === 0 ? DEFAULT_LISTED : limit,
        });
        const { broadcasts } = await underWay();
        const settled = new Set(settlements.map(({ channelId }) => toHex(channelId)));
        const unconfirmed = [...broadcasts.values()]
          .flatMap(unconfirmedClose)
          .filter(({ channelId }) => !settled.has(toHex(channelId)))
          .slice(0, MAX_LISTED);
        let outputs = 0;
        const channels = [...unconfirmed, ...settlements.map(closingChannel)].filter(
          (channel) => (outputs += channel.outputs.length) <= MAX_OUTPUTS,
        );
        return { channels };
      }, leaderAddress),
    listSweeps: () =>
      answer(async () => {
        const { claims, sweeps } = await underWay();
        const urgent = [...claims.values()]
          .sort((a, b) => deadlineOf(a) - deadlineOf(b))
          .slice(0, MAX_SWEEPS);
        return {
          sweeps: urgent.map((claim) =>
            sweepOf(claim, claim.sweepId === undefined ? undefined : sweeps.get(toHex(claim.sweepId))),
          ),
        };
      }, leaderAddress),
    bumpSweep: ({ txid, outputIndex, feerateSatPerKw }) =>
      answer(async () => {
        if (txid.length !== 32) throw new RpcError('invalid_argument', 'a txid has 32 bytes');
        if (feerateSatPerKw < FEERATE_FLOOR_SAT_PER_KW || feerateSatPerKw > maximumFeerateSatPerKw)
          throw new RpcError(
            'invalid_argument',
            `a feerate is between ${FEERATE_FLOOR_SAT_PER_KW} and ${maximumFeerateSatPerKw} sat per 1000 weight`,
          );
        await sweeper.bump({ txid: Uint8Array.from(txid), outputIndex }, feerateSatPerKw);
        return {};
      }, leaderAddress),
  };
}

const deadlineOf = ({ deadlineHeight }: ClaimRecord): number => deadlineHeight ?? Number.MAX_SAFE_INTEGER;

/** The closing transaction of an order that is in no block, nor has one of its inputs spent by another. */
function unconfirmedClose(order: BroadcastRecord): ClosingChannel[] {
  const { kind, channelId, transactions, confirmedHeights, conflictHeight } = order;
  const [raw] = transactions;
  if ((kind !== 'force_close' && kind !== 'mutual_close') || channelId === undefined || raw === undefined)
    return [];
  if (conflictHeight !== undefined || confirmedHeights[0] !== undefined) return [];
  const tx = decodeTx(raw);
  if (!tx.ok) return [];
  return [
    {
      channelId: Buffer.from(channelId),
      closeType: kind === 'mutual_close' ? 'mutual' : 'holder',
      closingTxid: Buffer.from(txidOf(tx.value)),
      closingHeight: 0,
      stage: 'unconfirmed',
      outputs: [],
    },
  ];
}

function closingChannel(record: SettlementRecord): ClosingChannel {
  return {
    channelId: Buffer.from(record.channelId),
    closeType: record.closeType,
    closingTxid: Buffer.from(record.closeTxid),
    closingHeight: record.closeHeight,
    stage: record.stage,
    outputs: decodeSummary(record.summary).map(closingOutput),
  };
}

function closingOutput(output: SummaryOutput): ClosingOutput {
  return {
    txid: Buffer.from(output.txid),
    outputIndex: output.outputIndex,
    valueSat: output.valueSat,
    kind: output.kind,
    status: output.status,
    waitsFor: output.waitsFor,
    untilHeight: output.untilHeight,
    spentTxid: Buffer.from(output.spentTxid ?? []),
    spentBy: output.spentBy ?? '',
  };
}

function sweepOf(claim: ClaimRecord, sweep: SweepRecord | undefined): Sweep {
  return {
    txid: Buffer.from(claim.outPoint.txid),
    outputIndex: claim.outPoint.outputIndex,
    channelId: Buffer.from(claim.channelId),
    kind: claim.kind,
    valueSat: claim.valueSat,
    deadlineHeight: claim.deadlineHeight,
    budgetSat: claim.budgetSat,
    feerateSatPerKw: claim.feerateSatPerKw,
    attempts: claim.attempts,
    sweepTxid: Buffer.from(sweep?.txid ?? []),
    sweepFeeSat: sweep?.feeSat ?? 0n,
    nextAction: claim.nextAction,
    rejectReason: sweep?.rejectReason ?? '',
  };
}
