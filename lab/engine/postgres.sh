#!/bin/sh
# Stands in for docker-entrypoint.sh of the official postgres image: its user, its folder, its variables.
set -eu
data=/var/lib/postgresql/data
bin=$(echo /usr/lib/postgresql/*/bin)
as_postgres="setpriv --reuid postgres --regid postgres --init-groups"

install -d -o postgres -m 775 /run/postgresql
if [ ! -s "$data/PG_VERSION" ]; then
    install -d -o postgres -m 700 "$data"
    password=$(mktemp)
    echo "$POSTGRES_PASSWORD" >"$password"
    chown postgres "$password"
    # shellcheck disable=SC2086  # words, on purpose
    $as_postgres "$bin/initdb" ${POSTGRES_INITDB_ARGS:-} --pwfile="$password" "$data" >&2
    rm "$password"
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$data/postgresql.conf"
fi
exec $as_postgres env PATH="$bin:$PATH" PGDATA="$data" "$@"
