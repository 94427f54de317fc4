-- The public network as raw signed messages; fields are decoded again on loading.
CREATE TABLE writer (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  owner text NOT NULL DEFAULT '',
  address text NOT NULL DEFAULT '',
  epoch bigint NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL DEFAULT '-infinity',
  -- Number of the last batch; every row carries that of the batch that wrote it.
  revision bigint NOT NULL DEFAULT 0,
  -- Removals up to this revision are forgotten.
  horizon bigint NOT NULL DEFAULT 0,
  own_node_id bytea
) WITH (fillfactor = 50);
INSERT INTO writer DEFAULT VALUES;

CREATE TABLE channel (
  scid bigint PRIMARY KEY,
  capacity_sat bigint NOT NULL,
  received_at bigint NOT NULL,
  spent_height integer NOT NULL,
  announcement bytea NOT NULL,
  revision bigint NOT NULL
);
CREATE INDEX channel_revision ON channel (revision);

CREATE TABLE channel_update (
  scid bigint NOT NULL REFERENCES channel ON DELETE CASCADE,
  direction integer NOT NULL CHECK (direction IN (0, 1)),
  raw bytea NOT NULL,
  revision bigint NOT NULL,
  PRIMARY KEY (scid, direction)
);
CREATE INDEX channel_update_revision ON channel_update (revision);

CREATE TABLE node (
  node_id bytea PRIMARY KEY,
  raw bytea NOT NULL,
  revision bigint NOT NULL
);
CREATE INDEX node_revision ON node (revision);

CREATE TABLE removed_channel (
  revision bigint NOT NULL,
  scid bigint NOT NULL,
  PRIMARY KEY (revision, scid)
);

CREATE TABLE banned_node (
  node_id bytea PRIMARY KEY,
  revision bigint NOT NULL
);

CREATE TABLE score (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  scores bytea NOT NULL
);
