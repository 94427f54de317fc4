/**
 * Until when an open channel can be left alone, read from its monitor: law 5's
 * half of the deadlines that the manager keeps too.
 */
import { CLTV_CLAIM_BUFFER_BLOCKS, LATENCY_GRACE_PERIOD_BLOCKS } from '@fulmen/channel/config';
import { type ChannelMonitor, type MonitorHtlc, htlcKey } from '@fulmen/monitor';

/** An HTLC that cannot wait any longer. */
export interface DueHtlc {
  readonly htlc: MonitorHtlc;
  readonly reason: 'outbound_expired' | 'inbound_preimage_known';
}

/**
 * HTLCs of commitments that may still be broadcast. One that only the holder's commitment before had is settled: that
 * commitment stays in the monitor until the next replaces it, and would otherwise be a deadline for ever.
 */
function* liveHtlcs(monitor: ChannelMonitor): Iterable<MonitorHtlc> {
  const seen = new Set<string>();
  for (const commitment of [
    monitor.holderCommitment,
    monitor.counterpartyCommitment,
    monitor.nextCounterpartyCommitment,
  ]) {
    for (const ref of commitment?.content.htlcs ?? []) {
      const key = htlcKey(ref);
      const live = monitor.htlcs.get(key);
      if (live === undefined || seen.has(key)) continue;
      seen.add(key);
      yield live.htlc;
    }
  }
}

/** The height from which this HTLC demands the chain, if its preimage is known when it is inbound. */
function deadlineOf({ direction, cltvExpiryHeight }: MonitorHtlc): number {
  // BOLT 2: "if an HTLC which it offered is in either node's current commitment transaction, AND is past this timeout
  // deadline: MUST fail the channel"; for one it has fulfilled, past the fulfilment deadline.
  return direction === 'outbound'
    ? cltvExpiryHeight + LATENCY_GRACE_PERIOD_BLOCKS
    : cltvExpiryHeight - CLTV_CLAIM_BUFFER_BLOCKS;
}

/** The first height at which an HTLC may demand the chain; whether it does depends on preimages for inbound ones. */
export function nextDeadlineOf(monitor: ChannelMonitor): number | undefined {
  let first: number | undefined;
  for (const htlc of liveHtlcs(monitor)) {
    const height = deadlineOf(htlc);
    if (first === undefined || height < first) first = height;
  }
  return first;
}

/** The HTLCs that demand the chain at this height. `isKnown`: the preimage of an inbound HTLC, by its id. */
export function dueHtlcs(
  monitor: ChannelMonitor,
  height: number,
  isKnown: (id: bigint) => boolean,
): readonly DueHtlc[] {
  const due: DueHtlc[] = [];
  for (const htlc of liveHtlcs(monitor)) {
    if (deadlineOf(htlc) > height) continue;
    if (htlc.direction === 'outbound') due.push({ htlc, reason: 'outbound_expired' });
    else if (monitor.preimages.has(htlcKey(htlc)) || isKnown(htlc.id))
      due.push({ htlc, reason: 'inbound_preimage_known' });
  }
  return due;
}

/** The next height at which something may have changed, after a look at this one that closed nothing. */
export function nextLookOf(monitor: ChannelMonitor, height: number): number | undefined {
  let next: number | undefined;
  for (const htlc of liveHtlcs(monitor)) {
    // A preimage may come at any time.
    const at = Math.max(deadlineOf(htlc), height + 1);
    if (next === undefined || at < next) next = at;
  }
  return next;
}
