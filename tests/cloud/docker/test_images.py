"""Publishing images: the real engine, a real registry behind ECR's log-in."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.ecr import EcrImages, _digest, _rules
from blocks.images import Images, ImagesError, LocalImages, TakenError
from blocks.role import ROOT
from deployments.image import BUILD
from tasks.image import NAME
from tests.cloud.gateway import Request
from tests.cloud.registry_server import ACCOUNT, REGION, Ecr

LOGIN = {"username": "AWS", "password": f"{ACCOUNT}-auth-token"}
SECRET = "planted-3b9e-secret"
EXPIRED = b"""{"errors": [{"code": "DENIED",
    "message": "Your authorization token has expired. Reauthenticate and try again."}]}"""


@pytest.fixture
def engine(docker_engine: object) -> Iterator[Any]:
    from docker.client import DockerClient

    client = DockerClient.from_env()
    yield client
    client.close()


@pytest.fixture
def image(engine: Any) -> Iterator[str]:
    """Make an image of one file."""
    engine.api.import_image_from_data(_archive(b"hello"), repository="sentiment-hello", tag="1")
    yield "sentiment-hello:1"
    engine.images.remove(engine.images.get("sentiment-hello:1").id, force=True)


def _archive(content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@pytest.fixture
def images(ecr: Ecr) -> EcrImages:
    credentials = AwsCredentials(
        aws_access_key_id="key", aws_secret_access_key=SecretStr(SECRET), region_name=REGION
    )
    return EcrImages(
        repository=ecr.repository(), registry=ecr.host, endpoint=ecr.api.url, credentials=credentials
    )


def failure(images: EcrImages, image: str) -> ImagesError:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        images.publish(image)
    error = images.explain(caught.value) or caught.value
    assert isinstance(error, ImagesError)
    assert SECRET not in str(error)
    return error


def test_what_is_published_can_be_pulled(images: EcrImages, image: str, engine: Any) -> None:
    reference = images.publish(image)
    assert reference == images.publish(image), "the same bytes have the same name"
    identity = engine.images.get(image).id
    for tag in engine.images.get(image).tags:
        engine.images.remove(tag, force=True)
    pulled = engine.images.pull(reference, auth_config=LOGIN)
    assert pulled.id == identity
    engine.images.get(reference).tag("sentiment-hello", "1")


def test_the_block_is_kept_and_its_secret_never_shown(
    prefect_api: None, images: EcrImages, image: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    images.appoint()
    loaded = Images.current()
    assert isinstance(loaded, EcrImages)
    assert loaded.publish(image).startswith(images.registry or "")
    assert images.repository in loaded.check()
    assert SECRET not in repr(loaded)
    assert SECRET not in caplog.text
    assert "auth-token" not in caplog.text, "the registry's password"
    LocalImages().appoint()


def test_a_missing_repository_is_made_by_the_first_image(images: EcrImages, image: str, ecr: Ecr) -> None:
    fresh = images.model_copy(update={"repository": f"{images.repository}-fresh", "keep": 7})
    ecr.api.requests.clear()
    assert "which the first image makes" in fresh.check()
    assert fresh.find(image) is None
    reference = fresh.publish(image)
    assert fresh.find(image) == reference
    assert fresh.check() == f"{ecr.host}/{fresh.repository}"
    assert called(ecr) - allowed("github") == {"ecr:CreateRepository", "ecr:PutLifecyclePolicy"}

    api = ecr.client()
    [repository] = api.describe_repositories(repositoryNames=[fresh.repository])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    tags = api.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
    assert tags == [{"Key": "project", "Value": "sentiment-flows"}]
    policy = api.get_lifecycle_policy(repositoryName=fresh.repository)["lifecyclePolicyText"]
    selections = [rule["selection"] for rule in json.loads(policy)["rules"]]
    assert selections[0]["tagStatus"] == "untagged"
    kept = {selection["tagPrefixList"][0]: selection["countNumber"] for selection in selections[1:]}
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    built = {build[BUILD]["image_name"] for entry in declared for build in entry.get("build", [])}
    assert kept == {f"{name}-": 7 for name in {NAME, *built}}


def test_a_repository_that_is_there_is_left_as_it_is(images: EcrImages, image: str, ecr: Ecr) -> None:
    ecr.api.requests.clear()
    images.publish(image)
    asks = "ecr:ListTagsForResource"  # whether it was made here; who may not ask has not made it
    assert called(ecr) - {asks} == {
        "ecr:DescribeRepositories",
        "ecr:GetAuthorizationToken",
        "ecr:BatchGetImage",
    }
    assert called(ecr) - {asks} <= allowed("github")

    fresh = images.model_copy(update={"repository": ecr.repository()})
    refuse(ecr, asks)
    assert fresh.publish(image) == fresh.find(image)


def refuse(ecr: Ecr, call: str) -> None:
    """Deny the next call of a kind."""
    denied = b'{"__type": "AccessDeniedException", "message": "no"}'

    def hook(request: Request) -> None:
        if request.headers["X-Amz-Target"].endswith(call.removeprefix("ecr:")):
            ecr.api.before = None
            ecr.api.fail(400, 1, body=denied)

    ecr.api.before = hook


def test_a_repository_that_a_killed_publisher_has_begun_is_finished(
    images: EcrImages, image: str, ecr: Ecr
) -> None:
    begun = images.model_copy(update={"repository": f"{images.repository}-begun"})
    killed = start(begun, image)

    def kill(request: Request) -> None:
        if request.headers["X-Amz-Target"].endswith("PutLifecyclePolicy"):
            ecr.api.before = None
            killed.kill()
            killed.wait()
            ecr.api.fail(503, 1)  # it never arrived

    ecr.api.before = kill
    assert killed.wait(60) == -signal.SIGKILL
    api = ecr.client()
    with pytest.raises(api.exceptions.LifecyclePolicyNotFoundException):
        api.get_lifecycle_policy(repositoryName=begun.repository)

    assert begun.publish(image) == begun.find(image)
    policy = api.get_lifecycle_policy(repositoryName=begun.repository)["lifecyclePolicyText"]
    assert json.loads(policy) == {"rules": _rules(begun.keep)}
    theirs = json.dumps({"rules": _rules(3)})  # set by somebody since
    api.put_lifecycle_policy(repositoryName=begun.repository, lifecyclePolicyText=theirs)
    api.batch_delete_image(repositoryName=begun.repository, imageIds=[{"imageTag": "sentiment-hello-1"}])
    assert begun.publish(image)
    policy = api.get_lifecycle_policy(repositoryName=begun.repository)["lifecyclePolicyText"]
    assert json.loads(policy) == json.loads(theirs)


PUBLISH = """
import json, sys
from blocks.ecr import EcrImages
block, image = json.loads(sys.argv[1])
EcrImages(**block).publish(image)
"""


def start(images: EcrImages, image: str) -> "subprocess.Popen[bytes]":
    """Publish in a process of its own."""
    block = images.model_dump(mode="json", include={"repository", "registry", "endpoint"})
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "test", "region_name": REGION}
    given = json.dumps([block | {"credentials": keys}, image])
    return subprocess.Popen([sys.executable, "-c", PUBLISH, given], cwd=ROOT)


def called(ecr: Ecr) -> set[str]:
    return {f"ecr:{request.headers['X-Amz-Target'].split('.')[-1]}" for request in ecr.api.requests}


def allowed(role: str) -> set[str]:
    policy = json.loads((ROOT / "deployments" / "iam" / f"{role}.json").read_text())
    actions = [statement["Action"] for statement in policy["Statement"]]
    return {name for action in actions for name in ([action] if isinstance(action, str) else action)}


def pushes(ecr: Ecr) -> int:
    return sum(request.method in ("POST", "PUT", "PATCH") for request in ecr.registry.requests)


def test_nothing_is_pushed_twice_and_no_tag_is_moved(
    images: EcrImages, image: str, ecr: Ecr, engine: Any
) -> None:
    assert images.find(image) is None
    reference = images.publish(image)
    before = pushes(ecr)
    assert images.publish(image) == images.find(image) == reference
    other = engine.api.import_image_from_data(_archive(b"other"), repository="sentiment-hello", tag="1")
    with pytest.raises(TakenError, match="give this one another tag"):
        images.publish(image)
    assert pushes(ecr) == before
    assert images.find(image) == reference
    engine.images.remove(json.loads(other)["status"], force=True)
    engine.images.get(f"{ecr.host}/{images.repository}:sentiment-hello-1").tag("sentiment-hello", "1")


def test_a_password_that_ends_in_mid_push_is_fetched_anew(images: EcrImages, image: str, ecr: Ecr) -> None:
    ended: list[str] = []

    def end(request: Request) -> None:
        if request.method == "PUT" and "/manifests/" in request.path and not ended:
            ended.append(request.path)
            ecr.registry.fail(403, 1, path="/manifests/", body=EXPIRED)

    ecr.registry.before = end
    ecr.api.requests.clear()
    assert images.publish(image) == images.find(image)
    tokens = [r for r in ecr.api.requests if r.headers["X-Amz-Target"].endswith("GetAuthorizationToken")]
    assert ended and len(tokens) == 2


def test_a_registry_without_room_is_named_and_nothing_refers_to_what_was_begun(
    images: EcrImages, small_ecr: Ecr, mount: Callable[[str], Path], engine: Any
) -> None:
    name = "sentiment-hello:1"
    engine.api.import_image_from_data(_archive(os.urandom(4_000_000)), repository="sentiment-hello", tag="1")
    images = images.model_copy(update={"registry": small_ecr.host})
    try:
        error = failure(images, name)
        target = f"{small_ecr.host}/{images.repository}:sentiment-hello-1"
        assert str(error).startswith(f"Pushing {target} failed: ")
        assert "make room if its disk is full" in str(error) and error.transient
        assert sum(file.stat().st_size for file in mount("remount,size=2m").rglob("*")) > 1_500_000, "half"
        assert not [r for r in small_ecr.registry.requests if "/manifests/" in r.path and r.method == "PUT"]
        assert images.find(name) is None
        mount("remount,size=9m")
        assert images.publish(name) == images.find(name)
        assert engine.images.pull(images.find(name), auth_config=LOGIN).id == engine.images.get(name).id
    finally:
        engine.images.remove(engine.images.get(name).id, force=True)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("received unexpected HTTP status: 507 Insufficient Storage", "make room"),
        ("unknown: write /var/lib/registry/data: no space left on device", "make room"),
        ("dial tcp 10.0.0.1:5000: connect: connection refused", "Nothing refers to it; push again"),
    ],
)
def test_what_a_registry_says_leads_to_a_remedy(said: str, remedy: str) -> None:
    with pytest.raises(ImagesError, match=remedy) as caught:
        _digest([{"status": "Preparing"}, {"error": said}], "10.0.0.1:5000/sentiment:1")
    assert caught.value.transient and said in str(caught.value)


def test_a_digest_that_the_registry_does_not_confirm_is_an_error(
    images: EcrImages, image: str, ecr: Ecr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ecr.registry, "after", None)  # the API never hears of the image
    with pytest.raises(ImagesError, match="but nothing is there"):
        images.publish(image)


def test_an_image_that_is_not_there(images: EcrImages, engine: Any) -> None:
    assert "build it first" in str(failure(images, "sentiment-unbuilt:1"))


def test_a_registry_that_refuses_is_an_error(images: EcrImages, image: str, ecr: Ecr) -> None:
    ecr.registry.fail(401, None)
    error = failure(images, image)
    assert images.repository in str(error)
    assert not error.transient


@pytest.mark.parametrize(("status", "body"), [(400, b'{"__type": "ThrottlingException"}'), (503, b"")])
def test_throttling_is_ridden_out(images: EcrImages, image: str, ecr: Ecr, status: int, body: bytes) -> None:
    ecr.api.fail(status, 2, body=body)
    assert images.publish(image)


def test_outages_may_pass(images: EcrImages, image: str, ecr: Ecr) -> None:
    ecr.api.down()
    assert failure(images, image).transient
    ecr.api.up()
    ecr.registry.down()
    assert failure(images, image).transient
    ecr.registry.up()
    assert images.publish(image)


def test_local_images_stay_where_they_are(engine: Any) -> None:
    assert LocalImages().publish("sentiment-train:1") == "sentiment-train:1"
    assert LocalImages().find("sentiment-unbuilt:1") is None
    assert "Docker engine" in LocalImages().check()


def test_local_images_are_listed_and_left(image: str, engine: Any) -> None:
    engine.images.get(image).tag("sentiment-train", "listed-b41c")  # the fixture removes it with its image
    found = {resource.name: resource.by_hand for resource in LocalImages().resources()}
    assert found["sentiment-train:listed-b41c"] == "docker rmi sentiment-train:listed-b41c"
    assert image not in found, "another's"
    assert not LocalImages().remove()
    assert LocalImages().find("sentiment-train:listed-b41c")
