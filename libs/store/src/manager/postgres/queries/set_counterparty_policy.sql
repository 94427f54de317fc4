WITH fence AS MATERIALIZED (SELECT fence_holds($1, $2, $3) AS holds)
INSERT INTO counterparty_policy AS p (channel_id, short_channel_id, fee_base_msat, fee_proportional_millionths, cltv_expiry_delta,
  enabled, timestamp_unix_seconds)
SELECT $4::bytea, $5::int8, $6::int8, $7::int8, $8::int4, $9::bool, $10::int8 FROM fence WHERE holds
ON CONFLICT (channel_id) DO UPDATE SET short_channel_id = excluded.short_channel_id, fee_base_msat = excluded.fee_base_msat,
  fee_proportional_millionths = excluded.fee_proportional_millionths, cltv_expiry_delta = excluded.cltv_expiry_delta,
  enabled = excluded.enabled, timestamp_unix_seconds = excluded.timestamp_unix_seconds
WHERE p.timestamp_unix_seconds <= excluded.timestamp_unix_seconds
