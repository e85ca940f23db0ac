"""Fingerprints: short names for inputs, so that work on the same input is done once."""

import hashlib
import inspect
from importlib.metadata import version
from types import ModuleType

from pydantic import BaseModel


def fingerprint(*inputs: object, packages: tuple[str, ...] = ()) -> str:
    """Return 16 hexadecimal digits that change whenever an input does.

    Args:
        inputs: Modules stand for their source code, pydantic models for their JSON, others for their repr.
        packages: Names of installed packages whose version counts too.
    """
    content = [_content(value) for value in inputs] + [f"{name} {version(name)}" for name in packages]
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:16]


def _content(value: object) -> str:
    if isinstance(value, ModuleType):
        return inspect.getsource(value)
    return value.model_dump_json() if isinstance(value, BaseModel) else repr(value)
