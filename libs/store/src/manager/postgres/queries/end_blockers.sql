SELECT end_blockers($1)
