"""The workflows of .github, as data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def loaded(path: Path) -> dict[str, Any]:
    """Return a workflow; YAML 1.1 takes its key `on` for a truth value."""
    content: dict[Any, Any] = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in content.items()}


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each job with its name and its file's."""
    for path in WORKFLOWS:
        for name, job in loaded(path)["jobs"].items():
            yield f"{path.name}: {name}", job


def steps() -> Iterator[dict[str, Any]]:
    """Yield each step of each job; a job that is another workflow has none."""
    for _, job in jobs():
        yield from job.get("steps", [])
