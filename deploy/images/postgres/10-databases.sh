#!/bin/sh
# Run once by the Postgres image on an empty data folder: a database for the node and one for the signer, each owned by
# a role of its own that may not connect to the other.
set -eu

make_database() {
  psql --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
}

make_database fulmen_node "$FULMEN_NODE_DATABASE_PASSWORD"
make_database fulmen_signer "$FULMEN_SIGNER_DATABASE_PASSWORD"

# A takeover of a shard ends the sessions in which its old owner hangs.
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --command 'GRANT pg_signal_backend TO fulmen_node'
