SELECT fence_holds($1, $2, $3) AS holds
