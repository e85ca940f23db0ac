"""Rows: what training and benchmarks read from the warehouse."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Part:
    """Texts of rows of a split, and their labels; texts are on the disk.

    Rows come from a warehouse in any order. Here they are ordered by what they say, hashed.

    Args:
        texts: UTF-8, of m rows as they came.
        ends: int64 (m + 1,), where they begin and end.
        labels: int8 (m,) of each kind; -1 where there is none.
        keys: uint64 (m,), of each row the start of its SHA-256.
        order: int64 (n,), which rows these are.
        kind: Of the labels that are targets.
    """

    texts: memoryview
    ends: NDArray[np.int64]
    labels: dict[LabelKind, NDArray[np.int8]]
    keys: NDArray[np.uint64]
    order: NDArray[np.int64]
    kind: LabelKind

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[str]:
        for row in self.order:
            yield str(self.texts[self.ends[row] : self.ends[row + 1]], "utf-8")

    def take(self, places: NDArray[Any]) -> "Part":
        """Return some of the rows, by their places or by a mask."""
        return replace(self, order=self.order[places])

    @property
    def targets(self) -> NDArray[np.int8]:
        """int8 (n,)."""
        return self.labels[self.kind][self.order]

    @property
    def digest(self) -> str:
        """SHA-256 in hex."""
        return hashlib.sha256(self.keys[self.order].data).hexdigest()


class Labelled(NamedTuple):
    """Rows to learn from, all with a label, and all validation rows whether or not they have one."""

    train: Part
    validation: Part
    judging: Part

    @property
    def digest(self) -> str:
        """Stands for all that is learned from."""
        return f"{self.train.digest} {self.validation.digest}"


def stream(warehouse: Warehouse, *splits: Split) -> Iterator[pl.DataFrame]:
    """Yield id, text, label, human_label and split of all rows in `splits`, in batches, in any order."""
    return _stream(warehouse, splits, _BASIC)


def read_rows(warehouse: Warehouse, *splits: Split) -> pl.DataFrame:
    """Return the same in one piece, ordered by id."""
    return _read(warehouse, splits, _BASIC).sort("id")


def read_held_out(warehouse: Warehouse) -> HeldOut:
    """Return the test rows that can judge a model.

    A row is left out if its text is among the training or validation rows. No text of one load straddles the
    splits, but a table may hold loads that were split by another rule. A label that is not one of ours, such
    as NaN, counts as none.
    """
    rows = _read(warehouse, ["test"], _HELD_OUT).sort("id")
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
    sql = f"SELECT {', '.join(columns)} FROM {{table}} WHERE split IN ({names})"
    return (frame.cast(pl.Schema(columns)) for frame in warehouse.query(sql))


def _read(warehouse: Warehouse, splits: Sequence[Split], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    frames = _stream(warehouse, splits, columns)
    return pl.concat([pl.DataFrame(schema=pl.Schema(columns)), *frames])


def read_part(frames: Iterable[pl.DataFrame], kind: LabelKind) -> Part:
    """Return all rows of a split.

    Args:
        frames: See `stream`; each is dropped before the next one is asked for.
        kind: Of the labels that become targets.
    """
    keys, lengths = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    labels: dict[LabelKind, list[NDArray[np.int8]]] = {each: [np.empty(0, np.int8)] for each in COLUMN}

    def texts() -> Iterator[bytes]:
        for frame in frames:
            lines = frame.write_ndjson().encode().splitlines()
            starts = b"".join(hashlib.sha256(line).digest()[:8] for line in lines)
            keys.append(np.frombuffer(starts, np.uint64))
            for each, column in COLUMN.items():  # copied: a view would keep all of the batch
                labels[each].append(frame[column].fill_null(-1).to_numpy().copy())
            encoded = [text.encode() for text in frame["text"]]
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
            yield b"".join(encoded)

    held = spill(texts())
    found = np.concatenate(keys)
    ends = np.concatenate(lengths).cumsum()
    whole = {each: np.concatenate(parts) for each, parts in labels.items()}
    return Part(held, ends, whole, found, np.argsort(found, kind="stable"), kind)


def labelled_rows(
    train: Iterable[pl.DataFrame], validation: Iterable[pl.DataFrame], labels: LabelKind
) -> Labelled:
    """Return rows with the labels of a kind as targets.

    Args:
        train: See `read_part`.
        validation: See `read_part`.
        labels: The kind.

    Raises:
        RowsError: Training rows are missing, or all of them have the same label.
    """
    learned, judging = (read_part(frames, labels) for frames in (train, validation))
    known = [part.take(part.targets >= 0) for part in (learned, judging)]
    chosen = Labelled(known[0], known[1], judging)
    count = len(chosen.train) + len(chosen.validation)
    if not count and labels == "human" and (learned or judging):
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
    if not chosen.validation:
        raise RowsError(
            f"None of the {count:,} labelled rows falls into the validation split (one in ten does): "
            "load more rows with `python -m flows.etl`."
        )
    return chosen


def read_labelled(warehouse: Warehouse, labels: LabelKind) -> Labelled:
    """Return the training and validation rows of a warehouse, see `labelled_rows`."""
    return labelled_rows(stream(warehouse, "train"), stream(warehouse, "validation"), labels)


def require_same(identity: str, now: str) -> None:
    """Go on only if rows, read once more, are still those that a fit was named after.

    Args:
        identity: Fingerprint of rows and recipe, by which the fit is known.
        now: The same of the rows as they are now.

    Raises:
        RowsError: They are not.
    """
    if identity != now:
        raise RowsError(
            "The rows in the warehouse, or the tokenizer's files, have changed since this run began: run it "
            "again, and it learns from what there is now."
        )


def digest(rows: pl.DataFrame) -> str:
    """Return the SHA-256 of the rows in hex."""
    found = hashlib.sha256()
    for part in rows.iter_slices(AT_ONCE):  # as text, rows take more memory than as columns
        found.update(part.write_ndjson().encode())
    return found.hexdigest()
