"""What SageMaker says of an endpoint."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from blocks.aws import unless

MOVING = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
"""States of an endpoint that cannot be changed now."""


@dataclass(frozen=True)
class State:
    """What DescribeEndpoint says."""

    arn: str
    status: str
    config: str
    pending: str
    reason: str
    modified: datetime
    scaled: bool

    def serves(self, config: str) -> bool:
        """Tell whether it answers, with this configuration."""
        return self.status == "InService" and self.config == config


def look(sagemaker: Any, name: str) -> State | None:
    """Return the state of an endpoint, or None if there is none.

    Args:
        sagemaker: Client of SageMaker.
        name: Of the endpoint.
    """
    with unless("Could not find"):
        found = sagemaker.describe_endpoint(EndpointName=name)
        variants = found.get("ProductionVariants") or [{}]
        return State(
            arn=found["EndpointArn"],
            status=found["EndpointStatus"],
            config=found.get("EndpointConfigName", ""),
            pending=found.get("PendingDeploymentSummary", {}).get("EndpointConfigName", ""),
            reason=found.get("FailureReason", ""),
            modified=found["LastModifiedTime"],
            scaled=bool(variants[0].get("CurrentInstanceCount")),
        )
    return None
