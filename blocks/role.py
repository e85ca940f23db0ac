"""A role is a well-known name and the kinds of block that may be saved under it."""

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict, Field

B = TypeVar("B", bound=Block)

DEFAULTS = "SENTIMENT_DEFAULTS"
"""Environment variable: `off` where a default kind would be of no use, as in a container."""

ROOT = Path(__file__).resolve().parent.parent


class BlockError(RuntimeError):
    """Raised when what a block stands for cannot be used; says why and what to do.

    Args:
        message: What is wrong, with its name, and the remedy.
        transient: True if waiting may help: the service is away, or asks for fewer requests.
    """

    def __init__(self, message: str, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def causes(error: object) -> Iterator[BaseException]:
    """Yield an exception and those that it came from."""
    while isinstance(error, BaseException):
        yield error
        error = error.__cause__ or error.__context__


class Resource(BaseModel):
    """Something that the project has made, or keeps its data in, outside its own processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="What it is.")
    name: str = Field(description="Which one.")
    detail: str = Field(default="", description="Where, and in which state.")
    by_hand: str = Field(default="", description="What deletes it; empty if `flows.teardown` does.")


class RoleError(BlockError):
    """Raised when it is not clear which block plays a role."""


def local_path(path: str | Path) -> Path:
    """Return `path` made absolute against the checkout.

    Blocks store relative paths, so that two clones that share one Prefect database keep their data apart.

    Args:
        path: Absolute, starting with ~, or relative to the folder that holds `blocks/`.
    """
    return ROOT / Path(path).expanduser()


def local_resources(kind: str, path: str | Path) -> list[Resource]:
    """Return what lies at a path of this machine, if anything does: its owner deletes it."""
    found = local_path(path)
    remedy = f"rm -r {shlex.quote(str(found))}"
    return [Resource(kind=kind, name=str(found), by_hand=remedy)] if found.exists() else []


def find_block(kind: type[B], name: str) -> B | None:
    """Return the block of a kind that is saved under a name, or None."""
    try:
        block: Any = kind.load(name)
    except ValueError as error:
        if isinstance(error.__cause__, ObjectNotFound):
            return None
        raise
    found: B = block
    return found


class Role(Block, ABC):
    """A place that flows ask for by name; each subclass of a role's base class is one kind of it.

    A flow calls `Lake.current()` and uses the interface that it gets. Which kind that is depends only on
    which block is saved under the role's name.
    """

    slot: ClassVar[str]
    """The name under which the role's block is saved, such as `sentiment-lake`."""

    kinds: ClassVar[Mapping[str, str]]
    """Slug of each kind and the module that defines it, the embedded default first.

    A kind's module is imported when a block of that kind is used, and not before: a laptop waits for no
    cloud library.
    """

    @abstractmethod
    def check(self) -> str:
        """Use what the block stands for as a flow would, and return a line that says what is there.

        Raises:
            Exception: It cannot be used; `explain` knows why.
        """

    @abstractmethod
    def resources(self) -> list[Resource]:
        """Return what there is of the project under this block, of others nothing."""

    def explain(self, error: BaseException) -> BlockError | None:
        """Return the cause and remedy of an error that a library raised while this block was used.

        None if this block has nothing to do with it, or the error explains itself.
        """
        return None

    @classmethod
    def saved(cls) -> list[Self]:
        """Return the blocks saved under the role's name, one at most of each kind."""
        with get_client(sync_client=True) as client:
            slugs = [slug for slug in cls.kinds if cls._document(client, slug)]
        return [found for slug in slugs if (found := find_block(cls.kind(slug), cls.slot)) is not None]

    @classmethod
    def kind(cls, slug: str) -> type[Self]:
        """Return the class of a kind."""
        import_module(cls.kinds[slug])
        return next(kind for kind in cls.__subclasses__() if kind._block_type_slug == slug)

    @classmethod
    def current(cls) -> Self:
        """Return the block that plays this role; the default kind is saved on first use.

        Raises:
            RoleError: Blocks of two kinds are saved under the role's name, or none where it must be.
        """
        blocks = cls.saved()
        if len(blocks) > 1:
            kinds = " and ".join(str(block._block_type_slug) for block in blocks)
            raise RoleError(
                f"The name {cls.slot!r} is taken by {kinds} at once: delete all but one, for example with "
                f"`prefect block delete {blocks[0]._block_type_slug}/{cls.slot}`."
            )
        if blocks:
            return blocks[0]
        if os.environ.get(DEFAULTS) == "off":
            raise RoleError(
                f"No block is saved as {cls.slot!r}, and what this container would keep instead is lost with "
                "it: save one with `python -m blocks.register aws`."
            )
        return cls.kind(next(iter(cls.kinds)))().appoint()

    def appoint(self) -> Self:
        """Save this block as the one that plays its role, in place of any other kind."""
        self.save(self.slot, overwrite=True)  # first: what is cut short here must not leave nothing
        with get_client(sync_client=True) as client:
            for slug in self.kinds:
                other = self._document(client, slug)
                if other is not None and slug != self._block_type_slug:
                    client.delete_block_document(other.id)
        return self

    @classmethod
    def _document(cls, client: SyncPrefectClient, slug: str) -> BlockDocument | None:
        try:
            return client.read_block_document_by_name(cls.slot, slug, include_secrets=False)
        except ObjectNotFound:
            return None
