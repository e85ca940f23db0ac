"""The steps of the flow `transform`: files of the lake, answered where the endpoint's image runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from blocks.endpoint import TEXTS, Endpoint
from blocks.images import Images
from blocks.lake import File, Lake
from blocks.tracking import Tracking
from containers.serve.predictor import CHARACTERS, Predictor
from tasks import deploy, registry, scoring
from tasks.fingerprint import fingerprint
from tasks.progress import logger, progress
from tasks.scoring import SUFFIXES, TEXT, ScoringError
from tasks.step import step

WORK = "transform"  # folder of the lake for what is on its way
MANIFEST = "manifest.json"
CHECKED = 32  # rows of a batch whose answers are compared with the bundle's own
TOLERANCE = 1e-3  # of a probability: other processors round differently


class TransformError(RuntimeError):
    """Raised when files cannot be transformed; names them and the remedy."""


class TransformParameters(BaseModel):
    """Write the rows of the files of a folder, in their order, with label and probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: CliPositionalArg[str] = Field(
        description="Folder of the lake, or one file, with .parquet, .csv, .jsonl or .ndjson files that have "
        "a column text."
    )
    output: CliPositionalArg[str] = Field(
        description="Folder of the lake to write files of the same names to."
    )
    prefix: str = Field(default="", description="Of the new columns' names, should they be taken.")

    @field_validator("input", "output")
    @classmethod
    def _inside(cls, place: str) -> str:
        parts = place.strip("/").split("/")
        if "://" in place or not all(part.strip() and part not in (".", "..") for part in parts):
            raise ValueError(f"{place!r} is no place in the lake: give its path there, such as raw/tweets.")
        if parts[0] == WORK:
            raise ValueError(f"{WORK}/ is for what is on its way: choose another folder than {place!r}.")
        return "/".join(parts)

    @model_validator(mode="after")
    def _apart(self) -> "TransformParameters":
        source, target = f"{self.input}/", f"{self.output}/"
        if source.startswith(target) or target.startswith(source):
            raise ValueError(f"The output {self.output!r} overlaps the input: choose a folder beside it.")
        return self


class TransformResult(BaseModel):
    """What was transformed; also the manifest beside the files, which is written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(description="Fingerprint of input, model and parameters.")
    version: str = Field(description="Model version that predicted.")
    rows: int = Field(description="Rows written.")
    output: str = Field(description="Address of the folder that was written to.")
    files: dict[str, str] = Field(description="Files written: name under the folder, and tag in the lake.")


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Args:
        parameters: What was asked for.
        version: Model version that is to predict.
        files: Of the input, in order.
        key: Stands for all of it.
    """

    parameters: TransformParameters
    version: registry.Version
    files: tuple[File, ...]
    key: str

    @property
    def folder(self) -> str:
        """Folder of the lake for what is on its way."""
        return f"{WORK}/{self.key}"

    def target(self, file: File) -> str:
        """Return the name under the output of what a file becomes."""
        folder, name = f"{self.parameters.input}/", file.key.rpartition("/")[2]
        return file.key.removeprefix(folder) if file.key.startswith(folder) else name

    def texts(self) -> Iterator[tuple[File, str]]:
        """Yield each file and the name of its texts: a number, so that no two have the same."""
        for number, file in enumerate(self.files):
            yield file, f"{number:05}.jsonl"


@step
def plan(parameters: TransformParameters, lake: Lake, tracking: Tracking, endpoint: Endpoint) -> Plan:
    """Find out what there is to do.

    Raises:
        RegistryError: There is no version in production.
        TransformError: There are no files.
        EndpointError: The endpoint cannot get at them.
    """
    endpoint.require_reach(lake)
    version = registry.production(tracking)
    found = lake.find(parameters.input)
    files = tuple(file for file in found if Path(file.key).suffix.lower() in SUFFIXES)
    if not files:
        raise TransformError(
            f"There is no {', '.join(SUFFIXES)} file under {lake.uri(parameters.input)}, and {len(found)} "
            "others: put some there, or name another folder of the lake."
        )
    key = fingerprint(parameters, files, version.number, registry.digest(version))
    logger().info("%s files of %s, work %s", len(files), lake.uri(parameters.input), key)
    return Plan(parameters, version, files, key)


@step
def find_result(plan: Plan, lake: Lake) -> TransformResult | None:
    """Return what was done before, if all of it is still there."""
    output = plan.parameters.output
    manifest = f"{output}/{MANIFEST}"
    try:
        found = TransformResult.model_validate_json(lake.read(manifest)) if lake.exists(manifest) else None
    except ValidationError:
        return None
    if found is None or found.key != plan.key or not found.files.items() <= _tags(lake, output).items():
        return None
    logger().info("The files are there: %s", found.output)
    return found


@step
def stage(plan: Plan, lake: Lake, tracking: Tracking) -> None:
    """Check all files, and put their texts where the endpoint reads them, a line each.

    Raises:
        TransformError: A file cannot be used.
    """
    predictor = Predictor(registry.bundle_folder(tracking, plan.version))
    staged = _tags(lake, f"{plan.folder}/{TEXTS}")
    with progress("Staging texts", len(plan.files), "files") as advance, TemporaryDirectory() as temporary:
        for file, name in plan.texts():
            if name not in staged:
                with _fetched(lake, file, Path(temporary)) as source:
                    frame = scoring.scan(source)
                    scoring.added_columns(frame, predictor.columns, plan.parameters.prefix, source)
                    if scoring.count_rows(source):  # a job takes no empty file
                        texts = Path(temporary, name)
                        # Longer ones are cut by the predictor, too; so each line fits into a request.
                        text = pl.col(TEXT).fill_null("").str.slice(0, CHARACTERS)
                        scoring.write(frame.select(text), source, texts)
                        lake.put(f"{plan.folder}/{TEXTS}/{name}", texts)
                        texts.unlink()
            advance(1)


@step
def answer(plan: Plan, lake: Lake, tracking: Tracking, images: Images, endpoint: Endpoint) -> dict[str, str]:
    """Let the endpoint's image answer the texts; returns the key of the answers by the name of the texts.

    Raises:
        EndpointError: It could not.
    """
    texts = lake.find(f"{plan.folder}/{TEXTS}")
    if not texts:  # there is not a single row
        return {}
    release = deploy.release(plan.version, tracking, images)
    with progress("Answering texts", len(texts), "files") as advance:
        return endpoint.transform(release, lake, plan.folder, advance)


@step
def join(plan: Plan, answers: dict[str, str], lake: Lake, tracking: Tracking) -> TransformResult:
    """Write the rows of each file with its answers, and the manifest when all are there.

    Raises:
        TransformError: A file has changed, or its answers are not those to its texts.
    """
    predictor = Predictor(registry.bundle_folder(tracking, plan.version))
    output, rows, written = plan.parameters.output, 0, dict[str, str]()
    with progress("Joining answers", len(plan.files), "files") as advance, TemporaryDirectory() as temporary:
        for file, name in plan.texts():
            target = plan.target(file)
            with _fetched(lake, file, Path(temporary)) as source:
                count = scoring.count_rows(source)
                found = Path(temporary, f"answers-{name}")
                found.touch()
                if count:
                    if name not in answers:
                        raise TransformError(f"There are no answers to {lake.uri(file.key)}: run again.")
                    _copy(lake, answers[name], found)
                joined = source.with_name(f"joined{source.suffix}")
                write_joined(predictor, source, found, joined, plan.parameters.prefix)
                lake.put(f"{output}/{target}", joined)
                [(_, written[target])] = lake.find(f"{output}/{target}")
                for path in (found, joined):
                    path.unlink()
            rows += count
            advance(1)
    if not written.items() <= _tags(lake, output).items():
        raise TransformError(
            f"Another run has written to {lake.uri(output)} meanwhile: let it end, then run again, or give "
            "each run an output of its own."
        )
    result = TransformResult(
        key=plan.key, version=plan.version.number, rows=rows, output=lake.uri(output), files=written
    )
    lake.write(f"{output}/{MANIFEST}", result.model_dump_json(indent=2).encode())
    logger().info("Version %s has answered %s rows in %s", result.version, result.rows, result.output)
    return result


@step
def clean(plan: Plan, lake: Lake) -> None:
    """Remove what was on its way."""
    lake.remove(plan.folder)


def write_joined(predictor: Predictor, source: Path, answers: Path, target: Path, prefix: str) -> None:
    """Write the rows of a file with the answers to them, whole or not at all.

    Rows without a text get no prediction. The answers' order is known from a sample, which is compared with
    what the bundle answers here.

    Args:
        predictor: Of the bundle that has answered.
        source: See `scoring.scan`.
        answers: JSON Lines, for each row label and probabilities.
        target: File to write, of the kind of `source`.
        prefix: Of the new columns' names.

    Raises:
        ScoringError: The source cannot be read, the target cannot be written, or a new column is there.
        TransformError: The answers are not those to these texts.
    """
    frame = scoring.scan(source)
    added = scoring.added_columns(frame, predictor.columns, prefix, source)
    names = dict(zip(predictor.columns, added, strict=True))
    rows = scoring.count_rows(source)
    schema = {name: added[names[name]] for name in predictor.columns}
    found = pl.scan_ndjson(answers, schema=schema) if answers.stat().st_size else pl.LazyFrame(schema=schema)
    try:  # in full: a mere count would not parse the lines
        counts = found.select(pl.len(), lacking=pl.any_horizontal(pl.all().is_null()).sum())
        count, lacking = counts.collect(engine="streaming").row(0)
    except pl.exceptions.PolarsError as error:
        raise TransformError(f"The answers to {source} are no JSON Lines: {error}. Run again.") from error
    if count != rows or lacking:
        raise TransformError(
            f"There are {count} answers to the {rows} rows of {source}, {lacking} of them without a value: "
            "run again."
        )
    wrong: list[str] = []  # an error that is raised among polars' threads would lose its type

    def check(batch: pl.DataFrame) -> pl.DataFrame:
        sample = batch.gather_every(max(1, len(batch) // CHECKED))
        expected = predictor.probabilities(sample[TEXT].fill_null("").to_list())
        given = sample.select(names[f"p_{label}"] for label in predictor.labels).to_numpy()
        if not (abs(given - expected) <= TOLERANCE).all():
            wrong.append(str(source))
        return batch.with_columns(pl.when(pl.col(TEXT).is_not_null()).then(pl.col(*added)))

    joined = pl.concat([frame, found.rename(names)], how="horizontal")
    checked = joined.map_batches(check, streamable=True, schema={**frame.collect_schema(), **added})
    scoring.write(checked, source, target)
    if wrong:
        target.unlink()
        raise TransformError(
            f"The answers to {source} are not those of the model, or in another order: run again, and build "
            "the image anew if that does not help."
        )


def _tags(lake: Lake, folder: str) -> dict[str, str]:
    """Return the tags of the files in a folder, by their names in it."""
    return {file.key.removeprefix(f"{folder}/"): file.tag for file in lake.find(folder)}


@contextmanager
def _fetched(lake: Lake, file: File, folder: Path) -> Iterator[Path]:
    """Copy a file of the lake into a folder as long as the block lasts; errors say its address."""
    path = folder / f"source{Path(file.key).suffix}"
    try:
        _copy(lake, file.key, path)
        if file not in lake.find(file.key):
            raise TransformError(f"{lake.uri(file.key)} has changed meanwhile: run again.")
        yield path
    except (ScoringError, TransformError) as error:
        raise TransformError(str(error).replace(str(path), lake.uri(file.key))) from error
    finally:
        path.unlink(missing_ok=True)


def _copy(lake: Lake, key: str, path: Path) -> None:
    try:
        lake.fetch(key, path)
    except FileNotFoundError as error:
        raise TransformError(f"{lake.uri(key)} is gone: run again.") from error
    except OSError as error:
        raise TransformError(
            f"Cannot copy {lake.uri(key)} to {path.parent}: {error}. Free some space there, or set TMPDIR."
        ) from error
