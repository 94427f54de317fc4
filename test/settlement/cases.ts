/** The matrix: what is varied, and the name of each case, by which it is replayed alone. */

export const COMMITMENTS = [
  'holder',
  'counterparty',
  'counterparty_next',
  'revoked_1',
  'revoked_100',
] as const;
export const HTLC_SETS = ['offered', 'received', 'dust', 'identical'] as const;
export const KNOWLEDGE = ['known', 'unknown', 'late_block', 'late_mempool'] as const;
export const FEERATES = ['calm', 'spiking'] as const;
export const FAULTS = ['none', 'restart', 'reorg', 'switch'] as const;
export const FORMATS = ['anchors', 'static_remotekey'] as const;

/** Whose commitment confirms: revoked ones by how many states they are behind. */
export type CommitmentKind = (typeof COMMITMENTS)[number];
/** The HTLCs that the commitment carries, seen from the fleet. tiny: above the dust limit, and worth less than a claim costs. */
export type HtlcSet = (typeof HTLC_SETS)[number] | 'tiny';
/**
 * known: before the close, by whoever can claim; unknown: never;
 * late_block: the counterparty shows it in a block only, after the expiry;
 * late_mempool: it shows it in the mempool only, and takes it back.
 */
export type Knowledge = (typeof KNOWLEDGE)[number];
/** spiking: feerates are forty times as high for thirty blocks, and the commitment alone enters no mempool. */
export type Feerate = (typeof FEERATES)[number];
/**
 * restart: chain-monitor is killed after a few writes, again and again; reorg: after each confirmation; switch: another
 * commitment confirmed first, and what the fleet claimed of it, before a reorganisation took it away.
 */
export type Fault = (typeof FAULTS)[number];
export type Format = (typeof FORMATS)[number];

export interface Case {
  readonly format: Format;
  readonly commitment: CommitmentKind;
  readonly htlcs: HtlcSet;
  readonly knowledge: Knowledge;
  readonly feerate: Feerate;
  readonly fault: Fault;
  /** What chain-monitor's source shows of a block; absent: all of it. */
  readonly sees?: 'registered';
}

export function nameOf(one: Case): string {
  return [one.format, one.commitment, one.htlcs, one.knowledge, one.feerate, one.fault].join('/');
}

function* generate(): Generator<Case> {
  for (const format of FORMATS)
    for (const commitment of COMMITMENTS)
      for (const htlcs of HTLC_SETS)
        for (const knowledge of KNOWLEDGE)
          for (const feerate of FEERATES)
            for (const fault of FAULTS) yield { format, commitment, htlcs, knowledge, feerate, fault };
}

/**
 * Every case. Commitments of static_remotekey differ from those with anchors in their scripts and their fees, not in
 * what the mempool and the chain do to them: of those one feerate and no faults. The switch of commitments has one too.
 */
export const CASES: readonly Case[] = [...generate()].filter(({ format, feerate, fault }) =>
  format === 'anchors' ? fault !== 'switch' || feerate === 'calm' : feerate === 'calm' && fault === 'none',
);

/** What `npm test` runs: each value of each dimension with each commitment, every pair of HTLCs and knowledge once. */
export const SLICE: readonly Case[] = CASES.filter((one) => {
  const at = <T>(values: readonly T[], value: T): number => values.indexOf(value);
  const commitment = at(COMMITMENTS, one.commitment);
  const htlcs = at<HtlcSet>(HTLC_SETS, one.htlcs);
  const knowledge = at(KNOWLEDGE, one.knowledge);
  if (one.format === 'static_remotekey') return (commitment + htlcs + knowledge) % 4 === 0;
  if (one.fault === 'switch') return (commitment + htlcs + knowledge) % 8 === 0;
  return (
    (commitment + htlcs + 2 * knowledge) % 4 === 0 &&
    at(FEERATES, one.feerate) === (commitment + knowledge + htlcs) % 2 &&
    at(FAULTS, one.fault) === (commitment + knowledge + 2 * htlcs) % 3
  );
});
