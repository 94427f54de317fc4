SELECT c.channel_id, w.status AS watch_status, w.height AS watch_height, w.tx_index AS watch_tx_index,
  w.depth AS watch_depth, w.reason AS watch_reason, w.spending_txid AS watch_txid, w.settlement AS watch_settlement, c.closing_decision
FROM channel AS c JOIN funding_watch AS w USING (channel_id)
WHERE c.shard = ANY ($1::int4[]) AND c.phase <> 'closed'
ORDER BY c.channel_id
