-- Sealed parts of the monitors' archives of revoked commitments: insert-only, so that an update of a channel writes as much
-- however long the channel has lived. `number` counts the chunks of a kind; those beyond the count in the monitor's
-- snapshot are not part of it. Nothing in a chunk is of a commitment outside first_commitment and last_commitment.
CREATE TABLE monitor_chunk (
  channel_id       bytea NOT NULL,
  kind             text NOT NULL CHECK (kind IN ('htlc', 'state')),
  number           int4 NOT NULL,
  first_commitment int8 NOT NULL,
  last_commitment  int8 NOT NULL,
  bytes            bytea STORAGE EXTERNAL NOT NULL,
  PRIMARY KEY (channel_id, kind, number)
);
