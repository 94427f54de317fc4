SELECT prune($1, $2, $3) + prune_connections($1) AS removed
