"""Extract, transform, load: from a source to the warehouse, one snapshot in the lake after each step."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import polars as pl
from pydantic import Field, SecretStr, model_validator

import tasks.cleaning as cleaning
import tasks.contracts as contracts
import tasks.labelling as labelling
import tasks.normalising as normalising
import tasks.splitting as splitting
from blocks.lake import Lake
from blocks.warehouse import Merged, Warehouse
from tasks.fingerprint import fingerprint
from tasks.progress import Advance, logger, progress
from tasks.snapshots import Snapshot, find_snapshot, part_key, write_snapshot
from tasks.sources import SourceError, SourceParameters, read
from tasks.step import step

Parts = Callable[[Advance], Iterator[tuple[pl.DataFrame, None]]]


class EtlParameters(SourceParameters):
    """Fill the table of processed tweets from a source."""

    max_characters: int = Field(default=4096, gt=0, description="Longer texts are rejected.")
    negative_below: float = Field(default=0.0, ge=-1, le=1, description="A polarity under this is negative.")
    positive_above: float = Field(default=0.25, ge=-1, le=1, description="A polarity over this is positive.")
    minimum_count: int = Field(default=3, gt=0, description="Words seen less often are left out of `tokens`.")

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Self:
        if self.negative_below > self.positive_above:
            raise ValueError("--negative-below must not be above --positive-above")
        return self


class NoRowsError(RuntimeError):
    """Raised when nothing is left to load; says where the rows went."""


@step
def extract(parameters: EtlParameters, lake: Lake, token: SecretStr | None) -> Snapshot:
    """Read the source into the lake, rows that break the contract to `rejected/raw`.

    Raises:
        NoRowsError: The source gave no rows, or none that can be used.
        SourceError: The source cannot deliver.
    """
    with TemporaryDirectory() as folder:
        spool, content = _spool(parameters, token, Path(folder))
        if not spool:
            raise NoRowsError(
                f"The source {parameters.source!r} gave no rows: widen --query, --since or --limit, "
                "or choose another --source."
            )
        key = fingerprint(content, parameters.language, parameters.max_characters, contracts, cleaning)
        snapshot = find_snapshot(lake, "raw", key)
        if snapshot is None:
            gate = contracts.Gatekeeper(parameters.language, parameters.max_characters)
            parts = (gate.part(pl.read_parquet(path)) for path in spool)
            snapshot = write_snapshot(lake, "raw", key, parts)
        _log(snapshot, lake)
    if not snapshot.rows:
        most = Counter(snapshot.rejected).most_common(5)
        reasons = ", ".join(f"{count} × {reason}" for reason, count in most)
        if len(most) < len(snapshot.rejected):
            reasons += f" and {len(snapshot.rejected) - len(most)} more reasons"
        raise NoRowsError(
            f"None of the rows of the source {parameters.source!r} can be used: {reasons}. Read them in "
            f"{lake.uri('rejected/' + snapshot.prefix)}; mend the input or relax the option that each names "
            "(--language, --max-characters, --label-mapping)."
        )
    return snapshot


def _spool(parameters: SourceParameters, token: SecretStr | None, folder: Path) -> tuple[list[Path], str]:
    """Keep what the source gives in local files; return them and the fingerprint of the content.

    The key of the raw snapshot depends on all of the content, and a source may break off half-way.
    """
    paths: list[Path] = []
    content = ""
    for number, batch in enumerate(read(parameters, token)):
        paths.append(folder / f"{number}.parquet")
        try:
            batch.write_parquet(paths[-1])
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(
                f"The rows of the source {parameters.source!r} cannot be kept in {folder}: {error}. Make "
                "room there, or set TMPDIR to another folder, then run again."
            ) from error
        content = fingerprint(content, batch.write_ndjson())
    return paths, content


@step
def label(raw: Snapshot, parameters: EtlParameters, lake: Lake) -> Snapshot:
    """Clean the texts and label them by TextBlob polarity."""
    thresholds = parameters.negative_below, parameters.positive_above
    key = fingerprint(raw.key, thresholds, cleaning, labelling, packages=("textblob", "polars"))

    def parts(advance: Advance) -> Iterator[tuple[pl.DataFrame, None]]:
        for frame in raw.frames(lake):
            cleaned = frame.with_columns(cleaning.cleaned().alias("cleaned_text"))
            yield contracts.check(contracts.Labelled, labelling.add_labels(cleaned, *thresholds)), None
            advance(len(frame))

    return _once(lake, "labelled", key, "Labelling", raw.rows, parts)


@step
def normalise(labelled: Snapshot, parameters: EtlParameters, lake: Lake) -> Snapshot:
    """Reduce the texts to the stems that carry meaning and assign each row its split."""
    modules = normalising, splitting
    packages = ("simplemma", "nltk", "spacy", "polars")
    key = fingerprint(labelled.key, parameters.minimum_count, *modules, packages=packages)

    def parts(advance: Advance) -> Iterator[tuple[pl.DataFrame, None]]:
        with labelled.reading(lake):
            counts = normalising.count_words(lake.scan(labelled.part_keys()))
        add_tokens = normalising.normaliser(normalising.stem_words(counts, parameters.minimum_count))
        for frame in labelled.frames(lake):
            yield contracts.check(contracts.Processed, splitting.add_split(add_tokens(frame))), None
            advance(len(frame))

    return _once(lake, "processed", key, "Normalising", labelled.rows, parts)


@step
def load(processed: Snapshot, lake: Lake, warehouse: Warehouse) -> Merged:
    """Merge the processed rows into the warehouse, all or none; conflicting ones go to `rejected/load`."""
    merged, conflicts = warehouse.merge(processed.frames(lake))
    if len(conflicts):
        rejected = conflicts.with_columns(
            pl.lit("id in the warehouse with another text").alias(contracts.REASON)
        )
        lake.write_frame(part_key("rejected/load", processed.key, 0), rejected)
    logger().info(
        "%s: %s inserted, %s updated, %s unchanged, %s conflicting",
        *(warehouse.table, merged.inserted, merged.updated, merged.unchanged, merged.conflicting),
    )
    return merged


def _once(lake: Lake, step: str, key: str, description: str, rows: int, parts: Parts) -> Snapshot:
    """Return the snapshot, made now unless the lake has it."""
    snapshot = find_snapshot(lake, step, key)
    if snapshot is None:
        with progress(description, rows) as advance:
            snapshot = write_snapshot(lake, step, key, parts(advance))
    _log(snapshot, lake)
    return snapshot


def _log(snapshot: Snapshot, lake: Lake) -> None:
    rejected = sum(snapshot.rejected.values())
    logger().info("%s: %s rows, %s rejected", lake.uri(snapshot.prefix), snapshot.rows, rejected)
