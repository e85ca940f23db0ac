"""Tests against real servers."""

import os
import socket
from contextlib import ExitStack
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip for want of a program that a user need not have; in CI, where all must be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing listens on."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
