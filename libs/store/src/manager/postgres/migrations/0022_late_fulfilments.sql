-- What a channel's counterparty fulfilled past the deadline from which on chain-monitor may have failed it upstream: the sum
-- over its forwards that have left it. It counts when the next one is past its deadline.
CREATE TABLE late_fulfilment (
  channel_id  bytea PRIMARY KEY,
  amount_msat int8 NOT NULL CHECK (amount_msat >= 0),
  -- The last update of the monitor when the last of them left: a monitor before it may still have that one.
  update_id   int8 NOT NULL
);

-- The fourth part of the hot path, after commit_channels: in the commit in which the HTLC leaves, which it does once.
CREATE FUNCTION add_late_fulfilments(l_id bytea[], l_amount int8[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF cardinality(l_id) > 0 THEN
    INSERT INTO late_fulfilment AS l (channel_id, amount_msat, update_id)
    SELECT n.id, n.amount, c.monitor_update_id
    FROM unnest(l_id, l_amount) AS n(id, amount) JOIN channel AS c ON c.channel_id = n.id
    ON CONFLICT (channel_id) DO UPDATE SET amount_msat = l.amount_msat + excluded.amount_msat, update_id = excluded.update_id;
  END IF;
END $$;
