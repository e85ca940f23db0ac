"""The flow `score` predicts with what is in production, or says that nothing is."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from prefect.settings import PREFECT_API_URL

from blocks.tracking import LocalTracking
from flows.score import ScoreParameters, ScoreResult, score
from tasks import progress, registry
from tasks.registry import RegistryError
from tasks.scoring import ScoringError
from tests.bundles import build_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tweets.csv"
    path.write_text('id,text,note\n007,I love it,""\n008,I hate it,\n009,,x\n')
    return path


def put_into_production(tracking: LocalTracking, folder: Path) -> None:
    """Make the tiny bundle version 1 and point `production` at it."""
    digest = build_bundle(folder / "artifacts" / "bundle")
    with tracking.connected() as experiment:
        run = tracking.client().create_run(experiment).info.run_id
    version = registry.register(tracking, folder.as_uri(), run, {"digest": digest})
    tracking.client().set_registered_model_alias(tracking.model, registry.PRODUCTION, version.number)


def run(*paths: Path, prefix: str = "") -> ScoreResult:
    source, target = map(str, paths)
    return score(ScoreParameters(input=source, output=target, prefix=prefix))


def test_rows_are_scored(blocks: None, tracking: LocalTracking, source: Path, tmp_path: Path) -> None:
    put_into_production(tracking, tmp_path / "model")
    target = tmp_path / "out.csv"
    assert run(source, target) == ScoreResult(version="1", rows=3, output=str(target))
    found = pl.read_csv(target, infer_schema=False)
    assert found["label"].to_list() == ["positive", "negative", None]
    assert found.select("id", "text", "note").equals(pl.read_csv(source, infer_schema=False))
    with pytest.raises(ScoringError, match="'label' already"):
        run(target, tmp_path / "twice.csv")
    assert run(target, tmp_path / "twice.parquet", prefix="new_").rows == 3
    assert pl.read_parquet(tmp_path / "twice.parquet")["new_label"].equals(found["label"], check_names=False)
    source.write_text("id,text\n")
    assert run(source, tmp_path / "none.jsonl").rows == 0


def test_progress_is_shown_from_any_thread(
    blocks: None, tracking: LocalTracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polars calls back from threads of its own, where no run is in sight."""
    shown: list[float] = []
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    show = progress._show

    def spy(artifact: object, line: str | None, share: float) -> None:
        shown.append(share)
        show(artifact, line, share)  # type: ignore[arg-type]

    monkeypatch.setattr(progress, "_show", spy)
    put_into_production(tracking, tmp_path / "model")
    pl.DataFrame({"text": ["love"] * 50_000}).write_ndjson(tmp_path / "in.jsonl")
    assert run(tmp_path / "in.jsonl", tmp_path / "out.parquet").rows == 50_000
    assert len(shown) > 2 and shown == sorted(shown) and shown[-1] == 1.0


def test_nothing_in_production(blocks: None, source: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no version in production.*python -m flows.pipeline"):
        run(source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_what_is_wrong_is_said_before_work_is_done(
    blocks: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("the model was looked for")

    monkeypatch.setattr(registry, "production", never)
    nested = tmp_path / "nested.jsonl"
    nested.write_text('{"text": "love", "user": {"id": 7}}\n')
    for said, first, second in (
        ("out.xlsx ends in '.xlsx'", source, tmp_path / "out.xlsx"),
        ("There is no file", tmp_path / "none.csv", tmp_path / "out.csv"),
        ("is the input", source, source),
        ("no folder", source, source / "out.csv"),
        ("column 'user'", nested, tmp_path / "out.csv"),
    ):
        with pytest.raises(ScoringError, match=said):
            run(first, second)
    assert {path.name for path in tmp_path.glob("*.*")} >= {"tweets.csv", "nested.jsonl"}
    assert not list(tmp_path.glob("*out*"))


def test_a_file_that_breaks_off_is_named(
    blocks: None, tracking: LocalTracking, source: Path, tmp_path: Path
) -> None:
    put_into_production(tracking, tmp_path / "model")
    with source.open("a") as file:
        file.write("1,love,a,b,c\n")
    with pytest.raises(ScoringError, match=f"Cannot read {source}"):
        run(source, tmp_path / "out.csv")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.slow
def test_the_command_line(prefect_api: None, source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.score", str(source), str(tmp_path / "out.xlsx")]
    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    said = f"ScoringError: {tmp_path / 'out.xlsx'} ends in '.xlsx'"
    assert any(line.startswith(said) for line in done.stderr.splitlines()), done.stderr
