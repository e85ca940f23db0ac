"""Rows: what training and benchmarks read from the warehouse."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from blocks.warehouse import Warehouse
from tasks.disk import spill
from tasks.labelling import LABELS
from tasks.splitting import Split, canonical

LabelKind = Literal["textblob", "human"]
COLUMN: dict[LabelKind, str] = {"textblob": "label", "human": "human_label"}
"""Columns of the two kinds of labels: `textblob` ones are weak, `human` ones were given by the source."""


AT_ONCE = 50_000


class RowsError(RuntimeError):
    """Raised when the warehouse has not the rows that are needed; says which and how to get them."""


_TEXT, _LABEL = pl.String(), pl.Int8()
_BASIC = {"id": _TEXT, "text": _TEXT, "label": _LABEL, "human_label": _LABEL, "split": _TEXT}
_HELD_OUT = {
    **{"id": _TEXT, "text": _TEXT, "cleaned_text": _TEXT, "label": pl.Float64(), "human_label": pl.Float64()},
    **{"lang": _TEXT, "source": _TEXT, "created_at": pl.Datetime("us", "UTC")},
}


class HeldOut(NamedTuple):
    """Rows that judge.

    Args:
        rows: id, text, label, human_label, lang, source and created_at, ordered by id.
        excluded: Rows or labels that were left out, counted by the reason.
    """

    rows: pl.DataFrame
    excluded: dict[str, int]


class Part:
    """The texts of the rows of a split that have a label, ordered by id; all texts are on the disk.

    Args:
        frames: Columns as in `stream`, and `target`, int8, null where there is no label of the kind wanted.

    Attributes:
        targets: int8 (n,).
        digest: SHA-256 of the labelled rows in hex.
        rows: Number of rows, those without a label among them.
    """

    def __init__(self, frames: Iterable[pl.DataFrame]) -> None:
        found, self._ends, self.rows = hashlib.sha256(), [0], 0
        targets = [np.empty(0, np.int8)]

        def content() -> Iterator[bytes]:
            for frame in frames:
                labelled = frame.drop_nulls("target")
                found.update(labelled.write_ndjson().encode())
                targets.append(labelled["target"].to_numpy().copy())  # a view would keep the whole batch
                self.rows += len(frame)
                written = frame.write_ipc(None, compression="lz4", compat_level=pl.CompatLevel.oldest())
                self._ends.append(self._ends[-1] + written.getbuffer().nbytes)
                yield written.getvalue()

        self._content = spill(content())
        self.targets, self.digest = np.concatenate(targets), found.hexdigest()

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield all rows, as they came."""
        for start, end in pairwise(self._ends):
            yield pl.read_ipc(self._content[start:end].tobytes())

    def __iter__(self) -> Iterator[str]:
        for frame in self.frames():
            yield from frame.drop_nulls("target")["text"]


class Labelled(NamedTuple):
    """Rows to learn from."""

    train: Part
    validation: Part

    @property
    def digest(self) -> str:
        """Stands for all of them."""
        return f"{self.train.digest} {self.validation.digest}"


def stream(warehouse: Warehouse, *splits: Split) -> Iterator[pl.DataFrame]:
    """Yield id, text, label, human_label and split of all rows in `splits`, ordered by id, in batches."""
    return _stream(warehouse, splits, _BASIC)


def read_rows(warehouse: Warehouse, *splits: Split) -> pl.DataFrame:
    """Return the same in one piece."""
    return _read(warehouse, splits, _BASIC)


def read_held_out(warehouse: Warehouse) -> HeldOut:
    """Return the test rows that can judge a model.

    A row is left out if its text is among the training or validation rows. No text of one load straddles the
    splits, but a table may hold loads that were split by another rule. A label that is not one of ours, such
    as NaN, counts as none.
    """
    rows = _read(warehouse, ["test"], _HELD_OUT)
    seen = _read(warehouse, ["train", "validation"], {"cleaned_text": _TEXT}).select(canonical())
    fresh = rows.filter(~rows.select(canonical())["cleaned_text"].is_in(seen["cleaned_text"].implode()))
    excluded = {"rows whose text is among the training or validation rows": len(rows) - len(fresh)}
    for kind, column in COLUMN.items():
        sound = pl.col(column).is_in([float(label) for label in range(len(LABELS))])
        excluded[f"{kind} labels that are none of ours"] = fresh.filter(
            pl.col(column).is_not_null() & ~sound
        ).height
        fresh = fresh.with_columns(pl.when(sound).then(column).cast(_LABEL))
    return HeldOut(fresh.drop("cleaned_text"), {reason: count for reason, count in excluded.items() if count})


def _stream(
    warehouse: Warehouse, splits: Sequence[Split], columns: Mapping[str, pl.DataType]
) -> Iterator[pl.DataFrame]:
    names = ", ".join(f"'{split}'" for split in splits)
    sql = f"SELECT {', '.join(columns)} FROM {{table}} WHERE split IN ({names}) ORDER BY id"
    return (frame.cast(pl.Schema(columns)) for frame in warehouse.query(sql))


def _read(warehouse: Warehouse, splits: Sequence[Split], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=pl.Schema(columns)), *_stream(warehouse, splits, columns)])


def labelled_rows(
    train: Iterable[pl.DataFrame], validation: Iterable[pl.DataFrame], labels: LabelKind
) -> Labelled:
    """Return rows with the labels of a kind as targets.

    Args:
        train: See `stream`; each batch is dropped before the next one is asked for.
        validation: The same.
        labels: The kind.

    Raises:
        RowsError: Training rows are missing, or all of them have the same label.
    """
    target = pl.col(COLUMN[labels]).alias("target")
    chosen = Labelled(*(Part(f.with_columns(target) for f in frames) for frames in (train, validation)))
    count = sum(len(part.targets) for part in chosen)
    if not count and labels == "human" and any(part.rows for part in chosen):
        raise RowsError(
            "No row in the warehouse has a human label: load a file with a `label` column "
            "(python -m flows.etl --source file --path F), or train with --labels textblob."
        )
    found = np.unique(chosen.train.targets)
    if len(found) < 2:
        names = " and ".join(LABELS[label] for label in found) or "missing"
        raise RowsError(
            f"Training needs two classes at least, but the {labels} labels of the rows to train on are all "
            f"{names}: load more varied rows with `python -m flows.etl`, or use the other kind of --labels."
        )
    if not len(chosen.validation.targets):
        raise RowsError(
            f"None of the {count:,} labelled rows falls into the validation split (one in ten does): "
            "load more rows with `python -m flows.etl`."
        )
    return chosen


def read_labelled(warehouse: Warehouse, labels: LabelKind) -> Labelled:
    """Return the training and validation rows of a warehouse, see `labelled_rows`."""
    return labelled_rows(stream(warehouse, "train"), stream(warehouse, "validation"), labels)


def digest(rows: pl.DataFrame) -> str:
    """Return the SHA-256 of the rows in hex."""
    found = hashlib.sha256()
    for part in rows.iter_slices(AT_ONCE):  # as text, rows take more memory than as columns
        found.update(part.write_ndjson().encode())
    return found.hexdigest()
