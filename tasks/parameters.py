"""Parameters: what all parameter models of the flows have in common."""

from typing import TypeVar

from pydantic import BaseModel

P = TypeVar("P", bound=BaseModel)


def narrow(kind: type[P], parameters: BaseModel) -> P:
    """Return the fields of `kind` out of parameters that have those and more."""
    return kind.model_validate(parameters.model_dump(include=set(kind.model_fields)))
