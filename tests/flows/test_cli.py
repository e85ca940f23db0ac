"""The command line of the flows."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli
from flows.pipeline import PipelineParameters
from flows.score import ScoreParameters
from tasks.etl import EtlParameters

ROOT = Path(__file__).resolve().parents[2]
FLAG = {
    "etl": "--minimum-count",
    "train": "--require-gpu",
    "benchmark": "--policy",
    "deploy": "--stop",
    "rollback": "--reason",
    "pipeline": "--labels",
    "score": "--prefix",
}


def test_flags_fill_the_parameters_of_all_stages() -> None:
    flags = "--source file --path tweets.csv --labels human --label-mapping 0=negative,1=positive --epochs 2"
    parsed = cli.parse(PipelineParameters, "program", flags.split())
    assert isinstance(parsed, PipelineParameters)
    assert (parsed.source, parsed.path, parsed.labels, parsed.epochs) == ("file", "tweets.csv", "human", 2)
    assert parsed.label_mapping == {"0": "negative", "1": "positive"}


def test_no_flags_give_the_defaults() -> None:
    assert cli.parse(PipelineParameters, "program", []) == PipelineParameters()


def test_positional_arguments() -> None:
    parsed = cli.parse(ScoreParameters, "program", ["in.csv", "out.csv", "--prefix", "p_"])
    assert parsed == ScoreParameters(input="in.csv", output="out.csv", prefix="p_")


def test_the_environment_is_not_a_source_of_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("path", "limit", "source", "query"):
        monkeypatch.setenv(name, "7")
    assert cli.parse(EtlParameters, "program", []) == EtlParameters()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--limit -3", "--limit: Input should be greater than 0"),
        ("--source file", "--source file needs --path"),
        ("--source nowhere", "--source"),
        ("--unheard-of 3", "--unheard-of"),
        ("--path x.csv", "--path is for --source file"),
    ],
)
def test_wrong_flags_are_named_and_exit_with_2(
    flags: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parse(EtlParameters, "python -m flows.etl", flags.split())
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert "python -m flows.etl" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("flow", FLAG)
def test_help_lists_the_flows_flags(flow: str) -> None:
    command = [sys.executable, "-m", f"flows.{flow}", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"usage: python -m flows.{flow}")
    assert FLAG[flow] in result.stdout
