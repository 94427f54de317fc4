SELECT * FROM channel_policy WHERE channel_id = $1
