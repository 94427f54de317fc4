/**
 * Commitments that wait in the mempool: the holder's anchor on them, by which
 * their fee can be raised and until when it should be, and the preimages that
 * the counterparty shows in what spends their HTLC outputs.
 */
import { txid as txidOf } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { commitmentFormat } from '@fulmen/channel/commitment/format';
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import { htlcKey } from '@fulmen/monitor';
import type { ChannelMonitor, MonitorFunding, MonitorHtlc } from '@fulmen/monitor';
import { MAX_BLOCKS_FOR_CONFIRMATION, TIMEOUT_COMMITMENT_WITHIN_BLOCKS } from './constants.ts';
import { identifySpend, spentFunding } from './identify.ts';
import type { FundingSpend } from './identify.ts';
import { anchorClaim } from './resolvers/anchor.ts';
import { unconfirmedPreimage } from './resolvers/htlc-end.ts';
import { knownPreimage } from './scope.ts';
import type { UnconfirmedInputs } from './spends.ts';
import type { OutPoint, SettlementContext, SettlementFacts, UnconfirmedCommitment } from './types.ts';

export interface UnconfirmedCloses {
  readonly commitments: readonly UnconfirmedCommitment[];
  /** By `htlcKey`, of outbound HTLCs. */
  readonly preimages: ReadonlyMap<string, Uint8Array>;
  /** Outputs of outbound HTLCs: what spends them may show a preimage. */
  readonly watched: readonly OutPoint[];
}

export const NOTHING_UNCONFIRMED: UnconfirmedCloses = { commitments: [], preimages: new Map(), watched: [] };

/** HTLC outputs of a commitment that waits, and who owns it. */
interface WaitingHtlcs {
  readonly owner: CommitmentOwner;
  readonly htlcs: readonly { readonly htlc: MonitorHtlc; readonly outputIndex: number }[];
}

export function unconfirmedCloses(
  ctx: SettlementContext,
  monitor: ChannelMonitor,
  facts: SettlementFacts,
  inputs: UnconfirmedInputs,
): UnconfirmedCloses {
  const commitments: UnconfirmedCommitment[] = [];
  const preimages = new Map<string, Uint8Array>();
  const watched: OutPoint[] = [];
  for (const tx of facts.unconfirmed) {
    const funding = spentFunding(monitor, tx);
    if (funding === undefined) continue;
    const txid = txidOf(tx);
    const spend = identifySpend(ctx, monitor, funding, { tx, txid });
    const waiting = waitingHtlcs(spend);
    for (const { htlc, outputIndex } of waiting.htlcs) {
      if (htlc.direction !== 'outbound') continue;
      const outPoint = { txid, outputIndex };
      watched.push(outPoint);
      const preimage = unconfirmedPreimage(inputs, outPoint, waiting.owner, htlc);
      if (preimage !== undefined) preimages.set(htlcKey(htlc), preimage);
    }
    // A revoked commitment is not helped to confirm, and what is not known may be anybody's.
    if (spend.type === 'holder' || spend.type === 'counterparty' || spend.type === 'counterparty_next')
      commitments.push(waitingCommitment(monitor, facts, funding, { tx, txid, waiting }));
  }
  return { commitments, preimages, watched };
}

function waitingHtlcs(spend: FundingSpend): WaitingHtlcs {
  switch (spend.type) {
    case 'holder':
    case 'counterparty':
    case 'counterparty_next':
      return {
        owner: spend.type === 'holder' ? 'holder' : 'counterparty',
        htlcs: spend.built.outputs.flatMap((output) => (output.type === 'htlc' ? [output] : [])),
      };
    case 'revoked':
      return { owner: 'counterparty', htlcs: spend.matched.htlcs };
    case 'mutual':
    case 'holder_lost':
    case 'data_loss':
    case 'unknown':
      return { owner: 'counterparty', htlcs: [] };
  }
}

function waitingCommitment(
  monitor: ChannelMonitor,
  facts: SettlementFacts,
  funding: MonitorFunding,
  { tx, txid, waiting }: { readonly tx: Tx; readonly txid: Uint8Array; readonly waiting: WaitingHtlcs },
): UnconfirmedCommitment {
  const deadlines = waiting.htlcs.flatMap(({ htlc }) => commitmentDeadline(monitor, facts, htlc));
  const deadlineHeight = deadlines.length === 0 ? undefined : Math.min(...deadlines);
  const format = commitmentFormat(monitor.parameters.commitmentFormat);
  const anchor = anchorClaim(format, funding, { tx, txid }, deadlineHeight);
  return { tx, txid, owner: waiting.owner, anchor };
}

/**
 * Until when a commitment must have confirmed so that this HTLC can still be claimed in time: one more transaction has
 * to confirm before the counterparty takes back what it offered, or before the incoming edge of what the holder offered
 * expires.
 */
function commitmentDeadline(monitor: ChannelMonitor, facts: SettlementFacts, htlc: MonitorHtlc): number[] {
  if (htlc.direction === 'outbound') return [htlc.cltvExpiryHeight + TIMEOUT_COMMITMENT_WITHIN_BLOCKS];
  if (knownPreimage({ monitor, facts }, htlc) === undefined) return [];
  return [htlc.cltvExpiryHeight - MAX_BLOCKS_FOR_CONFIRMATION];
}
