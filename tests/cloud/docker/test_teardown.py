"""Taking it down in AWS: all that the project made is gone, all that others made is as it was."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.autoscaling import DIMENSION, VARIANT
from blocks.ecr import EcrImages
from blocks.endpoint import Release
from blocks.hosting import Autoscaling, Capture, Instances, Shift
from blocks.images import LocalImages
from blocks.process import LocalEndpoint
from blocks.sagemaker import SageMakerEndpoint
from flows.teardown import teardown
from tasks.endpoint import smoke_test
from tasks.teardown import TeardownError, TeardownParameters, TeardownResult
from tests.bundles import build_bundle
from tests.cloud.gateway import Gateway, Request
from tests.cloud.registry_server import REGION, Ecr
from tests.cloud.sagemaker_server import ROOT, Build, SageMaker, operation

pytestmark = pytest.mark.timeout(300)

NUMBERS = itertools.count(1)  # of names: moto knows the tags of what is gone
YES = TeardownParameters(yes=True)
DENIED = b'{"__type": "AccessDeniedException", "message": "no"}'
ALLOWED = set(re.findall(r"\b[a-z-]+:[A-Z]\w+", (ROOT / "deployments" / "iam" / "deployer.json").read_text()))


@dataclass
class Account:
    """An account of AWS in which others work, too."""

    sagemaker: SageMaker
    ecr: Ecr
    endpoint: SageMakerEndpoint
    images: EcrImages

    @property
    def name(self) -> str:
        return self.endpoint.name

    def state(self) -> dict[str, Any]:
        """Return all that is there, with its tags."""
        sagemaker, watch = self.sagemaker.client("sagemaker"), self.sagemaker.client("cloudwatch")
        scaling, ecr = self.sagemaker.client("application-autoscaling"), self.ecr.client()
        named: dict[str, Any] = {}
        for kind, items in (
            ("Model", sagemaker.list_models()["Models"]),
            ("EndpointConfig", sagemaker.list_endpoint_configs()["EndpointConfigs"]),
            ("Endpoint", sagemaker.list_endpoints()["Endpoints"]),
        ):
            for item in items:
                named[item[f"{kind}Arn"]] = sagemaker.list_tags(ResourceArn=item[f"{kind}Arn"])["Tags"]
        for alarm in watch.describe_alarms()["MetricAlarms"]:
            named[alarm["AlarmArn"]] = watch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
        for item in ecr.describe_repositories()["repositories"]:
            images = ecr.list_images(repositoryName=item["repositoryName"])["imageIds"]
            tags = ecr.list_tags_for_resource(resourceArn=item["repositoryArn"])["tags"]
            named[item["repositoryArn"]] = (tags, images)
        for target in scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]:
            named[target["ResourceId"]] = target["MaxCapacity"]
        for policy in scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]:
            named[policy["PolicyName"]] = policy["ResourceId"]
        return named

    def calls(self) -> set[str]:
        """Return the calls that the blocks have made."""
        made = [*self.sagemaker.api.requests, *self.ecr.api.requests]
        return {operation(r) for r in made if "Credential=down/" in r.headers.get("Authorization", "")}


@pytest.fixture
def account(
    blocks: None, endpoint: LocalEndpoint, sagemaker: SageMaker, ecr: Ecr, tmp_path: Path
) -> Iterator[Account]:
    credentials = AwsCredentials(
        aws_access_key_id="down", aws_secret_access_key=SecretStr("test"), region_name=REGION
    )
    name = f"down-{next(NUMBERS)}"
    hosting = Instances(
        autoscaling=Autoscaling(max_count=2),
        shift=Shift(wait=0),
        capture=Capture(prefix="s3://bucket/captured"),
    )
    block = SageMakerEndpoint(
        name=name,
        role=sagemaker.role,
        hosting=hosting,
        timeout=60,
        poll=0.1,
        api=sagemaker.api.url,
        credentials=credentials,
    )
    images = EcrImages(repository=name, registry=ecr.host, endpoint=ecr.api.url, credentials=credentials)
    images.appoint()
    yield Account(sagemaker, ecr, block.appoint(), images)
    for gateway in (sagemaker.api, ecr.api):
        gateway.mend()
    block.stop()
    LocalImages().appoint()
    endpoint.appoint()


@pytest.fixture
def release(account: Account, build_serving: Build, tmp_path: Path) -> Release:
    bundle = tmp_path / "bundle"
    digest = build_bundle(bundle, made_for=account.name)
    name = build_serving(bundle, "1", digest)
    return Release(bundle, "1", digest, lambda: account.images.publish(name))


@pytest.fixture
def neighbours(account: Account, release: Release) -> Iterator[dict[str, Any]]:
    """Make what others might have, as like ours as can be, and return the state of the account then."""
    sagemaker, other = account.sagemaker.client("sagemaker"), f"{account.name}-v9-other"
    watch, ecr = account.sagemaker.client("cloudwatch"), account.ecr.client()
    scaling = account.sagemaker.client("application-autoscaling")
    theirs = [{"Key": "project", "Value": "sentiment-flows"}, {"Key": "endpoint", "Value": "another"}]
    ecr.create_repository(
        repositoryName=f"{account.name}-other", tags=[{"Key": "project", "Value": "another"}]
    )
    images = account.images.model_copy(update={"repository": f"{account.name}-other"})
    container = {"Image": images.publish(f"sentiment-serve:1-{release.digest[:12]}")}
    sagemaker.create_model(
        ModelName=other, PrimaryContainer=container, ExecutionRoleArn=account.endpoint.role, Tags=theirs
    )
    variant = {"VariantName": VARIANT, "ModelName": other, "InstanceType": "ml.m5.large"}
    variants = [variant | {"InitialInstanceCount": 1}]
    sagemaker.create_endpoint_config(EndpointConfigName=other, ProductionVariants=variants, Tags=theirs)
    sagemaker.create_endpoint(EndpointName=other, EndpointConfigName=other)
    while sagemaker.describe_endpoint(EndpointName=other)["EndpointStatus"] == "Creating":
        time.sleep(0.1)
    put_alarm(account, f"{account.name}-5xx-other")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{other}/variant/{VARIANT}",
        "ScalableDimension": DIMENSION,
    }
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=3)
    yield account.state()
    scaling.deregister_scalable_target(**target)
    watch.delete_alarms(AlarmNames=[f"{account.name}-5xx-other"])
    sagemaker.delete_endpoint(EndpointName=other)
    while sagemaker.list_endpoints(NameContains=other)["Endpoints"]:
        time.sleep(0.1)
    sagemaker.delete_endpoint_config(EndpointConfigName=other)
    sagemaker.delete_model(ModelName=other)
    ecr.delete_repository(repositoryName=f"{account.name}-other", force=True)


def put_alarm(account: Account, name: str) -> None:
    account.sagemaker.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )


def deny(gateway: Gateway, call: str) -> None:
    """Refuse the next call of a kind."""

    def hook(request: Request) -> None:
        if operation(request) == call:
            gateway.before = None
            gateway.fail(400, 1, body=DENIED)

    gateway.before = hook


def kinds(result: TeardownResult) -> list[str]:
    """Return the kinds of AWS's things that a teardown would delete, or has deleted."""
    return sorted(what for what, _, _, fate in result.rows() if fate in ("to delete", "deleted"))


def test_all_of_ours_goes_in_several_tries_and_nothing_of_others(
    account: Account, neighbours: dict[str, Any], release: Release
) -> None:
    account.endpoint.deploy(release, smoke_test)
    deployed = account.state()
    ours = deployed.keys() - neighbours.keys()
    assert len(ours) == 8, "endpoint, model, configuration, 2 alarms, target and its policy, repository"
    account.sagemaker.api.requests.clear()
    account.ecr.api.requests.clear()

    result = teardown()
    there = ["ECR repository", "alarm", "alarm", "autoscaling", "endpoint", "endpoint-config", "model"]
    assert kinds(result) == there
    left = {resource.kind: resource.by_hand for resource in result.left}
    assert (
        left["log group"]
        == f"aws logs delete-log-group --log-group-name /aws/sagemaker/Endpoints/{account.name}"
    )
    assert left["captured requests"] == "aws s3 rm --recursive s3://bucket/captured/"
    assert account.state() == deployed
    assert not [call for call in account.calls() if re.search(":(?!Describe|List|Invoke|Get)", call)]

    deny(account.sagemaker.api, "sagemaker:DeleteModel")
    with pytest.raises(TeardownError, match="DeleteModel answered AccessDenied.*The same command goes on"):
        teardown(YES)
    assert account.endpoint.serving() is None
    deny(account.ecr.api, "ecr:DeleteRepository")
    with pytest.raises(TeardownError, match="AccessDenied.*deployments/iam"):
        teardown(YES)
    assert kinds(teardown()) == ["ECR repository"]
    assert kinds(teardown(YES)) == ["ECR repository"]
    assert account.state() == neighbours
    assert kinds(teardown(YES)) == []
    assert account.state() == neighbours
    assert account.calls() <= ALLOWED, "more than the policy of who deploys allows"


STEPS = [
    ("application-autoscaling:DeregisterScalableTarget", "sagemaker"),
    ("sagemaker:DeleteEndpoint", "sagemaker"),
    ("sagemaker:DeleteModel", "sagemaker"),
    ("sagemaker:DeleteEndpointConfig", "sagemaker"),
    ("cloudwatch:DeleteAlarms", "sagemaker"),
    ("ecr:DeleteRepository", "ecr"),
]
"""The calls that delete, in their order, and whose API they reach."""


@pytest.mark.timeout(600)
def test_a_teardown_that_is_killed_at_each_step_is_finished_by_the_next(
    account: Account, neighbours: dict[str, Any], release: Release
) -> None:
    """One after the other: each finds what the one before has left, and gets one step further.

    To be killed after a step is to be killed before the next one.
    """
    account.endpoint.deploy(release, smoke_test)
    ours = account.state().keys() - neighbours.keys()
    account.sagemaker.api.requests.clear()
    account.ecr.api.requests.clear()
    for call, service, arrives in ((*STEPS[0], False), *((*step, True) for step in STEPS)):
        left = len(account.state())
        kill_at(getattr(account, service).api, call, arrives)
        deadline = time.monotonic() + 10
        while len(now := account.state()) == left and arrives and time.monotonic() < deadline:
            time.sleep(0.1)  # an endpoint is not gone at once
        assert {name: now[name] for name in neighbours} == neighbours, "of others nothing was touched"
        assert now.keys() <= neighbours.keys() | ours
        assert arrives == (len(now) < left), f"{call} is the step that it was killed at"
    assert account.state() == neighbours
    assert kinds(teardown(YES)) == []
    assert account.calls() <= ALLOWED, "more than the policy of who deploys allows"


def kill_at(gateway: Gateway, call: str, arrives: bool) -> None:
    """Tear down in a process of its own, and kill that when it makes a call, which AWS hears of or not."""
    script = "from flows.teardown import *; teardown(TeardownParameters(yes=True))"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())},
        stderr=subprocess.DEVNULL,
    )

    def hook(request: Request) -> None:
        if operation(request) == call:
            gateway.before = None
            process.kill()
            process.wait()
            if not arrives:
                gateway.fail(503, 1)

    gateway.before = hook
    assert process.wait(60) == -signal.SIGKILL, f"{call} was never made"
    gateway.before = None


def test_what_is_not_ours_under_our_names_is_left_and_said_so(account: Account) -> None:
    ecr, sagemaker = account.ecr.client(), account.sagemaker.client("sagemaker")
    name, alarm = f"{account.name}-v1-theirs", f"{account.name}-5xx"
    ecr.create_repository(repositoryName=account.name)
    sagemaker.create_model(
        ModelName=name, PrimaryContainer={"Image": "theirs"}, ExecutionRoleArn=account.endpoint.role
    )
    put_alarm(account, alarm)
    before = account.state()

    result = teardown(YES)
    assert kinds(result) == []
    [repository] = [resource for resource in result.left if resource.kind == "ECR repository"]
    assert "not made here" in repository.detail
    assert repository.by_hand == f"aws ecr delete-repository --force --repository-name {account.name}"
    assert account.state() == before
    ecr.delete_repository(repositoryName=account.name)
    sagemaker.delete_model(ModelName=name)
    account.sagemaker.client("cloudwatch").delete_alarms(AlarmNames=[alarm])
