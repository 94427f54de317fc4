SELECT c.*, cold.cold, sig.signatures, late.amount_msat AS fulfilled_late_msat, w.status AS watch_status, w.height AS watch_height, w.tx_index AS watch_tx_index,
  w.depth AS watch_depth, w.reason AS watch_reason, w.spending_txid AS watch_txid, w.settlement AS watch_settlement
FROM channel AS c
LEFT JOIN channel_cold AS cold USING (channel_id)
LEFT JOIN channel_signatures AS sig USING (channel_id)
LEFT JOIN late_fulfilment AS late USING (channel_id)
LEFT JOIN funding_watch AS w USING (channel_id)
WHERE c.shard = $1 AND c.phase <> 'closed'
ORDER BY c.channel_id
