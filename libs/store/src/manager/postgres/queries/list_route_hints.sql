SELECT c.counterparty_node_id, p.short_channel_id, p.fee_base_msat, p.fee_proportional_millionths, p.cltv_expiry_delta
FROM counterparty_policy AS p JOIN channel AS c USING (channel_id)
WHERE c.phase = 'open' AND NOT c.announce AND p.enabled AND c.inbound_capacity_msat >= $1 AND c.inbound_capacity_msat > 0
  AND ($2 OR NOT EXISTS (SELECT 1 FROM channel AS a
    WHERE a.phase = 'open' AND a.announce AND a.inbound_capacity_msat >= $1 AND a.inbound_capacity_msat > 0))
ORDER BY c.inbound_capacity_msat DESC, c.channel_id LIMIT $3
