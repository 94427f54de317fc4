-- The hot path, second half: payments, and what crosses shards. Called in one statement with commit_channels, which
-- holds the fence. See there for the conventions.
CREATE FUNCTION commit_payments(
  -- payments
  p_unit int4[], p_hash bytea[], p_expected int8[], p_shard int4[], p_direction text[], p_status text[], p_finished bool[],
  p_bolt11 text[], p_description text[], p_created int8[], p_expires int8[], p_amount int8[], p_received int8[], p_fee int8[],
  p_attempts int4[], p_paid int8[], p_preimage bytea[], p_failure text[], p_state bytea[],
  -- forwarding
  i_source bytea[], i_target_shard int4[], i_source_shard int4[], i_scid int8[], i_target_hash bytea[], i_hash bytea[],
  i_in_amount int8[], i_in_cltv int8[], i_out_amount int8[], i_out_cltv int8[], i_created int8[], i_onion bytea[], i_secret bytea[],
  ic_unit int4[], ic_source bytea[], ic_outcome text[], ic_claimer bytea[],
  rs_source bytea[], rs_shard int4[], rs_kind int4[], rs_code int4[], rs_body bytea[],
  rt_unit int4[], rt_source bytea[], rt_kind int4[],
  pre_id bytea[], pre_htlc int8[], pre_value bytea[],
  o_id bytea[], o_htlc int8[], o_source bytea[], o_shard int4[], o_amount int8[],
  or_unit int4[], or_hash bytea[], or_id bytea[], or_htlc int8[],
  e_shard int4[], e_type text[], e_time int8[], e_body text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  done int4[];
  bad  record;
BEGIN
  IF cardinality(p_hash) > 0 THEN
    WITH n AS MATERIALIZED (
      SELECT * FROM unnest(p_unit, p_hash, p_expected, p_shard, p_direction, p_status, p_finished, p_bolt11, p_description,
        p_created, p_expires, p_amount, p_received, p_fee, p_attempts, p_paid, p_preimage, p_failure, p_state)
        AS n(unit, hash, expected, shard, direction, status, finished, bolt11, description, created, expires, amount,
        received, fee, attempts, paid, preimage, failure, state)),
    updated AS (
      UPDATE payment AS p SET status = n.status, finished = n.finished, bolt11 = n.bolt11, description = n.description,
        created_unix_ms = n.created, expires_unix_ms = n.expires, amount_msat = n.amount, received_msat = n.received,
        fee_msat = n.fee, attempts = n.attempts, paid_unix_ms = n.paid, preimage = n.preimage, failure_reason = n.failure,
        state = n.state, version = n.expected + 1
      FROM n
      WHERE n.expected > 0 AND p.payment_hash = n.hash AND p.version = n.expected AND p.shard = n.shard AND p.direction = n.direction
      RETURNING n.unit),
    inserted AS (
      INSERT INTO payment (payment_hash, shard, direction, bolt11, description, created_unix_ms, expires_unix_ms, amount_msat,
        status, finished, version, received_msat, fee_msat, attempts, paid_unix_ms, preimage, failure_reason, state)
      SELECT hash, shard, direction, bolt11, description, created, expires, amount, status, finished, 1, received, fee, attempts,
        paid, preimage, failure, state
      FROM n WHERE n.expected = 0
      ON CONFLICT (payment_hash) DO NOTHING
      RETURNING payment_hash)
    SELECT array_agg(u.unit) INTO done FROM (
      SELECT unit FROM updated UNION ALL SELECT n.unit FROM inserted JOIN n ON n.hash = inserted.payment_hash) AS u;
    IF done IS NULL OR cardinality(done) <> cardinality(p_hash) THEN
      SELECT n.unit INTO bad FROM unnest(p_unit) AS n(unit) WHERE done IS NULL OR n.unit <> ALL (done) LIMIT 1;
      RAISE EXCEPTION 'version mismatch' USING ERRCODE = 'FM002', DETAIL = bad.unit;
    END IF;
  END IF;

  IF cardinality(or_hash) > 0 THEN
    INSERT INTO onion_replay (shared_secret_hash, channel_id, htlc_id, cltv_expiry)
    SELECT n.hash, n.id, n.htlc, coalesce(h.cltv_expiry, 4294967295)
    FROM unnest(or_hash, or_id, or_htlc) AS n(hash, id, htlc)
    LEFT JOIN htlc AS h ON h.channel_id = n.id AND h.direction = 0 AND h.htlc_id = n.htlc
    ORDER BY 1 ON CONFLICT (shared_secret_hash) DO NOTHING;
    SELECT n.unit, n.id, n.htlc INTO bad
    FROM unnest(or_unit, or_hash, or_id, or_htlc) AS n(unit, hash, id, htlc)
    JOIN onion_replay AS o ON o.shared_secret_hash = n.hash
    WHERE o.channel_id <> n.id OR o.htlc_id <> n.htlc LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'onion replay' USING ERRCODE = 'FM004',
        DETAIL = concat_ws(' ', bad.unit, encode(bad.id, 'hex'), bad.htlc);
    END IF;
  END IF;

  IF cardinality(i_source) > 0 THEN
    INSERT INTO intent (source, target_shard, source_shard, target_scid, target_payment_hash, payment_hash, incoming_amount_msat,
      incoming_cltv_expiry, outgoing_amount_msat, outgoing_cltv_expiry, created_unix_ms, onion, shared_secret)
    SELECT * FROM unnest(i_source, i_target_shard, i_source_shard, i_scid, i_target_hash, i_hash, i_in_amount, i_in_cltv,
      i_out_amount, i_out_cltv, i_created, i_onion, i_secret);
  END IF;
  IF cardinality(ic_source) > 0 THEN
    -- The first insert wins; a rival's uncommitted one is waited for.
    WITH won AS (
      INSERT INTO intent_claim (source, outcome, claimer) SELECT * FROM unnest(ic_source, ic_outcome, ic_claimer) ORDER BY 1
      ON CONFLICT (source) DO NOTHING RETURNING source, outcome, claimer)
    SELECT n.unit, n.source INTO bad FROM unnest(ic_unit, ic_source, ic_outcome, ic_claimer) AS n(unit, source, outcome, claimer)
    WHERE NOT EXISTS (
      SELECT FROM won WHERE won.source = n.source AND won.outcome = n.outcome AND won.claimer = n.claimer) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'intent lost' USING ERRCODE = 'FM003', DETAIL = concat_ws(' ', bad.unit, encode(bad.source, 'hex'));
    END IF;
  END IF;
  IF cardinality(rs_source) > 0 THEN
    -- The first wins, but a preimage replaces a failure that nobody consumed.
    INSERT INTO resolution (source, source_shard, kind, code, body) SELECT * FROM unnest(rs_source, rs_shard, rs_kind, rs_code, rs_body) ORDER BY 1
    ON CONFLICT (source) DO UPDATE SET kind = excluded.kind, code = excluded.code, body = excluded.body
      WHERE excluded.kind = 1 AND resolution.kind <> 1 AND NOT resolution.taken;
  END IF;
  IF cardinality(rt_source) > 0 THEN
    WITH took AS (
      UPDATE resolution AS r SET taken = true FROM unnest(rt_source, rt_kind) AS n(source, kind)
      WHERE r.source = n.source AND r.kind = n.kind AND NOT r.taken RETURNING r.source)
    SELECT n.unit, n.source INTO bad FROM unnest(rt_unit, rt_source) AS n(unit, source)
    WHERE NOT EXISTS (SELECT FROM took WHERE took.source = n.source) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'resolution changed' USING ERRCODE = 'FM006', DETAIL = concat_ws(' ', bad.unit, encode(bad.source, 'hex'));
    END IF;
  END IF;
  IF cardinality(pre_id) > 0 THEN
    INSERT INTO htlc_preimage (channel_id, htlc_id, preimage) SELECT * FROM unnest(pre_id, pre_htlc, pre_value) ORDER BY 1, 2
    ON CONFLICT (channel_id, htlc_id) DO NOTHING;
  END IF;
  IF cardinality(o_id) > 0 THEN
    INSERT INTO outgoing (channel_id, htlc_id, source, source_shard, incoming_amount_msat)
    SELECT * FROM unnest(o_id, o_htlc, o_source, o_shard, o_amount);
  END IF;

  IF cardinality(e_shard) > 0 THEN
    INSERT INTO event_outbox (shard, type, time_unix_ms, body) SELECT * FROM unnest(e_shard, e_type, e_time, e_body);
  END IF;
END $$;
