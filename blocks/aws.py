"""What blocks of AWS have in common: clients that try again, and what AWS's errors mean."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from prefect_aws import AwsCredentials

from blocks.role import BlockError, causes

RENEWAL = 600  # seconds until a role is assumed anew: its credentials last 900 at least


class Trouble(NamedTuple):
    """What an error of AWS comes from."""

    cause: str
    remedy: str
    transient: bool = False


_KEY = "Correct the key in the block `sentiment-aws`: `python -m blocks.register aws` saves it anew."
_DENIED = "Permit it: deployments/iam has the policies."
_EXPIRED = "Renew the credentials, or put a role or a key that lasts into the block `sentiment-aws`."
_REMEDIES = {
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "UnauthorizedOperation": _DENIED,
    "UnrecognizedClientException": _KEY,
    "InvalidClientTokenId": _KEY,
    "InvalidSignatureException": _KEY,
    "SignatureDoesNotMatch": _KEY,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
}
"""What to do about the codes that all of AWS's services share
(https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html)."""


def client(credentials: AwsCredentials, service: str, address: str | None) -> Any:
    """Return a client of a service, which waits longer each time that it has to try again.

    It is kept for a while: a role that the credentials assume is assumed anew in time.

    Args:
        credentials: Who asks, and in which region.
        service: boto3's name of the service.
        address: Another API than AWS's.
    """
    return _client(credentials, service, address, int(time.monotonic() // RENEWAL))


@lru_cache(maxsize=32)
def _client(credentials: AwsCredentials, service: str, address: str | None, period: int) -> Any:
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=70
    )
    return credentials.get_boto3_session().client(service, endpoint_url=address, config=config)


def code(error: BaseException) -> str:
    """Return the code that AWS answered with, empty if there was no answer."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def trouble(error: BaseException, remedies: dict[str, str]) -> Trouble | None:
    """Return what is wrong with AWS, or None if the error does not come from there or explains itself.

    Args:
        error: What was raised while a block was used.
        remedies: What to do about codes of the block's own services.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
    )

    for cause in causes(error):
        if isinstance(cause, BlockError):
            return None
        if isinstance(cause, ClientError):
            said, name = cause.response.get("Error", {}), code(cause)
            status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            away = status == 429 or status >= 500 or "Throttl" in name or "TooManyRequests" in name
            remedy = (_REMEDIES | remedies).get(name, "See `python -m blocks.register check`.")
            text = f"{cause.operation_name} answered {name or status}: {said.get('Message') or 'no reason'}"
            return Trouble(text.rstrip("."), "Wait and run again." if away else remedy, away)
        if isinstance(cause, NoCredentialsError):
            return Trouble("nobody has given this machine credentials", _KEY)
        if isinstance(cause, BotoCoreError):
            away = isinstance(cause, ConnectionError | HTTPClientError)
            remedy = "Check region, address and network, and run again." if away else "Correct the block."
            return Trouble(str(cause).strip().rstrip("."), remedy, away)
    return None


@contextmanager
def unless(reason: str) -> Iterator[None]:
    """Go on if AWS refuses for a reason that means that nothing is left to be done.

    Args:
        reason: Regular expression, to be found in the message.
    """
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if not re.search(reason, str(error)):
            raise


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags as most of AWS's services want them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
