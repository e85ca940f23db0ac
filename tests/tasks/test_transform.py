"""Files of the lake with their answers: whole, in order, or an error that names the file."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from blocks.endpoint import EndpointError, Release
from blocks.lake import LocalLake
from blocks.process import LocalEndpoint
from containers.serve.predictor import CHARACTERS, Predictor
from tasks.scoring import ScoringError, score_file
from tasks.transform import TransformError, TransformParameters, write_joined
from tests.bundles import build_bundle

WORDS = ["love", "hate", "what?", "", "great great hate", 'a\nb \u2028 "c" ☃ 😀', "love " * CHARACTERS]


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    build_bundle(tmp_path / "bundle")
    return Predictor(tmp_path / "bundle")


def answers(predictor: Predictor, texts: list[str], path: Path, blank: int = 7) -> Path:
    """Write answers as a job does: with a blank line at the end of each request's."""
    lines = [json.dumps(answer) + "\n" for answer in predictor.predict(texts)]
    path.write_text("".join(line + "\n" * (i % blank == 0) for i, line in enumerate(lines)))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_rows_get_their_answers_as_if_they_were_scored(
    predictor: Predictor, tmp_path: Path, suffix: str
) -> None:
    frame = pl.DataFrame({"n": map(str, range(20_000)), "text": [*(WORDS[:5] * 4_000)[:-1], None]})
    source = tmp_path / f"in{suffix}"
    {".parquet": frame.write_parquet, ".csv": frame.write_csv, ".jsonl": frame.write_ndjson}[suffix](source)
    texts = pl.Series([text or "" for text in frame["text"]]).to_list()
    found, joined, scored = answers(predictor, texts, tmp_path / "a"), tmp_path / f"j{suffix}", tmp_path / "s"
    write_joined(predictor, source, found, joined, "new_")
    score_file(predictor, source, scored.with_suffix(suffix), "new_")
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    assert_frame_equal(read(joined), read(scored.with_suffix(suffix)), abs_tol=1e-6)


def wrong(predictor: Predictor, tmp_path: Path, spoil: Callable[[list[str]], list[str]]) -> str:
    source, found = tmp_path / "in.parquet", tmp_path / "a"
    pl.DataFrame({"text": ["love", "hate"] * 500}).write_parquet(source)
    lines = answers(predictor, ["love", "hate"] * 500, found).read_text().split("\n")
    found.write_text("\n".join(spoil([line for line in lines if line])) + "\n")
    with pytest.raises(TransformError) as caught:
        write_joined(predictor, source, found, tmp_path / "out.parquet", "")
    assert not list(tmp_path.glob("*out.parquet*"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: lines[1:], "999 answers to the 1000 rows"),
        (lambda lines: [*lines, lines[0]], "1001 answers to the 1000 rows"),
        (lambda lines: lines[1:] + lines[:1], "not those of the model, or in another order"),
        (lambda lines: ["{}", *lines[1:]], "1 of them without a value"),
        (lambda lines: ["oops", *lines[1:]], "no JSON Lines"),
    ],
    ids=["too few", "too many", "another order", "empty", "no JSON"],
)
def test_answers_to_other_texts_are_refused(
    predictor: Predictor, tmp_path: Path, spoil: Callable[[list[str]], list[str]], says: str
) -> None:
    assert re.search(says, wrong(predictor, tmp_path, spoil))


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("raw", "raw", "overlaps the input"),
        ("raw", "raw/scored/", "overlaps the input"),
        ("raw/a", "/raw", "overlaps the input"),
        ("raw", "../elsewhere", "no place in the lake"),
        ("s3://other/raw", "scored", "no place in the lake"),
        ("raw", "/", "no place in the lake"),
        ("raw", "transform/x", "on its way"),
    ],
)
def test_places_that_will_not_do_are_refused(source: str, target: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TransformParameters(input=source, output=target)


def release(bundle: Path, digest: str) -> Release:
    return Release(bundle, "1", digest, lambda: "")


def test_the_local_endpoint_answers_line_by_line(
    predictor: Predictor, lake: LocalLake, endpoint: LocalEndpoint, tmp_path: Path
) -> None:
    texts = WORDS * 6000  # more than is asked at a time
    texts = [text[:50] for text in texts]
    lake.write("w/texts/0.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in texts).encode())
    lake.write("w/texts/1.jsonl", b'{"text": "hate"}\n')
    done: list[int] = []
    keys = endpoint.transform(release(tmp_path / "bundle", predictor.digest), lake, "w", done.append)
    assert keys.keys() == {"0.jsonl", "1.jsonl"} and done == [1, 1]
    assert [json.loads(line) for line in lake.read(keys["0.jsonl"]).splitlines()] == predictor.predict(texts)
    assert endpoint.serving() is None, "nothing is deployed for that"

    with pytest.raises(
        EndpointError, match=r"does not answer. It said last: error: .*bundle.json is missing"
    ):
        endpoint.transform(release(tmp_path, "0"), lake, "w", done.append)
    lake.write("w/texts/0.jsonl", b"oops\n")
    with pytest.raises(EndpointError, match="not JSON"):
        endpoint.transform(release(tmp_path / "bundle", "0"), lake, "w", done.append)


def test_a_source_is_checked(predictor: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "love", "label": "x"}\n')
    with pytest.raises(ScoringError, match="'label' already"):
        write_joined(
            predictor, source, answers(predictor, ["love"], tmp_path / "a"), tmp_path / "o.jsonl", ""
        )
