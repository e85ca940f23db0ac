#!/bin/sh
# Start the MLflow server of the stack. Secrets come from files, and go into this process's environment only.
set -eu
secrets=${SECRETS:-/run/secrets}
umask 077

MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
cat > "$MLFLOW_AUTH_CONFIG_PATH" <<END
[mlflow]
database_uri = postgresql+psycopg2://mlflow@$POSTGRES/mlflow_users
default_permission = NO_PERMISSIONS
admin_username = $MLFLOW_ADMIN
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
END

PGPASSWORD=$(cat "$secrets/mlflow_database_password")
MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$secrets/mlflow_admin_password")
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$secrets/mlflow_session_key")
export MLFLOW_AUTH_CONFIG_PATH PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true

exec mlflow server --host 0.0.0.0 --port "${PORT:-5000}" --workers "${WORKERS:-2}" \
    --backend-store-uri "postgresql+psycopg2://mlflow@$POSTGRES/mlflow" \
    --serve-artifacts --artifacts-destination "$ARTIFACTS" \
    --app-name basic-auth --allowed-hosts "$ALLOWED_HOSTS" \
    --cors-allowed-origins "https://$ALLOWED_HOSTS"
