#!/bin/sh
# Make the users and the databases of the stack; PostgreSQL's image runs this once, on an empty volume.
set -eu
secrets=${SECRETS:-/run/secrets}

for user in mlflow prefect; do
    psql --set ON_ERROR_STOP=1 --set user="$user" \
        --set password="$(cat "$secrets/${user}_database_password")" --username postgres --dbname postgres <<'END'
CREATE ROLE :"user" LOGIN PASSWORD :'password';
END
done
for database in mlflow mlflow_users prefect; do
    createdb --username postgres --owner "${database%_users}" "$database"
done
