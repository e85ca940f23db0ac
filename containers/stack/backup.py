"""Back the stack's databases up to S3, and bring them back.

    backup.py nightly                each night at 03:00 UTC
    backup.py now                    once
    backup.py restore KEY DATABASE   put a dump in place of what the database has

The environment names the bucket (BACKUP_BUCKET), the databases (DATABASES) and the server (PGHOST, PGUSER);
SECRETS is the folder of the file `postgres_password`. AWS's credentials are found as boto3 does.
"""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HOUR = 3
RETRY = 600  # seconds until a backup that failed is tried again


def backup(bucket: str, databases: list[str]) -> list[str]:
    """Dump each database into a file, put it into the bucket once it is whole, and return the keys."""
    keys = []
    for database in databases:
        key = f"backups/{datetime.now(UTC):%Y-%m-%d/%H%M%S}-{database}.dump"
        with TemporaryDirectory() as folder:
            file = Path(folder) / "dump"
            _run("pg_dump", "--format=custom", f"--file={file}", database)
            _s3().upload_file(str(file), bucket, key)
            print(f"{database}: {file.stat().st_size:,} bytes in s3://{bucket}/{key}", flush=True)
        keys.append(key)
    return keys


def restore(bucket: str, key: str, database: str) -> None:
    """Put a dump in place of what a database has, wholly or not at all."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "dump"
        _s3().download_file(bucket, key, str(file))
        flags = ("--clean", "--if-exists", "--single-transaction", "--exit-on-error")
        _run("pg_restore", *flags, f"--dbname={database}", str(file))
    print(f"{database}: restored from s3://{bucket}/{key}", flush=True)


def seconds_to_wait(now: datetime) -> float:
    """Return the seconds until the next backup is due."""
    due = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    return (due + timedelta(days=now >= due) - now).total_seconds()


def nightly(bucket: str, databases: list[str]) -> None:
    """Back up each night; a night's failure is told and tried again."""
    while True:
        time.sleep(seconds_to_wait(datetime.now(UTC)))
        while True:
            try:
                backup(bucket, databases)
                break
            except Exception as error:  # whatever it is, the next try may do
                print(f"The backup failed: {error}. Next try in {RETRY} s.", file=sys.stderr, flush=True)
                time.sleep(RETRY)


def _run(*command: str) -> None:
    secret = Path(os.environ.get("SECRETS", "/run/secrets")) / "postgres_password"
    subprocess.run(command, check=True, env=os.environ | {"PGPASSWORD": secret.read_text().strip()})


def _s3() -> Any:
    import boto3

    return boto3.client("s3")


def main() -> None:
    """Run the command line."""
    bucket, databases = os.environ["BACKUP_BUCKET"], os.environ["DATABASES"].split()
    match sys.argv[1:]:
        case ["nightly"]:
            nightly(bucket, databases)
        case ["now"]:
            backup(bucket, databases)
        case ["restore", key, database]:
            restore(bucket, key, database)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
