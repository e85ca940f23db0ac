"""The steps of the flow `rollback`: which version goes back, endpoint and registry, and the way out."""

from pydantic import BaseModel, ConfigDict, Field

from blocks.endpoint import Deployment, Endpoint
from blocks.images import Images
from blocks.tracking import Tracking
from tasks import registry, reigns
from tasks.deploy import deploy_version
from tasks.progress import logger
from tasks.registry import RegistryError
from tasks.reigns import Reign
from tasks.step import step

UNJUDGED = "No benchmark ever promoted it."


class RollbackError(RuntimeError):
    """Raised when a version was not put back; says why, and which one is in production and answers."""


class RollbackParameters(BaseModel):
    """Put an earlier version back into production and serve it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | None = Field(
        default=None, pattern=r"^[1-9]\d*$", description="Version to put back; without it, the one before."
    )
    reason: str = Field(default="", max_length=1000, description="Why, for the history.")
    list: bool = Field(default=False, description="Show who was in production when, and change nothing.")


class Change(BaseModel):
    """What is to be done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(description="Version that goes back into production.")
    former: str | None = Field(description="Version that is in production; None if none is.")
    promoted: bool = Field(description="Whether a benchmark promoted it once.")

    def told(self, deployment: Deployment, touched: bool) -> str:
        """Return what was done.

        Args:
            deployment: What answers.
            touched: Whether it had to be started.
        """
        if self.version == self.former:
            done = "and answers again" if touched else "and answers: nothing to do"
            return f"Version {self.version} is in production already, {done}."
        place = f"the place of version {self.former}" if self.former else "production, where there was none"
        said = f"Version {self.version} is in {place}, and answers at {deployment.url}."
        return said if self.promoted else f"{said} {UNJUDGED}"


class RollbackResult(BaseModel):
    """What is in production, what answers, and how it came to that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    said: str = Field(description="What was done, in a sentence or two.")
    deployment: Deployment | None = Field(description="What answers; None if only the history was asked for.")
    history: tuple[Reign, ...] = Field(description="Who was in production when, in order.")


@step
def history(tracking: Tracking) -> tuple[Reign, ...]:
    """Return who was in production when."""
    return registry.history(tracking)


@step
def choose(version: str | None, tracking: Tracking) -> Change:
    """Return what is to be done; what an interrupted run has begun is finished first.

    Args:
        version: That is wanted; without one, it is the one that an interrupted rollback was for, or else the
            one that was in production before.
        tracking: Where the registry is.

    Raises:
        RegistryError: There is no such version.
    """
    begun = registry.unsettled(tracking)
    registry.settle(tracking)
    past, there = registry.history(tracking), registry.versions(tracking)
    if begun is not None and past[-1].by == "rollback":
        version = version or begun
    chosen = version or reigns.previous(past, there)
    known = f"Registered are: {', '.join(there) or 'none'}."
    if chosen is None:
        raise RegistryError(
            f"No version of the model {tracking.model!r} to go back to: none was in production before. Name "
            f"one with `python -m flows.rollback --version N`. {known}"
        )
    if chosen not in there:
        raise RegistryError(f"The model {tracking.model!r} has no version {chosen}. {known}")
    serving = registry.aliased(tracking, registry.PRODUCTION)
    former = serving.number if serving else None
    promoted = there[chosen].tags.get("verdict") == "promote" or any(
        reign.version == chosen and reign.by == "benchmark" for reign in past
    )
    if not promoted:
        logger().warning("Version %s: %s", chosen, UNJUDGED)
    return Change(version=chosen, former=former, promoted=promoted)


def answering(endpoint: Endpoint) -> Deployment | None:
    """Return what answers at the endpoint; None also if it cannot be asked, which may be why to go back."""
    try:
        return endpoint.serving()
    except Exception as error:
        logger().warning("The endpoint cannot be asked: %s", endpoint.explain(error) or error)
        return None


@step
def serve(change: Change, tracking: Tracking, images: Images, endpoint: Endpoint) -> Deployment:
    """Make the version answer at the endpoint; the former one goes on if it will not do."""
    version = registry.versions(tracking)[change.version]
    return deploy_version(version, tracking, images, endpoint)


@step
def record(change: Change, reason: str, tracking: Tracking) -> None:
    """Write the change into the registry, unless it is there already."""
    registry.restore(tracking, change.version, change.former, reason or "No reason was given.")


@step
def agree(tracking: Tracking, images: Images, endpoint: Endpoint) -> str:
    """Serve what the registry has in production, after a change that failed; tells what that is."""
    try:
        registry.settle(tracking)
        version = registry.production(tracking)
        deployment = deploy_version(version, tracking, images, endpoint)
    except Exception as error:
        found = answering(endpoint)
        answers = f"version {found.version}" if found else "nothing"
        return (
            f"What the registry has in production could not be served: {error} At the endpoint, {answers} "
            "answers. Run this again, or `python -m flows.deploy`, once that is mended."
        )
    return f"Version {deployment.version} is in production and answers at {deployment.url}."
