/**
 * Where every satoshi belongs at the end, by BOLT 5 alone: from the
 * commitment that confirmed, and from what the counterparty did with each
 * HTLC. It knows nothing of how the fleet's side decides.
 */
import { displayHash } from '@fulmen/bitcoin';
import type { CommitmentOutput } from '@fulmen/channel/commitment/types';
import { storeTx } from '@fulmen/testing/devchain';
import type { Case } from './cases.ts';
import { type PlannedHtlc, type Scenario, showsPreimage } from './scenario.ts';
import type { World } from './world.ts';

export type Owner = 'fleet' | 'counterparty' | 'either';

/** Whose an output of the confirmed commitment is. Outputs are seen from the counterparty: `holder` is the counterparty. */
export function ownerOf(one: Case, scenario: Scenario, output: CommitmentOutput): Owner {
  const isFleets = scenario.kept === undefined;
  const isRevoked = one.commitment === 'revoked_1' || one.commitment === 'revoked_100';
  switch (output.type) {
    case 'to_local':
      // BOLT 5: "MUST spend or resolve all outputs of a revoked commitment transaction": it is forfeit.
      return isFleets || isRevoked ? 'fleet' : 'counterparty';
    case 'to_remote':
      return isFleets ? 'counterparty' : 'fleet';
    case 'anchor_holder':
    case 'anchor_counterparty':
      return 'either';
    case 'htlc': {
      if (isRevoked) return 'fleet';
      const htlc = plannedOf(scenario, output.htlc);
      if (isTiny(one, htlc)) return 'either';
      return htlcOwner(one, scenario, htlc);
    }
  }
}

function htlcOwner(one: Case, scenario: Scenario, htlc: PlannedHtlc): Owner {
  if (htlc.direction === 'inbound') {
    if (one.knowledge === 'known') return 'fleet';
    // What the fleet forwards is what teaches it the preimage, and of identical ones each its own.
    const carrier = scenario.htlcs.find(
      ({ source }) =>
        source?.type === 'htlc' &&
        source.htlcId === htlc.id &&
        Buffer.compare(source.channelId, scenario.channelId) === 0,
    );
    return carrier !== undefined && showsPreimage(one, carrier) ? 'fleet' : 'counterparty';
  }
  // Shown in the mempool only, a preimage pays nobody downstream.
  return showsPreimage(one, htlc) && one.knowledge !== 'late_mempool' ? 'counterparty' : 'fleet';
}

function plannedOf(
  scenario: Scenario,
  seen: { readonly direction: 'inbound' | 'outbound'; readonly id: bigint },
): PlannedHtlc {
  const direction = seen.direction === 'inbound' ? 'outbound' : 'inbound';
  const found = scenario.htlcs.find((one) => one.direction === direction && one.id === seen.id);
  if (found === undefined) throw new TypeError('an HTLC that nobody planned');
  return found;
}

/**
 * How the upstream half of a forward must have ended. `isRevealed`: the counterparty showed this HTLC's preimage on the
 * chain or in the mempool; a cheater that is punished first never does.
 */
export function upstreamOf(
  one: Case,
  htlc: PlannedHtlc,
  isRevealed: boolean,
): 'fulfilled' | 'failed' | 'either' {
  if (htlc.endedOffChain !== undefined) return htlc.endedOffChain;
  if (isRevealed) return 'fulfilled';
  if (htlc.role === 'extra' || one.knowledge === 'unknown') return 'failed';
  if (one.knowledge === 'known') return 'fulfilled';
  // Dust has no output that would show its preimage; a twin's is another HTLC's.
  return one.htlcs === 'dust' && htlc.role === 'subject' ? 'either' : 'failed';
}

/** Where an outbound HTLC ended on the chain: its output was spent, or the commitment has none of it. */
export function endHeight(scenario: Scenario, world: World, htlcId: bigint): number | undefined {
  const id = displayHash(scenario.built.txid);
  const output = scenario.built.outputs.find(
    (one) => one.type === 'htlc' && one.htlc.direction === 'inbound' && one.htlc.id === htlcId,
  );
  if (output !== undefined) return world.spenderOf(`${id}:${output.outputIndex}`)?.height;
  const spender = world.spenderOf(`${storeTx(scenario.fundingTx).txid}:0`);
  return spender?.stored.txid === id ? spender.height : undefined;
}

/** Nobody need claim it: that costs more than it brings. */
export function isTiny(one: Case, htlc: PlannedHtlc): boolean {
  return one.htlcs === 'tiny' && htlc.role === 'subject';
}

/** What the chain gave the fleet, and what it paid for it. */
export interface Ledger {
  /** Outputs of the commitment that came home, their value. */
  readonly claimedSat: bigint;
  /** Of all transactions that spend what is the fleet's. */
  readonly feesSat: bigint;
  /** On scripts of the wallet now. */
  readonly balanceSat: bigint;
  readonly transactions: number;
}

export interface OracleContext {
  readonly one: Case;
  readonly scenario: Scenario;
  readonly world: World;
  /** Ids of the counterparty's transactions. */
  readonly theirs: ReadonlySet<string>;
  readonly isWalletScript: (script: Uint8Array) => boolean;
  /** What the wallet had before. */
  readonly initialSat: bigint;
}

/** Follows every output of the confirmed commitment to its end. Faults are sentences. */
export function followMoney(context: OracleContext): { readonly ledger: Ledger; readonly faults: string[] } {
  const { one, scenario, world, theirs, isWalletScript } = context;
  const faults: string[] = [];
  const commitmentId = displayHash(scenario.built.txid);
  const funding = world.spenderOf(`${storeTx(scenario.fundingTx).txid}:0`);
  if (funding?.stored.txid !== commitmentId)
    faults.push(`the funding was spent by ${funding?.stored.txid ?? 'nobody'}, not by ${commitmentId}`);
  const ours = new Map<string, { readonly inSat: bigint; readonly outSat: bigint }>();
  let claimedSat = 0n;
  /** What of an output came home; nothing, and a fault, when it did not. A cheater's second stage pays its fee out of it. */
  const home = (id: string, vout: number, what: string): bigint => {
    const spender = world.spenderOf(`${id}:${vout}`);
    const valueSat = world.outputOf(id, vout)?.valueSat ?? 0n;
    if (spender === undefined) {
      faults.push(`${what} is nobody’s: ${id}:${vout} is unspent`);
      return 0n;
    }
    const { stored } = spender;
    const isTheirs = theirs.has(stored.txid);
    if (!isTheirs) note(stored.txid, stored.tx);
    if (!isTheirs && stored.tx.outputs.every(({ script }) => isWalletScript(script))) return valueSat;
    // A second stage: its output at the same place must come home in turn.
    const index = stored.tx.inputs.findIndex(
      (input) => displayHash(input.txid) === id && input.vout === vout,
    );
    const paired = stored.tx.outputs[index];
    if (paired === undefined || isWalletScript(paired.script)) {
      faults.push(`${what} left in ${stored.txid}`);
      return 0n;
    }
    const cameHomeSat = home(stored.txid, index, `${what}, second stage`);
    return isTheirs ? cameHomeSat : cameHomeSat === 0n ? 0n : valueSat;
  };
  const note = (
    id: string,
    tx: {
      readonly inputs: readonly { txid: Uint8Array; vout: number }[];
      readonly outputs: readonly { valueSat: bigint }[];
    },
  ): void => {
    const inSat = tx.inputs.reduce(
      (sum, input) => sum + (world.outputOf(displayHash(input.txid), input.vout)?.valueSat ?? 0n),
      0n,
    );
    ours.set(id, { inSat, outSat: tx.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n) });
  };
  for (const output of scenario.built.outputs) {
    const what = `${output.type} of ${output.valueSat} sat`;
    const spender = world.spenderOf(`${commitmentId}:${output.outputIndex}`);
    switch (ownerOf(one, scenario, output)) {
      case 'fleet':
        claimedSat += home(commitmentId, output.outputIndex, what);
        break;
      case 'counterparty':
        if (spender !== undefined && !theirs.has(spender.stored.txid))
          faults.push(`${what} is the counterparty’s, and ${spender.stored.txid} took it`);
        break;
      case 'either':
        if (spender !== undefined && !theirs.has(spender.stored.txid)) {
          note(spender.stored.txid, spender.stored.tx);
          claimedSat += output.valueSat;
        }
        break;
    }
  }
  const feesSat = [...ours.values()].reduce((sum, { inSat, outSat }) => sum + inSat - outSat, 0n);
  const balanceSat = walletBalance(world, isWalletScript);
  const expectedSat = context.initialSat + claimedSat - feesSat;
  if (balanceSat !== expectedSat)
    faults.push(`the wallet has ${balanceSat} sat on the chain instead of ${expectedSat}`);
  return { ledger: { claimedSat, feesSat, balanceSat, transactions: ours.size }, faults };
}

/** What unspent outputs of the chain pay the wallet. */
function walletBalance(world: World, isWalletScript: (script: Uint8Array) => boolean): bigint {
  let sat = 0n;
  for (let height = 1; height <= world.height; height++)
    for (const { tx, txid } of world.chain.chain.at(height)?.transactions.slice(1) ?? [])
      for (const [vout, { script, valueSat }] of tx.outputs.entries())
        if (isWalletScript(script) && world.spenderOf(`${txid}:${vout}`) === undefined) sat += valueSat;
  return sat;
}
