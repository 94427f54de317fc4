SELECT report_funding_status($1, $2, $3, $4, $5, $6, $7) AS changed
