-- The first value wins; a row that another call is inserting is waited for.
INSERT INTO idempotency AS i (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET key = i.key RETURNING value
