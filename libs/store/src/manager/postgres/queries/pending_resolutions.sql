SELECT * FROM resolution WHERE source_shard = ANY ($1::int4[]) AND NOT taken ORDER BY source LIMIT $2
