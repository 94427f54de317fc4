-- Leases run by this database's clock, read after the row is locked.

CREATE FUNCTION lease_is_live(p_replica text) RETURNS boolean LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (SELECT FROM replica WHERE replica_id = p_replica AND lease_until > clock_timestamp())
$$;

-- False when a later incarnation has the id.
CREATE FUNCTION heartbeat(p_replica text, p_incarnation int8, p_address text, p_lease_ms int8) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  at timestamptz := clock_timestamp();
BEGIN
  INSERT INTO replica AS r (replica_id, incarnation, address, heartbeat_at, lease_until)
  VALUES (p_replica, p_incarnation, p_address, at, at + p_lease_ms * interval '1 millisecond')
  ON CONFLICT (replica_id) DO UPDATE SET incarnation = excluded.incarnation, address = excluded.address,
    heartbeat_at = excluded.heartbeat_at, lease_until = excluded.lease_until
  WHERE r.incarnation <= excluded.incarnation;
  RETURN FOUND;
END $$;

-- busy: somebody's transaction holds the row and its owner's lease has expired.
CREATE FUNCTION acquire_shard(p_shard int4, p_replica text, p_lock_timeout_ms int4, OUT outcome text, OUT new_epoch int8, OUT holder text)
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO shard (shard) VALUES (p_shard) ON CONFLICT (shard) DO NOTHING;
  PERFORM set_config('lock_timeout', p_lock_timeout_ms || 'ms', true);
  BEGIN
    SELECT s.owner INTO holder FROM shard AS s WHERE s.shard = p_shard FOR UPDATE;
  EXCEPTION WHEN lock_not_available THEN
    SELECT s.owner INTO holder FROM shard AS s WHERE s.shard = p_shard;
    outcome := CASE WHEN holder <> p_replica AND lease_is_live(holder) THEN 'held' ELSE 'busy' END;
    RETURN;
  END;
  IF holder <> p_replica AND lease_is_live(holder) THEN
    outcome := 'held';
    RETURN;
  END IF;
  UPDATE shard AS s SET owner = p_replica, epoch = s.epoch + 1 WHERE s.shard = p_shard RETURNING s.epoch INTO new_epoch;
  outcome := 'acquired';
END $$;

-- Ends the sessions that keep another session waiting, for a takeover whose old owner hangs inside a transaction.
-- Those that wait themselves (other takeovers) are left alone. Returns how many it ended.
CREATE FUNCTION end_blockers(p_pid int4) RETURNS int4 LANGUAGE plpgsql AS $$
DECLARE
  ended int4;
BEGIN
  FOR attempt IN 1..30 LOOP
    SELECT count(pg_terminate_backend(b.pid)) INTO ended FROM unnest(pg_blocking_pids(p_pid)) AS b(pid)
    WHERE b.pid <> pg_backend_pid() AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = b.pid AND NOT l.granted);
    IF ended > 0 THEN
      RETURN ended;
    END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
  RETURN 0;
END $$;

CREATE FUNCTION fence_holds(p_shard int4, p_epoch int8, p_owner text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM shard AS s WHERE s.shard = p_shard AND s.epoch = p_epoch AND s.owner = p_owner FOR KEY SHARE;
  RETURN FOUND;
END $$;

-- The newest connection of a peer wins; the same connection offered again keeps its generation.
CREATE FUNCTION accept_connection(p_shard int4, p_epoch int8, p_owner text, p_peer bytea, p_gateway text, p_connection int8,
  OUT accepted boolean, OUT new_generation int8, OUT previous_gateway text) LANGUAGE plpgsql AS $$
DECLARE
  old peer_connection;
BEGIN
  accepted := fence_holds(p_shard, p_epoch, p_owner);
  IF NOT accepted THEN
    RETURN;
  END IF;
  INSERT INTO peer_connection (peer_node_id, generation, epoch) VALUES (p_peer, 0, p_epoch) ON CONFLICT (peer_node_id) DO NOTHING;
  SELECT * INTO old FROM peer_connection WHERE peer_node_id = p_peer FOR UPDATE;
  IF old.gateway_id = p_gateway AND old.connection_id = p_connection AND old.epoch = p_epoch THEN
    new_generation := old.generation;
    RETURN;
  END IF;
  previous_gateway := old.gateway_id;
  new_generation := old.generation + 1;
  UPDATE peer_connection SET generation = new_generation, epoch = p_epoch, gateway_id = p_gateway, connection_id = p_connection
  WHERE peer_node_id = p_peer;
END $$;
