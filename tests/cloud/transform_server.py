"""Transform jobs of what sagemaker_server.py serves: containers of the model's image, over objects in S3."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.cloud.registry_server import REGION

MEGABYTE = 2**20
SUBFOLDER = "texts"  # the last part of the input's prefix, under which AWS says that it writes


class Job(threading.Thread):
    """Does what a job asks for, as AWS documents it.

    Args:
        job: moto's.
        image: Of its model.
        hosting: Starts and stops containers.
    """

    def __init__(self, job: Any, image: str, hosting: Any) -> None:
        super().__init__(daemon=True)
        self.job, self.image, self.hosting = job, image, hosting
        self.name = f"job-{job.transform_job_name}"
        self.going = True

    def run(self) -> None:
        try:
            reason = self.hosting.start(self.name, self.name, self.image, lambda: self.going)
            if not reason and self.going:
                reason = self._work()
        except Exception as error:  # what the job cannot do is its failure, not the server's
            reason = f"InternalServerError: {error!r}"
        self.hosting.stop(self.name, self.name)
        status = "Failed" if reason else "Completed"
        self._settle(status if self.going else "Stopped", reason if self.going else "")

    def _work(self) -> str:
        s3 = self.hosting.storage()
        source = self.job.transform_input["DataSource"]["S3DataSource"]["S3Uri"]
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        out, _, target = self.job.transform_output["S3OutputPath"].removeprefix("s3://").partition("/")
        objects = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        if not objects:
            return f"ClientError: No objects found under {source}"
        failed = ""
        for entry in objects:
            body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            with ThreadPoolExecutor(self.job.max_concurrent_transforms) as pool:
                answers = list(pool.map(self._ask, self._batches(body)))
            if not self.going:
                return ""
            if None in answers or not answers:
                failed = "ClientError: See job logs for more information"
                continue
            name = entry["Key"].rpartition("/")[2]
            # "To add a newline character at the end of every transformed record, specify Line."
            content = b"".join(answer + b"\n" for answer in answers if answer is not None)
            s3.put_object(Bucket=out, Key=f"{target}/{SUBFOLDER}/{name}.out", Body=content)
        return failed

    def _batches(self, body: bytes) -> Iterator[bytes]:
        limit, batch = self.job.max_payload_in_mb * MEGABYTE, b""
        for line in body.splitlines(keepends=True):
            if batch and len(batch) + len(line) > limit:
                yield batch
                batch = b""
            batch += line
        if batch:
            yield batch

    def _ask(self, body: bytes) -> bytes | None:
        if not self.going or len(body) > self.job.max_payload_in_mb * MEGABYTE:
            return None
        kinds = {
            "Content-Type": self.job.transform_input["ContentType"],
            "Accept": self.job.transform_output["Accept"],
        }
        port = self.hosting.fleets[self.name].ports[self.name]
        address = f"http://127.0.0.1:{port}/invocations"
        answer = httpx.post(address, content=body, headers=kinds, timeout=60, trust_env=False)
        return answer.content if answer.is_success else None

    def _settle(self, status: str, reason: str) -> None:
        from moto.core.utils import utcnow

        self.job.failure_reason = reason
        self.job.transform_end_time = self.job.last_modified_time = utcnow()
        self.job.transform_job_status = status


def extend(hosting: Any) -> None:
    """Give moto transform jobs that do something."""
    import botocore.loaders
    from moto.core.responses import ActionResult
    from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
    from moto.sagemaker.models import SageMakerModelBackend
    from moto.sagemaker.responses import SageMakerResponse

    model = botocore.loaders.Loader().load_service_model("sagemaker", "service-2")
    types = set(model["shapes"]["TransformInstanceType"]["enum"])
    moto: Any = SageMakerModelBackend
    plain: Callable[..., Any] = moto.create_transform_job
    jobs: dict[str, Job] = {}
    lock = threading.Lock()

    def create_transform_job(self: Any, **given: Any) -> Any:
        name, payload = given["transform_job_name"], given["max_payload_in_mb"]
        if given["model_name"] not in self._models:
            raise ValidationError(f'Could not find model "{given["model_name"]}".')
        if given["transform_resources"]["InstanceType"] not in types:
            raise ValidationError("Member must satisfy enum value set: TransformInstanceType")
        if given["max_concurrent_transforms"] * payload > 100:
            raise ValidationError("MaxConcurrentTransforms * MaxPayloadInMB must not exceed 100 MB.")
        with lock:
            if name in self.transform_jobs:
                raise ResourceInUseException(
                    "Job name must be unique within an AWS account and region, and a job with this name "
                    f"already exists ({self.transform_jobs[name].arn})"
                )
            job = plain(self, **given | {"tags": given["tags"] or []})
            job.transform_job_status, job.transform_end_time = "InProgress", None
        image = self._models[given["model_name"]].primary_container["Image"]
        jobs[name] = Job(job, image, hosting)
        jobs[name].start()
        return job

    def stop(self: Any) -> ActionResult:
        name = self._get_param("TransformJobName")
        self.sagemaker_backend.describe_transform_job(name)
        job = jobs[name].job
        if job.transform_job_status != "InProgress":
            raise ValidationError(
                f"The request was rejected because the transform job is in status {job.transform_job_status}."
            )
        job.transform_job_status = "Stopping"
        jobs[name].going = False
        return ActionResult({})

    moto.create_transform_job = create_transform_job
    responses: Any = SageMakerResponse
    responses.stop_transform_job = stop


def storage(given: bytes) -> Any:
    """Return a client of the S3 that a test has."""
    import boto3

    return boto3.client("s3", region_name=REGION, **json.loads(given))
