"""Batch transform in SageMaker: jobs that answer files in S3, found again by their names."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from blocks.aws import code, pairs, trouble, unless
from blocks.endpoint import TEXTS, EndpointError
from blocks.lake import Lake
from blocks.log import logger
from blocks.role import BlockError, Resource
from blocks.versions import tags_of

GOING = ("InProgress", "Stopping")
LOG = "/aws/sagemaker/TransformJobs"
PAYLOAD_MB = 1  # of a request: room for the longest text, and an answer long before the time is up
REQUEST_SECONDS = 3600  # that a request may take, the most that SageMaker allows
SEEN = 60.0  # seconds until a model that was just made is seen everywhere


class Batch(BaseModel):
    """What transforms files: machines that run as long as the job does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(
        default="ml.m5.large",
        pattern=r"^ml\.\S+$",
        description="Type of the instances; not all types of endpoints will do.",
    )
    count: int = Field(default=1, ge=1, le=100, description="Number of instances, which share out the files.")
    concurrency: int = Field(
        default=2, ge=1, le=100, description="Requests at a time on each instance: its number of cores."
    )
    timeout: float = Field(default=14400.0, gt=0, description="Seconds that a job may take.")


@dataclass(frozen=True)
class Jobs:
    """The transform jobs of an endpoint, those alone that bear its tags.

    A name is good for one job: SageMaker keeps it for ever. So work has a name and its jobs are numbered, and
    of two runs that start one at the same time the slower finds it there.

    Args:
        client: Of sagemaker.
        prefix: What their names begin with.
        tags: What they bear.
        poll: Seconds between two looks.
    """

    client: Any
    prefix: str
    tags: dict[str, str]
    poll: float

    def require_reach(self, lake: Lake) -> None:
        """See that SageMaker can get at the files of a lake.

        Raises:
            EndpointError: It is not in S3.
        """
        if not lake.uri("").startswith("s3://"):
            raise EndpointError(
                f"SageMaker transforms files in S3, and the lake is {lake.uri('')}: save an S3 Lake with "
                "`python -m blocks.register aws`, or score the file with `python -m flows.score`."
            )

    def answer(
        self,
        lake: Lake,
        folder: str,
        batch: Batch,
        model: Callable[[], str],
        on_files: Callable[[int], object],
    ) -> dict[str, str]:
        """Answer the files of a folder, see `Endpoint.transform`: with a job that is there, or a new one.

        Args:
            lake: Where the files lie.
            folder: In the lake.
            batch: What the job runs on.
            model: Makes the model, unless it is there, and returns its name. Called for a new job alone.
            on_files: Called with the number of files that have been answered since the last call.

        Raises:
            EndpointError: The lake is not in S3; or the job failed, was stopped, took too long or left no
                answers.
        """
        self.require_reach(lake)
        names = {file.key.rpartition("/")[2] for file in lake.find(f"{folder}/{TEXTS}")}
        title = f"{self.prefix}{folder.rpartition('/')[2]}-"
        number = max((int(job["TransformJobName"][len(title) :]) for job in self._listed(title)), default=0)
        if not (number and self._will_do(f"{title}{number}", names, lake, f"{folder}/{number}")):
            number += 1
            self._start(f"{title}{number}", lake, folder, f"{folder}/{number}", batch, model)
        job, target = f"{title}{number}", f"{folder}/{number}"
        seen = 0

        def look() -> None:
            nonlocal seen
            now = len(_answers(lake, target))
            on_files(now - seen)
            seen = now

        self._wait(job, batch.timeout, look)
        found = _answers(lake, target)
        if lacking := sorted(names - found.keys()):
            raise EndpointError(
                f"The transform job {job!r} has ended and there are no answers to {', '.join(lacking[:5])} "
                f"under {lake.uri(target)}: if nobody has deleted them, see the log group {LOG}. Run again."
            )
        return {name: found[name] for name in names}

    def models(self) -> set[str]:
        """Return the names of the models that running jobs use."""
        return {self._look(job["TransformJobName"])["ModelName"] for job in self._running()}

    def resources(self) -> list[Resource]:
        """Return the jobs that run, and the logs; what has ended costs nothing and cannot be deleted."""
        remedy = f"aws logs delete-log-stream --log-group-name {LOG} --log-stream-name NAME"
        found = [Resource(kind="log streams", name=f"{LOG}: {self.prefix}*", by_hand=remedy)]
        for job in self._running():
            detail = f"{job['TransformJobStatus']}, made {job['CreationTime']:%Y-%m-%d %H:%M}"
            found.append(Resource(kind="transform job", name=job["TransformJobName"], detail=detail))
        return found

    def stop(self, timeout: float) -> bool:
        """Stop all of them and wait until they have ended; tells whether any ran.

        Raises:
            EndpointError: That takes longer than `timeout` seconds.
        """
        jobs = [job["TransformJobName"] for job in self._running()]
        for job in jobs:
            self._stop(job)
        for job in jobs:
            deadline = time.monotonic() + timeout
            while (status := self._look(job)["TransformJobStatus"]) in GOING:
                if time.monotonic() > deadline:
                    raise EndpointError(f"The transform job {job!r} is still {status} after {timeout:g} s.")
                time.sleep(self.poll)
        return bool(jobs)

    def _will_do(self, job: str, names: set[str], lake: Lake, target: str) -> bool:
        status = self._look(job)["TransformJobStatus"]
        done = status == "Completed" and names <= _answers(lake, target).keys()
        if done or status == "InProgress":
            logger().info("The transform job %s is there: %s", job, status)
        return done or status == "InProgress"

    def _start(
        self, job: str, lake: Lake, folder: str, target: str, batch: Batch, model: Callable[[], str]
    ) -> None:
        from botocore.exceptions import ClientError

        deadline = time.monotonic() + SEEN
        while True:
            source = {"S3DataType": "S3Prefix", "S3Uri": f"{lake.uri(folder)}/{TEXTS}/"}
            kind = "application/jsonlines"
            try:
                self.client.create_transform_job(
                    TransformJobName=job,
                    ModelName=model(),
                    MaxConcurrentTransforms=batch.concurrency,
                    MaxPayloadInMB=PAYLOAD_MB,
                    BatchStrategy="MultiRecord",
                    ModelClientConfig={"InvocationsTimeoutInSeconds": REQUEST_SECONDS},
                    TransformInput={
                        "DataSource": {"S3DataSource": source},
                        "ContentType": kind,
                        "SplitType": "Line",
                    },
                    TransformOutput={
                        "S3OutputPath": lake.uri(target),
                        "Accept": kind,
                        "AssembleWith": "Line",
                    },
                    TransformResources={"InstanceType": batch.type, "InstanceCount": batch.count},
                    Tags=pairs(self.tags),
                )
            except ClientError as error:
                if code(error) == "ResourceInUse":
                    return  # another run was faster
                if "Could not find model" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(self.poll)
            else:
                logger().info("Started the transform job %s", job)
                return

    def _wait(self, job: str, timeout: float, look: Callable[[], None]) -> None:
        """Wait until a job is done; if it is not to be waited for any longer, stop it.

        After an outage of AWS it goes on, and the next try finds it.
        """
        try:
            while (found := self._look(job))["TransformJobStatus"] == "InProgress":
                seconds = (datetime.now(UTC) - found["CreationTime"]).total_seconds()
                if seconds > timeout:
                    raise EndpointError(
                        f"The transform job {job!r} has run for {seconds:.0f} seconds and was stopped: give "
                        "`batch` of the block `sentiment-endpoint` more `timeout`, more or larger instances. "
                        f"The log group {LOG} says what it did."
                    )
                logger().info("Transform job %s: InProgress for %.0f s", job, seconds)
                look()
                time.sleep(self.poll)
            look()
        except BaseException as error:
            if not _passes(error):
                self._give_up(job)
            raise
        status = found["TransformJobStatus"]
        reason = found.get("FailureReason") or "SageMaker gives no reason"
        if status == "Failed":
            raise EndpointError(
                f"The transform job {job!r} failed: {reason.rstrip('.')}. The log group {LOG} says more. If "
                "you run it again, another job is started."
            )
        if status != "Completed":
            raise EndpointError(
                f"The transform job {job!r} is {status}: somebody, or another run, has stopped it. If you "
                "run it again, another job is started."
            )

    def _give_up(self, job: str) -> None:
        """Stop a job after an error, which counts more than what may go wrong here."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._stop(job)
        except (BotoCoreError, ClientError) as error:
            logger().error("The transform job %s could not be stopped, and costs money: %s", job, error)

    def _stop(self, job: str) -> None:
        with unless("is in status|Could not find"):  # it has ended
            self.client.stop_transform_job(TransformJobName=job)

    def _look(self, job: str) -> Any:
        return self.client.describe_transform_job(TransformJobName=job)

    def _running(self) -> list[Any]:
        return [job for status in GOING for job in self._listed(self.prefix, StatusEquals=status)]

    def _listed(self, title: str, **which: str) -> list[Any]:
        pages = self.client.get_paginator("list_transform_jobs").paginate(NameContains=title, **which)
        return [
            job
            for page in pages
            for job in page["TransformJobSummaries"]
            if job["TransformJobName"].startswith(title)
            and tags_of(self.client, job["TransformJobArn"]).items() >= self.tags.items()
        ]


def _answers(lake: Lake, target: str) -> dict[str, str]:
    """Return the keys of answers by the names of what they answer, in whichever subfolder they lie."""
    ends = ((file.key, file.key.rpartition("/")[2]) for file in lake.find(target))
    return {name.removesuffix(".out"): key for key, name in ends if name.endswith(".out")}


def _passes(error: BaseException) -> bool:
    """Tell whether an error is that of an outage."""
    found = error if isinstance(error, BlockError) else trouble(error, {})
    return bool(found and found.transient)
