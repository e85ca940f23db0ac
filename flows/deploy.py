"""Serve the production version at the endpoint."""

from prefect import flow
from prefect.artifacts import create_link_artifact
from pydantic import BaseModel, ConfigDict, Field

from blocks.endpoint import Endpoint
from blocks.images import Images
from blocks.tracking import Tracking
from flows import cli
from tasks import deploy as steps
from tasks.deploy import DeployResult


class DeployParameters(BaseModel):
    """Serve the version in production; nothing happens if it is served already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop: bool = Field(default=False, description="Stop the endpoint instead.")


@flow(name="deploy")
def deploy(parameters: DeployParameters = DeployParameters()) -> DeployResult:
    """Deploy the production version, or stop the endpoint."""
    endpoint = Endpoint.current()
    if parameters.stop:
        steps.stop(endpoint)
        return DeployResult(deployment=None, predictions=())
    deployment = steps.deploy_production(Tracking.current(), Images.current(), endpoint)
    text = f"Version {deployment.version} ({deployment.detail})"
    create_link_artifact(deployment.page, key="endpoint", link_text=deployment.url, description=text)
    return DeployResult(deployment=deployment, predictions=steps.ask(endpoint))


if __name__ == "__main__":
    cli.run(deploy, DeployParameters, "flows.deploy")
