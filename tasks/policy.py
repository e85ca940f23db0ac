"""The policy: what a model must show before it serves, read from a file."""

import json
import tomllib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.role import local_path

DEFAULT = "tasks/policy.toml"
"""The project's own policy; it holds every key, with its reason."""


class PolicyError(ValueError):
    """Raised when a policy file cannot be used; names the file, the key and what is allowed."""


Share = Annotated[float, Field(ge=0, le=1)]


class Policy(BaseModel):
    """What a model must show before it serves; the reasons for the defaults stand in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_rows: int = Field(gt=0, description="Labelled test rows without which a score does not count.")
    minimum_class_rows: int = Field(gt=0, description="The same for the rows of each class that occurs.")
    minimum_cases: int = Field(
        gt=0, description="Cases without which a capability, or a test with a ceiling, does not count."
    )
    capabilities: tuple[str, ...] = Field(description="Capabilities that must be tested before a promotion.")
    minimum_macro_recall: Share = Field(description="Macro recall under this never goes to production.")
    ceilings: dict[str, Share] = Field(
        description="Behavioural tests that, failed more often than this, keep a model out."
    )
    minimum_gain: Share = Field(description="Macro recall that a challenger must gain over production.")
    maximum_loss: Share = Field(
        description="Share of a capability's cases by which a challenger may fail more than production."
    )
    maximum_test_loss: Share = Field(description="The same for a single test.")
    significance: float = Field(
        gt=0, lt=0.5, description="Chance of error of the test of the gain, and of those of losses together."
    )


def read_policy(path: str) -> Policy:
    """Return the policy of a file; a key that it leaves out is as in `DEFAULT`.

    Args:
        path: TOML; a relative one starts at the checkout.

    Raises:
        PolicyError: The file is missing or not TOML, or a key is unknown or has a wrong value.
    """
    values = _load(DEFAULT) | _load(path)
    try:
        # Strict, so that true is not 1; by way of JSON, for whose lists a tuple will do.
        return Policy.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {_complaint(problem['type'], problem['msg'])}"
            for problem in error.errors()
        )
        allowed = ", ".join(Policy.model_fields)
        raise PolicyError(
            f"The policy {local_path(path)} is wrong. {wrong}. Its keys are {allowed}."
        ) from None


def _complaint(kind: str, message: str) -> str:
    return "there is no such key" if kind == "extra_forbidden" else message


def _load(path: str) -> dict[str, object]:
    file = local_path(path)
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise PolicyError(
            f"The policy {file} cannot be read ({error.strerror}): name a TOML file with --policy, or leave "
            f"it out for {DEFAULT}."
        ) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise PolicyError(f"The policy {file} is not TOML: {error}.") from error
