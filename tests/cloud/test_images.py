"""Publishing images: the real engine, a real registry behind ECR's log-in."""

import io
import logging
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.ecr import EcrImages
from blocks.images import Images, ImagesError, LocalImages
from tests.cloud.registry_server import REGION, Ecr

SECRET = "planted-3b9e-secret"


@pytest.fixture
def engine(docker_engine: object) -> Iterator[Any]:
    from docker.client import DockerClient

    client = DockerClient.from_env()
    yield client
    client.close()


@pytest.fixture
def image(engine: Any) -> Iterator[str]:
    """Make an image of one file."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    engine.api.import_image_from_data(archive.getvalue(), repository="sentiment-hello", tag="1")
    yield "sentiment-hello:1"
    engine.images.remove("sentiment-hello:1", force=True)


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
    assert images.repository in str(error)
    assert SECRET not in str(error)
    return error


def test_what_is_published_can_be_pulled(images: EcrImages, image: str, engine: Any) -> None:
    reference = images.publish(image)
    assert reference == images.publish(image), "the same bytes have the same name"
    identity = engine.images.get(image).id
    for tag in engine.images.get(image).tags:
        engine.images.remove(tag, force=True)
    _, login = images._login()
    pulled = engine.images.pull(reference, auth_config=login)
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


def test_a_missing_repository_is_named_with_the_remedy(images: EcrImages) -> None:
    gone = images.model_copy(update={"repository": "sentiment-gone"})
    with pytest.raises(Exception) as caught:  # noqa: PT011
        gone.check()
    assert "aws ecr create-repository --repository-name sentiment-gone" in str(gone.explain(caught.value))


def test_an_image_that_is_not_there(images: EcrImages, engine: Any) -> None:
    assert "build it first" in str(failure(images, "sentiment-unbuilt:1"))


def test_a_registry_that_refuses_is_an_error(images: EcrImages, image: str, ecr: Ecr) -> None:
    ecr.registry.fail(401, None)
    error = failure(images, image)
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
    assert "Docker engine" in LocalImages().check()
