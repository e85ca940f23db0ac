"""Saving the blocks from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.endpoint import Endpoint
from blocks.images import Images
from blocks.lake import Lake
from blocks.process import LocalEndpoint
from blocks.register import Local, X
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from blocks.x import XCredentials

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "planted-7c1f-token"


def test_what_is_saved_is_what_flows_get(prefect_api: None, tmp_path: Path) -> None:
    said = Local(lake=str(tmp_path / "lake"), port=8123).run()
    assert [line.split(":")[0] for line in said] == [
        r.slot for r in (Lake, Warehouse, Tracking, Images, Endpoint)
    ]
    assert Lake.current().uri("a/b") == str(tmp_path / "lake" / "a" / "b")
    endpoint = Endpoint.current()
    assert isinstance(endpoint, LocalEndpoint)
    assert endpoint.port == 8123


def test_saving_twice_changes_nothing(prefect_api: None) -> None:
    assert Local().run() == Local().run()
    assert [len(role.saved()) for role in (Lake, Warehouse, Tracking, Images, Endpoint)] == [1] * 5


def test_the_token_is_kept_and_never_shown(prefect_api: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_BEARER_TOKEN", f" {TOKEN}\n")
    said = X().run()
    assert XCredentials.token() == SecretStr(TOKEN)
    assert TOKEN not in "".join(said)
    assert TOKEN not in repr(XCredentials.load(XCredentials.slot))


def test_without_a_token_it_says_what_to_set(prefect_api: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("X_BEARER_TOKEN", raising=False)
    with pytest.raises(ValueError, match="Set the environment variable X_BEARER_TOKEN"):
        X().run()


@pytest.mark.parametrize("arguments", [["local", "--port", "99999"], ["nowhere"], []])
def test_wrong_arguments_end_with_a_message(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "blocks.register", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert result.stderr.strip()
