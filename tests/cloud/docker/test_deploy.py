"""The flows `deploy`, `transform` and `rollback`, in ECR and SageMaker with the image that a flow builds."""

from collections.abc import Callable, Iterator

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.ecr import EcrImages
from blocks.hosting import Instances, Shift
from blocks.images import LocalImages
from blocks.lake import LocalLake
from blocks.process import LocalEndpoint
from blocks.s3 import S3Lake
from blocks.sagemaker import SageMakerEndpoint
from flows.deploy import DeployParameters, deploy
from flows.transform import transform
from tasks.transform import TransformParameters
from tests.cloud.docker_engine import DockerEngine
from tests.cloud.registry_server import REGION, Ecr
from tests.cloud.s3_server import S3
from tests.cloud.sagemaker_server import SageMaker
from tests.flows.test_rollback import promote, run  # noqa: F401

pytestmark = pytest.mark.timeout(300)

SECRET = "planted-8e41-secret"


@pytest.fixture
def hosted(
    blocks: None,
    docker_engine: DockerEngine,
    ecr: Ecr,
    sagemaker: SageMaker,
    slim_image: str,
    endpoint: LocalEndpoint,
) -> Iterator[SageMakerEndpoint]:
    """Save the blocks of ECR and SageMaker under the names that the flows ask for."""
    credentials = AwsCredentials(
        aws_access_key_id="key", aws_secret_access_key=SecretStr(SECRET), region_name=REGION
    )
    images = EcrImages(
        repository="sentiment-deployed",
        registry=ecr.host,
        endpoint=ecr.api.url,
        credentials=credentials,
        build_args={"BASE_IMAGE": slim_image},
    )
    block = SageMakerEndpoint(
        name="deployed",
        role=sagemaker.role,
        hosting=Instances(shift=Shift(wait=0)),
        timeout=120,
        poll=0.2,
        api=sagemaker.api.url,
        credentials=credentials,
    )
    images.appoint()
    block.appoint()
    yield block
    block.stop()
    LocalImages().appoint()
    endpoint.appoint()
    with docker_engine.client() as engine:
        for image in engine.images.list():
            if any("sentiment-deployed" in tag for tag in image.tags):
                engine.images.remove(image.id, force=True)


@pytest.fixture
def bulk(blocks: None, sagemaker: SageMaker, s3: S3, bucket: str, lake: LocalLake) -> Iterator[S3Lake]:
    """Save a lake that transform jobs reach."""
    sagemaker.store(s3)
    block = S3Lake(bucket=bucket, credentials=s3.credentials())
    block.appoint()
    yield block
    lake.appoint()


def test_production_goes_to_sagemaker_and_back(
    hosted: SageMakerEndpoint,
    bulk: S3Lake,
    promote: Callable[..., str],  # noqa: F811
    ecr: Ecr,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def pushed() -> list[str]:
        found = ecr.client().list_images(repositoryName="sentiment-deployed")["imageIds"]
        return sorted(image["imageTag"] for image in found)

    first = promote("first")
    deployed = deploy()
    assert deployed.deployment == hosted.serving()
    assert deployed.deployment is not None and deployed.deployment.version == first
    assert [answer.label for answer in deployed.predictions] == ["neutral"] * 3, "the bundle knows four words"
    assert [tag.rpartition("-")[0].rpartition("-")[0] for tag in pushed()] == [f"sentiment-serve-{first}"]

    caplog.clear()
    assert deploy().deployment == deployed.deployment
    assert not [line for line in caplog.messages if "Building" in line or "Publishing" in line]

    second = promote("second")
    deploy()
    serving = hosted.serving()
    assert serving is not None and serving.version == second
    assert len(pushed()) == 2

    bulk.write("raw/a.jsonl", b'{"text": "what?"}\n{"text": null}\n')
    done = transform(TransformParameters(input="raw", output="scored"))
    assert (done.version, done.rows) == (second, 2)
    assert b'"label":"neutral"' in bulk.read("scored/a.jsonl")
    assert len(pushed()) == 2, "the same image"

    back = run(reason="Complaints.")
    assert back.deployment == hosted.serving()
    assert back.deployment is not None and back.deployment.version == first
    assert len(pushed()) == 2, "its image is there"

    assert deploy(DeployParameters(stop=True)).deployment is None
    assert hosted.serving() is None
    assert SECRET not in caplog.text
