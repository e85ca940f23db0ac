"""The warehouse in Snowflake."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import polars as pl
import polars.selectors as cs
import snowflake.connector.errors as failures
from prefect_snowflake import SnowflakeConnector
from prefect_snowflake.credentials import InvalidPemFormat
from pydantic import Field
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errorcode import ER_FAILED_TO_CONNECT_TO_DB
from snowflake.connector.vendored.requests.exceptions import RequestException

from blocks.role import BlockError, Resource, causes
from blocks.warehouse import COLUMNS, DEFINITION, Merged, Warehouse, WarehouseError

BATCH_ROWS = 50_000
LOGIN_SECONDS = 60

AWAY = (
    failures.OperationalError,
    failures.RequestExceedMaxRetryError,
    failures.RequestTimeoutError,
    failures.TooManyRequests,
    failures.InternalServerError,
    failures.BadGatewayError,
    failures.ServiceUnavailableError,
    failures.GatewayTimeoutError,
    failures.OtherHTTPRetryableError,
    RequestException,  # of an answer that broke off, which the library does not catch
)
"""What is raised when the library has tried for long enough."""

NO_TABLE = 2003
PASSING = {625, 390104, 390111, 390114}
"""Numbers of errors that waiting, or another session, may help."""

OUTAGE = "{where} does not answer ({said}). A load is done as a whole or not at all: run again later."
NO_ACCOUNT = "There is no {where}: correct the account identifier (ORGANISATION-ACCOUNT) or the host."
LOGIN = "{where} does not let the user {user} in: {said} "
LOGINS = (
    (
        "JWT",
        "The private key is not that of the user's RSA_PUBLIC_KEY, or the clock of this machine is wrong: "
        "save the credentials with the right key, or ALTER USER {user} SET RSA_PUBLIC_KEY = '…'.",
    ),
    ("Role", "GRANT ROLE {role} TO USER {user}, or save the credentials with another role."),
    ("assword", "Save the credentials again with the right user and password."),
    ("", "Ask the administrator of the account, or save other credentials."),
)
"""A word of what Snowflake says to someone it does not let in, and the remedy."""

SCHEMA = (
    "{where} has no schema {schema} that the role {role} may use: create it, correct the connector's "
    "database and schema, or GRANT USAGE ON DATABASE {database} and ON SCHEMA {schema} to the role."
)
REMEDIES = {
    604: "{where} did not finish within {timeout} s: raise `timeout`, or use a larger warehouse. {said}",
    606: "{where}: the role {role} has no warehouse {warehouse} to compute with: create it, correct the "
    "connector's warehouse, or GRANT USAGE ON WAREHOUSE {warehouse} to the role.",
    625: "{where}: another run holds {table}. {said}",
    NO_TABLE: "There is no table {table} in {where}, or the role {role} may not see it: load it first with "
    "`python -m flows.etl`, or GRANT SELECT ON TABLE {table} to the role.",
    3001: "{where}: {said} Grant this to the role {role}, or save the credentials with another role. Flows "
    "need USAGE on warehouse, database and schema, CREATE TABLE and CREATE STAGE on the schema, and SELECT, "
    "INSERT and UPDATE on the table.",
    90105: SCHEMA,
    90106: SCHEMA,
    290404: NO_ACCOUNT,
}
"""Numbers of errors, and what to say of them."""

DTYPES: dict[str, pl.DataType] = {
    "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
    "DOUBLE": pl.Float64(),
    "TINYINT": pl.Int8(),
    "VARCHAR": pl.String(),
}


class SnowflakeWarehouse(Warehouse):
    """A warehouse in one schema of a Snowflake account."""

    _block_type_name = "Snowflake Warehouse"
    _block_type_slug = "snowflake-warehouse"

    connector: SnowflakeConnector = Field(
        description="Credentials of a password or a key pair, and names of database, schema and warehouse."
    )
    host: str | None = Field(
        default=None, description="Host of a private link or proxy; without one, the account's own."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of that host.")
    protocol: Literal["https", "http"] = Field(default="https", description="What that host speaks.")
    timeout: int = Field(
        default=300,
        gt=0,
        description="Seconds after which a statement, or waiting in an outage, is given up.",
    )

    @contextmanager
    def _session(self) -> Iterator[SnowflakeCursor]:
        """Yield a cursor; what it has not committed is undone in the end."""
        credentials = self.connector.credentials
        # What the library logs is in the error that it raises, but there without signed addresses.
        logging.getLogger("snowflake.connector").setLevel(logging.CRITICAL)
        try:
            credentials.resolve_private_key()
        except (InvalidPemFormat, ValueError, TypeError, OSError):
            raise WarehouseError(
                f"The private key of the Snowflake user {credentials.user} cannot be read: it is not a PEM "
                "file, or has another passphrase. Save the credentials again with the right ones."
            ) from None
        opened = False
        place = {"host": self.host, "port": self.port, "protocol": self.protocol}
        try:
            with credentials.get_client(
                **{name: value for name, value in place.items() if value is not None},
                database=self.connector.database,
                schema=self.connector.schema_,
                warehouse=self.connector.warehouse,
                autocommit=True,
                login_timeout=LOGIN_SECONDS,
                network_timeout=self.timeout,
                session_parameters={"TIMEZONE": "UTC", "LOCK_TIMEOUT": self.timeout // 2},
            ) as connection:
                opened = True
                yield connection.cursor()
        except AWAY as error:
            raise self._explained(error) from None  # logs show causes, and theirs hold signed addresses
        except failures.Error as error:
            raise self._explained(error, opened) from error

    def merge(self, frames: Iterable[pl.DataFrame]) -> tuple[Merged, pl.DataFrame]:  # noqa: D102
        with TemporaryDirectory() as folder:
            for number, frame in enumerate(frames):
                _keep(frame.select(list(COLUMNS)), Path(folder) / f"{number}.parquet")
            with self._session() as cursor:
                _stage(cursor, folder)
                # Commits on its own, as all that creates something does in Snowflake.
                cursor.execute(f"CREATE TABLE IF NOT EXISTS {self.table} ({DEFINITION})")
                with _transaction(cursor):
                    conflicting = [identifier for (identifier,) in _fetch(cursor, self._conflicting("s.id"))]
                    merged = self._merge_staging(lambda sql: _fetch(cursor, sql))
                    self._require_once(cursor)
            return merged, _left_out(folder, conflicting)

    def _require_once(self, cursor: SnowflakeCursor) -> None:
        """Undo what another run has done at the same time: Snowflake itself enforces no primary key."""
        twice = _fetch(
            cursor,
            f"SELECT t.id FROM {self.table} t JOIN staging s ON t.id = s.id "
            "GROUP BY t.id HAVING count(*) > 1 LIMIT 1",
        )
        if twice:
            raise WarehouseError(
                f"Another run was loading the same rows into {self.table}: nothing was loaded. Run again.",
                transient=True,
            )

    def query(self, sql: str) -> Iterator[pl.DataFrame]:  # noqa: D102
        with self._session() as cursor:
            cursor.execute(sql.format(table=self.table))
            for batch in cursor.fetch_arrow_batches(force_microsecond_precision=True):
                yield from _normal(pl.DataFrame(batch)).iter_slices(BATCH_ROWS)

    def check(self) -> str:  # noqa: D102
        with self._session() as cursor:
            cursor.execute("CREATE OR REPLACE TEMPORARY TABLE staging AS SELECT 1 AS id")  # needs a warehouse
            role = cursor.connection.role
            try:
                ((count,),) = _fetch(cursor, f"SELECT count(*) FROM {self.table}")
                rows = f"{count:,} rows"
            except failures.ProgrammingError as error:
                if error.errno != NO_TABLE:
                    raise
                rows = "not loaded yet"
        names = self._names()
        return f"{names['where']}, user {names['user']}, role {role}: {names['table']}, {rows}"

    def resources(self) -> list[Resource]:  # noqa: D102
        table, where = self._names()["table"], self._names()["where"]
        return [Resource(kind="table", name=table, detail=where, by_hand=f"DROP TABLE {table}")]

    def explain(self, error: BaseException) -> BlockError | None:  # noqa: D102
        for cause in causes(error):
            if isinstance(cause, BlockError):
                return None
            if isinstance(cause, failures.Error | RequestException):
                return self._explained(cause)
        return None

    def _names(self) -> dict[str, str]:
        connector, credentials = self.connector, self.connector.credentials
        schema = f"{connector.database}.{connector.schema_}"
        return {
            "where": f"Snowflake account {credentials.account}" + (f" at {self.host}" if self.host else ""),
            "user": f"{credentials.user}",
            "role": credentials.role or "the user's default role",
            "warehouse": connector.warehouse,
            "database": connector.database,
            "schema": schema,
            "table": f"{schema}.{self.table}",
            "timeout": f"{self.timeout}",
        }

    def _explained(self, error: failures.Error | RequestException, opened: bool = False) -> WarehouseError:
        names = self._names()
        if isinstance(error, AWAY):
            said = str(list(causes(error))[-1])
            if "://" in said:  # the addresses of storage are signed
                said = "its storage fails"
            return WarehouseError(OUTAGE.format(**names, said=said), transient=True)
        said = " ".join((error.raw_msg or "").removeprefix("SQL compilation error:").split())
        remedy = REMEDIES.get(error.errno, "{where}: {said}")
        if isinstance(error, failures.ForbiddenError) and not opened:
            remedy = NO_ACCOUNT
        elif error.errno == ER_FAILED_TO_CONNECT_TO_DB:
            said = said.partition(". ")[2]
            remedy = LOGIN + next(remedy for word, remedy in LOGINS if word in said)
        return WarehouseError(remedy.format(**names, said=said), transient=error.errno in PASSING)


def _fetch(cursor: SnowflakeCursor, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return list(map(tuple, cursor.fetchall()))


def _keep(frame: pl.DataFrame, file: Path) -> None:
    try:
        frame.write_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise WarehouseError(
            f"The rows for Snowflake cannot be kept in {file.parent}: {error}. Make room there, or set "
            "TMPDIR to another folder, then run again."
        ) from error


def _stage(cursor: SnowflakeCursor, folder: str) -> None:
    """Load the parquet files of a folder into the temporary table `staging`.

    Raises:
        WarehouseError: An id is there twice, which Snowflake itself would allow.
    """
    types = {name: kind.split()[0] for name, kind in COLUMNS.items()}
    definition = ", ".join(f"{name} {kind}" for name, kind in types.items())
    cursor.execute(f"CREATE OR REPLACE TEMPORARY TABLE staging ({definition})")
    if any(Path(folder).iterdir()):
        columns = ", ".join(f"$1:{name}::{kind}" for name, kind in types.items())
        cursor.execute("CREATE OR REPLACE TEMPORARY STAGE staging_files")
        cursor.execute(
            f"PUT 'file://{folder}/*.parquet' @staging_files AUTO_COMPRESS = FALSE OVERWRITE = TRUE"
        )
        # MATCH_BY_COLUMN_NAME would be shorter, but the server of the tests lacks it for temporary tables.
        # The logical type makes moments of the file's integers; they are in UTC, as the session is. Without
        # an empty NULL_IF, a text of a backslash and an N would become NULL.
        cursor.execute(
            f"COPY INTO staging FROM (SELECT {columns} FROM @staging_files) "
            "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE NULL_IF = ())"
        )
    twice = _fetch(cursor, "SELECT id FROM staging GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 3")
    if twice:
        ids = ", ".join(identifier for (identifier,) in twice)
        raise WarehouseError(f"Nothing was loaded: some ids come more than once, such as {ids}.")


@contextmanager
def _transaction(cursor: SnowflakeCursor) -> Iterator[None]:
    cursor.execute("BEGIN")
    try:
        yield
        cursor.execute("COMMIT")
    except BaseException:
        with suppress(failures.Error, RequestException):  # the end of the session undoes it, too
            cursor.execute("ROLLBACK", timeout=5)
        raise


def _left_out(folder: str, identifiers: list[str]) -> pl.DataFrame:
    """Return the rows with these ids, as they came."""
    if not identifiers:
        return pl.DataFrame(schema={name: DTYPES[kind.split()[0]] for name, kind in COLUMNS.items()})
    rows = pl.scan_parquet(f"{folder}/*.parquet")
    return rows.filter(pl.col("id").is_in(identifiers)).sort("id").collect()


def _normal(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a batch with the names and types that DuckDB gives; Snowflake's differ from batch to batch."""
    frame = frame.rename(str.lower).with_columns(
        cs.integer().cast(pl.Int64), cs.datetime(time_zone="*").dt.convert_time_zone("UTC")
    )
    known = {name: DTYPES[COLUMNS[name].split()[0]] for name in frame.columns if name in COLUMNS}
    return frame.cast({name: dtype for name, dtype in known.items() if dtype != frame.schema[name]})
