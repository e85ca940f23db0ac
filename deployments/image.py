"""Build and publish what Docker work pools run: `python -m deployments.image OUTPUT`."""

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import CliPositionalArg

from blocks.images import Images, TakenError
from blocks.role import ROOT, BlockError
from deployments.declaration import FILE, Fields
from flows import cli

BUILD = "prefect_docker.deployments.steps.build_docker_image"


class ImageParameters(BaseModel):
    """Build and publish the images of a declaration, and write one that names what was published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: CliPositionalArg[Path] = Field(
        description="File to write, for `python -m deployments.sync --file`."
    )
    file: str = Field(default=FILE, description="The declaration.")
    tag: str | None = Field(
        default=None, description="Tag of the images, such as the commit, instead of the declaration's."
    )


def publish(content: Fields, images: Images, tag: str | None = None) -> Fields:
    """Return a declaration with all images built, published and named so that every worker gets these bytes.

    Args:
        content: Of prefect.yaml. Images that several deployments share are built once.
        images: Where the images go.
        tag: Of the images, instead of the declaration's.
    """
    from prefect_docker.deployments.steps import build_docker_image

    references: dict[str, str] = {}

    def resolved(deployment: Fields) -> Fields:
        if "build" not in deployment:
            return deployment
        [step] = deployment["build"]
        arguments = {"path": str(ROOT)} | step[BUILD] | ({"tag": tag} if tag else {})
        key = repr(arguments)
        if key not in references:
            arguments.pop("id")
            references[key] = _publish(images, build_docker_image(**arguments)["image"], bool(tag))
            print(references[key], flush=True)
        variables = {"image": references[key], "image_pull_policy": "IfNotPresent"}
        pool: dict[str, Any] = deployment["work_pool"]
        pool = pool | {"job_variables": pool["job_variables"] | variables}
        return {name: value for name, value in deployment.items() if name != "build"} | {"work_pool": pool}

    return content | {"deployments": [resolved(deployment) for deployment in content["deployments"]]}


def _publish(images: Images, image: str, named: bool) -> str:
    """Publish an image; where its tag was named for this content, what is there under it already will do."""
    try:
        return images.publish(image)
    except TakenError:
        reference = images.find(image) if named else None
        if reference is None:
            raise
        return reference


def main() -> None:
    """Run from the command line."""
    parameters = cli.parse(ImageParameters, "python -m deployments.image")
    cli.prepare()
    images = Images.current()
    try:
        content = publish(yaml.safe_load((ROOT / parameters.file).read_text()), images, parameters.tag)
    except Exception as error:
        explanation = error if isinstance(error, BlockError) else images.explain(error)
        if explanation is None:
            raise
        sys.exit(str(explanation))
    parameters.output.write_text(yaml.safe_dump(content, sort_keys=False))


if __name__ == "__main__":
    main()
