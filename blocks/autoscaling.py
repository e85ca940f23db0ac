"""Autoscaling of an endpoint: more instances under load."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

VARIANT = "AllTraffic"  # the same in all configurations, or else SageMaker shifts no traffic between them
DIMENSION = "sagemaker:variant:DesiredInstanceCount"


class Autoscaling(BaseModel):
    """More instances under load, from `count` on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_count: int = Field(ge=1, description="Most instances.")
    invocations: float = Field(
        default=1000.0, gt=0, description="Requests per instance and minute to aim at."
    )

    def apply(self, client: Any, endpoint: str, count: int) -> None:
        """Register it; nothing changes if it is registered like that.

        Args:
            client: Of application-autoscaling.
            endpoint: Name of the endpoint.
            count: Least number of instances.
        """
        target = _target(endpoint)
        client.register_scalable_target(**target, MinCapacity=count, MaxCapacity=self.max_count)
        metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
        client.put_scaling_policy(
            **target,
            PolicyName=f"{endpoint}-invocations",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": self.invocations,
                "PredefinedMetricSpecification": metric,
            },
        )


def there(client: Any, endpoint: str) -> list[str]:
    """Return the names of an endpoint's targets of autoscaling."""
    return [target["ResourceId"] for target in _described(client, endpoint)]


def remember(client: Any, endpoint: str) -> Callable[[], None]:
    """Return a function that brings an endpoint's autoscaling back to how it is now."""
    of = _target(endpoint)
    targets = _described(client, endpoint)
    policies = client.describe_scaling_policies(**of)["ScalingPolicies"] if targets else []

    def restore() -> None:
        if not targets:
            remove(client, endpoint)
        for target in targets:
            client.register_scalable_target(
                **of, MinCapacity=target["MinCapacity"], MaxCapacity=target["MaxCapacity"]
            )
        for policy in policies:
            kept = ("PolicyName", "PolicyType", "TargetTrackingScalingPolicyConfiguration")
            client.put_scaling_policy(**of, **{key: policy[key] for key in kept})

    return restore


def remove(client: Any, endpoint: str) -> bool:
    """Remove an endpoint's autoscaling; tells whether there was any."""
    found = there(client, endpoint)
    if found:
        client.deregister_scalable_target(**_target(endpoint))  # and its policy
    return bool(found)


def _described(client: Any, endpoint: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.describe_scalable_targets(
        ServiceNamespace="sagemaker",
        ResourceIds=[_target(endpoint)["ResourceId"]],
        ScalableDimension=DIMENSION,
    )["ScalableTargets"]
    return found


def _target(endpoint: str) -> dict[str, str]:
    resource = f"endpoint/{endpoint}/variant/{VARIANT}"
    return {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": DIMENSION}
