"""What SageMaker runs a model on: instances, watched, scaled and changed step by step, or serverless."""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from blocks.alarms import Alarms
from blocks.autoscaling import VARIANT, Autoscaling


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Capture(_Settings):
    """A record of requests and answers in S3."""

    prefix: str = Field(pattern="^s3://[^/]+", description="Where to, such as s3://bucket/captured.")
    percentage: int = Field(default=100, ge=1, le=100, description="Share of the requests.")


class Shift(_Settings):
    """How the traffic goes over to a new version."""

    kind: Literal["all at once", "canary", "linear"] = Field(
        default="all at once", description="In one step, in a small and a large one, or in equal ones."
    )
    percent: int = Field(default=10, ge=10, le=50, description="Size of the first or of each step.")
    wait: int = Field(
        default=120, ge=0, le=3600, description="Seconds after each step in which alarms may stop it."
    )

    @property
    def seconds(self) -> int:
        """How long the steps take."""
        return self.wait * {"all at once": 1, "canary": 2, "linear": math.ceil(100 / self.percent)}[self.kind]

    def routing(self) -> dict[str, Any]:
        """Return it as TrafficRoutingConfig."""
        size = {"Type": "CAPACITY_PERCENT", "Value": self.percent}
        sizes = {"canary": {"CanarySize": size}, "linear": {"LinearStepSize": size}}
        kind = self.kind.upper().replace(" ", "_")
        return {"Type": kind, "WaitIntervalInSeconds": self.wait, **sizes.get(self.kind, {})}


class Instances(_Settings):
    """Machines that always run."""

    kind: Literal["instances"] = "instances"
    type: str = Field(default="ml.c5.large", pattern=r"^ml\.\S+$", description="Type of the instances.")
    count: int = Field(default=1, ge=1, description="Number of instances, the least with autoscaling.")
    capture: Capture | None = Field(default=None, description="Record requests and answers; off by default.")
    autoscaling: Autoscaling | None = Field(default=None, description="Off by default.")
    alarms: Alarms | None = Field(default=Alarms(), description="On by default.")
    shift: Shift = Field(default=Shift(), description="How traffic goes over to a new version.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.shift.kind != "all at once" and self.count < 2:
            raise ValueError(
                f"A {self.shift.kind} shift takes half of the instances at most, of 2 or more: raise `count`."
            )
        if self.autoscaling and self.autoscaling.max_count < self.count:
            raise ValueError("`max_count` of autoscaling is below `count`.")
        return self

    def config(self, model: str) -> dict[str, Any]:
        """Return what CreateEndpointConfig needs to know."""
        variant = {"VariantName": VARIANT, "ModelName": model, "InitialVariantWeight": 1.0}
        variant |= {"InstanceType": self.type, "InitialInstanceCount": self.count}
        config: dict[str, Any] = {"ProductionVariants": [variant]}
        if self.capture:
            config["DataCaptureConfig"] = {
                "EnableCapture": True,
                "InitialSamplingPercentage": self.capture.percentage,
                "DestinationS3Uri": self.capture.prefix,
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
                "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
            }
        return config

    def update(self, alarms: list[str], timeout: float, scaled: bool) -> dict[str, Any]:
        """Return what UpdateEndpoint needs to know.

        Args:
            alarms: Names of those that bring the old version back.
            timeout: Seconds until SageMaker brings it back in any case, 600 at least.
            scaled: Whether the endpoint runs on instances now.
        """
        policy = {
            "TrafficRoutingConfiguration": self.shift.routing(),
            "MaximumExecutionTimeoutInSeconds": int(min(max(timeout, 600), 28800)),
        }
        config: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
        if alarms:
            config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarms]}
        update: dict[str, Any] = {"DeploymentConfig": config}
        if self.autoscaling and scaled:  # or the new version would start with `count` under full load
            excluded = [{"VariantPropertyType": "DataCaptureConfig"}]
            update |= {"RetainAllVariantProperties": True, "ExcludeRetainedVariantProperties": excluded}
        return update


class Serverless(_Settings):
    """A container that runs while there are requests. SageMaker has no capture and no shift for it."""

    kind: Literal["serverless"] = "serverless"
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = Field(
        default=2048, description="Memory in MB; CPUs come in proportion."
    )
    max_concurrency: int = Field(default=20, ge=1, le=200, description="Most requests at a time.")

    def config(self, model: str) -> dict[str, Any]:
        """Return what CreateEndpointConfig needs to know."""
        size = {"MemorySizeInMB": self.memory_mb, "MaxConcurrency": self.max_concurrency}
        return {
            "ProductionVariants": [{"VariantName": VARIANT, "ModelName": model, "ServerlessConfig": size}]
        }


def hosting(kind: str, now: Instances | Serverless | None) -> Instances | Serverless:
    """Return what a model is to run on.

    Args:
        kind: A type of instance, or `serverless`.
        now: Settings to keep, as far as they are of that kind.
    """
    if kind == "serverless":
        return now if isinstance(now, Serverless) else Serverless()
    kept = dict(now) if isinstance(now, Instances) else {}
    return Instances(**kept | {"type": kind})
