-- Closing is one decision. Whoever closes a channel without its owner (chain-monitor) decides it here first; from then on
-- its owner commits nothing for it but its own closing (SQLSTATE FM007).
ALTER TABLE channel ADD COLUMN closing_decision text;

-- What chain-monitor says besides: a commitment of the counterparty waits in the mempool; the close is settled for good.
ALTER TABLE funding_watch DROP CONSTRAINT funding_watch_status_check;
ALTER TABLE funding_watch ADD CONSTRAINT funding_watch_status_check
  CHECK (status IN ('unconfirmed', 'confirmed', 'mismatch', 'spend_seen', 'spent'));
ALTER TABLE funding_watch ADD COLUMN settlement text CHECK (settlement IN ('resolved'));

-- Phases from which no other close can begin (the core's isClosing).
CREATE FUNCTION is_closing(phase text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT phase IN ('closing_mutual', 'closing_force', 'passive', 'closed')
$$;

-- As in 0002, but for the decision.
CREATE OR REPLACE FUNCTION commit_channels(
  f_unit int4[], f_shard int4[], f_epoch int8[], f_owner text[],
  -- channels
  c_unit int4[], c_id bytea[], c_fence_shard int4[], c_expected int8[], c_shard int4[], c_node_id bytea[], c_keys_id bytea[],
  c_phase text[], c_capacity int8[], c_holder_balance int8[], c_counterparty_balance int8[], c_outbound int8[], c_inbound int8[],
  c_htlcs int4[], c_funding_txid bytea[], c_funding_index int4[], c_scid int8[], c_alias int8[], c_announce bool[],
  c_funder bool[], c_type text[], c_closing_reason text[], c_closing_txid bytea[], c_monitor_first int8[], c_monitor_last int8[],
  c_generation int8[], c_number int8[], c_hot bytea[],
  -- scids not yet known to the caller's call: channel, value, kind
  s_id bytea[], s_scid int8[], s_kind text[],
  -- what changes rarely, and the counterparty's signatures
  cold_id bytea[], cold_blob bytea[],
  sig_id bytea[], sig_blob bytea[],
  sb_id bytea[], sb_bucket int4[], sb_index int8[], sb_secret bytea[],
  -- HTLCs: new, removed, settled
  h_id bytea[], h_direction int4[], h_htlc int8[], h_amount int8[], h_cltv int8[], h_hash bytea[], h_onion bytea[], h_path_key bytea[],
  r_id bytea[], r_direction int4[], r_htlc int8[], r_kind int4[], r_code int4[], r_body bytea[], r_attribution bytea[],
  d_id bytea[], d_direction int4[], d_htlc int8[],
  -- monitor
  b_id bytea[], b_parameters bytea[],
  m_id bytea[], m_update int8[], m_payload bytea[],
  -- orders and questions to chain-monitor
  bc_id bytea[], bc_order int4[], bc_kind text[], bc_tx bytea[],
  w_id bytea[], w_txid bytea[], w_index int4[], w_value int8[], w_script bytea[], w_depth int4[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  done int4[];
  bad  record;
BEGIN
  -- The lock waits for a takeover that is under way, and then sees its epoch.
  SELECT array_agg(held.unit) INTO done FROM (
    SELECT f.unit FROM unnest(f_unit, f_shard, f_epoch, f_owner) AS f(unit, shard, epoch, owner)
      JOIN shard AS s ON s.shard = f.shard AND s.epoch = f.epoch AND s.owner = f.owner
      FOR KEY SHARE OF s) AS held;
  IF done IS NULL OR cardinality(done) <> cardinality(f_unit) THEN
    SELECT f.unit INTO bad FROM unnest(f_unit) AS f(unit) WHERE done IS NULL OR f.unit <> ALL (done) LIMIT 1;
    RAISE EXCEPTION 'fence lost' USING ERRCODE = 'FM001', DETAIL = bad.unit;
  END IF;

  IF cardinality(c_id) > 0 THEN
    WITH n AS MATERIALIZED (
      SELECT * FROM unnest(c_unit, c_id, c_fence_shard, c_expected, c_shard, c_node_id, c_keys_id, c_phase, c_capacity,
        c_holder_balance, c_counterparty_balance, c_outbound, c_inbound, c_htlcs, c_funding_txid, c_funding_index, c_scid,
        c_alias, c_announce, c_funder, c_type, c_closing_reason, c_closing_txid, c_monitor_first, c_monitor_last, c_generation, c_number, c_hot)
        AS n(unit, id, fence_shard, expected, shard, node_id, keys_id, phase, capacity, holder_balance, counterparty_balance,
        outbound, inbound, htlcs, funding_txid, funding_index, scid, alias, announce, funder, type, closing_reason,
        closing_txid, monitor_first, monitor_last, generation, number, hot)),
    updated AS (
      UPDATE channel AS c SET
        counterparty_node_id = n.node_id, channel_keys_id = n.keys_id, shard = n.shard, capacity_sat = n.capacity,
        funding_txid = n.funding_txid, funding_output_index = n.funding_index, short_channel_id = n.scid,
        holder_alias_scid = n.alias, announce = n.announce, holder_is_funder = n.funder, channel_type = n.type,
        phase = n.phase, closing_reason = n.closing_reason, closing_txid = n.closing_txid,
        version = n.expected + 1,
        monitor_update_id = coalesce(n.monitor_last, c.monitor_update_id),
        consumed_generation = coalesce(n.generation, c.consumed_generation),
        consumed_number = coalesce(n.number, c.consumed_number),
        holder_balance_msat = n.holder_balance, counterparty_balance_msat = n.counterparty_balance,
        outbound_capacity_msat = n.outbound, inbound_capacity_msat = n.inbound, htlcs_in_flight = n.htlcs, hot = n.hot
      FROM n
      WHERE n.expected > 0 AND c.channel_id = n.id AND c.version = n.expected AND c.shard = n.fence_shard
        AND (n.monitor_first IS NULL OR n.monitor_first = c.monitor_update_id + 1)
        AND (c.closing_decision IS NULL OR is_closing(n.phase))
      RETURNING n.unit),
    inserted AS (
      INSERT INTO channel (channel_id, counterparty_node_id, channel_keys_id, shard, capacity_sat, funding_txid,
        funding_output_index, short_channel_id, holder_alias_scid, announce, holder_is_funder, channel_type, phase,
        closing_reason, closing_txid, version, monitor_update_id, consumed_generation, consumed_number,
        holder_balance_msat, counterparty_balance_msat, outbound_capacity_msat, inbound_capacity_msat, htlcs_in_flight, hot)
      SELECT id, node_id, keys_id, shard, capacity, funding_txid, funding_index, scid, alias, announce, funder, type, phase,
        closing_reason, closing_txid, 1, coalesce(monitor_last, 0), generation, number,
        holder_balance, counterparty_balance, outbound, inbound, htlcs, hot
      FROM n WHERE n.expected = 0 AND (n.monitor_first IS NULL OR n.monitor_first = 1)
      ON CONFLICT (channel_id) DO NOTHING
      RETURNING channel_id)
    SELECT array_agg(u.unit) INTO done FROM (
      SELECT unit FROM updated UNION ALL SELECT n.unit FROM inserted JOIN n ON n.id = inserted.channel_id) AS u;
    IF done IS NULL OR cardinality(done) <> cardinality(c_id) THEN
      SELECT n.unit, coalesce(c.version, 0) = n.expected AND coalesce(c.shard, n.fence_shard) = n.fence_shard AS only_update_id,
          CASE WHEN NOT is_closing(n.phase) THEN c.closing_decision END AS closing_decision
        INTO bad
        FROM unnest(c_unit, c_id, c_expected, c_fence_shard, c_phase) AS n(unit, id, expected, fence_shard, phase)
        LEFT JOIN channel AS c ON c.channel_id = n.id
        WHERE done IS NULL OR n.unit <> ALL (done) LIMIT 1;
      IF bad.only_update_id AND bad.closing_decision IS NOT NULL THEN
        RAISE EXCEPTION 'closing was decided' USING ERRCODE = 'FM007', DETAIL = concat_ws(' ', bad.unit, bad.closing_decision);
      END IF;
      IF bad.only_update_id THEN
        RAISE EXCEPTION 'monitor update id is not one more than the last' USING ERRCODE = 'FM005', DETAIL = bad.unit;
      END IF;
      RAISE EXCEPTION 'version mismatch' USING ERRCODE = 'FM002', DETAIL = bad.unit;
    END IF;
  END IF;

  IF cardinality(s_id) > 0 THEN
    -- The usual case, all known already, writes nothing. Another channel's row collides and is refused.
    INSERT INTO scid (scid, channel_id, kind)
    SELECT n.scid, n.id, n.kind FROM unnest(s_id, s_scid, s_kind) AS n(id, scid, kind)
    WHERE NOT EXISTS (SELECT FROM scid AS s WHERE s.scid = n.scid AND s.channel_id = n.id)
    ORDER BY n.scid;
  END IF;

  IF cardinality(cold_id) > 0 THEN
    INSERT INTO channel_cold (channel_id, cold) SELECT * FROM unnest(cold_id, cold_blob)
    ON CONFLICT (channel_id) DO UPDATE SET cold = excluded.cold;
  END IF;
  IF cardinality(sig_id) > 0 THEN
    INSERT INTO channel_signatures (channel_id, signatures) SELECT * FROM unnest(sig_id, sig_blob)
    ON CONFLICT (channel_id) DO UPDATE SET signatures = excluded.signatures;
  END IF;
  IF cardinality(sb_id) > 0 THEN
    INSERT INTO secret_bucket (channel_id, bucket, secret_index, secret) SELECT * FROM unnest(sb_id, sb_bucket, sb_index, sb_secret)
    ON CONFLICT (channel_id, bucket) DO UPDATE SET secret_index = excluded.secret_index, secret = excluded.secret;
  END IF;

  -- After a disconnection an id may come back with another body, and a removal that was rolled back with another
  -- content: what left goes first, and a removal replaces the one before.
  IF cardinality(d_id) > 0 THEN
    DELETE FROM htlc AS h USING unnest(d_id, d_direction, d_htlc) AS n(id, direction, htlc)
    WHERE h.channel_id = n.id AND h.direction = n.direction AND h.htlc_id = n.htlc;
    DELETE FROM htlc_removal AS r USING unnest(d_id, d_direction, d_htlc) AS n(id, direction, htlc)
    WHERE r.channel_id = n.id AND r.direction = n.direction AND r.htlc_id = n.htlc;
    DELETE FROM outgoing AS o USING unnest(d_id, d_direction, d_htlc) AS n(id, direction, htlc)
    WHERE n.direction = 1 AND o.channel_id = n.id AND o.htlc_id = n.htlc;
  END IF;
  IF cardinality(h_id) > 0 THEN
    INSERT INTO htlc (channel_id, direction, htlc_id, amount_msat, cltv_expiry, payment_hash, onion, path_key)
    SELECT * FROM unnest(h_id, h_direction, h_htlc, h_amount, h_cltv, h_hash, h_onion, h_path_key);
  END IF;
  IF cardinality(r_id) > 0 THEN
    INSERT INTO htlc_removal (channel_id, direction, htlc_id, kind, code, body, attribution)
    SELECT * FROM unnest(r_id, r_direction, r_htlc, r_kind, r_code, r_body, r_attribution)
    ON CONFLICT (channel_id, direction, htlc_id) DO UPDATE
      SET kind = excluded.kind, code = excluded.code, body = excluded.body, attribution = excluded.attribution;
  END IF;

  IF cardinality(b_id) > 0 THEN
    INSERT INTO monitor_birth (channel_id, parameters) SELECT * FROM unnest(b_id, b_parameters);
  END IF;
  IF cardinality(m_id) > 0 THEN
    INSERT INTO monitor_update (channel_id, update_id, payload) SELECT * FROM unnest(m_id, m_update, m_payload);
  END IF;

  IF cardinality(bc_id) > 0 THEN
    INSERT INTO broadcast (channel_id, kind, transactions)
    SELECT n.id, n.kind, array_agg(n.tx ORDER BY n.at)
    FROM unnest(bc_id, bc_order, bc_kind, bc_tx) WITH ORDINALITY AS n(id, number, kind, tx, at)
    GROUP BY n.number, n.id, n.kind ORDER BY n.number;
  END IF;
  IF cardinality(w_id) > 0 THEN
    INSERT INTO funding_watch (channel_id, funding_txid, funding_output_index, funding_value_sat, script_pubkey, minimum_depth)
    SELECT * FROM unnest(w_id, w_txid, w_index, w_value, w_script, w_depth)
    ON CONFLICT (channel_id) DO UPDATE SET funding_txid = excluded.funding_txid, funding_output_index = excluded.funding_output_index,
      funding_value_sat = excluded.funding_value_sat, script_pubkey = excluded.script_pubkey, minimum_depth = excluded.minimum_depth,
      status = 'unconfirmed', height = NULL, tx_index = NULL, depth = NULL, reason = NULL,
      spending_txid = NULL, settlement = NULL;
  END IF;
END $$;
