"""The credentials of the official X API."""

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.role import find_block


class XCredentials(Block):
    """A bearer token of the X API; there is none by default.

    Example:
        Save one from the environment variable X_BEARER_TOKEN: `python -m blocks.register x`.
    """

    _block_type_name = "X Credentials"
    _block_type_slug = "x-credentials"

    slot: ClassVar[str] = "sentiment-x"
    """The name under which the block is saved."""

    bearer_token: SecretStr = Field(description="Bearer token of an app with access to recent search.")

    @classmethod
    def token(cls) -> SecretStr | None:
        """Return the saved token, or None when none is saved."""
        block = find_block(cls, cls.slot)
        return block.bearer_token if block else None
