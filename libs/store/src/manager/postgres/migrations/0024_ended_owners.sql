-- Whose connection ended with the owner of its shard is told away by nobody: its row kept a stranger for ever. A row says
-- whose it is, so that one of an owner before the present one counts as a peer that is away.
ALTER TABLE peer_connection ADD COLUMN shard int4;
-- hash(peer node id) mod 256, as `shardOfPeer` has it.
UPDATE peer_connection SET shard = get_byte(sha256(peer_node_id), 0);

-- As before, with the shard.
CREATE OR REPLACE FUNCTION accept_connection(p_shard int4, p_epoch int8, p_owner text, p_peer bytea, p_gateway text, p_connection int8,
  OUT accepted boolean, OUT new_generation int8, OUT previous_gateway text) LANGUAGE plpgsql AS $$
BEGIN
  accepted := fence_holds(p_shard, p_epoch, p_owner);
  IF NOT accepted THEN
    RETURN;
  END IF;
  -- Changes nothing of a row that is there, but locks it: one that was only looked for might be pruned before the lock.
  INSERT INTO peer_connection AS c (peer_node_id, generation, epoch) VALUES (p_peer, 0, p_epoch)
  ON CONFLICT (peer_node_id) DO UPDATE SET epoch = c.epoch RETURNING gateway_id INTO previous_gateway;
  -- With the row locked, so that generations of a peer come in the order of its connections.
  new_generation := nextval('peer_generation');
  UPDATE peer_connection SET generation = new_generation, epoch = p_epoch, shard = p_shard, gateway_id = p_gateway,
    connection_id = p_connection
  WHERE peer_node_id = p_peer;
END $$;

CREATE OR REPLACE FUNCTION prune_connections(p_limit int4) RETURNS int4 LANGUAGE plpgsql AS $$
DECLARE
  removed int4;
BEGIN
  DELETE FROM peer_connection WHERE peer_node_id IN (
    SELECT c.peer_node_id FROM peer_connection AS c
    WHERE (c.gateway_id IS NULL OR c.epoch < (SELECT s.epoch FROM shard AS s WHERE s.shard = c.shard))
      AND NOT EXISTS (SELECT FROM peer_address AS a WHERE a.peer_node_id = c.peer_node_id)
      AND NOT EXISTS (SELECT FROM channel AS n WHERE n.counterparty_node_id = c.peer_node_id AND n.phase <> 'closed')
    LIMIT p_limit
    FOR UPDATE OF c SKIP LOCKED);
  GET DIAGNOSTICS removed = ROW_COUNT;
  RETURN removed;
END $$;
