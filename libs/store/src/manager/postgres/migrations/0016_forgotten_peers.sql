-- Node ids cost nothing: of a peer that is away and has nothing here no row is kept. So that its next connection still
-- is newer than any before, generations are of one sequence; it begins above all that were given, and above those that
-- calls of the old function are giving at this moment.
CREATE SEQUENCE peer_generation;
SELECT setval('peer_generation', (SELECT coalesce(max(generation), 0) + 1000 FROM peer_connection));

-- The newest connection of a peer wins; the same connection offered again keeps its generation.
CREATE OR REPLACE FUNCTION accept_connection(p_shard int4, p_epoch int8, p_owner text, p_peer bytea, p_gateway text, p_connection int8,
  OUT accepted boolean, OUT new_generation int8, OUT previous_gateway text) LANGUAGE plpgsql AS $$
DECLARE
  old peer_connection;
BEGIN
  accepted := fence_holds(p_shard, p_epoch, p_owner);
  IF NOT accepted THEN
    RETURN;
  END IF;
  -- Changes nothing of a row that is there, but locks it: one that was only looked for might be pruned before the lock.
  INSERT INTO peer_connection AS c (peer_node_id, generation, epoch) VALUES (p_peer, 0, p_epoch)
  ON CONFLICT (peer_node_id) DO UPDATE SET epoch = c.epoch RETURNING * INTO old;
  IF old.gateway_id = p_gateway AND old.connection_id = p_connection AND old.epoch = p_epoch THEN
    new_generation := old.generation;
    RETURN;
  END IF;
  previous_gateway := old.gateway_id;
  -- With the row locked, so that generations of a peer come in the order of its connections.
  new_generation := nextval('peer_generation');
  UPDATE peer_connection SET generation = new_generation, epoch = p_epoch, gateway_id = p_gateway, connection_id = p_connection
  WHERE peer_node_id = p_peer;
END $$;

-- Bounded upkeep, beside prune; returns how many rows went.
CREATE FUNCTION prune_connections(p_limit int4) RETURNS int4 LANGUAGE plpgsql AS $$
DECLARE
  removed int4;
BEGIN
  DELETE FROM peer_connection WHERE peer_node_id IN (
    SELECT c.peer_node_id FROM peer_connection AS c
    WHERE c.gateway_id IS NULL
      AND NOT EXISTS (SELECT FROM peer_address AS a WHERE a.peer_node_id = c.peer_node_id)
      AND NOT EXISTS (SELECT FROM channel AS n WHERE n.counterparty_node_id = c.peer_node_id AND n.phase <> 'closed')
    LIMIT p_limit
    FOR UPDATE OF c SKIP LOCKED);
  GET DIAGNOSTICS removed = ROW_COUNT;
  RETURN removed;
END $$;
