/** SettlementService: what becomes of closed channels, and what is being brought home from them. */
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type {
  ClosingChannel,
  ClosingOutput,
  SettlementServiceService,
  Sweep,
} from '@fulmen/proto/chain/v1/chain';
import { type Handlers, RpcError } from '@fulmen/rpc';
import type {
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

export interface SettlementServiceParts {
  readonly store: Pick<ChainStore, 'listSettlements'>;
  /** @throws NotWriterError on a standby. */
  readonly underWay: () => Promise<{
    readonly claims: readonly ClaimRecord[];
    readonly sweeps: readonly SweepRecord[];
  }>;
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
        let outputs = 0;
        const channels = settlements
          .map(closingChannel)
          .filter((channel) => (outputs += channel.outputs.length) <= MAX_OUTPUTS);
        return { channels };
      }, leaderAddress),
    listSweeps: () =>
      answer(async () => {
        const { claims, sweeps } = await underWay();
        const byId = new Map(sweeps.map((sweep) => [toHex(sweep.sweepId), sweep]));
        const urgent = [...claims].sort((a, b) => deadlineOf(a) - deadlineOf(b)).slice(0, MAX_SWEEPS);
        return {
          sweeps: urgent.map((claim) =>
            sweepOf(claim, claim.sweepId === undefined ? undefined : byId.get(toHex(claim.sweepId))),
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
