/** Claims, coins and a mempool that takes what is planned; for tests of the planner. */
import { type Tx, type TxOutput, p2wpkhScript, p2wshScript } from '@fulmen/bitcoin';
import { sha256 } from '@fulmen/crypto';
import type { MonitorHtlc } from '@fulmen/monitor';
import type { Claim, ClaimKind, OutPoint } from '../types.ts';
import { DEFAULT_SWEEP_POLICY } from './budget.ts';
import { outPointKeyOf } from './keys.ts';
import { sweepTransaction } from './transaction.ts';
import type {
  ClaimProgress,
  PayableCommitment,
  PendingSweep,
  PlannedSweep,
  Rival,
  SweepPlan,
  SweepPlanInput,
  SweepableClaim,
  WalletCoin,
} from './types.ts';

export const HOME = p2wpkhScript(new Uint8Array(33).fill(2));
export const P2WSH = p2wshScript(new Uint8Array(40).fill(7));

export function outPoint(n: number, outputIndex = 0): OutPoint {
  return { txid: sha256(Uint8Array.from([n & 0xff, (n >> 8) & 0xff])), outputIndex };
}

export const HTLC: MonitorHtlc = {
  direction: 'outbound',
  id: 1n,
  amountMsat: 100_000_000n,
  paymentHash: new Uint8Array(32).fill(9),
  cltvExpiryHeight: 90,
};

export const KINDS = {
  delayed: { type: 'holder_delayed', commitmentNumber: 3n },
  balance: { type: 'counterparty_balance' },
  anchor: { type: 'anchor' },
  justice: { type: 'revoked_delayed', perCommitmentSecret: new Uint8Array(32).fill(1) },
  justiceHtlc: { type: 'revoked_htlc', perCommitmentSecret: new Uint8Array(32).fill(1), htlc: HTLC },
  htlc: { type: 'counterparty_htlc', perCommitmentPoint: new Uint8Array(33).fill(2), htlc: HTLC },
} as const satisfies Record<string, ClaimKind>;

export function secondStage(valueSat: bigint, aggregation: 'single_anyonecanpay' | 'fixed'): ClaimKind {
  const output: TxOutput = {
    valueSat: aggregation === 'fixed' ? valueSat - 700n : valueSat,
    script: P2WSH,
  };
  return {
    type: 'holder_htlc',
    commitmentNumber: 3n,
    htlc: HTLC,
    counterpartySignature: new Uint8Array(64),
    sighashType: aggregation === 'fixed' ? 1 : 0x83,
    output,
    aggregation,
  };
}

const CLAIM_BASE = { scriptPubKey: P2WSH, sequence: 1, locktimeHeight: 0, witnessWeight: 240 } as const;

export function claim(
  n: number,
  kind: ClaimKind,
  fields: Partial<Omit<Claim, 'kind' | 'outPoint'>> & { readonly channel?: number } = {},
): SweepableClaim {
  const { channel = 1, ...rest } = fields;
  return {
    channelId: new Uint8Array(32).fill(channel),
    channelKeysId: new Uint8Array(32).fill(channel + 100),
    claim: { ...CLAIM_BASE, outPoint: outPoint(n), valueSat: 100_000n, kind, ...rest },
  };
}

export function coin(n: number, valueSat: bigint): WalletCoin {
  return { outPoint: outPoint(10_000 + n), valueSat, script: HOME };
}

/** Somebody else's transaction of this number; without an offer nobody knows what it pays. */
export function rivalOf(n: number, offer?: Rival['offer']): Rival {
  return { txid: outPoint(30_000 + n).txid, offer };
}

export function commitment(fields: {
  readonly parentFeeSat: bigint;
  readonly stakeSat: bigint;
  readonly deadlineHeight?: number;
}): PayableCommitment {
  const tx: Tx = {
    version: 2,
    locktime: 0x2000_0000,
    inputs: [
      {
        txid: outPoint(20_000).txid,
        vout: 0,
        scriptSig: new Uint8Array(0),
        sequence: 0x8000_0000,
        witness: [new Uint8Array(0), new Uint8Array(71), new Uint8Array(71), new Uint8Array(71)],
      },
    ],
    outputs: [330n, 330n, 1_000_000n, 2_000_000n].map((valueSat) => ({ valueSat, script: P2WSH })),
  };
  const { parentFeeSat, stakeSat, deadlineHeight } = fields;
  const anchor = claim(20_001, KINDS.anchor, {
    valueSat: 330n,
    witnessWeight: 115,
    sequence: 0xffff_fffd,
    ...(deadlineHeight !== undefined && { deadlineHeight }),
  });
  return {
    channelId: anchor.channelId,
    channelKeysId: anchor.channelKeysId,
    commitment: { tx, txid: outPoint(20_001).txid, owner: 'holder', anchor: anchor.claim },
    parentFeeSat,
    stakeSat,
  };
}

export const CALM = {
  normalSatPerKw: 1_000,
  urgentSatPerKw: 2_500,
  mempoolMinimumSatPerKw: 253,
  incrementalRelaySatPerKw: 250,
} as const;

export function planInput(fields: Partial<SweepPlanInput> = {}): SweepPlanInput {
  return {
    bestHeight: 100,
    feerates: CALM,
    policy: DEFAULT_SWEEP_POLICY,
    claims: [],
    commitments: [],
    progress: new Map(),
    pending: [],
    coins: [],
    rivals: new Map(),
    allied: new Map(),
    unsignable: new Set(),
    ...fields,
  };
}

/** What the store holds once a planned sweep was signed. */
export function pendingOf(sweep: PlannedSweep, bestHeight: number): PendingSweep {
  const bare = sweepTransaction(sweep, HOME);
  // A witness of the planned weight, as one item.
  const tx: Tx = {
    ...bare,
    inputs: bare.inputs.map((input, at) => {
      const planned = sweep.inputs[at];
      const weight = planned?.type === 'claim' ? planned.claimed.claim.witnessWeight : 108;
      return { ...input, witness: [new Uint8Array(weight - 2)] };
    }),
  };
  return {
    sweepId: sweep.sweepId,
    txid: sha256(sweep.sweepId),
    tx,
    claims: sweep.inputs.flatMap((one) => (one.type === 'claim' ? [one.claimed.claim.outPoint] : [])),
    walletInputs: sweep.inputs.flatMap((one) => (one.type === 'coin' ? [one.coin.outPoint] : [])),
    feeSat: sweep.feeSat,
    feerateSatPerKw: sweep.feerateSatPerKw,
    createdHeight: bestHeight,
  };
}

export function progressAfter(plan: SweepPlan): ReadonlyMap<string, ClaimProgress> {
  return new Map(plan.claims.map((one) => [outPointKeyOf(one.outPoint), one]));
}

/** The next block, nothing having confirmed. */
export function nextBlock(input: SweepPlanInput, plan: SweepPlan): SweepPlanInput {
  return {
    ...input,
    bestHeight: input.bestHeight + 1,
    progress: progressAfter(plan),
    pending: [...plan.kept, ...plan.sweeps.map((sweep) => pendingOf(sweep, input.bestHeight))],
  };
}
