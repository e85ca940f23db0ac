#!/bin/sh
# Start the Prefect server of the stack. Secrets come from files, and go into this process's environment only.
set -eu
secrets=${SECRETS:-/run/secrets}

PGPASSWORD=$(cat "$secrets/prefect_database_password")
PREFECT_SERVER_API_AUTH_STRING=$(cat "$secrets/prefect_auth")
PREFECT_API_DATABASE_CONNECTION_URL=postgresql+asyncpg://prefect@$POSTGRES/prefect
export PGPASSWORD PREFECT_SERVER_API_AUTH_STRING PREFECT_API_DATABASE_CONNECTION_URL

exec prefect server start --host 0.0.0.0 --port "${PORT:-4200}"
