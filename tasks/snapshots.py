"""Snapshots: the output of one ETL step, an immutable set of parquet parts in the lake."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.lake import Lake, LakeError
from tasks.contracts import REASON


class Snapshot(BaseModel):
    """What a step wrote. It is named by what went into it, so the same input is never written twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str = Field(description="raw, labelled or processed.")
    key: str = Field(description="Fingerprint of the step's input and options.")
    parts: int = Field(description="Number of parquet files.")
    rows: int = Field(description="Number of rows in them.")
    rejected: dict[str, int] = Field(description="Number of rejected rows by reason.")

    @property
    def prefix(self) -> str:
        """The folder of the parts in the lake."""
        return f"{self.step}/{self.key}"

    def part_keys(self) -> list[str]:
        """Return the keys of the parts, in order."""
        return [part_key(self.step, self.key, number) for number in range(self.parts)]

    def frames(self, lake: Lake) -> Iterator[pl.DataFrame]:
        """Yield the parts, one in memory at a time.

        Raises:
            LakeError: A part is damaged or gone.
        """
        for key in self.part_keys():
            with self.reading(lake):
                frame = lake.scan([key]).collect()
            yield frame

    @contextmanager
    def reading(self, lake: Lake) -> Iterator[None]:
        """Explain what goes wrong while the parts are read."""
        try:
            yield
        except (pl.exceptions.PolarsError, OSError) as error:
            raise lake.explain(error) or LakeError(
                f"The snapshot {lake.uri(self.prefix)} cannot be read: {error}. Delete it and run again: it "
                "is made anew."
            ) from error


def part_key(step: str, key: str, number: int) -> str:
    """Return the lake key of a part."""
    return f"{step}/{key}/part-{number:05}.parquet"


def find_snapshot(lake: Lake, step: str, key: str) -> Snapshot | None:
    """Return the finished snapshot, or None: a step that was cut short leaves no manifest, or half of one."""
    manifest = _manifest(step, key)
    try:
        return Snapshot.model_validate_json(lake.read(manifest)) if lake.exists(manifest) else None
    except ValidationError:
        return None


def write_snapshot(
    lake: Lake, step: str, key: str, parts: Iterable[tuple[pl.DataFrame, pl.DataFrame | None]]
) -> Snapshot:
    """Write the parts, then the manifest that makes them count.

    Args:
        lake: Where to.
        step: Name of the step, the first folder of the keys.
        key: See `Snapshot.key`.
        parts: Accepted rows and rejected rows, part by part; rejected rows carry a `reason` and go to
            `rejected/`.
    """
    rows, number, reasons = 0, 0, Counter[str]()
    for accepted, rejected in parts:
        lake.write_frame(part_key(step, key, number), accepted)
        rows += len(accepted)
        if rejected is not None and len(rejected):
            lake.write_frame(part_key(f"rejected/{step}", key, number), rejected)
            reasons.update(rejected[REASON])
        number += 1
    snapshot = Snapshot(step=step, key=key, parts=number, rows=rows, rejected=dict(sorted(reasons.items())))
    lake.write(_manifest(step, key), snapshot.model_dump_json(indent=2).encode())
    return snapshot


def _manifest(step: str, key: str) -> str:
    return f"{step}/{key}/manifest.json"
