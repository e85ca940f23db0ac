"""The serving image: the app of `containers/serve` with one bundle in it."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from blocks.images import Images
from blocks.role import ROOT

NAME = "sentiment-serve"


def serving_image(images: Images, bundle: Path, version: str, digest: str) -> str:
    """Build the image that serves a bundle, publish it, and return the reference to pull.

    Args:
        images: Where it goes.
        bundle: Folder of the bundle.
        version: Model version to report.
        digest: SHA-256 of its bundle.json in hex.
    """
    from docker.client import DockerClient

    tag = f"{NAME}:{version}-{digest[:12]}"
    with TemporaryDirectory() as context:
        serve = Path(context) / "containers" / "serve"
        shutil.copytree(ROOT / "containers" / "serve", serve, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(bundle, Path(context) / "bundle")
        engine = DockerClient.from_env()
        try:
            engine.images.build(
                path=context,
                dockerfile="containers/serve/Dockerfile",
                tag=tag,
                buildargs={"VERSION": version},
            )
        finally:
            engine.close()
    return images.publish(tag)
