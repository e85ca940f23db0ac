"""Alarms of an endpoint: what must not happen while it serves, least of all while traffic shifts."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from blocks.autoscaling import VARIANT
from blocks.aws import code, pairs
from blocks.endpoint import EndpointError

SETTINGS = (
    *(
        "AlarmName",
        "AlarmDescription",
        "ActionsEnabled",
        "OKActions",
        "AlarmActions",
        "InsufficientDataActions",
    ),
    *("Namespace", "MetricName", "Dimensions", "Statistic", "ExtendedStatistic", "Unit", "Period"),
    *("EvaluationPeriods", "DatapointsToAlarm", "Threshold", "ComparisonOperator", "TreatMissingData"),
)
"""What DescribeAlarms says of an alarm that PutMetricAlarm takes."""


class Alarms(BaseModel):
    """What must not happen in a minute; while traffic shifts, it brings the old version back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    errors: int = Field(default=5, ge=1, description="Number of answers with a status of 5xx.")
    latency_ms: float = Field(default=1000.0, gt=0, description="99th percentile of the model's latency.")

    def apply(self, client: Any, endpoint: str, arn: str, tags: dict[str, str]) -> None:
        """Make them, or bring them in line.

        Args:
            client: Of cloudwatch.
            endpoint: Name of the endpoint.
            arn: What their ARNs begin with, up to the name.
            tags: Of what is this endpoint's.

        Raises:
            EndpointError: There is one of that name that is not the endpoint's.
        """
        errors = {"MetricName": "Invocation5XXErrors", "Statistic": "Sum", "Threshold": float(self.errors)}
        latency = {  # SageMaker measures it in microseconds
            "MetricName": "ModelLatency",
            "ExtendedStatistic": "p99",
            "Threshold": self.latency_ms * 1000,
        }
        for name, metric in zip(names(endpoint), (errors, latency), strict=True):
            if _is_ours(client, arn + name, tags) is False:
                raise EndpointError(
                    f"The alarm {name!r} of CloudWatch lacks the tags {tags}: rename it, or choose another "
                    "name for the endpoint."
                )
            client.put_metric_alarm(
                AlarmName=name,
                AlarmDescription=f"Endpoint {endpoint} of sentiment-flows",
                Namespace="AWS/SageMaker",
                Dimensions=[
                    {"Name": "EndpointName", "Value": endpoint},
                    {"Name": "VariantName", "Value": VARIANT},
                ],
                Period=60,
                EvaluationPeriods=1,
                ComparisonOperator="GreaterThanOrEqualToThreshold",
                TreatMissingData="notBreaching",
                Tags=pairs(tags),
                **metric,
            )


def names(endpoint: str) -> list[str]:
    """Return the names of an endpoint's alarms."""
    return [f"{endpoint}-5xx", f"{endpoint}-latency"]


def quiet(client: Any, endpoint: str) -> list[str]:
    """Return the names of an endpoint's alarms that do not fire now.

    They count the errors of old and new machines together: one that fires for the old version would undo the
    change that is to help.
    """
    found = client.describe_alarms(AlarmNames=names(endpoint))["MetricAlarms"]
    return [alarm["AlarmName"] for alarm in found if alarm["StateValue"] != "ALARM"]


def there(client: Any, endpoint: str, arn: str, tags: dict[str, str]) -> list[str]:
    """Return the names of the alarms that are there and an endpoint's."""
    return [name for name in names(endpoint) if _is_ours(client, arn + name, tags)]


def remember(client: Any, endpoint: str, arn: str, tags: dict[str, str]) -> Callable[[], None]:
    """Return a function that brings the alarms that are an endpoint's back to how they are now."""
    former = there(client, endpoint, arn, tags)
    alarms = client.describe_alarms(AlarmNames=former)["MetricAlarms"] if former else []

    def restore() -> None:
        if fresh := sorted(set(there(client, endpoint, arn, tags)) - set(former)):
            client.delete_alarms(AlarmNames=fresh)
        for alarm in alarms:
            settings = {key: alarm[key] for key in SETTINGS if key in alarm}
            client.put_metric_alarm(**settings, Tags=pairs(tags))

    return restore


def remove(client: Any, endpoint: str, arn: str, tags: dict[str, str]) -> bool:
    """Remove the alarms that are an endpoint's; tells whether there were any."""
    found = there(client, endpoint, arn, tags)
    if found:
        client.delete_alarms(AlarmNames=found)
    return bool(found)


def _is_ours(client: Any, arn: str, tags: dict[str, str]) -> bool | None:
    """Tell whether an alarm bears the tags; None if there is no such alarm."""
    try:
        found = client.list_tags_for_resource(ResourceARN=arn)["Tags"]
    except Exception as error:
        if code(error) in ("ResourceNotFoundException", "ResourceNotFound"):
            return None
        raise
    return tags.items() <= {tag["Key"]: tag["Value"] for tag in found}.items()
