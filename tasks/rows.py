"""Rows: what training and benchmarks read from the warehouse."""

import hashlib
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from blocks.warehouse import Warehouse
from tasks.labelling import LABELS
from tasks.splitting import Split

LabelKind = Literal["textblob", "human"]
COLUMN: dict[LabelKind, str] = {"textblob": "label", "human": "human_label"}
"""Columns of the two kinds of labels: `textblob` ones are weak, `human` ones were given by the source."""


class RowsError(RuntimeError):
    """Raised when the warehouse has not the rows that are needed; says which and how to get them."""


def read_rows(warehouse: Warehouse, *splits: Split) -> pl.DataFrame:
    """Return id, text, label, human_label and split of all rows in `splits`, ordered by id."""
    names = ", ".join(f"'{split}'" for split in splits)
    sql = f"SELECT id, text, label, human_label, split FROM {{table}} WHERE split IN ({names}) ORDER BY id"
    text, label = pl.String(), pl.Int8()
    schema = pl.Schema({"id": text, "text": text, "label": label, "human_label": label, "split": text})
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


def texts_and_targets(rows: pl.DataFrame, split: Split) -> tuple[list[str], NDArray[np.int8]]:
    """Return the texts and the targets, int8 (n,), of a split."""
    part = rows.filter(pl.col("split") == split)
    return part["text"].to_list(), part["target"].to_numpy()


def digest(rows: pl.DataFrame) -> str:
    """Return the SHA-256 of the rows in hex."""
    return hashlib.sha256(rows.write_ndjson().encode()).hexdigest()
