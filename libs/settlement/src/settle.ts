/** The whole of a channel's end on-chain, from its monitor and the facts. */
import { commitmentFormat } from '@fulmen/channel/commitment/format';
import { assertNever } from '@fulmen/codec';
import type { ChannelMonitor, MonitorFunding } from '@fulmen/monitor';
import { IRREVOCABLE_DEPTH } from './constants.ts';
import { htlcOutcomes } from './htlc-outcomes.ts';
import { identifySpend, spentFunding } from './identify.ts';
import type { FundingSpend } from './identify.ts';
import { resolveCounterpartyCommitment } from './resolvers/counterparty-commitment.ts';
import { resolveDataLoss } from './resolvers/data-loss.ts';
import { resolveHolderCommitment } from './resolvers/holder-commitment.ts';
import { resolveLostHolderCommitment } from './resolvers/lost-holder-commitment.ts';
import { MUTUAL_CLOSE } from './resolvers/mutual-close.ts';
import { resolveRevokedCommitment } from './resolvers/revoked-commitment.ts';
import { resolveUnknownSpend } from './resolvers/unknown-spend.ts';
import { depthOf } from './scope.ts';
import type { CloseScope, Resolution } from './scope.ts';
import { indexConfirmed, indexUnconfirmed } from './spends.ts';
import type {
  ChannelClose,
  HtlcOutcome,
  OutPoint,
  Settlement,
  SettlementContext,
  SettlementFacts,
} from './types.ts';
import { isGivenUp } from './worth.ts';
import { NOTHING_UNCONFIRMED, unconfirmedCloses } from './unconfirmed.ts';
import type { UnconfirmedCloses } from './unconfirmed.ts';

/**
 * What is true of a channel on-chain, given these facts. A function of its
 * arguments alone: whatever was seen before, the same facts give the same.
 *
 * Cheap while nothing spends the funding output; afterwards it rebuilds the
 * commitment at each call, tens of milliseconds for the largest.
 */
export function settle(ctx: SettlementContext, monitor: ChannelMonitor, facts: SettlementFacts): Settlement {
  const fundings = monitor.parameters.fundings.map(({ fundingTxid, fundingOutputIndex }): OutPoint => ({
    txid: fundingTxid,
    outputIndex: fundingOutputIndex,
  }));
  const unconfirmed = indexUnconfirmed(facts.unconfirmed);
  const waiting =
    facts.unconfirmed.length === 0
      ? NOTHING_UNCONFIRMED
      : unconfirmedCloses(ctx, monitor, facts, unconfirmed);
  for (const close of facts.confirmed) {
    const funding = spentFunding(monitor, close.tx);
    if (funding === undefined) continue;
    const scope: CloseScope = {
      monitor,
      facts,
      format: commitmentFormat(monitor.parameters.commitmentFormat),
      close,
      confirmed: indexConfirmed(facts.confirmed),
      unconfirmed,
    };
    return settleClosed(scope, identifySpend(ctx, monitor, funding, close), { funding, fundings, waiting });
  }
  return {
    stage: 'open',
    close: undefined,
    outputs: [],
    htlcs: fulfilledInMempool(monitor, waiting),
    unconfirmedCommitments: waiting.commitments,
    watched: [...fundings, ...waiting.watched],
  };
}

function fulfilledInMempool(monitor: ChannelMonitor, { preimages }: UnconfirmedCloses): HtlcOutcome[] {
  return [...preimages].flatMap(([key, preimage]): HtlcOutcome[] => {
    const htlc = monitor.htlcs.get(key)?.htlc;
    return htlc === undefined ? [] : [{ type: 'fulfilled', htlc, preimage }];
  });
}

interface ClosedFunding {
  /** The one that was spent. */
  readonly funding: MonitorFunding;
  /** All of the channel's. */
  readonly fundings: readonly OutPoint[];
  readonly waiting: UnconfirmedCloses;
}

function settleClosed(
  scope: CloseScope,
  spend: FundingSpend,
  { funding, fundings, waiting }: ClosedFunding,
): Settlement {
  const resolution = resolve(scope, spend, funding);
  const htlcs = spend.type === 'mutual' ? [] : htlcOutcomes(scope, resolution, waiting.preimages);
  const { txid, height } = scope.close;
  const close: ChannelClose = {
    type: spend.type === 'holder_lost' ? 'holder' : spend.type,
    txid,
    height,
    ...('commitmentNumber' in spend ? { commitmentNumber: spend.commitmentNumber } : {}),
  };
  const own = resolution.outputs.map(({ outPoint }) => outPoint);
  return {
    stage: isSettled(scope, resolution, htlcs) ? 'resolved' : 'closed',
    close,
    outputs: resolution.outputs,
    htlcs,
    unconfirmedCommitments: [],
    // Of a resolved channel too: how long a deeper reorganisation is reckoned with is for the shell to say.
    watched: [...fundings, ...own, ...resolution.alsoWatched, ...waiting.watched],
  };
}

function resolve(scope: CloseScope, spend: FundingSpend, funding: MonitorFunding): Resolution {
  switch (spend.type) {
    case 'mutual':
      return MUTUAL_CLOSE;
    case 'holder':
      return resolveHolderCommitment(scope, funding, spend);
    case 'counterparty':
    case 'counterparty_next':
      return resolveCounterpartyCommitment(scope, funding, spend);
    case 'revoked':
      return resolveRevokedCommitment(scope, funding, spend);
    case 'holder_lost':
      return resolveLostHolderCommitment(scope, funding, spend);
    case 'data_loss':
      return resolveDataLoss(scope, funding);
    case 'unknown':
      return resolveUnknownSpend(scope, funding);
    default:
      return assertNever(spend);
  }
}

/** Nothing of the holder's is left, nothing more can be learnt, and no reorganisation that BOLT 5 reckons with changes it. */
function isSettled(scope: CloseScope, resolution: Resolution, htlcs: readonly HtlcOutcome[]): boolean {
  const isDeep = (height: number): boolean => depthOf(scope, height) >= IRREVOCABLE_DEPTH;
  return (
    isDeep(scope.close.height) &&
    htlcs.every(({ type }) => type !== 'pending') &&
    resolution.outputs.every(({ kind, status }) => {
      // 330 sat that by now anybody can take are not waited for.
      if (kind === 'anchor') return true;
      if (status.type === 'spent') return isDeep(status.height);
      if (status.type === 'claimable') return isGivenUp(status.claim, scope.facts.bestHeight);
      // BOLT 5: "If it's NOT otherwise resolved, once the HTLC output has expired, it is considered irrevocably resolved."
      return status.type === 'preimage_unknown' && isDeep(status.expiryHeight);
    })
  );
}
