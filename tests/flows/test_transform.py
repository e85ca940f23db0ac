"""The flow `transform` on a laptop; tests/cloud/docker/test_transform.py runs it in SageMaker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from blocks.lake import LocalLake
from blocks.process import LocalEndpoint
from blocks.tracking import LocalTracking
from flows.transform import transform
from tasks import transform as steps
from tasks.registry import RegistryError
from tasks.transform import TransformError, TransformParameters, TransformResult
from tests.flows.test_score import put_into_production


def run(source: str = "raw", target: str = "scored", prefix: str = "") -> TransformResult:
    return transform(TransformParameters(input=source, output=target, prefix=prefix))


def keys(lake: LocalLake, folder: str = "") -> list[str]:
    return [file.key for file in lake.find(folder)]


@pytest.fixture
def production(blocks: None, tracking: LocalTracking, tmp_path: Path) -> None:
    put_into_production(tracking, tmp_path / "model")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each work that the endpoint is given."""
    given: list[str] = []
    plain = LocalEndpoint.transform

    def spy(self: LocalEndpoint, release: Any, lake: Any, folder: str, on_files: Any) -> dict[str, str]:
        given.append(folder)
        return plain(self, release, lake, folder, on_files)

    monkeypatch.setattr(LocalEndpoint, "transform", spy)
    return given


def test_files_get_their_predictions_once(production: None, lake: LocalLake, asked: list[str]) -> None:
    lake.write_frame("raw/a.parquet", pl.DataFrame({"id": [1, 2, 3], "text": ["love", None, "hate"]}))
    lake.write_frame("raw/none.parquet", pl.DataFrame({"text": []}, schema={"text": pl.String}))
    lake.write("raw/sub/a.jsonl", b'{"text": "great", "n": {"m": 1}}\n')
    lake.write("raw/notes.md", b"#")
    result = run()
    assert (result.version, result.rows, sorted(result.files)) == (
        "1",
        4,
        ["a.parquet", "none.parquet", "sub/a.jsonl"],
    )
    found = pl.read_parquet(lake.uri("scored/a.parquet"))
    assert found["id"].to_list() == [1, 2, 3]
    assert found["label"].to_list() == ["positive", None, "negative"]
    assert found.schema["p_positive"] == pl.Float32 and found["p_positive"].is_null().to_list()[1]
    assert pl.read_parquet(lake.uri("scored/none.parquet")).columns == list(found.columns)[1:]
    assert b'"n":{"m":1},"label":"positive"' in lake.read("scored/sub/a.jsonl")
    assert keys(lake, "transform") == []

    assert run() == result and len(asked) == 1, "there is nothing to do"
    lake.write("scored/a.parquet", b"spoilt")
    assert run() == result and len(asked) == 2
    assert run("raw/a.parquet", "one", "new_").files.keys() == {"a.parquet"}
    assert "new_label" in pl.read_parquet(lake.uri("one/a.parquet")).columns


def test_input_that_will_not_do_is_named_with_the_remedy(
    production: None, lake: LocalLake, asked: list[str]
) -> None:
    for content, says in {
        b"PAR1": "Cannot read .*raw/a.parquet",
        b"": "raw/a.parquet is empty",
    }.items():
        lake.write("raw/a.parquet", content)
        with pytest.raises(TransformError, match=says):
            run()
    lake.write_frame("raw/a.parquet", pl.DataFrame({"tweet": ["love"]}))
    with pytest.raises(TransformError, match=r"raw/a.parquet has no column `text` \(columns: tweet\)"):
        run()
    lake.write_frame("raw/a.parquet", pl.DataFrame({"text": ["love"], "label": [1]}))
    with pytest.raises(TransformError, match="raw/a.parquet has the column 'label' already.*--prefix"):
        run()
    with pytest.raises(TransformError, match="no .parquet, .* file under .*/nothing, and 0 others"):
        run("nothing")
    assert asked == [] and keys(lake, "scored") == []


def test_nothing_in_production(blocks: None, lake: LocalLake) -> None:
    with pytest.raises(RegistryError, match="no version in production"):
        run()


def test_input_that_changes_meanwhile_is_noticed(
    production: None, lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write("raw/a.jsonl", b'{"text": "love"}\n')
    plain = LocalEndpoint.transform

    def slow(self: LocalEndpoint, *given: Any) -> dict[str, str]:
        lake.write("raw/a.jsonl", b'{"text": "hate"}\n')
        return plain(self, *given)

    monkeypatch.setattr(LocalEndpoint, "transform", slow)
    with pytest.raises(TransformError, match="raw/a.jsonl has changed meanwhile: run again"):
        run()
    assert keys(lake, "scored") == []
    monkeypatch.undo()
    assert run().rows == 1
    assert b'"negative"' in lake.read("scored/a.jsonl")


def test_of_two_at_once_the_slower_takes_what_the_faster_has_made(
    production: None, lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write("raw/a.jsonl", b'{"text": "love"}\n')
    plain: Callable[..., dict[str, str]] = LocalEndpoint.transform
    results: list[TransformResult] = []

    def overtaken(self: LocalEndpoint, *given: Any) -> dict[str, str]:
        answers = plain(self, *given)
        monkeypatch.undo()
        results.append(run())
        return answers

    monkeypatch.setattr(LocalEndpoint, "transform", overtaken)
    results.append(run())
    assert results[0] == results[1] and len(results) == 2
    assert keys(lake, "transform") == []


def test_who_writes_to_the_same_output_is_noticed(
    production: None, lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write("raw/a.jsonl", b'{"text": "love"}\n')
    lake.write("raw/b.jsonl", b'{"text": "love"}\n')
    plain = steps.write_joined

    def other(*given: Any) -> None:
        plain(*given)
        lake.write("scored/a.jsonl", b"another run's")

    monkeypatch.setattr(steps, "write_joined", other)
    with pytest.raises(TransformError, match="Another run has written to .*scored meanwhile"):
        run()
    monkeypatch.undo()
    assert run().rows == 2
    assert b'"positive"' in lake.read("scored/a.jsonl")
