SELECT position, type, time_unix_ms, body FROM event WHERE position > $1 ORDER BY position LIMIT $2
