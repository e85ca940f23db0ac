"""The steps of the flow `deploy`: the production version, its endpoint, and a look at it."""

from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from blocks.endpoint import Deployment, Endpoint, Release
from blocks.images import Images
from blocks.tracking import Tracking
from tasks import registry
from tasks.endpoint import smoke_test
from tasks.image import serving_image
from tasks.progress import logger
from tasks.step import step

SHOWN = (
    "What a wonderful morning, thank you all!",
    "My flight is delayed again and nobody tells us why.",
    "The meeting is on Tuesday at noon.",
)
"""Sentences whose live predictions a person gets to see."""


class Prediction(BaseModel):
    """What the endpoint says of a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    label: str
    p_negative: float
    p_neutral: float
    p_positive: float


class DeployResult(BaseModel):
    """What answers now, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deployment: Deployment | None = Field(description="What answers; None when the endpoint was stopped.")
    predictions: tuple[Prediction, ...] = Field(description="Live answers to a few sentences.")


@step
def deploy_production(tracking: Tracking, images: Images, endpoint: Endpoint) -> Deployment:
    """Make the production version answer at the endpoint; the former one stays if it will not do.

    Raises:
        RegistryError: There is no version in production.
        EndpointError: The endpoint could not be started.
        SmokeTestError: It answers wrongly.
    """
    registry.settle(tracking)
    return deploy_version(registry.production(tracking), tracking, images, endpoint)


def deploy_version(
    version: registry.Version, tracking: Tracking, images: Images, endpoint: Endpoint
) -> Deployment:
    """Make a version answer at the endpoint, see `deploy_production`."""
    deployment = endpoint.deploy(release(version, tracking, images), smoke_test)
    logger().info("Version %s answers at %s (%s)", deployment.version, deployment.url, deployment.detail)
    return deployment


def release(version: registry.Version, tracking: Tracking, images: Images) -> Release:
    """Return a version as an endpoint wants it.

    Raises:
        RegistryError: Its files are gone.
    """
    bundle = registry.bundle_folder(tracking, version)
    number, digest = version.number, registry.digest(version)
    return Release(bundle, number, digest, partial(serving_image, images, bundle, number, digest))


@step
def ask(endpoint: Endpoint) -> tuple[Prediction, ...]:
    """Return the endpoint's answers to a few sentences."""
    answers = endpoint.predict(SHOWN)
    return tuple(Prediction(text=text, **answer) for text, answer in zip(SHOWN, answers, strict=True))


@step
def stop(endpoint: Endpoint) -> None:
    """Stop the endpoint."""
    logger().info("The endpoint was stopped." if endpoint.stop() else "No endpoint was running.")
