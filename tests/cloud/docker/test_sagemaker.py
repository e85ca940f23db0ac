"""The endpoint of SageMaker: real containers of pushed images behind moto's API, with faults on the way."""

import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.autoscaling import DIMENSION, VARIANT
from blocks.ecr import EcrImages
from blocks.endpoint import Deployment, Endpoint, EndpointError, Release
from blocks.hosting import Alarms, Autoscaling, Capture, Instances, Serverless, Shift
from blocks.process import LocalEndpoint
from blocks.sagemaker import SageMakerEndpoint
from tasks.endpoint import SmokeTestError, smoke_test
from tests.bundles import build_bundle
from tests.cloud.gateway import Request
from tests.cloud.registry_server import REGION, Ecr
from tests.cloud.sagemaker_server import ROOT, Build, SageMaker, operation

pytestmark = pytest.mark.timeout(300)

SECRET = "planted-5d1c-secret"
CHANGES = re.compile(":(?!Describe|List|Invoke|Get)")
POLICY = json.loads((ROOT / "deployments" / "iam" / "deployer.json").read_text())
ALLOWED = set(re.findall(r"\b[a-z-]+:[A-Z]\w+", str([part["Action"] for part in POLICY["Statement"]])))
NUMBERS = itertools.count(1)


@dataclass
class Bench:
    """An endpoint, and versions to deploy there."""

    sagemaker: SageMaker
    endpoint: SageMakerEndpoint
    releases: Callable[..., Release]
    images: list[str] = field(default_factory=list)

    def deploy(self, version: str, check: Any = smoke_test, **kind: Any) -> Deployment:
        return self.endpoint.deploy(self.releases(version, **kind), check)

    def there(self) -> dict[str, list[str]]:
        """Return what there is of the endpoint, tagged or not."""
        name, client = self.endpoint.name, self.sagemaker.client
        sagemaker = client("sagemaker")
        found = {
            "models": [item["ModelName"] for item in sagemaker.list_models()["Models"]],
            "configs": [
                item["EndpointConfigName"] for item in sagemaker.list_endpoint_configs()["EndpointConfigs"]
            ],
            "endpoints": [item["EndpointName"] for item in sagemaker.list_endpoints()["Endpoints"]],
            "alarms": [item["AlarmName"] for item in client("cloudwatch").describe_alarms()["MetricAlarms"]],
            "targets": [
                item["ResourceId"].split("/")[1]
                for item in client("application-autoscaling").describe_scalable_targets(
                    ServiceNamespace="sagemaker"
                )["ScalableTargets"]
            ],
        }
        of = {kind: sorted(item for item in items if item.startswith(name)) for kind, items in found.items()}
        return of | {"containers": self.sagemaker.containers(name)}

    def config(self) -> str:
        found = self.sagemaker.client("sagemaker").describe_endpoint(EndpointName=self.endpoint.name)
        assert found["EndpointStatus"] == "InService"
        return str(found["EndpointConfigName"])

    def requires(self, version: str) -> None:
        """See that one version serves, and that nothing else runs or was left over for another one."""
        deadline = time.monotonic() + 10
        while len(self.there()["containers"]) > 1 and time.monotonic() < deadline:
            time.sleep(0.1)  # the old one leaves when the new one serves
        found = self.there()
        serving = self.endpoint.serving()
        assert serving is not None and serving.version == version
        assert self.config().startswith(f"{self.endpoint.name}-v{version}-")
        assert found["endpoints"] == [self.endpoint.name]
        assert len(found["containers"]) == 1
        assert found["models"] == found["configs"]


@pytest.fixture
def images(ecr: Ecr) -> EcrImages:
    credentials = AwsCredentials(
        aws_access_key_id="key", aws_secret_access_key=SecretStr("test"), region_name=REGION
    )
    return EcrImages(
        repository="sentiment-serve", registry=ecr.host, endpoint=ecr.api.url, credentials=credentials
    )


@pytest.fixture(scope="session")
def published() -> dict[str, str]:
    """Keep the references of what has been pushed: the same version has the same image in all tests."""
    return {}


@pytest.fixture
def bench(
    sagemaker: SageMaker,
    images: EcrImages,
    build_serving: Build,
    published: dict[str, str],
    tmp_path: Path,
) -> Iterator[Bench]:
    endpoint = SageMakerEndpoint(
        name=f"bench-{next(NUMBERS)}",
        role=sagemaker.role,
        hosting=Instances(count=2, shift=Shift(wait=0)),
        timeout=60,
        poll=0.1,
        api=sagemaker.api.url,
        credentials=AwsCredentials(
            aws_access_key_id="key", aws_secret_access_key=SecretStr(SECRET), region_name=REGION
        ),
    )
    built: list[str] = []

    def release(version: str, serves: bool = True, flipped: bool = False) -> Release:
        kind = f"{version}-{serves}-{flipped}"
        bundle = tmp_path / kind
        digest = build_bundle(bundle, flipped=flipped, number=version)

        def image() -> str:
            built.append(version)
            if kind not in published:
                published[kind] = images.publish(build_serving(bundle, version, digest, serves))
            return published[kind]

        return Release(bundle, version, digest, image)

    yield Bench(sagemaker, endpoint, release, built)
    sagemaker.api.up()
    sagemaker.api.mend()
    sagemaker.delay(0)
    endpoint.stop()
    assert sagemaker.calls("key") <= ALLOWED, "more than the policy of who deploys allows"


def test_a_version_is_deployed_asked_and_found_again(bench: Bench) -> None:
    deployed = bench.deploy("1")
    assert deployed == bench.endpoint.serving()
    assert bench.endpoint.predict(["love great", "hate"])[1]["label"] == "negative"
    assert bench.endpoint.predict([]) == []
    bench.requires("1")

    bench.sagemaker.api.requests.clear()
    assert bench.deploy("1") == deployed
    assert not [call for call in bench.sagemaker.calls("key") if CHANGES.search(call)]
    assert bench.images == ["1"]


def test_traffic_goes_over_to_a_new_version_by_a_canary(bench: Bench) -> None:
    shift = Shift(kind="canary", percent=50, wait=2)
    bench.endpoint = changed(bench.endpoint, Instances(count=2, shift=shift), keep=1)
    bench.deploy("1")
    seen: set[str] = set()
    on(bench, "sagemaker:DescribeEndpoint", lambda: seen.update(answering(bench)), times=None)
    bench.deploy("2")
    bench.sagemaker.api.mend()
    assert {"1", "2"} <= seen, "both answer for a while"
    bench.requires("2")
    [asked] = [json.loads(r.body) for r in bench.sagemaker.api.requests if is_call(r, "UpdateEndpoint")]
    policy = asked["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert policy["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 2,
    }
    watched = asked["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert [alarm["AlarmName"] for alarm in watched] == bench.there()["alarms"]

    # back to the first one, which needs no image; the one that served stays, the others go
    assert len(bench.there()["models"]) == 2
    bench.deploy("1")
    bench.deploy("3")
    assert bench.images == ["1", "2", "3"]
    kept = bench.there()["configs"]
    assert [name.split("-")[2] for name in kept] == ["v1", "v3"]
    bench.requires("3")


def test_a_version_that_answers_wrongly_does_not_serve(bench: Bench) -> None:
    with pytest.raises(SmokeTestError):
        bench.deploy("2", flipped=True)
    assert not any(bench.there().values()), "there was nothing before"
    bench.deploy("1")
    with pytest.raises(SmokeTestError):
        bench.deploy("2", flipped=True)
    bench.requires("1")
    assert len(bench.there()["models"]) == 1

    wrong = bench.releases("2")
    wrong = Release(wrong.bundle, "2", wrong.digest, bench.releases("1").image)
    with pytest.raises(EndpointError, match="answers as version 1"):
        bench.endpoint.deploy(wrong, smoke_test)
    bench.requires("1")
    assert len(bench.there()["models"]) == 1


def test_a_container_that_never_answers_does_not_serve(bench: Bench) -> None:
    with pytest.raises(EndpointError, match=r"Failed .*ping health check.*CloudWatch"):
        bench.deploy("2", serves=False)
    assert not any(bench.there().values())
    bench.deploy("1")
    with pytest.raises(EndpointError, match="ping health check"):
        bench.deploy("2", serves=False)
    bench.requires("1")
    assert len(bench.there()["models"]) == 1


def test_what_takes_too_long_is_undone(bench: Bench) -> None:
    bench.deploy("1")
    bench.releases("2").image()
    bench.endpoint = bench.endpoint.model_copy(update={"timeout": 8.0})
    bench.sagemaker.delay(60)
    later = threading.Timer(9, bench.sagemaker.delay, (0,))
    later.start()
    with pytest.raises(EndpointError, match=r"has been Updating for \d+ seconds") as caught:
        bench.deploy("2")
    later.join()
    assert "brought back" not in str(caught.value)
    bench.requires("1")
    assert len(bench.there()["models"]) == 1


def test_what_hangs_is_left_to_the_next_deploy(bench: Bench) -> None:
    hasty = bench.endpoint.model_copy(update={"timeout": 0.5})
    bench.sagemaker.delay(60)
    with pytest.raises(EndpointError, match="could not be brought back.*tries again"):
        hasty.deploy(bench.releases("1"), smoke_test)
    bench.sagemaker.delay(0)
    bench.deploy("2")
    bench.requires("2")
    assert bench.endpoint.model_copy(update={"timeout": 0.01}).deploy(bench.releases("2"), smoke_test)
    assert len(bench.there()["models"]) == 1, "of the first one nothing is left when it is old enough"


@pytest.mark.parametrize(
    ("status", "body"), [(400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'), (503, b"")]
)
def test_throttling_is_ridden_out(bench: Bench, status: int, body: bytes) -> None:
    for call in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "AddTags"):
        on(bench, f"sagemaker:{call}", lambda: bench.sagemaker.api.fail(status, 2, body=body))
    bench.deploy("1")
    bench.requires("1")


def test_after_an_outage_the_next_try_goes_on(bench: Bench) -> None:
    bench.deploy("1")
    on(bench, "sagemaker:UpdateEndpoint", lambda: bench.sagemaker.api.fail(503, None))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bench.deploy("2")
    explained = bench.endpoint.explain(caught.value)
    assert explained is not None and explained.transient
    bench.sagemaker.api.mend()
    bench.deploy("2")
    bench.requires("2")
    assert bench.images == ["1", "2"]


def test_rights_that_are_missing_are_named(bench: Bench) -> None:
    denied = (
        b'{"__type": "AccessDeniedException", "message": "not authorized to perform: sagemaker:CreateModel"}'
    )
    on(bench, "sagemaker:CreateModel", lambda: bench.sagemaker.api.fail(400, 1, body=denied))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bench.deploy("1")
    explained = bench.endpoint.explain(caught.value)
    assert explained is not None and not explained.transient
    assert "sagemaker:CreateModel" in str(explained) and "deployments/iam" in str(explained)
    assert not any(bench.there().values())


def test_an_alarm_during_the_shift_brings_the_old_version_back(bench: Bench) -> None:
    shift = Shift(kind="linear", percent=50, wait=5)
    bench.endpoint = changed(bench.endpoint, Instances(count=2, shift=shift))
    bench.deploy("1")
    [alarm, _] = bench.there()["alarms"]
    cloudwatch = bench.sagemaker.client("cloudwatch")

    def fire() -> None:
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="test")

    on(bench, "sagemaker:UpdateEndpoint", fire)
    with pytest.raises(EndpointError, match=f"Alarm {alarm}"):
        bench.deploy("2")
    bench.requires("1")
    assert len(bench.there()["models"]) == 1


def test_an_alarm_that_the_old_version_sets_off_does_not_keep_it(bench: Bench) -> None:
    bench.deploy("1")
    [alarm, other] = bench.there()["alarms"]
    cloudwatch = bench.sagemaker.client("cloudwatch")

    def fire() -> None:  # this late, for moto forgets the state of an alarm that is put again; AWS does not
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="test")

    on(bench, "cloudwatch:DescribeAlarms", fire, times=2)  # the first one looks at what to restore
    bench.deploy("2")
    bench.requires("2")
    [asked] = [json.loads(r.body) for r in bench.sagemaker.api.requests if is_call(r, "UpdateEndpoint")]
    assert asked["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"] == [{"AlarmName": other}]


@pytest.mark.parametrize("versions", [("2", "2"), ("2", "3")], ids=["the same version", "two versions"])
def test_two_deploys_at_once(bench: Bench, versions: tuple[str, str]) -> None:
    for version in {"1", *versions}:
        bench.releases(version).image()
    bench.deploy("1")
    releases = [bench.releases(version) for version in versions]  # not at once: both write the same folder
    ended: list[Deployment | Exception] = []

    def run(release: Release) -> None:
        try:
            ended.append(bench.endpoint.deploy(release, smoke_test))
        except EndpointError as error:
            ended.append(error)

    threads = [threading.Thread(target=run, args=(release,)) for release in releases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    errors = [error for error in ended if isinstance(error, EndpointError)]
    assert len(ended) == 2 and len(errors) <= 1
    assert all(re.search("another deploy", str(error)) for error in errors), errors
    serving = bench.endpoint.serving()
    assert serving is not None and serving.version in versions
    bench.requires(serving.version)
    bench.deploy("2")
    bench.requires("2")


KILLS = [
    ("sagemaker:CreateModel", "unseen"),
    ("sagemaker:CreateEndpointConfig", "done"),
    ("sagemaker:UpdateEndpoint", "unseen"),
    ("sagemaker:UpdateEndpoint", "done"),
    ("sagemaker:InvokeEndpoint", "done"),
    ("sagemaker:AddTags", "unseen"),
    ("sagemaker:DeleteModel", "unseen"),
]


@pytest.mark.parametrize(("call", "fate"), KILLS)
def test_a_deploy_that_is_killed_is_finished_by_the_next(bench: Bench, call: str, fate: str) -> None:
    bench.endpoint = bench.endpoint.model_copy(update={"keep": 0})
    bench.deploy("1")
    release = bench.releases("2")
    process = start(bench.endpoint, release, release.image())

    def kill() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if fate == "unseen":
            bench.sagemaker.api.fail(503, 1)

    on(bench, call, kill, by="killed")
    assert process.wait(60) == -signal.SIGKILL
    bench.sagemaker.api.mend()
    bench.deploy("2")
    bench.requires("2")
    assert len(bench.there()["configs"]) == 1


def test_a_first_deploy_that_is_killed_is_undone_if_it_will_not_do(bench: Bench) -> None:
    release = bench.releases("2", flipped=True)
    process = start(bench.endpoint, release, release.image())
    on(bench, "sagemaker:CreateEndpoint", process.kill, by="killed")
    assert process.wait(60) == -signal.SIGKILL
    with pytest.raises(SmokeTestError):
        bench.endpoint.deploy(release, smoke_test)
    assert not any(bench.there().values())


def test_settings_reach_aws_and_leave_again(bench: Bench) -> None:
    capture = Capture(prefix="s3://bucket/captured", percentage=20)
    scaling = Autoscaling(max_count=4, invocations=500)
    rich = Instances(count=2, capture=capture, autoscaling=scaling, alarms=Alarms(latency_ms=300))
    bench.endpoint = changed(bench.endpoint, rich.model_copy(update={"shift": Shift(wait=0)}))
    bench.deploy("1")
    found = bench.there()
    assert found["targets"] == [bench.endpoint.name]
    [policy] = bench.sagemaker.client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{bench.endpoint.name}/variant/AllTraffic"
    )["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 500
    alarms = bench.sagemaker.client("cloudwatch").describe_alarms(AlarmNames=found["alarms"])["MetricAlarms"]
    assert {alarm["MetricName"]: alarm["Threshold"] for alarm in alarms} == {
        "Invocation5XXErrors": 5,
        "ModelLatency": 300_000,
    }
    config = bench.sagemaker.client("sagemaker").describe_endpoint_config(EndpointConfigName=bench.config())
    assert config["DataCaptureConfig"]["DestinationS3Uri"] == capture.prefix
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 20

    bench.endpoint = changed(bench.endpoint, Serverless(memory_mb=1024, max_concurrency=5))
    bench.deploy("1")
    bench.requires("1")
    config = bench.sagemaker.client("sagemaker").describe_endpoint_config(EndpointConfigName=bench.config())
    [variant] = config["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 5}
    assert bench.there()["targets"] == bench.there()["alarms"] == []


def test_a_version_that_will_not_do_leaves_scaling_and_alarms_as_they_were(bench: Bench) -> None:
    def settings() -> tuple[list[Any], ...]:
        name, watch = bench.endpoint.name, bench.sagemaker.client("cloudwatch")
        scaling = bench.sagemaker.client("application-autoscaling")
        of = {"ServiceNamespace": "sagemaker", "ScalableDimension": DIMENSION}
        resource = f"endpoint/{name}/variant/{VARIANT}"
        targets = scaling.describe_scalable_targets(**of, ResourceIds=[resource])["ScalableTargets"]
        policies = scaling.describe_scaling_policies(**of, ResourceId=resource)["ScalingPolicies"]
        alarms = watch.describe_alarms(AlarmNames=[f"{name}-5xx", f"{name}-latency"])["MetricAlarms"]
        return (
            [(target["MinCapacity"], target["MaxCapacity"]) for target in targets],
            [policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] for policy in policies],
            [(alarm["MetricName"], alarm["Threshold"], alarm["Dimensions"]) for alarm in alarms],
            [watch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"] for alarm in alarms],
        )

    plain = Instances(count=2, shift=Shift(wait=0), alarms=None)
    rich = plain.model_copy(
        update={"autoscaling": Autoscaling(max_count=4, invocations=500), "alarms": Alarms(latency_ms=300)}
    )
    richer = plain.model_copy(
        update={"autoscaling": Autoscaling(max_count=8, invocations=900), "alarms": Alarms(latency_ms=900)}
    )
    for good, bad in ((plain, rich), (rich, richer), (rich, plain)):
        bench.endpoint = changed(bench.endpoint, good)
        bench.deploy("1")
        before = settings()
        assert [len(part) for part in before] == ([0, 0, 0, 0] if good is plain else [1, 1, 2, 2])
        bench.endpoint = changed(bench.endpoint, bad)
        with pytest.raises(SmokeTestError):
            bench.deploy("2", flipped=True)
        assert settings() == before
        with pytest.raises(EndpointError, match="ping health check"):
            bench.deploy("3", serves=False)
        assert settings() == before
        bench.requires("1")


def test_stopping_removes_all_of_the_endpoint_and_nothing_else(bench: Bench) -> None:
    rich = Instances(autoscaling=Autoscaling(max_count=2), shift=Shift(wait=0))
    bench.endpoint = changed(bench.endpoint, rich)
    name, sagemaker = bench.endpoint.name, bench.sagemaker.client("sagemaker")
    image, foreign = bench.releases("1").image(), f"{name}-v9-foreign"
    sagemaker.create_model(
        ModelName=foreign, PrimaryContainer={"Image": image}, ExecutionRoleArn=bench.endpoint.role
    )
    variant = {"VariantName": "x", "ModelName": foreign, "InstanceType": "ml.m5.large"}
    variant |= {"InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=foreign, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=foreign, EndpointConfigName=foreign)
    bench.deploy("1")
    bench.deploy("2")
    assert len(bench.there()["models"]) == 3

    denied = b'{"__type": "AccessDeniedException", "message": "no"}'
    on(bench, "sagemaker:DeleteModel", lambda: bench.sagemaker.api.fail(400, 1, body=denied))
    with pytest.raises(Exception, match="AccessDenied"):
        bench.endpoint.stop()
    assert bench.endpoint.serving() is None
    assert bench.endpoint.stop(), "the rest of it"
    assert not bench.endpoint.stop()
    assert bench.there() == {
        "models": [foreign],
        "configs": [foreign],
        "endpoints": [foreign],
        "alarms": [],
        "targets": [],
        "containers": [],
    }

    other = bench.endpoint.model_copy(update={"name": foreign})
    for refused in (other.stop, other.check, lambda: other.deploy(bench.releases("1"), smoke_test)):
        with pytest.raises(EndpointError, match="not this project's"):
            refused()
    other._settled()
    sagemaker.delete_endpoint(EndpointName=foreign)
    sagemaker.delete_endpoint_config(EndpointConfigName=foreign)
    sagemaker.delete_model(ModelName=foreign)


def test_the_block_is_kept_used_and_checked_and_shows_no_secret(
    prefect_api: None, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.client.orchestration import get_client

    caplog.set_level(logging.DEBUG)
    bench.endpoint.appoint()
    try:
        loaded = Endpoint.current()
        assert isinstance(loaded, SageMakerEndpoint)
        assert loaded.hosting == bench.endpoint.hosting
        assert "python -m flows.deploy" in loaded.check()
        bench.endpoint = loaded
        deployed = bench.deploy("1")
        assert deployed.url.endswith(f"/endpoints/{loaded.name}")
        assert loaded.check() == f"{loaded.name} (InService) serves version 1"
        with get_client(sync_client=True) as client:
            plain = str([document.data for document in client.read_block_documents(include_secrets=False)])
        assert loaded.role in plain
        assert SECRET not in repr(loaded) + caplog.text + plain + deployed.model_dump_json()
    finally:
        LocalEndpoint().appoint()


def test_the_doctor_names_causes_and_remedies(bench: Bench) -> None:
    def line(endpoint: SageMakerEndpoint) -> str:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            endpoint.check()
        return str(endpoint.explain(caught.value) or caught.value)

    gone = bench.endpoint.model_copy(update={"role": f"{bench.endpoint.role}-gone"})
    assert "Make the role: deployments/iam/endpoint.json" in line(gone)
    iam = bench.sagemaker.client("iam")
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}]}
    iam.create_role(RoleName=f"{bench.endpoint.name}-ec2", AssumeRolePolicyDocument=json.dumps(trust))
    role = re.sub("/.*", f"/{bench.endpoint.name}-ec2", bench.endpoint.role)
    assert "may not take on the role" in line(bench.endpoint.model_copy(update={"role": role}))
    bench.sagemaker.api.down()
    assert "network" in line(bench.endpoint)
    bench.sagemaker.api.up()

    sagemaker = bench.sagemaker.client("sagemaker")
    tags = [{"Key": key, "Value": value} for key, value in bench.endpoint._mine.items()]
    image = bench.releases("2", serves=False).image()
    bench.endpoint._versions.make("x", bench.releases("2", serves=False), bench.endpoint.role, Instances())
    assert image
    sagemaker.create_endpoint(EndpointName=bench.endpoint.name, EndpointConfigName="x", Tags=tags)
    bench.endpoint._settled()
    assert "is Failed: The primary container" in line(bench.endpoint)
    bench.deploy("1")
    bench.requires("1")
    sagemaker.delete_endpoint_config(EndpointConfigName="x")
    sagemaker.delete_model(ModelName="x")


# Helpers


def changed(endpoint: SageMakerEndpoint, hosting: Instances | Serverless, **more: Any) -> SageMakerEndpoint:
    return endpoint.model_copy(update={"hosting": hosting, **more})


def answering(bench: Bench) -> list[str]:
    """Return the version that happens to answer, if one does."""
    runtime, name = bench.sagemaker.client("sagemaker-runtime"), bench.endpoint.name
    with suppress(BotoCoreError, ClientError):
        said = runtime.invoke_endpoint(EndpointName=name, ContentType="text/plain", Body="love")
        return re.findall("version=(.*?);", said["CustomAttributes"])
    return []


def is_call(request: Request, name: str) -> bool:
    return operation(request).endswith(f":{name}")


def on(bench: Bench, call: str, act: Callable[[], object], times: int | None = 1, by: str = "") -> None:
    """Do something when a call of the block arrives, before anybody acts upon it.

    Args:
        bench: Whose API it arrives at.
        call: Such as sagemaker:CreateModel.
        act: What to do.
        times: How often; None for each time.
        by: Access key of the caller, if not the block's in this process.
    """
    api, before, left = bench.sagemaker.api, bench.sagemaker.api.before, [times]

    def hook(request: Request) -> None:
        if before is not None:
            before(request)
        mine = f"Credential={by or 'key'}/" in request.headers.get("Authorization", "")
        if mine and operation(request) == call and left[0] != 0:
            if left[0] is not None:
                left[0] -= 1
            act()

    api.before = hook


DEPLOY = """
import json, sys
from pathlib import Path
from blocks.endpoint import Release
from blocks.sagemaker import SageMakerEndpoint
from tasks.endpoint import smoke_test
block, version, digest, image = json.loads(sys.argv[1])
SageMakerEndpoint(**block).deploy(Release(Path("."), version, digest, lambda: image), smoke_test)
"""


def start(endpoint: SageMakerEndpoint, release: Release, image: str) -> "subprocess.Popen[bytes]":
    """Deploy in a process of its own, whose access key is `killed`."""
    block = endpoint.model_dump(mode="json", exclude={"credentials"})
    fields = {name: value for name, value in block.items() if name in type(endpoint).model_fields}
    fields["credentials"] = {
        "aws_access_key_id": "killed",
        "aws_secret_access_key": "test",
        "region_name": REGION,
    }
    given = json.dumps([fields, release.version, release.digest, image])
    return subprocess.Popen([sys.executable, "-c", DEPLOY, given], cwd=ROOT, env=os.environ | {})
