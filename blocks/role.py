"""A role is a well-known name and the kinds of block that may be saved under it."""

from abc import ABC
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from prefect.blocks.core import Block
from prefect.exceptions import ObjectNotFound

B = TypeVar("B", bound=Block)

ROOT = Path(__file__).resolve().parent.parent


class RoleError(RuntimeError):
    """Raised when it is not clear which block plays a role."""


def local_path(path: str | Path) -> Path:
    """Return `path` made absolute against the checkout.

    Blocks store relative paths, so that two clones that share one Prefect database keep their data apart.

    Args:
        path: Absolute, starting with ~, or relative to the folder that holds `blocks/`.
    """
    return ROOT / Path(path).expanduser()


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

    @classmethod
    def kinds(cls) -> list[type[Self]]:
        """Return the kinds of this role, the embedded default first."""
        return cls.__subclasses__()

    @classmethod
    def saved(cls) -> list[Self]:
        """Return the blocks saved under the role's name, one at most of each kind."""
        return [block for kind in cls.kinds() if (block := find_block(kind, cls.slot)) is not None]

    @classmethod
    def current(cls) -> Self:
        """Return the block that plays this role; the default kind is saved on first use.

        Raises:
            RoleError: Blocks of two kinds are saved under the role's name.
        """
        blocks = cls.saved()
        if len(blocks) > 1:
            kinds = " and ".join(str(block._block_type_slug) for block in blocks)
            raise RoleError(
                f"The name {cls.slot!r} is taken by {kinds} at once: delete all but one, for example with "
                f"`prefect block delete {blocks[0]._block_type_slug}/{cls.slot}`."
            )
        return blocks[0] if blocks else cls.kinds()[0]().appoint()

    def appoint(self) -> Self:
        """Save this block as the one that plays its role, in place of any other kind."""
        for other in self._role().saved():
            if type(other) is not type(self):
                type(other).delete(self.slot)
        self.save(self.slot, overwrite=True)
        return self

    @classmethod
    def _role(cls) -> type["Role"]:
        return next(base for base in cls.__mro__ if Role in base.__bases__)
