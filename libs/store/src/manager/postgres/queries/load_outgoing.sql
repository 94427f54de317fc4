-- Ids are unsigned: those with the top bit come last. A source's end is pruned once the HTLC upstream is gone; of a forward
-- (type 0) its history stays.
SELECT o.*, EXISTS (SELECT FROM resolution AS r WHERE r.source = o.source AND r.kind = 1)
  OR CASE WHEN get_byte(o.source, 0) = 0 THEN EXISTS (
    SELECT FROM forward_history AS f WHERE f.inbound_channel_id = source_channel(o.source)
      AND f.inbound_htlc_id = source_htlc(o.source) AND f.settled)
    ELSE false END AS fulfilled
FROM channel AS c JOIN outgoing AS o USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY o.channel_id, o.htlc_id < 0, o.htlc_id
