"""Rows: what training and benchmarks read from the warehouse."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from blocks.warehouse import Warehouse
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


def read_rows(warehouse: Warehouse, *splits: Split) -> pl.DataFrame:
    """Return id, text, label, human_label and split of all rows in `splits`, ordered by id."""
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


def _read(warehouse: Warehouse, splits: Sequence[Split], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    names = ", ".join(f"'{split}'" for split in splits)
    sql = f"SELECT {', '.join(columns)} FROM {{table}} WHERE split IN ({names}) ORDER BY id"
    schema = pl.Schema(columns)
    return pl.concat([pl.DataFrame(schema=schema), *(frame.cast(schema) for frame in warehouse.query(sql))])


def labelled_rows(frame: pl.DataFrame, labels: LabelKind) -> pl.DataFrame:
    """Return the rows that have a label of this kind, which becomes `target`.

    Raises:
        RowsError: Training rows are missing, or all of them have the same label.
    """
    rows = frame.with_columns(pl.col(COLUMN[labels]).alias("target")).drop_nulls("target")
    found = rows.filter(pl.col("split") == "train")["target"].unique().to_list()
    if not len(rows) and labels == "human" and len(frame):
        raise RowsError(
            "No row in the warehouse has a human label: load a file with a `label` column "
            "(python -m flows.etl --source file --path F), or train with --labels textblob."
        )
    if len(found) < 2:
        names = " and ".join(LABELS[label] for label in found) or "missing"
        raise RowsError(
            f"Training needs two classes at least, but the {labels} labels of the rows to train on are all "
            f"{names}: load more varied rows with `python -m flows.etl`, or use the other kind of --labels."
        )
    if rows.filter(pl.col("split") == "validation").is_empty():
        raise RowsError(
            f"None of the {len(rows):,} labelled rows falls into the validation split (one in ten does): "
            "load more rows with `python -m flows.etl`."
        )
    return rows


def read_labelled(warehouse: Warehouse, labels: LabelKind) -> pl.DataFrame:
    """Return the training and validation rows of a warehouse, see `labelled_rows`."""
    return labelled_rows(read_rows(warehouse, "train", "validation"), labels)


def texts_and_targets(rows: pl.DataFrame, split: Split) -> tuple[list[str], NDArray[np.int8]]:
    """Return the texts and the targets, int8 (n,), of a split."""
    part = rows.filter(pl.col("split") == split)
    return part["text"].to_list(), part["target"].to_numpy()


def digest(rows: pl.DataFrame) -> str:
    """Return the SHA-256 of the rows in hex."""
    found = hashlib.sha256()
    for part in rows.iter_slices(AT_ONCE):  # as text, rows take more memory than as columns
        found.update(part.write_ndjson().encode())
    return found.hexdigest()
