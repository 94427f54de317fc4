/**
 * How HTLCs and feerates move, and on which commitment each state stands:
 * the whole of BOLT 2 "Normal Operation" as tables. Everything else derives
 * commitments, balances and what is pending from them.
 */
import { InternalError } from '@fulmen/codec';
import type { HtlcDirection } from '../htlc.ts';
import type {
  ChannelChanges,
  EstablishedChannel,
  FeerateUpdate,
  Funding,
  Htlc,
  HtlcAddState,
  HtlcState,
} from '../state.ts';

/** The three messages that move updates on, and the loss of the connection. */
export type Movement =
  /** The holder sends commitment_signed. */
  | 'holder_signs'
  /** The counterparty sends revoke_and_ack. */
  | 'counterparty_revokes'
  /** The counterparty sends commitment_signed, and the holder revokes. */
  | 'counterparty_signs'
  /** BOLT 2: "upon disconnection: MUST reverse any uncommitted updates sent by the other side". The holder drops its own adds and fees, too, and keeps its removals. */
  | 'disconnect';

type Next = HtlcState | 'gone' | 'dropped';
type Table = Readonly<Partial<Record<HtlcState, Next>>>;

const MOVES: Readonly<Record<Movement, Readonly<Record<HtlcDirection, Table>>>> = {
  holder_signs: {
    outbound: { add_pending: 'add_signed', removal_acked: 'removal_signed' },
    inbound: { add_acked: 'add_signed', removal_pending: 'removal_signed' },
  },
  counterparty_revokes: {
    outbound: { add_signed: 'add_acked', removal_signed: 'gone' },
    inbound: { add_signed: 'committed', removal_signed: 'removal_acked' },
  },
  counterparty_signs: {
    outbound: { add_acked: 'committed', removal_pending: 'removal_acked' },
    inbound: { add_pending: 'add_acked', removal_acked: 'gone' },
  },
  disconnect: {
    outbound: { add_pending: 'dropped', removal_pending: 'committed' },
    inbound: { add_pending: 'dropped', removal_pending: 'removal_queued' },
  },
};

/** What became of the HTLCs that a movement touched. */
export interface Moved {
  readonly changes: ChannelChanges;
  readonly fundings: readonly Funding[];
  /** Left both commitments for good. */
  readonly gone: readonly Htlc[];
  /** Never were on a commitment of either side. */
  readonly dropped: readonly Htlc[];
  /** Every HTLC whose state changed, as it was before. */
  readonly touched: readonly Htlc[];
}

/** Moves every update on by one event. Numbers and points are the caller's. */
export function move(
  state: Pick<EstablishedChannel, 'changes' | 'fundings' | 'parameters'>,
  movement: Movement,
): Moved {
  const htlcs: Htlc[] = [];
  const gone: Htlc[] = [];
  const dropped: Htlc[] = [];
  const touched: Htlc[] = [];
  for (const htlc of state.changes.htlcs) {
    const next = MOVES[movement][htlc.body.direction][htlc.state];
    if (next === undefined) {
      htlcs.push(htlc);
      continue;
    }
    touched.push(htlc);
    if (next === 'gone') gone.push(htlc);
    else if (next === 'dropped') dropped.push(htlc);
    else htlcs.push(inState(htlc, next));
  }
  const feerates = moveFeerates(state.changes.feerates, MOVES[movement][payerDirection(state)]);
  const countDropped = (direction: HtlcDirection) =>
    BigInt(dropped.filter((htlc) => htlc.body.direction === direction).length);
  return {
    changes: {
      ...state.changes,
      htlcs,
      feerates,
      nextOutboundHtlcId: state.changes.nextOutboundHtlcId - countDropped('outbound'),
      nextInboundHtlcId: state.changes.nextInboundHtlcId - countDropped('inbound'),
    },
    fundings: gone.some(isFulfilled)
      ? state.fundings.map((funding) => settle(funding, gone))
      : state.fundings,
    gone,
    dropped,
    touched,
  };
}

/** The same HTLC in another state; a state without removal drops the removal (rolled back). */
export function inState(htlc: Htlc, state: HtlcState): Htlc {
  switch (state) {
    case 'add_pending':
    case 'add_signed':
    case 'add_acked':
    case 'committed':
      return { body: htlc.body, state };
    case 'removal_queued':
    case 'removal_pending':
    case 'removal_signed':
    case 'removal_acked':
      if (!('removal' in htlc)) throw new InternalError('a removal state needs a removal');
      return { body: htlc.body, state, removal: htlc.removal };
  }
}

/** update_fee is offered by the funder and moves like its HTLCs. */
export function payerDirection(state: Pick<EstablishedChannel, 'parameters'>): HtlcDirection {
  return state.parameters.funder === 'holder' ? 'outbound' : 'inbound';
}

function moveFeerates(feerates: readonly FeerateUpdate[], table: Table): readonly FeerateUpdate[] {
  const moved: FeerateUpdate[] = [];
  for (const feerate of feerates) {
    const next = table[feerate.state] ?? feerate.state;
    // A feerate is never removed: only add states occur.
    if (next !== 'gone' && next !== 'dropped') moved.push({ ...feerate, state: next as HtlcAddState });
  }
  return compactFeerates(moved);
}

/** Drops feerates that a newer one in the same state, or a committed one, replaces. */
export function compactFeerates(feerates: readonly FeerateUpdate[]): readonly FeerateUpdate[] {
  const committed = feerates.findLastIndex((feerate) => feerate.state === 'committed');
  return feerates.filter((feerate, i) => i >= committed && feerates[i + 1]?.state !== feerate.state);
}

export function isFulfilled(htlc: Htlc): boolean {
  return 'removal' in htlc && htlc.removal.type === 'fulfilled';
}

function settle(funding: Funding, gone: readonly Htlc[]): Funding {
  let toCounterpartyMsat = 0n;
  for (const htlc of gone) {
    if (isFulfilled(htlc))
      toCounterpartyMsat += htlc.body.direction === 'outbound' ? htlc.body.amountMsat : -htlc.body.amountMsat;
  }
  return {
    ...funding,
    holderBalanceMsat: funding.holderBalanceMsat - toCounterpartyMsat,
    counterpartyBalanceMsat: funding.counterpartyBalanceMsat + toCounterpartyMsat,
  };
}
