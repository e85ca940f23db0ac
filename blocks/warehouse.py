"""The warehouse: the table of processed tweets that training and benchmarks read."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from blocks.role import BlockError, Resource, Role, local_path, local_resources

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


MEMORY = 32, 512, 4096
"""Megabytes that DuckDB may take for reading, one after the other: given more, it caches all of its file."""


class WarehouseError(BlockError):
    """Raised when the warehouse cannot do what is asked; says why and what to do."""


class Merged(BaseModel):
    """What a merge did to the table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inserted: int = Field(description="Rows whose id was new.")
    updated: int = Field(description="Rows whose id was there with other derived columns.")
    unchanged: int = Field(description="Rows that were there already.")
    conflicting: int = Field(description="Rows left out: their id is there with another text.")


Fetch = Callable[[str], list[tuple[Any, ...]]]


class Warehouse(Role):
    """SQL over one table of tweets, merged by id."""

    slot: ClassVar[str] = "sentiment-warehouse"
    kinds: ClassVar[Mapping[str, str]] = {
        "duckdb-warehouse": "blocks.warehouse",
        "snowflake-warehouse": "blocks.snowflake",
    }

    table: str = Field(
        default="PROCESSED_TWEETS",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,200}$",  # it becomes part of statements
        description="Table of processed tweets.",
    )

    @abstractmethod
    def merge(self, frames: Iterable[pl.DataFrame]) -> tuple[Merged, pl.DataFrame]:
        """Load rows in one transaction: new ids are inserted, known ones updated, nothing is doubled.

        A row whose id is in the table with another `text` is left out and handed back.

        Args:
            frames: Rows as in `COLUMNS`; ids are unique over all frames.

        Returns:
            What was done, and the rows left out.
        """

    @abstractmethod
    def query(self, sql: str) -> Iterator[pl.DataFrame]:
        """Return the rows of a SELECT in batches; `{table}` in it stands for the table's name.

        Sort and join many rows elsewhere: memory is kept short here, so that a table may be of any size.

        Raises:
            WarehouseError: The table does not exist yet.
        """

    def _merge_staging(self, fetch: Fetch) -> Merged:
        """Merge the rows of the table `staging`; the caller begins and commits the transaction.

        Args:
            fetch: Runs a statement and returns its rows, if it has any.
        """
        derived = [name for name in COLUMNS if name not in ("id", "text")]
        same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM s.{name}" for name in derived)
        counts = fetch(
            "SELECT count_if(t.text IS NULL), "
            f"count_if(t.text = s.text AND NOT ({same})), "
            f"count_if(t.text = s.text AND {same}), "
            f"count_if(t.text <> s.text) FROM staging s LEFT JOIN {self.table} t ON t.id = s.id"
        )[0]
        fetch(
            f"MERGE INTO {self.table} t USING staging s ON t.id = s.id "
            f"WHEN MATCHED AND t.text = s.text AND NOT ({same}) THEN UPDATE SET "
            + ", ".join(f"{name} = s.{name}" for name in derived)
            + f" WHEN NOT MATCHED THEN INSERT ({', '.join(COLUMNS)}) VALUES ("
            + ", ".join(f"s.{name}" for name in COLUMNS)
            + ")"
        )
        fields = ("inserted", "updated", "unchanged", "conflicting")
        # Over no rows at all, DuckDB counts None.
        return Merged(**{name: count or 0 for name, count in zip(fields, counts, strict=True)})

    def _conflicting(self, columns: str) -> str:
        """Return the query for the rows of the table `staging` that a merge leaves out."""
        return f"SELECT {columns} FROM staging s JOIN {self.table} t ON t.id = s.id WHERE t.text <> s.text"


COLUMNS: dict[str, str] = {
    "id": "VARCHAR PRIMARY KEY",
    "created_at": "TIMESTAMPTZ",
    "lang": "VARCHAR",
    "username": "VARCHAR",
    "source": "VARCHAR NOT NULL",
    "text": "VARCHAR NOT NULL",
    "cleaned_text": "VARCHAR NOT NULL",
    "tokens": "VARCHAR NOT NULL",
    "polarity": "DOUBLE NOT NULL",
    "label": "TINYINT NOT NULL",
    "human_label": "TINYINT",
    "split": "VARCHAR NOT NULL",
}
"""Columns of the table and their types, by names that all kinds of warehouse know."""

DEFINITION = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())


class DuckDBWarehouse(Warehouse):
    """A warehouse in one DuckDB file of this machine."""

    _block_type_name = "DuckDB Warehouse"
    _block_type_slug = "duckdb-warehouse"

    path: str = Field(
        default=".local/warehouse.duckdb", description="File; a relative one starts at the checkout."
    )

    @contextmanager
    def _connected(self, read_only: bool) -> Iterator["DuckDBPyConnection"]:
        import duckdb

        path = local_path(self.path)
        if read_only and not path.exists():
            raise self._missing()
        try:
            if not path.exists():
                _create(path)
            connection = duckdb.connect(str(path), read_only=read_only)
        except (duckdb.Error, OSError) as error:
            raise WarehouseError(
                f"Cannot open the DuckDB file {path}: {error}. Close what else has it open, make room, make "
                "the folder writable or move a damaged file away, then run again."
            ) from error
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        except duckdb.OperationalError as error:
            raise WarehouseError(
                f"Cannot read or write the DuckDB file {path}: {error}. The table is as it was: make room, "
                "then run again."
            ) from error
        finally:
            connection.close()

    def merge(self, frames: Iterable[pl.DataFrame]) -> tuple[Merged, pl.DataFrame]:  # noqa: D102
        with self._connected(read_only=False) as connection:
            connection.execute("BEGIN")
            connection.execute(f"CREATE TABLE IF NOT EXISTS {self.table} ({DEFINITION})")
            connection.execute(f"CREATE TEMP TABLE staging ({DEFINITION})")
            for frame in frames:
                connection.register("batch", frame.select(list(COLUMNS)).to_arrow())
                connection.execute("INSERT INTO staging SELECT * FROM batch")
                connection.unregister("batch")
            conflicting = connection.sql(f"{self._conflicting('s.*')} ORDER BY s.id")
            left_out = pl.DataFrame(conflicting.to_arrow_table())
            merged = self._merge_staging(lambda sql: connection.execute(sql).fetchall())
            connection.execute("DROP TABLE staging")
            connection.execute("COMMIT")
        return merged, left_out

    def query(self, sql: str) -> Iterator[pl.DataFrame]:  # noqa: D102
        import duckdb

        given = 0
        with self._connected(read_only=True) as connection:
            connection.execute("SET threads = 1")
            for limit in MEMORY:  # long texts need more than tweets do
                connection.execute(f"SET memory_limit = '{limit}MB'")
                try:
                    rest = f"{sql.format(table=self.table)} OFFSET {given}"
                    for batch in connection.sql(rest).to_arrow_reader(10_000):
                        yield pl.DataFrame(batch)
                        given += len(batch)
                    return
                except duckdb.CatalogException as error:
                    raise self._missing() from error
                except (duckdb.OutOfMemoryException, OSError) as error:  # by the reader it is an OSError
                    if "Out of Memory" not in str(error) or limit == MEMORY[-1]:
                        raise

    def check(self) -> str:  # noqa: D102
        with self._connected(read_only=False):
            return f"DuckDB file {local_path(self.path)}"

    def resources(self) -> list[Resource]:  # noqa: D102
        return local_resources("file of the warehouse", self.path)

    def _missing(self) -> WarehouseError:
        return WarehouseError(
            f"There is no table {self.table} in {local_path(self.path)}: load it first with "
            "`python -m flows.etl`."
        )


def _create(path: Path) -> None:
    """Put an empty DuckDB file at `path` in one step, unless one is there.

    DuckDB itself, killed while it makes a file, leaves one that it cannot open again.
    """
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        fresh = Path(folder) / "fresh.duckdb"
        duckdb.connect(str(fresh)).close()
        # A link, not a move: it does not replace a file that another run has made meanwhile. Where the file
        # system has no links, DuckDB makes the file itself.
        with suppress(OSError):
            os.link(fresh, path)
