"""Checkpoint: a fit that is not done, in the lake, so that one that was killed goes on."""

from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.lake import Lake
from tasks.trained import Fit
from tasks.training import Epoch, State


class Stand(BaseModel):
    """What is known of a fit after an epoch, beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: Fit = Field(description="What was known when it began.")
    history: tuple[Epoch, ...] = Field(description="Metrics of each epoch.")
    ends: tuple[int, ...] = Field(description="When each epoch ended, in milliseconds since 1970.")
    seconds: float = Field(description="Time of the fit so far.")


def write_checkpoint(lake: Lake, stand: Stand, state: State) -> None:
    """Put where a fit stands into the lake, in place of where it stood before."""
    arrays: dict[str, Any] = {
        **{f"variable_{number}": value for number, value in enumerate(state.variables)},
        **{f"best_{number}": value for number, value in enumerate(state.best)},
    }
    buffer = BytesIO()
    np.savez(buffer, stand=np.frombuffer(stand.model_dump_json().encode(), np.uint8), **arrays)
    lake.write(_key(stand.fit.identity), buffer.getvalue())


def find_checkpoint(lake: Lake, identity: str) -> tuple[Stand, State] | None:
    """Return where a fit of this identity stands, or None if there is none that can be read."""
    if not lake.exists(_key(identity)):
        return None
    try:
        with np.load(BytesIO(lake.read(_key(identity)))) as arrays:
            stand = Stand.model_validate_json(arrays["stand"].tobytes())
            variables, best = (
                tuple(arrays[f"{kind}_{number}"] for number in range(sum(kind in name for name in arrays)))
                for kind in ("variable", "best")
            )
    except (BadZipFile, KeyError, ValueError, ValidationError):  # damaged, or of another version of this code
        return None
    return stand, State(stand.history, variables, best)


def remove_checkpoint(lake: Lake, identity: str) -> None:
    """Forget where a fit stood; nothing happens if there is nothing."""
    lake.remove(_key(identity))


def _key(identity: str) -> str:
    return f"trained/{identity}/checkpoint.npz"
