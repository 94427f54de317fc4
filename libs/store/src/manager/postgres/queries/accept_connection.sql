SELECT * FROM accept_connection($1, $2, $3, $4, $5, $6, $7)
