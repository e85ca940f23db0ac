"""The automations: what runs after what, each flow as a deployment of its own."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from prefect.automations import AutomationCore
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture

from deployments.declaration import TAG
from tasks.benchmark import PROMOTED

COMPLETED = "prefect.flow-run.Completed"


class Link(NamedTuple):
    """A deployment that runs after another one."""

    run: str
    """Deployment to run, with its default parameters."""
    after: str
    """Deployment whose runs are waited for."""
    event: str = COMPLETED
    """What those runs must do."""

    @property
    def name(self) -> str:
        """Name of the automation."""
        return f"{TAG}: {self.run} after {self.after}"

    def automation(self, ids: Mapping[str, UUID]) -> AutomationCore:
        """Return the automation.

        The main job calls the same flows, but not as deployments: the related deployment tells them apart.

        Args:
            ids: Of the deployments, by name.
        """
        trigger = EventTrigger(
            expect={self.event},
            match_related={
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{ids[self.after]}",
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        )
        what = "has promoted a version" if self.event == PROMOTED else "has completed"
        return AutomationCore(
            name=self.name,
            description=f"Run {self.run} when a run of {self.after} {what}.",
            tags=[TAG],
            trigger=trigger,
            actions=[RunDeployment(deployment_id=ids[self.run])],
        )


LINKS = (
    Link("train/local", after="etl/local"),
    Link("benchmark/local", after="train/local"),
    Link("deploy/local", after="benchmark/local", event=PROMOTED),
    Link("train/docker", after="etl/docker"),
    Link("benchmark/docker", after="train/docker"),
    Link("benchmark/docker", after="train/docker-gpu"),
    Link("deploy/docker", after="benchmark/docker", event=PROMOTED),
)
"""A chain and no circle: nothing runs after `deploy`."""
