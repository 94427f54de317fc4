-- What channel-manager keeps. Rules that hold throughout:
--   * every write of a shard's data happens in a function or transaction that first locks the shard's row
--     FOR KEY SHARE and compares owner and epoch;
--   * u64 values (ids, scids) are stored as the signed integer of the same 64 bits;
--   * blobs are never compressed (they are hashes, onions and ciphertext), and stay in the row up to a page;
--   * no index covers a column that changes with each step, so that those updates stay HOT.

CREATE TABLE replica (
  replica_id   text PRIMARY KEY,
  incarnation  int8 NOT NULL,
  address      text NOT NULL,
  heartbeat_at timestamptz NOT NULL,
  lease_until  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Changes only at takeover and release: a heartbeat never waits for a step.
CREATE TABLE shard (
  shard int4 PRIMARY KEY,
  epoch int8 NOT NULL DEFAULT 0,
  owner text
) WITH (fillfactor = 50);

-- The columns that never or rarely change come first: an update on one page logs only what follows them.
CREATE TABLE channel (
  channel_id                bytea PRIMARY KEY CHECK (length(channel_id) = 32),
  counterparty_node_id      bytea NOT NULL CHECK (length(counterparty_node_id) = 33),
  channel_keys_id           bytea NOT NULL,
  shard                     int4 NOT NULL,
  capacity_sat              int8 NOT NULL CHECK (capacity_sat >= 0),
  funding_txid              bytea CHECK (length(funding_txid) = 32),
  funding_output_index      int4,
  short_channel_id          int8,
  holder_alias_scid         int8,
  announce                  boolean NOT NULL,
  holder_is_funder          boolean NOT NULL,
  channel_type              text NOT NULL,
  phase                     text NOT NULL,
  closing_reason            text,
  closing_txid              bytea CHECK (length(closing_txid) = 32),
  -- From here on: written by every step.
  version                   int8 NOT NULL,
  monitor_update_id         int8 NOT NULL DEFAULT 0,
  consumed_generation       int8,
  consumed_number           int8,
  holder_balance_msat       int8 NOT NULL,
  counterparty_balance_msat int8 NOT NULL,
  outbound_capacity_msat    int8 NOT NULL,
  inbound_capacity_msat     int8 NOT NULL,
  htlcs_in_flight           int4 NOT NULL,
  hot                       bytea STORAGE EXTERNAL NOT NULL
) WITH (fillfactor = 50, toast_tuple_target = 8160);
CREATE INDEX channel_by_shard ON channel (shard) WHERE phase <> 'closed';
CREATE INDEX channel_by_counterparty ON channel (counterparty_node_id);

CREATE TABLE channel_cold (
  channel_id bytea PRIMARY KEY,
  cold       bytea STORAGE EXTERNAL NOT NULL
) WITH (fillfactor = 70, toast_tuple_target = 8160);

CREATE TABLE channel_signatures (
  channel_id bytea PRIMARY KEY,
  signatures bytea STORAGE EXTERNAL NOT NULL
) WITH (fillfactor = 50, toast_tuple_target = 8160);

CREATE TABLE secret_bucket (
  channel_id   bytea NOT NULL,
  bucket       int4 NOT NULL CHECK (bucket BETWEEN 0 AND 48),
  secret_index int8 NOT NULL,
  secret       bytea NOT NULL CHECK (length(secret) = 32),
  PRIMARY KEY (channel_id, bucket)
) WITH (fillfactor = 70);

-- direction: 0 inbound, 1 outbound.
CREATE TABLE htlc (
  channel_id   bytea NOT NULL,
  direction    int4 NOT NULL CHECK (direction IN (0, 1)),
  htlc_id      int8 NOT NULL,
  amount_msat  int8 NOT NULL CHECK (amount_msat >= 0),
  cltv_expiry  int8 NOT NULL,
  payment_hash bytea NOT NULL CHECK (length(payment_hash) = 32),
  onion        bytea STORAGE EXTERNAL NOT NULL,
  path_key     bytea,
  PRIMARY KEY (channel_id, direction, htlc_id)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

-- kind: 1 fulfilled (body: preimage), 2 failed (reason), 3 failed_malformed (sha256_of_onion; code).
CREATE TABLE htlc_removal (
  channel_id  bytea NOT NULL,
  direction   int4 NOT NULL CHECK (direction IN (0, 1)),
  htlc_id     int8 NOT NULL,
  kind        int4 NOT NULL CHECK (kind BETWEEN 1 AND 3),
  code        int4,
  body        bytea STORAGE EXTERNAL NOT NULL,
  attribution bytea STORAGE EXTERNAL,
  PRIMARY KEY (channel_id, direction, htlc_id)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

-- Real, alias and intercept scids: one index, so that none can shadow another.
CREATE TABLE scid (
  scid       int8 PRIMARY KEY,
  channel_id bytea NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('real', 'alias', 'intercept'))
);

-- The monitor's birth and its log; chain-monitor drains the log in update_id order.
CREATE TABLE monitor_birth (
  channel_id bytea PRIMARY KEY,
  parameters bytea STORAGE EXTERNAL NOT NULL
) WITH (toast_tuple_target = 8160);

CREATE TABLE monitor_update (
  channel_id bytea NOT NULL,
  update_id  int8 NOT NULL CHECK (update_id > 0),
  payload    bytea STORAGE EXTERNAL NOT NULL,
  PRIMARY KEY (channel_id, update_id)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

-- Enforcement data, insert-only: an inbound HTLC that this preimage makes claimable.
CREATE TABLE htlc_preimage (
  channel_id bytea NOT NULL,
  htlc_id    int8 NOT NULL,
  preimage   bytea NOT NULL CHECK (length(preimage) = 32),
  PRIMARY KEY (channel_id, htlc_id)
);

-- `source` is one byte of type, then the identity: 0, channel id, htlc id (u64) or 1, attempt id.
CREATE TABLE intent (
  source               bytea PRIMARY KEY,
  target_shard         int4 NOT NULL,
  source_shard         int4 NOT NULL,
  -- Exactly one of the two targets.
  target_scid          int8,
  target_payment_hash  bytea CHECK ((target_scid IS NULL) <> (target_payment_hash IS NULL)),
  payment_hash         bytea NOT NULL CHECK (length(payment_hash) = 32),
  incoming_amount_msat int8 NOT NULL,
  incoming_cltv_expiry int8 NOT NULL,
  outgoing_amount_msat int8 NOT NULL,
  outgoing_cltv_expiry int8 NOT NULL,
  created_unix_ms      int8 NOT NULL,
  onion                bytea STORAGE EXTERNAL NOT NULL,
  shared_secret        bytea NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX intent_by_target ON intent (target_shard, created_unix_ms);

CREATE TABLE intent_claim (
  source  bytea PRIMARY KEY,
  outcome text NOT NULL CHECK (outcome IN ('taken', 'cancelled')),
  -- The channel or payment hash whose commit won.
  claimer bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX intent_claim_cancelled ON intent_claim (source) WHERE outcome = 'cancelled';

-- kind: as htlc_removal, and 4 failed_here. `taken` lives here rather than in a table of its own: replacing a
-- failure and consuming it must see each other, and only one row's lock makes them.
CREATE TABLE resolution (
  source       bytea PRIMARY KEY,
  source_shard int4 NOT NULL,
  taken        boolean NOT NULL DEFAULT false,
  kind         int4 NOT NULL CHECK (kind BETWEEN 1 AND 4),
  code         int4,
  body         bytea STORAGE EXTERNAL NOT NULL
) WITH (fillfactor = 70, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX resolution_pending ON resolution (source_shard) WHERE NOT taken;
CREATE INDEX resolution_taken ON resolution (source) WHERE taken;

CREATE TABLE outgoing (
  channel_id   bytea NOT NULL,
  htlc_id      int8 NOT NULL,
  source       bytea NOT NULL,
  source_shard int4 NOT NULL,
  incoming_amount_msat int8 NOT NULL,
  PRIMARY KEY (channel_id, htlc_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- What remains of a forward once nothing needs its intent.
CREATE TABLE forward_history (
  inbound_channel_id   bytea NOT NULL,
  inbound_htlc_id      int8 NOT NULL,
  outbound_channel_id  bytea,
  inbound_amount_msat  int8 NOT NULL,
  outbound_amount_msat int8 NOT NULL,
  settled              boolean NOT NULL,
  created_unix_ms      int8 NOT NULL,
  PRIMARY KEY (inbound_channel_id, inbound_htlc_id)
);
CREATE INDEX forward_history_by_time ON forward_history (created_unix_ms);

-- A shared secret belongs to one HTLC for as long as that HTLC's expiry lets a replay pass.
CREATE TABLE onion_replay (
  shared_secret_hash bytea PRIMARY KEY CHECK (length(shared_secret_hash) = 32),
  channel_id         bytea NOT NULL,
  htlc_id            int8 NOT NULL,
  cltv_expiry        int8 NOT NULL
);
CREATE INDEX onion_replay_by_expiry ON onion_replay (cltv_expiry);

-- direction: inbound or outbound. finished: nothing of it is left to do.
CREATE TABLE payment (
  payment_hash    bytea PRIMARY KEY CHECK (length(payment_hash) = 32),
  shard           int4 NOT NULL,
  direction       text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
  bolt11          text NOT NULL,
  description     text NOT NULL,
  created_unix_ms int8 NOT NULL,
  expires_unix_ms int8 NOT NULL,
  amount_msat     int8 NOT NULL,
  status          text NOT NULL,
  finished        boolean NOT NULL,
  version         int8 NOT NULL,
  received_msat   int8 NOT NULL,
  fee_msat        int8 NOT NULL,
  attempts        int4 NOT NULL,
  paid_unix_ms    int8,
  preimage        bytea CHECK (length(preimage) = 32),
  failure_reason  text NOT NULL,
  state           bytea STORAGE EXTERNAL NOT NULL
) WITH (fillfactor = 60, toast_tuple_target = 8160);
CREATE INDEX payment_by_shard ON payment (shard) WHERE NOT finished;
CREATE INDEX payment_by_time ON payment (direction, created_unix_ms);

-- Orders and questions to chain-monitor.
CREATE TABLE broadcast (
  broadcast_id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  channel_id   bytea NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('funding', 'mutual_close', 'force_close')),
  transactions bytea[] NOT NULL
);
CREATE INDEX broadcast_by_channel ON broadcast (channel_id);

CREATE TABLE funding_watch (
  channel_id           bytea PRIMARY KEY,
  funding_txid         bytea NOT NULL CHECK (length(funding_txid) = 32),
  funding_output_index int4 NOT NULL,
  funding_value_sat    int8 NOT NULL,
  script_pubkey        bytea NOT NULL,
  minimum_depth        int4 NOT NULL,
  -- From here on: written by chain-monitor.
  status               text NOT NULL DEFAULT 'unconfirmed' CHECK (status IN ('unconfirmed', 'confirmed', 'mismatch', 'spent')),
  height               int8,
  tx_index             int4,
  depth                int4,
  reason               text,
  spending_txid        bytea
) WITH (fillfactor = 60);

CREATE TABLE peer_address (
  peer_node_id bytea PRIMARY KEY CHECK (length(peer_node_id) = 33),
  host         text NOT NULL,
  port         int4 NOT NULL,
  wanted       boolean NOT NULL
);

CREATE TABLE peer_connection (
  peer_node_id  bytea PRIMARY KEY CHECK (length(peer_node_id) = 33),
  generation    int8 NOT NULL,
  epoch         int8 NOT NULL,
  gateway_id    text,
  connection_id int8
) WITH (fillfactor = 60);

CREATE TABLE channel_policy (
  channel_id                           bytea PRIMARY KEY,
  fee_base_msat                        int8 NOT NULL,
  fee_proportional_millionths          int8 NOT NULL,
  cltv_expiry_delta                    int4 NOT NULL,
  htlc_minimum_msat                    int8 NOT NULL,
  htlc_maximum_msat                    int8 NOT NULL,
  updated_unix_ms                      int8 NOT NULL,
  previous_fee_base_msat               int8,
  previous_fee_proportional_millionths int8,
  previous_cltv_expiry_delta           int4
);

CREATE TABLE idempotency (
  key        text PRIMARY KEY,
  value      bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_by_time ON idempotency (created_at);

-- Events wait here until the sequencer moves them: whatever commits late is found late, and never skipped.
CREATE TABLE event_outbox (
  event_id     int8 GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  shard        int4 NOT NULL,
  type         text NOT NULL,
  time_unix_ms int8 NOT NULL,
  body         text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE event (
  position     int8 PRIMARY KEY,
  shard        int4 NOT NULL,
  type         text NOT NULL,
  time_unix_ms int8 NOT NULL,
  body         text NOT NULL
);

CREATE TABLE event_position (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  last     int8 NOT NULL,
  holder   text
) WITH (fillfactor = 50);
INSERT INTO event_position (last) VALUES (0);
