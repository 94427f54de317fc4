-- The signer's own database: nobody else's role may connect to it.

-- One row: who owns the database, how many commits it has seen, whose seed it belongs to.
CREATE TABLE signer (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  instance bytea,
  lease_until timestamptz,
  generation int8 NOT NULL DEFAULT 0,
  node_id bytea CHECK (octet_length(node_id) = 33),
  key_scheme text,
  network text,
  velocity_window_start_ms int8 NOT NULL DEFAULT 0,
  velocity_spent_sat int8 NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO signer DEFAULT VALUES;

-- Written once, never changed.
CREATE TABLE channel_registration (
  channel_keys_id bytea PRIMARY KEY CHECK (octet_length(channel_keys_id) = 32),
  registration bytea NOT NULL
);

-- The hot row: below 2 kB for ever, updated in place (HOT).
CREATE TABLE channel_state (
  channel_keys_id bytea PRIMARY KEY REFERENCES channel_registration,
  state bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE shard_fence (
  shard int4 PRIMARY KEY,
  epoch int8 NOT NULL
);

CREATE TABLE audit (
  sequence int8 PRIMARY KEY,
  previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  entries bytea NOT NULL
);

-- A ring: slot = number modulo its size.
CREATE TABLE refusal (
  slot int8 PRIMARY KEY,
  number int8 NOT NULL,
  at_ms int8 NOT NULL,
  operation text NOT NULL,
  policy text NOT NULL,
  kind text NOT NULL,
  reason text NOT NULL,
  channel_keys_id bytea
);
CREATE INDEX refusal_number ON refusal (number);

-- One group commit. False, and nothing is written, when the caller does not own
-- the database or its generation is not the next.
CREATE FUNCTION commit_batch(
  p_instance bytea, p_generation int8,
  p_registered_ids bytea[], p_registrations bytea[],
  p_ids bytea[], p_states bytea[],
  p_shards int4[], p_epochs int8[],
  p_velocity_window_start_ms int8, p_velocity_spent_sat int8,
  p_audit_previous_hash bytea, p_audit_hash bytea, p_audit_entries bytea, p_audit_rows int8,
  p_refusal_numbers int8[], p_refusal_at_ms int8[], p_refusal_operations text[], p_refusal_policies text[],
  p_refusal_kinds text[], p_refusal_reasons text[], p_refusal_channels bytea[], p_refusal_rows int8
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  UPDATE signer SET generation = p_generation,
    velocity_window_start_ms = coalesce(p_velocity_window_start_ms, velocity_window_start_ms),
    velocity_spent_sat = coalesce(p_velocity_spent_sat, velocity_spent_sat)
    WHERE instance = p_instance AND generation = p_generation - 1;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF cardinality(p_registered_ids) > 0 THEN
    INSERT INTO channel_registration SELECT * FROM unnest(p_registered_ids, p_registrations);
  END IF;
  IF cardinality(p_ids) > 0 THEN
    INSERT INTO channel_state AS current SELECT * FROM unnest(p_ids, p_states)
      ON CONFLICT (channel_keys_id) DO UPDATE SET state = excluded.state;
  END IF;
  IF cardinality(p_shards) > 0 THEN
    INSERT INTO shard_fence AS current SELECT * FROM unnest(p_shards, p_epochs)
      ON CONFLICT (shard) DO UPDATE SET epoch = greatest(current.epoch, excluded.epoch);
  END IF;
  IF p_audit_hash IS NOT NULL THEN
    INSERT INTO audit VALUES (p_generation, p_audit_previous_hash, p_audit_hash, p_audit_entries);
    DELETE FROM audit WHERE sequence <= p_generation - p_audit_rows;
  END IF;
  IF cardinality(p_refusal_numbers) > 0 THEN
    INSERT INTO refusal AS current
      SELECT r.number % p_refusal_rows, r.*
      FROM unnest(p_refusal_numbers, p_refusal_at_ms, p_refusal_operations, p_refusal_policies, p_refusal_kinds, p_refusal_reasons, p_refusal_channels)
        AS r (number, at_ms, operation, policy, kind, reason, channel_keys_id)
      ON CONFLICT (slot) DO UPDATE SET number = excluded.number, at_ms = excluded.at_ms, operation = excluded.operation,
        policy = excluded.policy, kind = excluded.kind, reason = excluded.reason, channel_keys_id = excluded.channel_keys_id;
  END IF;
  RETURN true;
END $$;
