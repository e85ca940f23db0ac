"""Checkpoint: a fit that is not done, in the lake, so that one that was killed goes on."""

import json
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np

from blocks.lake import Lake
from tasks.training import State

DAMAGED = BadZipFile, EOFError, KeyError, ValueError
"""What is raised on reading arrays that are damaged, or of another version of this code."""


def write_checkpoint(lake: Lake, key: str, state: State, note: str = "") -> None:
    """Put where a fit stands into the lake, in place of where it stood before.

    Args:
        lake: Where to.
        key: Of the file.
        state: All that the next epoch depends on.
        note: What else is to come back.
    """
    arrays: dict[str, Any] = {
        **{f"variable_{number}": value for number, value in enumerate(state.variables)},
        **{f"best_{number}": value for number, value in enumerate(state.best)},
    }
    told = json.dumps({"history": state.history, "note": note}).encode()
    buffer = BytesIO()
    np.savez(buffer, told=np.frombuffer(told, np.uint8), **arrays)
    lake.write(key, buffer.getvalue())


def find_checkpoint(lake: Lake, key: str) -> tuple[State, str] | None:
    """Return where a fit stands and the note, or None if there is nothing that can be read."""
    if not lake.exists(key):
        return None
    try:
        with np.load(BytesIO(lake.read(key))) as arrays:
            told = json.loads(arrays["told"].tobytes())
            variables, best = (
                tuple(arrays[f"{kind}_{number}"] for number in range(sum(kind in name for name in arrays)))
                for kind in ("variable", "best")
            )
            return State(tuple(told["history"]), variables, best), str(told["note"])
    except DAMAGED:
        return None
