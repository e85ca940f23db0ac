"""Batch transform in SageMaker: containers of a pushed image answer files in S3, with faults on the way."""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.settings import PREFECT_API_URL
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.ecr import EcrImages
from blocks.endpoint import EndpointError, Release
from blocks.hosting import Instances, Serverless, Shift
from blocks.lake import LocalLake
from blocks.process import LocalEndpoint
from blocks.s3 import S3Lake
from blocks.sagemaker import SageMakerEndpoint
from blocks.tracking import LocalTracking
from blocks.transform import Batch
from containers.serve.predictor import Predictor
from flows.transform import transform
from tasks import deploy
from tasks.endpoint import smoke_test
from tasks.transform import TransformParameters, TransformResult
from tests.bundles import build_bundle
from tests.cloud.gateway import Gateway, Request
from tests.cloud.registry_server import REGION, Ecr
from tests.cloud.s3_server import S3
from tests.cloud.sagemaker_server import ROOT, Build, SageMaker, operation
from tests.flows.test_score import put_into_production

pytestmark = pytest.mark.timeout(600)

KEY = "bulk"
NUMBERS = itertools.count(1)  # of names: a job's is taken for ever
ALLOWED = set(re.findall(r"\b[a-z-]+:[A-Z]\w+", (ROOT / "deployments" / "iam" / "deployer.json").read_text()))
WORDS = ["love", "hate", "what?", "", "great great hate", 'a\nb \u2028 "c" ☃ 😀']


@dataclass
class Bench:
    """An endpoint that transforms files of a lake, and a release."""

    sagemaker: SageMaker
    endpoint: SageMakerEndpoint
    lake: S3Lake
    release: Release

    def stage(self, *texts: str, work: str = "w") -> str:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        self.lake.write(f"transform/{work}/texts/00000.jsonl", lines.encode())
        return f"transform/{work}"

    def transform(self, folder: str, on_files: Callable[[int], object] = id) -> list[Any]:
        keys = self.endpoint.transform(self.release, self.lake, folder, on_files)
        return [json.loads(line) for line in self.lake.read(keys["00000.jsonl"]).splitlines() if line]

    def jobs(self) -> dict[str, str]:
        """Return the states of all jobs of the endpoint by their names, tagged or not."""
        found = self.sagemaker.client("sagemaker").list_transform_jobs(NameContains=self.endpoint.name)
        return {
            job["TransformJobName"].partition("-t")[2]: job["TransformJobStatus"]
            for job in found["TransformJobSummaries"]
        }

    def models(self) -> list[str]:
        found = self.sagemaker.client("sagemaker").list_models()["Models"]
        names = [str(item["ModelName"]) for item in found]
        return [name for name in names if name.startswith(f"{self.endpoint.name}-")]

    def changed(self, **fields: Any) -> None:
        self.endpoint = self.endpoint.model_copy(update=fields)


@pytest.fixture
def bench(
    sagemaker: SageMaker, ecr: Ecr, build_serving: Build, s3: S3, bucket: str, tmp_path: Path
) -> Iterator[Bench]:
    name = f"bulk{next(NUMBERS)}"
    credentials = AwsCredentials(
        aws_access_key_id=KEY, aws_secret_access_key=SecretStr("test"), region_name=REGION
    )
    endpoint = SageMakerEndpoint(
        name=name,
        role=sagemaker.role,
        hosting=Instances(shift=Shift(wait=0)),
        timeout=60,
        poll=0.1,
        api=sagemaker.api.url,
        credentials=credentials,
    )
    images = EcrImages(
        repository="sentiment-bulk", registry=ecr.host, endpoint=ecr.api.url, credentials=credentials
    )
    digest = build_bundle(tmp_path / "bundle")
    image = build_serving(tmp_path / "bundle", "1", digest)
    sagemaker.store(s3)
    lake = S3Lake(bucket=bucket, prefix="lake", credentials=s3.credentials())
    release = Release(tmp_path / "bundle", "1", digest, lambda: images.publish(image))
    bench = Bench(sagemaker, endpoint, lake, release)
    yield bench
    sagemaker.api.mend()
    sagemaker.delay(0)
    bench.endpoint.stop()
    assert not set(bench.jobs().values()) & {"InProgress", "Stopping"}
    assert sagemaker.calls(KEY) <= ALLOWED, "more than the policy of who deploys allows"


@pytest.fixture
def flow(
    bench: Bench,
    blocks: None,
    lake: LocalLake,
    endpoint: LocalEndpoint,
    tracking: LocalTracking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., TransformResult]]:
    """Save the blocks for the flow, whose serving image is there, and return what runs it."""
    put_into_production(tracking, tmp_path / "model")
    bench.endpoint.appoint()
    bench.lake.appoint()
    monkeypatch.setattr(deploy, "serving_image", lambda *_: bench.release.image())

    def run(source: str, target: str = "scored") -> TransformResult:
        return transform(TransformParameters(input=source, output=target))

    yield run
    lake.appoint()
    endpoint.appoint()


def keys(lake: S3Lake, folder: str) -> list[str]:
    return [file.key for file in lake.find(folder)]


def test_folders_of_parquet_and_of_json_lines_get_what_the_bundle_says(
    bench: Bench, flow: Callable[..., TransformResult], tmp_path: Path
) -> None:
    bench.changed(hosting=Serverless(), batch=Batch(concurrency=4))
    bench.endpoint.appoint()
    many = pl.DataFrame({"id": range(60_000), "text": WORDS * 10_000})  # several requests
    few = pl.DataFrame({"id": [1, 2], "text": ["hate", None]})
    bench.lake.write_frame("raw/parquet/many.parquet", many)
    bench.lake.write_frame("raw/parquet/sub/few.parquet", few)
    bench.lake.write("raw/lines/few.jsonl", few.write_ndjson().encode())
    answers = pl.DataFrame(Predictor(tmp_path / "bundle").predict(WORDS)).cast({pl.Float64: pl.Float32})
    expected = {word: answers.row(i) for i, word in enumerate(WORDS)} | {None: (None,) * 4}

    result = flow("raw/parquet")
    assert result.rows == 60_002 and keys(bench.lake, "transform") == []
    assert list(bench.jobs().values()) == ["Completed"]
    for name, frame in {"many.parquet": many, "sub/few.parquet": few}.items():
        found = bench.lake.scan([f"scored/{name}"]).collect()
        assert found.select("id", "text").equals(frame)
        for row in found.rows():
            assert row[2] == expected[row[1]][0]
            assert row[3:] == pytest.approx(expected[row[1]][1:], abs=1e-6)
    [asked] = [r for r in bench.sagemaker.api.requests if operation(r) == "sagemaker:CreateTransformJob"]
    assert json.loads(asked.body)["TransformResources"] == {
        "InstanceType": "ml.m5.large",
        "InstanceCount": 1,
    }

    assert flow("raw/parquet") == result and len(bench.jobs()) == 1, "there is nothing to do"
    flow("raw/lines", "lines")
    lines = [json.loads(line) for line in bench.lake.read("lines/few.jsonl").splitlines()]
    assert [line["label"] for line in lines] == ["negative", None]
    assert lines[0]["p_negative"] == pytest.approx(expected["hate"][1], abs=1e-6)
    assert sorted(bench.jobs().values()) == ["Completed", "Completed"]
    assert bench.sagemaker.containers(f"job-{bench.endpoint.name}") == []


RUN = """
import sys
from tasks import deploy
deploy.serving_image = lambda *_: sys.argv[1]
from flows.transform import transform
from tasks.transform import TransformParameters
transform(TransformParameters(input="raw", output="scored"))
"""


@pytest.mark.parametrize("when", ["the job runs", "the first file is written"])
def test_a_run_that_is_killed_is_taken_up_by_the_next(
    bench: Bench, flow: Callable[..., TransformResult], s3: S3, when: str
) -> None:
    for name in ("a", "b"):
        bench.lake.write(f"raw/{name}.jsonl", b'{"text": "love"}\n{"text": "hate"}\n')
    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    image = bench.release.image()
    process = subprocess.Popen([sys.executable, "-c", RUN, image], cwd=ROOT, env=environment)

    def kill(request: Request) -> None:
        process.kill()
        process.wait()

    if when == "the job runs":
        bench.sagemaker.delay(60)
        on(bench.sagemaker.api, lambda r: operation(r) == "sagemaker:DescribeTransformJob", kill)
    else:
        on(s3.gateway, lambda r: r.method == "PUT" and "/scored/b" in r.path, kill)
    assert process.wait(200) == -9
    s3.gateway.mend()
    bench.sagemaker.api.mend()
    assert len(keys(bench.lake, "scored")) < 3 and keys(bench.lake, "transform")
    bench.sagemaker.delay(0)
    assert flow("raw").rows == 4
    assert list(bench.jobs().values()) == ["Completed"], "one job"
    assert keys(bench.lake, "scored") == ["scored/a.jsonl", "scored/b.jsonl", "scored/manifest.json"]
    assert keys(bench.lake, "transform") == []


def test_a_job_that_fails_says_why_and_the_next_run_starts_another(
    bench: Bench, flow: Callable[..., TransformResult], s3: S3
) -> None:
    bench.lake.write("raw/a.jsonl", b'{"text": "love"}\n')
    removed: list[str] = []

    def remove(_: Request) -> None:
        removed.extend(keys(bench.lake, "transform"))
        bench.lake.remove("transform")

    on(bench.sagemaker.api, lambda r: operation(r) == "sagemaker:CreateTransformJob", remove)
    with pytest.raises(
        EndpointError, match=r"-1' failed: ClientError: No objects found under s3://.*/aws/sagemaker/Trans"
    ):
        flow("raw")
    assert removed and keys(bench.lake, "scored") == []
    assert flow("raw").rows == 1
    assert sorted(bench.jobs().values()) == ["Completed", "Failed"]


def test_a_container_that_never_answers_fails_the_job(bench: Bench, build_serving: Build, ecr: Ecr) -> None:
    silent = build_serving(bench.release.bundle, "1", bench.release.digest, serves=False)
    images = EcrImages(
        repository="sentiment-bulk",
        registry=ecr.host,
        endpoint=ecr.api.url,
        credentials=bench.endpoint.credentials,
    )
    bench.release = Release(bench.release.bundle, "1", bench.release.digest, lambda: images.publish(silent))
    with pytest.raises(EndpointError, match="failed: The primary container did not pass the ping"):
        bench.transform(bench.stage("love"))
    assert keys(bench.lake, "transform/w/1") == []


def test_a_job_that_hangs_is_stopped_and_counts_for_nothing(bench: Bench) -> None:
    bench.changed(batch=Batch(timeout=1))
    bench.sagemaker.delay(60)
    folder = bench.stage("love")
    with pytest.raises(EndpointError, match=r"has run for \d seconds and was stopped: .*`timeout`"):
        bench.transform(folder)
    bench.sagemaker.delay(0)
    bench.changed(batch=Batch())
    [answer] = bench.transform(folder)
    assert answer["label"] == "positive"
    assert bench.jobs() == {"w-1": "Stopped", "w-2": "Completed"}


def test_who_cancels_the_run_stops_the_job(bench: Bench) -> None:
    bench.sagemaker.delay(60)

    def cancel(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.transform(bench.stage("love"), cancel)
    wait(lambda: bench.jobs() == {"w-1": "Stopped"})


def test_after_an_outage_the_next_try_finds_the_job(bench: Bench) -> None:
    bench.sagemaker.delay(60)
    folder = bench.stage("love")
    on(
        bench.sagemaker.api,
        lambda r: operation(r) == "sagemaker:DescribeTransformJob",
        lambda _: bench.sagemaker.api.fail(503, 1),
        times=5,  # as often as it is tried; whatever else is asked is answered
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bench.transform(folder)
    explained = bench.endpoint.explain(caught.value)
    assert explained is not None and explained.transient
    bench.sagemaker.api.mend()
    assert bench.jobs() == {"w-1": "InProgress"}
    bench.sagemaker.delay(0)
    assert [answer["label"] for answer in bench.transform(folder)] == ["positive"]
    assert [answer["label"] for answer in bench.transform(folder)] == ["positive"]
    assert bench.jobs() == {"w-1": "Completed"}


def test_two_at_once_share_one_job(bench: Bench) -> None:
    folder = bench.stage("love")
    bench.release.image()
    bench.sagemaker.delay(2)
    barrier = threading.Barrier(2, timeout=30)
    on(
        bench.sagemaker.api,
        lambda r: operation(r) == "sagemaker:CreateTransformJob",
        lambda _: barrier.wait(),
        times=2,
    )
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(bench.transform(folder))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2 and found[0] == found[1]
    assert bench.jobs() == {"w-1": "Completed"}


def test_taking_it_down_stops_our_jobs_and_no_others(bench: Bench) -> None:
    bench.sagemaker.delay(60)
    ended: list[Exception] = []

    def run() -> None:
        try:
            bench.transform(bench.stage("love"))
        except EndpointError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait(lambda: bench.jobs() == {"w-1": "InProgress"})
    theirs = foreign_job(bench)
    [job] = [found for found in bench.endpoint.resources() if found.kind == "transform job"]
    assert job.name.endswith("-tw-1") and job.detail.startswith("InProgress") and not job.by_hand
    # a deploy meanwhile leaves the model alone, though no configuration says that it is used
    used = bench.endpoint._jobs.models()
    bench.endpoint._versions.prune(used, keep=0, age=0)
    assert bench.models()

    assert bench.endpoint.stop()
    thread.join(30)
    assert re.search("is Stopp(ed|ing): somebody, or another run, has stopped it", str(ended[0]))
    assert bench.jobs() == {"w-1": "Stopped", "theirs": "InProgress"}
    left = {found.kind: found for found in bench.endpoint.resources()}
    assert left.keys() == {"log group", "log streams"} and all(found.by_hand for found in left.values())
    assert bench.models() == []
    assert not bench.endpoint.stop()
    bench.sagemaker.client("sagemaker").stop_transform_job(TransformJobName=theirs)
    wait(lambda: bench.jobs()["theirs"] == "Stopped")


def test_an_endpoint_and_its_jobs_use_the_same_model(bench: Bench) -> None:
    bench.endpoint.deploy(bench.release, smoke_test)
    bench.transform(bench.stage("love"))
    assert len(bench.models()) == 1


def test_a_lake_that_is_not_in_s3_is_refused_before_any_work(
    bench: Bench, flow: Callable[..., TransformResult], lake: LocalLake
) -> None:
    lake.appoint()
    lake.write("raw/a.jsonl", b'{"text": "love"}\n')
    with pytest.raises(EndpointError, match=r"in S3, and the lake is /.*blocks.register aws.*flows.score"):
        flow("raw")
    assert lake.find("transform") == [] and bench.jobs() == {}


# Helpers


def foreign_job(bench: Bench) -> str:
    """Start a job that is named as ours are, but lacks the tags."""
    sagemaker, name = bench.sagemaker.client("sagemaker"), f"{bench.endpoint.name}-ttheirs"
    [model] = bench.models()
    source = {"S3DataType": "S3Prefix", "S3Uri": bench.lake.uri("transform/w/texts/")}
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=model,
        MaxConcurrentTransforms=1,
        MaxPayloadInMB=1,
        TransformInput={"DataSource": {"S3DataSource": source}},
        TransformOutput={"S3OutputPath": bench.lake.uri("theirs")},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    return name


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def on(
    gateway: Gateway, which: Callable[[Request], bool], act: Callable[[Request], object], times: int = 1
) -> None:
    """Do something when a request arrives, before anybody acts upon it."""
    left = [times]

    def hook(request: Request) -> None:
        if left[0] > 0 and which(request):
            left[0] -= 1
            act(request)

    gateway.before = hook
