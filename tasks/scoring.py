"""Scoring: predictions for the rows of a file, in its order and in bounded memory."""

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from containers.serve.predictor import Predictor

TEXT = "text"
SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")


class ScoringError(RuntimeError):
    """Raised when a file cannot be scored; names it and the remedy."""


def scan(path: Path) -> pl.LazyFrame:
    """Return the rows of a file, lazily; CSV values stay the strings that they are.

    Args:
        path: A .parquet, .csv, .jsonl or .ndjson file with a column `text`.

    Raises:
        ScoringError: There is no such file, its kind is unknown, or it has no such column.
    """
    if not path.is_file():
        raise ScoringError(f"There is no file {path}: give the path of a {', '.join(SUFFIXES)} file.")
    _check_suffix(path)
    if not path.stat().st_size:
        raise ScoringError(f"{path} is empty, it has not even names of columns: write it again.")
    try:
        frame = _scan(path)
        schema = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(path, error) from error
    if TEXT not in schema:
        columns = ", ".join(schema) or "none"
        raise ScoringError(
            f"{path} has no column `{TEXT}` (columns: {columns}): rename the one with the texts."
        )
    if schema[TEXT] == pl.Null:  # JSON without a single text
        return frame.with_columns(pl.col(TEXT).cast(pl.String))
    if schema[TEXT] != pl.String:
        raise ScoringError(f"The column `{TEXT}` of {path} holds {schema[TEXT]}: make it strings.")
    return frame


def count_rows(source: Path) -> int:
    """Return the number of rows of a file.

    Raises:
        ScoringError: It cannot be read.
    """
    try:
        return int(scan(source).select(pl.len()).collect(engine="streaming").item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error


def check_target(source: Path, target: Path) -> None:
    """Find out what stands in the way of writing `target` before there is any work to lose.

    Raises:
        ScoringError: Its kind is unknown or cannot hold the columns of `source`, it is `source` itself or a
            folder, or there is no folder to write it to.
    """
    _check_suffix(target)
    if target.is_dir():
        raise ScoringError(f"The output {target} is a folder: give the path of a file.")
    if not target.parent.is_dir():
        raise ScoringError(
            f"Cannot write {target}: {target.parent} is no folder. Make it, or choose another one."
        )
    if target.exists() and source.exists() and target.samefile(source):
        raise ScoringError(f"The output {target} is the input: choose another name.")
    for name, kind in scan(source).collect_schema().items():
        if not _holds(target, kind):
            raise ScoringError(
                f"A {target.suffix} file cannot hold the column {name!r} of {source}, which is of type "
                f"{kind}: write a .parquet file instead."
            )


def score_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    prefix: str = "",
    on_rows: Callable[[int], None] = lambda n: None,
) -> int:
    """Write the rows of `source` with their predictions to `target`, whole or not at all.

    Args:
        predictor: Of the model.
        source: See `scan`.
        target: File to write, of a kind that its suffix tells.
        prefix: Of the new columns' names: label, p_negative, p_neutral, p_positive.
        on_rows: Called with the number of rows after each batch.

    Returns:
        The number of rows.

    Raises:
        ScoringError: The source cannot be read, the target cannot be written, or a new column is there.
    """
    check_target(source, target)
    frame = scan(source)
    added = added_columns(frame, predictor.columns, prefix, source)
    schema = frame.collect_schema()
    total = 0

    def predict(batch: pl.DataFrame) -> pl.DataFrame:
        nonlocal total
        probabilities = predictor.probabilities(batch[TEXT].fill_null("").to_list())
        names = pl.Series(predictor.labels)
        known = batch[TEXT].is_not_null()
        new = pl.DataFrame(
            {
                f"{prefix}label": names.gather(probabilities.argmax(axis=1)),
                **{f"{prefix}p_{name}": probabilities[:, i] for i, name in enumerate(predictor.labels)},
            }
        ).select(*added)
        total += len(batch)
        on_rows(len(batch))
        return batch.hstack(new.with_columns(pl.when(known).then(pl.all())))

    scored = frame.map_batches(predict, streamable=True, schema={**schema, **added})
    write(scored, source, target)
    return total


def added_columns(
    frame: pl.LazyFrame, columns: Iterable[str], prefix: str, source: object
) -> dict[str, pl.DataType]:
    """Return the names and types of the columns that predictions add to the rows of a file.

    Args:
        frame: The rows.
        columns: Keys of a prediction.
        prefix: Of the new columns' names.
        source: The file, for a person.

    Raises:
        ScoringError: One of them is there.
    """
    added: dict[str, pl.DataType] = {
        prefix + name: pl.String() if name == "label" else pl.Float32() for name in columns
    }
    schema = frame.collect_schema()
    taken = [name for name in added if name in schema]
    if taken:
        raise ScoringError(
            f"{source} has the column {taken[0]!r} already: rename it, or give the new columns a prefix with "
            "--prefix predicted_."
        )
    return added


def write(frame: pl.LazyFrame, source: Path, target: Path) -> None:
    """Write rows to a file, whole or not at all.

    Args:
        frame: The rows.
        source: The file that they come from.
        target: File to write, of a kind that its suffix tells.

    Raises:
        ScoringError: The source cannot be read or the target cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        _sink(frame, target.suffix.lower(), part)
        part.replace(target)
    except OSError as error:
        raise ScoringError(
            f"Cannot write {target}: {error}. Free some space or choose another folder."
        ) from error
    except pl.exceptions.PolarsError as error:
        raise unreadable(source, error) from error
    finally:
        part.unlink(missing_ok=True)


def _scan(path: Path) -> pl.LazyFrame:
    match path.suffix.lower():
        case ".parquet":
            return pl.scan_parquet(path)
        case ".csv":
            return pl.scan_csv(path, infer_schema=False, encoding="utf8-lossy")
        case _:
            return pl.scan_ndjson(path, infer_schema_length=None)


def _sink(frame: pl.LazyFrame, suffix: str, part: Path) -> None:
    match suffix:
        case ".parquet":
            frame.sink_parquet(part)
        case ".csv":
            frame.sink_csv(part)
        case _:
            frame.sink_ndjson(part)


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise ScoringError(
            f"{path} ends in {path.suffix!r}, which is none of {', '.join(SUFFIXES)}: choose one of these."
        )


def _holds(target: Path, kind: pl.DataType) -> bool:
    """Tell whether the kind of file can hold a column of this type."""
    match target.suffix.lower():
        case ".parquet":
            return True
        case ".csv":
            return not kind.is_nested() and kind not in (pl.Binary, pl.Duration)
        case _:
            return kind != pl.Binary and all(_holds(target, inner) for inner in _parts(kind))


def _parts(kind: pl.DataType) -> list[pl.DataType]:
    if isinstance(kind, pl.Struct):
        return list(pl.Schema(kind.to_schema()).values())
    return [kind.inner] if isinstance(kind, pl.List | pl.Array) else []  # type: ignore[list-item]


def unreadable(path: Path, error: Exception) -> ScoringError:
    """Return the explanation of an error of polars while it read a file."""
    return ScoringError(f"Cannot read {path}: {error}. Check that it is whole and what its suffix says.")
