-- What the counterparty of a channel asks for HTLCs that it forwards to this node, from its newest channel_update: hints of
-- invoices are made of it. The scid is one that the counterparty finds the channel by.
CREATE TABLE counterparty_policy (
  channel_id                  bytea PRIMARY KEY,
  short_channel_id            int8 NOT NULL,
  fee_base_msat               int8 NOT NULL,
  fee_proportional_millionths int8 NOT NULL,
  cltv_expiry_delta           int4 NOT NULL,
  enabled                     bool NOT NULL,
  timestamp_unix_seconds      int8 NOT NULL
);
