-- $3: towers that must have the update behind a failure before it goes on; a preimage never waits. $4: where the page
-- before ended.
SELECT r.* FROM resolution AS r WHERE r.source_shard = ANY ($1::int4[]) AND NOT r.taken
  AND ($4::bytea IS NULL OR r.source > $4)
  AND (r.kind = 1 OR $3::int4 = 0 OR NOT EXISTS (SELECT FROM resolution_hold AS h WHERE h.source = r.source
    AND towers_with(h.channel_id, h.update_id) < $3::int4))
ORDER BY r.source LIMIT $2
