-- Incarnations are read from the replicas' clocks. One that was made by a clock which ran ahead keeps its id only as long
-- as its lease lasts: it would lock out every later incarnation until the clock has caught up.
CREATE OR REPLACE FUNCTION heartbeat(p_replica text, p_incarnation int8, p_address text, p_lease_ms int8) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  at timestamptz := clock_timestamp();
BEGIN
  INSERT INTO replica AS r (replica_id, incarnation, address, heartbeat_at, lease_until)
  VALUES (p_replica, p_incarnation, p_address, at, at + p_lease_ms * interval '1 millisecond')
  ON CONFLICT (replica_id) DO UPDATE SET incarnation = excluded.incarnation, address = excluded.address,
    heartbeat_at = excluded.heartbeat_at, lease_until = excluded.lease_until
  WHERE r.incarnation <= excluded.incarnation OR r.lease_until <= clock_timestamp();
  RETURN FOUND;
END $$;
