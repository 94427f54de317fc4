-- How closed channels settle. Facts (spend) come from blocks; all else is derived from them and the monitors, and kept
-- for people, for other services, and so that a fee never falls.

CREATE TABLE spend (
  channel_id  bytea NOT NULL,
  txid        bytea NOT NULL CHECK (length(txid) = 32),
  height      int4 NOT NULL,
  tx_index    int4 NOT NULL,
  transaction bytea NOT NULL,
  PRIMARY KEY (channel_id, txid)
);

CREATE TABLE settlement (
  channel_id      bytea PRIMARY KEY,
  stage           text NOT NULL CHECK (stage IN ('closed', 'resolved')),
  close_type      text NOT NULL,
  close_txid      bytea NOT NULL,
  close_height    int4 NOT NULL,
  summary         text NOT NULL,
  told_fulfilled  int8[] NOT NULL,
  told_failed     int8[] NOT NULL,
  resolved_height int4
);
CREATE INDEX settlement_unresolved ON settlement (channel_id) WHERE stage = 'closed';
CREATE INDEX settlement_by_height ON settlement (close_height);

CREATE TABLE claim (
  txid                         bytea NOT NULL,
  output_index                 int4 NOT NULL,
  channel_id                   bytea NOT NULL,
  kind                         text NOT NULL,
  value_sat                    int8 NOT NULL,
  deadline_height              int4,
  budget_sat                   int8 NOT NULL,
  feerate_sat_per_kw           int4 NOT NULL,
  requested_feerate_sat_per_kw int4,
  attempts                     int4 NOT NULL,
  first_height                 int4 NOT NULL,
  sweep_id                     bytea,
  next_action                  text NOT NULL,
  PRIMARY KEY (txid, output_index)
) WITH (fillfactor = 70);

CREATE TABLE sweep (
  sweep_id             bytea PRIMARY KEY,
  txid                 bytea NOT NULL,
  transaction          bytea NOT NULL,
  parents              bytea[] NOT NULL,
  claim_txids          bytea[] NOT NULL,
  claim_indexes        int4[] NOT NULL,
  wallet_input_txids   bytea[] NOT NULL,
  wallet_input_indexes int4[] NOT NULL,
  fee_sat              int8 NOT NULL,
  feerate_sat_per_kw   int4 NOT NULL,
  created_height       int4 NOT NULL,
  confirmed_height     int4,
  reject_reason        text
) WITH (fillfactor = 70);
