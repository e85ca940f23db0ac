"""Tests against real servers."""

import os
import random
import socket
from contextlib import suppress
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip for want of a program that a user need not have; in CI, where all must be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def sudo() -> list[str]:
    """Return what a command begins with that needs root's rights."""
    return [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing listens on, and that no connection takes by itself."""
    found: list[int] = []
    for port in random.sample(range(20000, 32000), 1000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("hardly any port is free")
