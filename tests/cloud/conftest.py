"""Fixtures: real servers on this machine, on loopback only, one of each for the session."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("cloud")
