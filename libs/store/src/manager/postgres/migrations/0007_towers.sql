-- Towers: chain-monitors with databases of their own. What is written for monitors is queued here for each tower by
-- triggers, in the transaction that writes it: a tower's queue shrinks by its acknowledgements, and neither a slow
-- tower nor a dead one is in the way of another, or of the node's own chain-monitor. No foreign keys: they would make
-- every step lock the tower's row. What a removed tower leaves behind is swept up.

CREATE TABLE tower (
  tower_id     text PRIMARY KEY CHECK (length(tower_id) BETWEEN 1 AND 64),
  public_key   bytea NOT NULL CHECK (length(public_key) = 33),
  added_at     timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz
) WITH (fillfactor = 50);

-- Everything of the channel up to update_id is durable at the tower.
CREATE TABLE tower_ack (
  channel_id bytea NOT NULL,
  tower_id   text NOT NULL,
  update_id  int8 NOT NULL,
  PRIMARY KEY (channel_id, tower_id)
) WITH (fillfactor = 50);

CREATE TABLE tower_update (
  tower_id   text NOT NULL,
  channel_id bytea NOT NULL,
  update_id  int8 NOT NULL,
  payload    bytea STORAGE EXTERNAL NOT NULL,
  PRIMARY KEY (tower_id, channel_id, update_id)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE tower_preimage (
  tower_id   text NOT NULL,
  channel_id bytea NOT NULL,
  htlc_id    int8 NOT NULL,
  preimage   bytea NOT NULL,
  PRIMARY KEY (tower_id, channel_id, htlc_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- Channels of which the tower needs the whole monitor: it joined late, or its queue grew too long and was cut.
CREATE TABLE tower_monitor_due (
  tower_id   text NOT NULL,
  channel_id bytea NOT NULL,
  PRIMARY KEY (tower_id, channel_id)
);

-- What the tower has contradicts what it was sent.
CREATE TABLE tower_fault (
  tower_id   text NOT NULL,
  channel_id bytea NOT NULL,
  reason     text NOT NULL,
  PRIMARY KEY (tower_id, channel_id)
);

-- A channel's revocation basepoint secret, sealed to the tower's justice signer: made once by the node's signer.
CREATE TABLE tower_key (
  tower_id   text NOT NULL,
  channel_id bytea NOT NULL,
  sealed_key bytea NOT NULL,
  PRIMARY KEY (tower_id, channel_id)
);

-- A failure that a channel passed on in the step of this update: it counts once the towers have that update.
CREATE TABLE resolution_hold (
  source     bytea PRIMARY KEY,
  channel_id bytea NOT NULL,
  update_id  int8 NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE FUNCTION queue_tower_updates() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  INSERT INTO tower_update (tower_id, channel_id, update_id, payload)
  SELECT t.tower_id, n.channel_id, n.update_id, n.payload FROM tower AS t CROSS JOIN written AS n;
  RETURN NULL;
END $$;
CREATE TRIGGER queue_tower_updates AFTER INSERT ON monitor_update REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION queue_tower_updates();

CREATE FUNCTION queue_tower_preimages() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  INSERT INTO tower_preimage (tower_id, channel_id, htlc_id, preimage)
  SELECT t.tower_id, n.channel_id, n.htlc_id, n.preimage FROM tower AS t CROSS JOIN written AS n ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER queue_tower_preimages AFTER INSERT ON htlc_preimage REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION queue_tower_preimages();

-- A preimage never waits. A failure waits for the towers that are to know the revocation behind it.
CREATE FUNCTION hold_resolutions() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM tower) THEN
    RETURN NULL;
  END IF;
  INSERT INTO resolution_hold (source, channel_id, update_id)
  SELECT n.source, c.channel_id, c.monitor_update_id
  FROM written AS n JOIN intent_claim AS i ON i.source = n.source AND i.outcome = 'taken'
    JOIN channel AS c ON c.channel_id = i.claimer
  WHERE n.kind <> 1
  ON CONFLICT (source) DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER hold_resolutions AFTER INSERT ON resolution REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION hold_resolutions();

CREATE FUNCTION forget_resolution_holds() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  DELETE FROM resolution_hold AS h USING gone AS g WHERE h.source = g.source;
  RETURN NULL;
END $$;
CREATE TRIGGER forget_resolution_holds AFTER DELETE ON resolution REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION forget_resolution_holds();

-- How many towers have all of a channel up to an update; those with a fault in it do not count.
CREATE FUNCTION towers_with(p_channel bytea, p_update int8) RETURNS int8 LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
  SELECT count(*) FROM tower_ack AS a WHERE a.channel_id = p_channel AND a.update_id >= p_update
    AND NOT EXISTS (SELECT FROM tower_fault AS f WHERE f.tower_id = a.tower_id AND f.channel_id = a.channel_id)
$$;
