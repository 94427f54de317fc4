-- Moves waiting events to their global positions. One sequencer at a time: who finds another at it moves nothing.
-- An event's number in the outbox is later than that of any event committed before its own transaction began, so
-- that one batch, ordered by it, never turns cause and effect around.
CREATE FUNCTION sequence_events(p_holder text, p_limit int4) RETURNS int4 LANGUAGE plpgsql AS $$
DECLARE
  start_at int8;
  moved    int4;
BEGIN
  SELECT last INTO start_at FROM event_position FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  WITH batch AS (
    DELETE FROM event_outbox WHERE event_id IN (SELECT event_id FROM event_outbox ORDER BY event_id LIMIT p_limit) RETURNING *)
  INSERT INTO event (position, shard, type, time_unix_ms, body)
  SELECT start_at + row_number() OVER (ORDER BY event_id), shard, type, time_unix_ms, body FROM batch;
  GET DIAGNOSTICS moved = ROW_COUNT;
  IF moved > 0 THEN
    UPDATE event_position SET last = start_at + moved, holder = p_holder;
  END IF;
  RETURN moved;
END $$;

CREATE FUNCTION source_channel(source bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT substr(source, 2, 32) $$;
CREATE FUNCTION source_htlc(source bytea) RETURNS int8 LANGUAGE sql IMMUTABLE AS $$
  SELECT ('x' || encode(substr(source, 34, 8), 'hex'))::bit(64)::int8
$$;

-- True while the channel still carries the HTLC: its rows must then stay, or a restart would forward it again.
CREATE FUNCTION source_is_live(source bytea) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT get_byte(source, 0) = 0 AND EXISTS (
    SELECT FROM htlc WHERE channel_id = source_channel(source) AND direction = 0 AND htlc_id = source_htlc(source))
$$;

-- Bounded upkeep: at most p_limit rows of each kind; returns how many rows went. A forward leaves its history.
CREATE FUNCTION prune(p_limit int4, p_height int8, p_idempotency_ms int8) RETURNS int4 LANGUAGE plpgsql AS $$
DECLARE
  ended   bytea[];
  total   int4 := 0;
  removed int4;
BEGIN
  WITH resolved AS (
    SELECT r.source FROM resolution AS r WHERE r.taken AND NOT source_is_live(r.source) LIMIT p_limit FOR UPDATE SKIP LOCKED),
  cancelled AS (
    SELECT c.source FROM intent_claim AS c WHERE c.outcome = 'cancelled' AND NOT source_is_live(c.source)
      AND NOT EXISTS (SELECT FROM resolution AS r WHERE r.source = c.source AND NOT r.taken)
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED)
  SELECT array_agg(e.source) INTO ended FROM (SELECT source FROM resolved UNION SELECT source FROM cancelled) AS e;
  IF ended IS NOT NULL THEN
    INSERT INTO forward_history (inbound_channel_id, inbound_htlc_id, outbound_channel_id, inbound_amount_msat,
      outbound_amount_msat, settled, created_unix_ms)
    SELECT source_channel(i.source), source_htlc(i.source), CASE WHEN c.outcome = 'taken' THEN c.claimer END,
      i.incoming_amount_msat, i.outgoing_amount_msat, coalesce(r.kind = 1, false), i.created_unix_ms
    FROM intent AS i LEFT JOIN intent_claim AS c ON c.source = i.source LEFT JOIN resolution AS r ON r.source = i.source
    WHERE i.source = ANY (ended) AND i.target_scid IS NOT NULL AND get_byte(i.source, 0) = 0
    ON CONFLICT DO NOTHING;
    total := cardinality(ended);
    DELETE FROM intent WHERE source = ANY (ended);
    DELETE FROM intent_claim WHERE source = ANY (ended);
    DELETE FROM resolution WHERE source = ANY (ended);
    DELETE FROM htlc_preimage AS p USING unnest(ended) AS e(source)
    WHERE get_byte(e.source, 0) = 0 AND p.channel_id = source_channel(e.source) AND p.htlc_id = source_htlc(e.source);
  END IF;
  DELETE FROM onion_replay WHERE shared_secret_hash IN (
    SELECT shared_secret_hash FROM onion_replay WHERE cltv_expiry < p_height LIMIT p_limit FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS removed = ROW_COUNT;
  total := total + removed;
  DELETE FROM idempotency WHERE key IN (
    SELECT key FROM idempotency WHERE created_at < now() - p_idempotency_ms * interval '1 millisecond' LIMIT p_limit
    FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS removed = ROW_COUNT;
  RETURN total + removed;
END $$;

-- For chain-monitor: what it found about a funding output. False when nobody asked, or nothing changed.
CREATE FUNCTION report_funding_status(p_channel bytea, p_status text, p_height int8, p_tx_index int4, p_depth int4, p_reason text, p_txid bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  UPDATE funding_watch SET status = p_status, height = p_height, tx_index = p_tx_index, depth = p_depth,
    reason = p_reason, spending_txid = p_txid
  WHERE channel_id = p_channel
    AND (status, height, tx_index, depth, reason, spending_txid)
      IS DISTINCT FROM (p_status, p_height, p_tx_index, p_depth, p_reason, p_txid);
  RETURN FOUND;
END $$;
