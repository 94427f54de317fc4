WITH fence AS MATERIALIZED (SELECT fence_holds($1, $2, $3) AS holds)
INSERT INTO channel_policy (channel_id, fee_base_msat, fee_proportional_millionths, cltv_expiry_delta, htlc_minimum_msat,
  htlc_maximum_msat, updated_unix_ms, previous_fee_base_msat, previous_fee_proportional_millionths, previous_cltv_expiry_delta)
SELECT $4::bytea, $5::int8, $6::int8, $7::int4, $8::int8, $9::int8, $10::int8, $11::int8, $12::int8, $13::int4 FROM fence WHERE holds
ON CONFLICT (channel_id) DO UPDATE SET fee_base_msat = excluded.fee_base_msat,
  fee_proportional_millionths = excluded.fee_proportional_millionths, cltv_expiry_delta = excluded.cltv_expiry_delta,
  htlc_minimum_msat = excluded.htlc_minimum_msat, htlc_maximum_msat = excluded.htlc_maximum_msat,
  updated_unix_ms = excluded.updated_unix_ms, previous_fee_base_msat = excluded.previous_fee_base_msat,
  previous_fee_proportional_millionths = excluded.previous_fee_proportional_millionths,
  previous_cltv_expiry_delta = excluded.previous_cltv_expiry_delta
RETURNING 1
