"""Images: where container images go, so that the machines that run them find them."""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import closing
from typing import ClassVar

from pydantic import Field

from blocks.role import BlockError, Resource, Role, causes

KINDS = ("sentiment-serve", "sentiment-train")
"""Names of the images that are published."""


class ImagesError(BlockError):
    """Raised when an image cannot be built or published; says why and what to do."""


class TakenError(ImagesError):
    """Raised when another image has the tag already."""


class Images(Role):
    """A registry of container images."""

    slot: ClassVar[str] = "sentiment-images"
    kinds: ClassVar[Mapping[str, str]] = {"local-images": "blocks.images", "ecr-images": "blocks.ecr"}

    build_args: dict[str, str] = Field(
        default={},
        description="Build arguments of the serving image (docs/deploy.md); not for secrets.",
    )

    @abstractmethod
    def find(self, image: str) -> str | None:
        """Return how to refer to an image that was published, or None.

        Args:
            image: As it was published.
        """

    @abstractmethod
    def publish(self, image: str) -> str:
        """Make an image of this machine's Docker engine available and return how to refer to it.

        Nothing is sent twice, and no tag is moved from one image to another.

        Args:
            image: Name and tag, such as `sentiment-train:3f2a`.

        Returns:
            The reference to pull, which names these bytes and no others wherever it is possible.

        Raises:
            TakenError: Another image was published under that name and tag.
            ImagesError: The registry did not take it.
        """

    @abstractmethod
    def remove(self) -> bool:
        """Remove the registry's part that was made for the project; tells whether there was any."""

    def explain(self, error: BaseException) -> BlockError | None:  # noqa: D102
        from docker.errors import APIError, DockerException, ImageNotFound

        for cause in causes(error):
            if isinstance(cause, ImageNotFound):
                return ImagesError("The image to publish is not in the Docker engine: build it first.")
            if isinstance(cause, APIError):
                return ImagesError(f"The Docker engine refused: {cause.explanation or cause}.")
            if isinstance(cause, DockerException):
                return ImagesError(f"The Docker engine does not answer ({cause}): start it.", transient=True)
        return None


class LocalImages(Images):
    """No registry: the machine that builds an image also runs it."""

    _block_type_name = "Local Images"
    _block_type_slug = "local-images"

    def find(self, image: str) -> str | None:  # noqa: D102
        from docker.client import DockerClient
        from docker.errors import ImageNotFound

        with closing(DockerClient.from_env()) as engine:
            try:
                engine.images.get(image)
            except ImageNotFound:
                return None
        return image

    def publish(self, image: str) -> str:  # noqa: D102
        return image

    def remove(self) -> bool:  # noqa: D102
        return False  # they take nothing but room on this machine, and other projects' may build on them

    def resources(self) -> list[Resource]:  # noqa: D102
        from docker.client import DockerClient
        from docker.errors import DockerException

        try:
            with closing(DockerClient.from_env(timeout=10)) as engine:
                tags = [tag for image in engine.images.list() for tag in image.tags]
        except DockerException:
            return []  # no engine, no images
        return [
            Resource(kind="image", name=tag, detail="Docker engine", by_hand=f"docker rmi {tag}")
            for tag in sorted(tags)
            if tag.rpartition(":")[0] in KINDS
        ]

    def check(self) -> str:  # noqa: D102
        from docker.client import DockerClient
        from docker.errors import DockerException

        try:
            client = DockerClient.from_env(timeout=10)
            version = client.version()["Version"]
        except DockerException:
            return "no Docker engine answers; only Docker work pools need one"
        client.close()
        return f"Docker engine {version} of this machine"
