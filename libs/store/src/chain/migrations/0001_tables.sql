-- What chain-monitor keeps, in the node's database beside the manager's schema. Hashes are in internal order.
-- Every write first locks the lease's row FOR SHARE and compares holder and epoch; a takeover waits for it.

CREATE TABLE lease (
  name        text PRIMARY KEY,
  holder      text NOT NULL,
  address     text NOT NULL,
  epoch       int8 NOT NULL,
  lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE block (
  height            int4 PRIMARY KEY,
  hash              bytea NOT NULL CHECK (length(hash) = 32),
  prev_hash         bytea NOT NULL CHECK (length(prev_hash) = 32),
  time_unix_seconds int8 NOT NULL
);

CREATE TABLE funding (
  channel_id           bytea PRIMARY KEY,
  funding_txid         bytea NOT NULL,
  funding_output_index int4 NOT NULL,
  funding_value_sat    int8 NOT NULL,
  script_pubkey        bytea NOT NULL,
  minimum_depth        int4 NOT NULL,
  seen_height          int4,
  seen_tx_index        int4,
  seen_fault           text,
  spent_txid           bytea,
  spent_height         int4
);

CREATE TABLE broadcast (
  order_id          bytea PRIMARY KEY,
  kind              text NOT NULL,
  channel_id        bytea,
  transactions      bytea[] NOT NULL,
  confirmed_heights int4[] NOT NULL,
  conflict_height   int4,
  reject_reason     text
);

CREATE TABLE wallet_address (
  script bytea PRIMARY KEY,
  kind   text NOT NULL CHECK (kind IN ('p2wpkh', 'p2tr')),
  chain  text NOT NULL CHECK (chain IN ('receive', 'change')),
  index  int4 NOT NULL,
  state  text NOT NULL CHECK (state IN ('unused', 'handed_out', 'used')),
  UNIQUE (kind, chain, index)
);

CREATE TABLE wallet_utxo (
  txid         bytea NOT NULL,
  output_index int4 NOT NULL,
  value_sat    int8 NOT NULL,
  script       bytea NOT NULL,
  origin       text NOT NULL CHECK (origin IN ('own', 'foreign', 'coinbase')),
  height       int4,
  spent_txid   bytea,
  spent_height int4,
  PRIMARY KEY (txid, output_index)
);

CREATE TABLE wallet_reservation (
  key            bytea PRIMARY KEY,
  purpose        text NOT NULL CHECK (purpose IN ('funding', 'send')),
  request_digest bytea NOT NULL,
  input_txids    bytea[] NOT NULL,
  input_indexes  int4[] NOT NULL,
  change_script  bytea,
  psbt           bytea NOT NULL,
  transaction    bytea,
  txid           bytea NOT NULL,
  output_index   int4 NOT NULL,
  fee_sat        int8 NOT NULL,
  created_height int4 NOT NULL
);

CREATE TABLE wallet_transaction (
  txid       bytea PRIMARY KEY,
  number     int8 GENERATED ALWAYS AS IDENTITY,
  amount_sat int8 NOT NULL,
  fee_sat    int8 NOT NULL,
  height     int4,
  label      text NOT NULL
);
CREATE INDEX wallet_transaction_by_number ON wallet_transaction (number);

CREATE TABLE progress (
  only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  rescan_from  int4,
  scanned_from int4
);
INSERT INTO progress DEFAULT VALUES;

-- A channel's enforcement state: everything needed to settle it on-chain.
CREATE TABLE monitor (
  channel_id  bytea PRIMARY KEY,
  update_id   int8 NOT NULL,
  close_state text NOT NULL CHECK (close_state IN ('open', 'pending', 'ordered', 'passive')),
  snapshot    bytea STORAGE EXTERNAL NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX monitor_close_pending ON monitor (channel_id) WHERE close_state = 'pending';
