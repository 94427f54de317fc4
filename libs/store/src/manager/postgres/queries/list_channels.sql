SELECT * FROM channel WHERE $1 OR phase <> 'closed' ORDER BY channel_id
