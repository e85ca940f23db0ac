"""The command line of sync; what it does to a server is tested in tests/cloud/test_deployments.py."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from blocks.role import ROOT


def sync(home: Path, url: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deployments.sync", *flags],
        cwd=ROOT,
        env=os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = sync(tmp_path / "home", f"http://127.0.0.1:{port}/api", "--dry-run")
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"No Prefect API answers at http://127.0.0.1:{port}/api: ")
    assert said.endswith("Start the server, or set PREFECT_API_URL to another one's address.")


def test_flags_that_are_wrong_are_explained(tmp_path: Path) -> None:
    done = sync(tmp_path / "home", "http://127.0.0.1:1/api", "--prune=perhaps")
    assert done.returncode == 2
    assert "prune" in done.stderr
