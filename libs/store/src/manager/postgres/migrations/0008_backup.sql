-- Own static backups, sealed: the newest counts, a few older ones are kept.
CREATE TABLE backup (
  sequence   int8 PRIMARY KEY CHECK (sequence > 0),
  sealed     bytea STORAGE EXTERNAL NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- BOLT 1, peer storage: what peers gave us to keep, each its latest.
CREATE TABLE peer_storage (
  peer_node_id   bytea PRIMARY KEY CHECK (length(peer_node_id) = 33),
  blob           bytea STORAGE EXTERNAL NOT NULL CHECK (length(blob) <= 65531),
  -- The last height at which the peer had a channel here.
  channel_height int4 NOT NULL
);

-- What peers gave back to us, when it was ours.
CREATE TABLE returned_backup (
  peer_node_id bytea PRIMARY KEY CHECK (length(peer_node_id) = 33),
  sealed       bytea STORAGE EXTERNAL NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now()
);

-- For chain-monitor: a watched funding output that came from a backup. It may have been spent in any block from here on.
CREATE TABLE funding_search (
  channel_id  bytea PRIMARY KEY,
  from_height int4 NOT NULL
);
