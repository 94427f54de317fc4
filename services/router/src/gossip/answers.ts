/** What peers ask of us (BOLT 7, "Query Messages"). */
import { equalBytes } from '@fulmen/codec';
import type { NetworkGraph } from '@fulmen/graph';
import { channelRangeReplies, messagesForScids } from '@fulmen/graph';
import type { MessageOf } from '@fulmen/wire';
import { decodeQueryFlags, decodeShortIds, encodeMessage, make } from '@fulmen/wire';
import type { Peer } from './peer.ts';

/** What an answer costs beside what it keeps of its query. */
const ANSWER_OVERHEAD_BYTES = 1_024;

/** Answers a query_short_channel_ids, as it is sent. */
export function answerScids(
  graph: NetworkGraph,
  peer: Peer,
  query: MessageOf<'query_short_channel_ids'>,
): void {
  const isOurs = equalBytes(query.chainHash, graph.chainHash);
  const scids = decodeShortIds(query.encodedShortIds);
  const { queryFlags } = query.tlvs;
  const flags = queryFlags === undefined ? undefined : decodeQueryFlags(queryFlags);
  if (!scids.ok || (flags !== undefined && !flags.ok)) {
    peer.warn('query_short_channel_ids is malformed');
    return;
  }
  if (flags !== undefined && flags.value.length !== scids.value.length) {
    // BOLT 7: "if `encoded_query_flags` […] does not decode to exactly one flag per `short_channel_id`: MAY send a
    // `warning`. MAY close the connection."
    peer.warn('not one query flag for each short channel id');
    return;
  }
  // BOLT 7: "If does not maintain up-to-date channel information for `chain_hash`: MUST set `full_information` to 0."
  const end = (fullInformation: 0 | 1): Uint8Array =>
    encodeMessage(make('reply_short_channel_ids_end', { chainHash: query.chainHash, fullInformation }));
  const asked: AskedScids = {
    scids: BigUint64Array.from(isOurs ? scids.value : []),
    flags: flags === undefined ? undefined : BigUint64Array.from(isOurs ? flags.value : []),
  };
  switch (peer.answer(scidsAnswer(graph, asked, end(isOurs ? 1 : 0)), heldBytes(graph, asked))) {
    case 'queued':
      return;
    case 'too_many':
      peer.warn('a query before the answer to the last');
      return;
    case 'no_memory':
      peer.send(end(0));
      return;
  }
}

/** Packed, for an answer lives as long as its peer reads. */
interface AskedScids {
  readonly scids: BigUint64Array;
  readonly flags: BigUint64Array | undefined;
}

/** The ids, the flags, and a bit for each node. */
function heldBytes(graph: NetworkGraph, { scids, flags }: AskedScids): number {
  return ANSWER_OVERHEAD_BYTES + scids.byteLength + (flags?.byteLength ?? 0) + (graph.nodeEnd >> 3);
}

function* scidsAnswer(graph: NetworkGraph, asked: AskedScids, end: Uint8Array): Generator<Uint8Array> {
  yield* messagesForScids(graph, asked.scids, asked.flags);
  yield end;
}

/** Answers a query_channel_range, as it is sent. */
export function answerRange(graph: NetworkGraph, peer: Peer, query: MessageOf<'query_channel_range'>): void {
  // Without what else came in the message: an answer lives as long as its peer reads.
  const asked = make('query_channel_range', {
    chainHash: query.chainHash.slice(),
    firstBlocknum: query.firstBlocknum,
    numberOfBlocks: query.numberOfBlocks,
    tlvs: query.tlvs.queryOption === undefined ? {} : { queryOption: query.tlvs.queryOption },
  });
  if (peer.answer(rangeAnswer(graph, asked), 0) === 'too_many') {
    peer.warn('a query before the answer to the last');
  }
}

function* rangeAnswer(graph: NetworkGraph, query: MessageOf<'query_channel_range'>): Generator<Uint8Array> {
  for (const reply of channelRangeReplies(graph, query)) yield encodeMessage(reply);
}
