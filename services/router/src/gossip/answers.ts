/** What peers ask of us (BOLT 7, "Query Messages"). */
import { equalBytes } from '@fulmen/codec';
import type { NetworkGraph } from '@fulmen/graph';
import { channelRangeReplies, messagesForScids } from '@fulmen/graph';
import type { MessageOf } from '@fulmen/wire';
import { decodeQueryFlags, decodeShortIds, encodeMessage, make } from '@fulmen/wire';
import type { Peer } from './peer.ts';

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
    peer.misbehaved('warn: query_short_channel_ids is malformed');
    return;
  }
  if (flags !== undefined && flags.value.length !== scids.value.length) {
    // BOLT 7: "if `encoded_query_flags` […] does not decode to exactly one flag per `short_channel_id`: MAY send a
    // `warning`. MAY close the connection."
    peer.misbehaved('warn: not one query flag for each short channel id');
    return;
  }
  const answer = function* (): Generator<Uint8Array> {
    if (isOurs) yield* messagesForScids(graph, scids.value, flags?.value);
    // BOLT 7: "If does not maintain up-to-date channel information for `chain_hash`: MUST set `full_information` to 0."
    const end = { chainHash: query.chainHash, fullInformation: isOurs ? 1 : 0 };
    yield encodeMessage(make('reply_short_channel_ids_end', end));
  };
  if (!peer.answer(answer())) peer.misbehaved('warn: a query before the answer to the last');
}

/** Answers a query_channel_range, as it is sent. */
export function answerRange(graph: NetworkGraph, peer: Peer, query: MessageOf<'query_channel_range'>): void {
  const answer = function* (): Generator<Uint8Array> {
    for (const reply of channelRangeReplies(graph, query)) yield encodeMessage(reply);
  };
  if (!peer.answer(answer())) peer.misbehaved('warn: a query before the answer to the last');
}
