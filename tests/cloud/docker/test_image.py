"""The image of docker work pools: built by a real engine, named so that workers elsewhere get these bytes."""

import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.ecr import EcrImages
from blocks.images import LocalImages
from tests.cloud.docker_engine import DockerEngine
from tests.cloud.prefect_server import PrefectServer
from tests.cloud.registry_server import ACCOUNT, REGION, Ecr


@pytest.fixture
def images(prefect_server: PrefectServer, ecr: Ecr) -> Iterator[EcrImages]:
    """Make a repository of ECR the place of the server's images."""
    credentials = AwsCredentials(
        aws_access_key_id="key", aws_secret_access_key=SecretStr("planted-77aa"), region_name=REGION
    )
    images = EcrImages(
        repository=ecr.repository(), registry=ecr.host, endpoint=ecr.api.url, credentials=credentials
    )
    with prefect_server.here():
        images.appoint()
        yield images
        LocalImages().appoint()


@pytest.fixture
def declaration(tmp_path: Path) -> Path:
    """Declare a deployment in an image of one file, and one without an image."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    name = f"published-{secrets.token_hex(4)}"
    build = {"id": "build", "image_name": name, "tag": "latest", "path": str(tmp_path), "pull": False}
    docker = {
        "name": name,
        "entrypoint": "flows/etl.py:etl",
        "build": [{"prefect_docker.deployments.steps.build_docker_image": build}],
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "/opt"}}],
        "work_pool": {
            "name": name,
            "job_variables": {
                "image": "{{ build.image }}",
                "image_pull_policy": "Never",
                "mem_limit": "1g",
            },
        },
    }
    local = {
        "name": f"{name}-local",
        "entrypoint": "flows/etl.py:etl",
        "work_pool": {"name": f"{name}-local"},
    }
    pools = {name: "docker", f"{name}-local": "process"}
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump({"definitions": {"pools": pools}, "deployments": [docker, local]}))
    return file


@pytest.fixture
def run(prefect_server: PrefectServer, docker_engine: DockerEngine) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a module and returns its exit status and what it printed."""

    def run(module: str, *arguments: str) -> tuple[int, str]:
        command = sys.executable, "-m", module, *arguments
        done = prefect_server.command(*command, DOCKER_HOST=docker_engine.address)
        return done.returncode, done.stdout

    return run


def test_the_deployment_names_what_was_published(
    prefect_server: PrefectServer,
    docker_engine: DockerEngine,
    run: Callable[..., tuple[int, str]],
    images: EcrImages,
    declaration: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "published.yaml"
    status, printed = run("deployments.image", str(output), "--file", str(declaration), "--tag", "3f2a")
    assert status == 0, printed
    assert "planted-77aa" not in printed + output.read_text()
    status, printed = run("deployments.sync", "--file", str(output))
    assert status == 0, printed

    name = yaml.safe_load(declaration.read_text())["deployments"][0]["name"]
    with prefect_server.client() as client:
        variables = client.read_deployment_by_name(f"etl/{name}").job_variables
        client.read_deployment_by_name(f"etl/{name}-local")
    assert variables["mem_limit"] == "1g"
    assert variables["image_pull_policy"] == "IfNotPresent"
    reference: str = variables["image"]
    assert reference.startswith(f"{images.registry}/{images.repository}@sha256:")

    with docker_engine.client() as engine:
        identity = engine.images.get(f"{name}:3f2a").id
        engine.images.remove(identity, force=True)
        login = {"username": "AWS", "password": f"{ACCOUNT}-auth-token"}
        pulled: Any = engine.images.pull(reference, auth_config=login)
        assert pulled.id == identity
        engine.images.remove(identity, force=True)


def test_what_is_there_under_a_named_tag_will_do(
    run: Callable[..., tuple[int, str]],
    docker_engine: DockerEngine,
    images: EcrImages,
    declaration: Path,
    tmp_path: Path,
) -> None:
    name = yaml.safe_load(declaration.read_text())["deployments"][0]["name"]

    def published(*flags: str) -> tuple[int, str]:
        status, printed = run("deployments.image", str(tmp_path / "out"), "--file", str(declaration), *flags)
        return status, printed.strip().splitlines()[-1]

    first = published("--tag", "3f2a"), published()
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /other\n")
    again = published("--tag", "3f2a"), published()
    assert [status for status, _ in (*first, *again)] == [0, 0, 0, 1]
    assert again[0] == first[0]
    assert f"{name}-latest is another image" in again[1][1] and "another tag" in again[1][1]
    with docker_engine.client() as engine:
        for one in [one for one in engine.images.list() if any(name in tag for tag in one.tags)]:
            engine.images.remove(one.id, force=True)


def test_a_registry_that_refuses_leaves_no_declaration(
    run: Callable[..., tuple[int, str]], images: EcrImages, ecr: Ecr, declaration: Path, tmp_path: Path
) -> None:
    ecr.registry.fail(401, None)
    output = tmp_path / "published.yaml"
    status, printed = run("deployments.image", str(output), "--file", str(declaration))
    assert status == 1
    assert f"{images.repository}:" in printed
    assert "failed" in printed
    assert "Traceback" not in printed
    assert not output.exists()
