-- $3, $4: where the page before ended.
SELECT i.* FROM intent AS i
WHERE i.target_shard = ANY ($1::int4[]) AND NOT EXISTS (SELECT FROM intent_claim AS c WHERE c.source = i.source)
  AND ($3::int8 IS NULL OR (i.created_unix_ms, i.source) > ($3, $4::bytea))
ORDER BY i.created_unix_ms, i.source LIMIT $2
