"""Policies of tests: the project's own with changes, as an object or as a file."""

import json
from pathlib import Path
from typing import Any

from tasks.policy import DEFAULT, Policy, read_policy


def policy(**changes: Any) -> Policy:
    """Return the project's own policy with changes."""
    return Policy.model_validate(read_policy(DEFAULT).model_dump() | changes)


def write_policy(path: Path, **values: Any) -> str:
    """Write a policy file with these keys and return its path, for `--policy`."""
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {number}" for name, number in value.items()) + "}"
    return json.dumps(value)
