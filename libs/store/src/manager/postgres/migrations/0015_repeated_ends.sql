-- As in 0009, and the end of a payment's HTLC that is told again after it was taken: with the payment's intent gone, no
-- part waits for it any more.
-- Bounded upkeep: at most p_limit rows of each kind; returns how many rows went. A forward leaves its history.
CREATE OR REPLACE FUNCTION prune(p_limit int4, p_height int8, p_idempotency_ms int8) RETURNS int4 LANGUAGE plpgsql AS $$
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
    FOR UPDATE SKIP LOCKED),
  orphaned AS (
    SELECT r.source FROM resolution AS r WHERE NOT r.taken AND get_byte(r.source, 0) = 0 AND EXISTS (
      SELECT FROM channel AS c WHERE c.channel_id = source_channel(r.source) AND c.phase = 'closed')
      AND NOT source_is_live(r.source)
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED),
  repeated AS (
    SELECT r.source FROM resolution AS r WHERE NOT r.taken AND get_byte(r.source, 0) = 1
      AND NOT EXISTS (SELECT FROM intent AS i WHERE i.source = r.source)
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED)
  SELECT array_agg(e.source) INTO ended FROM (
    SELECT source FROM resolved UNION SELECT source FROM cancelled UNION SELECT source FROM orphaned UNION
    SELECT source FROM repeated) AS e;
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
