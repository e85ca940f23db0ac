"""The steps of the flow `teardown`: what there is, and its removal."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from blocks.images import Images
from blocks.role import Resource, Role
from tasks.progress import logger
from tasks.step import step

COLUMNS = ("what", "name", "detail", "fate")


class TeardownError(RuntimeError):
    """Raised when not all was deleted; says why, and that the same command goes on."""


class TeardownParameters(BaseModel):
    """List what the project runs and has made; with `yes`, delete all of it but the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    yes: bool = Field(default=False, description="Delete what the list says; without it, only list.")


class TeardownResult(BaseModel):
    """What was deleted, and what is left."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deleted: tuple[Resource, ...] = Field(description="What is gone.")
    left: tuple[Resource, ...] = Field(description="What is still there.")

    @classmethod
    def of(cls, before: tuple[Resource, ...], after: tuple[Resource, ...]) -> Self:
        """Return what happened between two looks; a thing is told by kind and name, its state may change."""
        there = {(resource.kind, resource.name) for resource in after}
        gone = (resource for resource in before if (resource.kind, resource.name) not in there)
        return cls(deleted=tuple(gone), left=after)

    def said(self) -> str:
        """Return what happened in a sentence."""
        mine = sum(not resource.by_hand for resource in self.left)
        counts = f"{len(self.deleted)} deleted, {mine} to delete, {len(self.left) - mine} left to you"
        return f"{counts}. The parameter `yes` deletes." if mine else f"{counts}."

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return a row for each thing, as in `COLUMNS`."""
        fates = [(resource, "deleted") for resource in self.deleted]
        for resource in self.left:
            fates.append((resource, f"left: {resource.by_hand}" if resource.by_hand else "to delete"))
        return [(resource.kind, resource.name, resource.detail, fate) for resource, fate in fates]


@step
def find(role: Role) -> tuple[Resource, ...]:
    """Return what there is under the block of a role."""
    return tuple(role.resources())


@step
def remove(images: Images) -> None:
    """Remove the registry's part that was made for the project."""
    logger().info("The images were removed." if images.remove() else "No images had to be removed.")
