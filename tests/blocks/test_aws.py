"""What AWS's errors mean, for all of its services."""

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
)

from blocks.aws import trouble, unless
from blocks.role import BlockError


def answer(code: str, status: int = 400, message: str = "because") -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "CreateModel")


@pytest.mark.parametrize(
    ("error", "says", "transient"),
    [
        (answer("AccessDeniedException"), "deployments/iam", False),
        (answer("AccessDenied", 403), "deployments/iam", False),
        (answer("SignatureDoesNotMatch", 403), "python -m blocks.register aws", False),
        (answer("ExpiredToken", 403), "Renew", False),
        (answer("Special"), "Do this", False),
        (answer("ThrottlingException"), "run again", True),
        (answer("TooManyRequestsException", 429), "run again", True),
        (answer("", 503), "CreateModel answered 503", True),
        (EndpointConnectionError(endpoint_url="http://nowhere"), "http://nowhere", True),
        (NoCredentialsError(), "nobody has given", False),
        (ParamValidationError(report="bad name"), "bad name", False),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else None,
)
def test_errors_have_a_cause_and_a_remedy(error: Exception, says: str, transient: bool) -> None:
    try:
        raise RuntimeError("the step failed") from error
    except RuntimeError as wrapped:
        found = trouble(wrapped, {"Special": "Do this."})
    assert found is not None
    assert says in f"{found.cause}. {found.remedy}"
    assert found.transient is transient


def test_other_errors_are_not_explained() -> None:
    assert trouble(ValueError("3"), {}) is None
    explained = BlockError("It explains itself.")
    explained.__cause__ = answer("AccessDenied")
    assert trouble(explained, {}) is None


def test_what_is_gone_already_is_no_error() -> None:
    with unless("Could not find"):
        raise answer("ValidationException", message="Could not find model")
    with pytest.raises(ClientError), unless("Could not find"):
        raise answer("ValidationException", message="no such thing allowed")
