"""The training image gets what it needs and nothing else, and its CUDA libraries suit its TensorFlow."""

import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from blocks.role import ROOT
from flows.cli import quiet

DOCKERFILE = (ROOT / "containers" / "train" / "Dockerfile").read_text()
PACKAGES = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Lay out a checkout in which secrets, state and the history lie about."""
    files = [
        f"{package}/{name}" for package in PACKAGES for name in ("code.py", "__pycache__/code.pyc", ".env")
    ]
    files += [
        "Makefile",
        "requirements.lock",
        "pyproject.toml",
        "prefect.yaml",
        "containers/train/Dockerfile",
    ]
    files += [
        ".env",
        ".git/config",
        ".venv/bin/python",
        ".local/mlflow/mlflow.db",
        "key.pem",
        "tests/code.py",
    ]
    for file in [*files, ".dockerignore"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x")
    return tmp_path


def test_nothing_but_the_code_leaves_the_checkout(checkout: Path) -> None:
    from docker.utils.build import exclude_paths

    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = {path for path in exclude_paths(str(checkout), patterns) if (checkout / path).is_file()}
    sources = {
        "Makefile",
        "requirements.lock",
        "pyproject.toml",
        "prefect.yaml",
        "containers/train/Dockerfile",
    }
    assert sent - {".dockerignore", "Dockerfile"} == sources | {f"{package}/code.py" for package in PACKAGES}


def test_all_code_is_copied_after_the_packages_are_installed() -> None:
    copied = re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE)
    assert set(copied) == PACKAGES
    assert DOCKERFILE.index("make .venv/packages") < min(DOCKERFILE.index(f"COPY {name}") for name in copied)


def test_the_base_has_the_libraries_of_the_locked_tensorflow() -> None:
    [tag] = re.findall(r"^ARG BASE_IMAGE=tensorflow/tensorflow:(\S+)-gpu$", DOCKERFILE, re.MULTILINE)
    lock = (ROOT / "requirements.lock").read_text()
    assert re.findall(r"^tensorflow==(\S+)", lock, re.MULTILINE) == [tag]


def test_workers_find_the_flows_where_the_image_has_them() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    folders = {
        arguments["directory"]
        for deployment in deployments
        for step in deployment.get("pull", [])
        for arguments in step.values()
    }
    assert folders == set(re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE))


def test_libraries_are_as_quiet_as_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    quiet()
    assert os.environ.items() <= dict(re.findall(r"(\w+)=(\w+)", DOCKERFILE)).items()
