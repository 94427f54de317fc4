-- Newest first: what is under way or not yet pruned, and the history of the rest.
SELECT * FROM (
  (SELECT source_channel(i.source) AS inbound_channel_id, source_htlc(i.source) AS inbound_htlc_id,
     CASE WHEN c.outcome = 'taken' THEN c.claimer END AS outbound_channel_id, i.incoming_amount_msat AS inbound_amount_msat,
     i.outgoing_amount_msat AS outbound_amount_msat,
     CASE WHEN r.kind = 1 THEN 'settled' WHEN r.kind IS NOT NULL OR c.outcome = 'cancelled' THEN 'failed' ELSE 'pending' END AS status,
     i.created_unix_ms, 0 AS pruned
   FROM intent AS i LEFT JOIN intent_claim AS c USING (source) LEFT JOIN resolution AS r USING (source)
   WHERE i.target_scid IS NOT NULL AND get_byte(i.source, 0) = 0)
  UNION ALL
  (SELECT inbound_channel_id, inbound_htlc_id, outbound_channel_id, inbound_amount_msat, outbound_amount_msat,
     CASE WHEN settled THEN 'settled' ELSE 'failed' END, created_unix_ms, 1
   FROM forward_history ORDER BY created_unix_ms DESC LIMIT $1)) AS f
ORDER BY created_unix_ms DESC, inbound_channel_id, inbound_htlc_id, pruned LIMIT $1
