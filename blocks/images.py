"""Images: where container images go, so that the machines that run them find them."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from blocks.role import BlockError, Role


class ImagesError(BlockError):
    """Raised when an image cannot be published; says why and what to do."""


class Images(Role):
    """A registry of container images."""

    slot: ClassVar[str] = "sentiment-images"
    kinds: ClassVar[Mapping[str, str]] = {"local-images": "blocks.images", "ecr-images": "blocks.ecr"}

    @abstractmethod
    def publish(self, image: str) -> str:
        """Make an image of this machine's Docker engine available and return how to refer to it.

        Args:
            image: Name and tag, such as `sentiment-train:3f2a`.

        Returns:
            The reference to pull, which names these bytes and no others wherever it is possible.

        Raises:
            ImagesError: The registry did not take it.
        """


class LocalImages(Images):
    """No registry: the machine that builds an image also runs it."""

    _block_type_name = "Local Images"
    _block_type_slug = "local-images"

    def publish(self, image: str) -> str:  # noqa: D102
        return image

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
