"""Flows in containers: a real engine, a real worker, and blocks that come from the Prefect API."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml

from blocks.role import ROOT
from tests.cloud.docker_engine import DockerEngine
from tests.cloud.mlflow_server import MlflowServer
from tests.cloud.prefect_server import PrefectServer
from tests.cloud.s3_server import S3
from tests.cloud.snowflake_server import Snowflake

if TYPE_CHECKING:
    from docker.models.containers import Container
    from prefect.client.schemas.objects import FlowRun

    from blocks.tracking import ServerTracking

POOL, IMAGE, HOME = "sentiment-docker", "sentiment-test/train", "/opt/sentiment-flows"
DEPLOYMENTS = ("etl/docker", "train/docker", "train/docker-gpu")
WAIT = 300  # seconds that a run may take
SMALL = {"epochs": 1, "max_tokens": 16, "batch_size": 32}
REACH = {"network_mode": "host"}


@dataclass(frozen=True)
class Site:
    """A Prefect server with the deployments, the engine that runs them, and what the flows use."""

    server: PrefectServer
    engine: DockerEngine
    tracking: "ServerTracking"
    mlflow: MlflowServer
    secrets: tuple[str, ...]

    def start(
        self,
        deployment: str,
        parameters: dict[str, Any] | None = None,
        queue: str | None = None,
        **variables: Any,
    ) -> "FlowRun":
        """Ask for a run of a deployment, in the network of this machine.

        Args:
            deployment: Its name, with the flow's.
            parameters: Of the flow.
            queue: Work queue; the deployment's by default.
            variables: Job variables that are not as declared.
        """
        with self.server.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(
                found.id,
                parameters={"parameters": parameters or {}},
                work_queue_name=queue,
                job_variables=REACH | variables,
            )

    def wait(self, run: "FlowRun", until: Callable[["FlowRun"], bool] | None = None) -> "FlowRun":
        """Wait until a run is over, or until something else is true of it."""
        deadline = time.monotonic() + WAIT
        with self.server.client() as client:
            while True:
                run = client.read_flow_run(run.id)
                assert run.state is not None
                if until(run) if until else run.state.is_final():
                    return run
                over = time.monotonic() > deadline or run.state.is_final()
                assert not over, f"{run.state!r}\n{self.log(run)}"
                time.sleep(0.3)

    def log(self, run: "FlowRun") -> str:
        """Return the log that the server keeps of a run."""
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

        mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        with self.server.client() as client:
            return "\n".join(entry.message for entry in client.read_logs(mine, limit=200))

    def trains(self, run: "FlowRun") -> bool:
        return "Training the pooled network" in self.log(run)

    def containers(self, run: "FlowRun") -> list["Container"]:
        with self.engine.client() as client:
            label = f"io.prefect.flow-run-id={run.id}"
            found: list[Container] = client.containers.list(all=True, filters={"label": label})
        return found

    def versions(self, run: "FlowRun") -> list[str]:
        """Return the numbers of the model versions that a run has registered."""
        with self.tracking.opened() as client:
            found = client.search_model_versions(f"name = '{self.tracking.model}'")
        return [version.version for version in found if version.tags["prefect.flow_run"] == str(run.id)]


@pytest.fixture(scope="module")
def site(
    prefect_server: PrefectServer,
    docker_engine: DockerEngine,
    base_image: str,
    s3: S3,
    snowflake_gateway: Snowflake,
    mlflow_server: MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Deploy as prefect.yaml says, but with another base and another name for the image."""
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for entry in content["deployments"]:
        entry["tags"] = []  # no automation is to follow
        for step in entry.get("build", []):
            [build] = step.values()
            build |= {"image_name": IMAGE, "buildargs": {"BASE_IMAGE": base_image}, "rm": True}
    file = tmp_path_factory.mktemp("worker") / "prefect.yaml"
    file.write_text(yaml.safe_dump(content))
    names = [argument for name in DEPLOYMENTS for argument in ("--name", name)]
    secrets = (s3.secret, snowflake_gateway.password, mlflow_server.password)
    # Those who build often have such variables.
    variables = {"DOCKER_HOST": docker_engine.address, "AWS_SECRET_ACCESS_KEY": s3.secret}
    for command in (
        ("work-pool", "create", POOL, "--type", "docker", "--overwrite"),
        ("--no-prompt", "deploy", "--prefect-file", str(file), *names),
    ):
        done = prefect_server.prefect(*command, timeout=600, **variables)
        assert done.returncode == 0, done.stdout
    yield Site(prefect_server, docker_engine, mlflow_server.tracking(), mlflow_server, secrets)
    with prefect_server.client() as client, docker_engine.client() as docker:
        for name in DEPLOYMENTS:
            client.delete_deployment(client.read_deployment_by_name(name).id)
        client.delete_work_pool(POOL)
        for container in docker.containers.list(all=True, filters={"ancestor": f"{IMAGE}:latest"}):
            container.remove(force=True)
        docker.images.remove(f"{IMAGE}:latest", force=True)


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[None]:
    queues = ("--work-queue", "default", "--work-queue", "gpu")
    with site.server.worker(POOL, "--type", "docker", *queues, DOCKER_HOST=site.engine.address):
        yield


@pytest.fixture(scope="module")
def loaded(site: Site, worker: None, s3: S3, snowflake_gateway: Snowflake) -> "FlowRun":
    """Run the ETL in a container of the default bridge, where no loopback of this machine can be reached.

    The blocks that it leaves behind name the servers as this machine's network does.
    """
    from prefect_aws.client_parameters import AwsClientParameters

    from blocks.s3 import S3Lake

    bucket = f"test-{uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=bucket)
    warehouse = snowflake_gateway.warehouse()
    ports = (int(site.server.url.split(":")[2].split("/")[0]), s3.gateway.port, snowflake_gateway.port)
    with site.server.here(), site.engine.door(ports[0]) as api, site.engine.door(ports[1]) as storage:
        with site.engine.door(ports[2]) as database:
            endpoint = AwsClientParameters(endpoint_url=f"http://{storage}")
            S3Lake(bucket=bucket, credentials=s3.credentials(aws_client_parameters=endpoint)).appoint()
            warehouse.model_copy(update={"host": database.split(":")[0]}).appoint()
            network: dict[str, Any] = {
                "network_mode": "bridge",
                "env": {"PREFECT_API_URL": f"http://{api}/api"},
            }
            run = site.wait(site.start("etl/docker", {"limit": 400}, **network))
        S3Lake(bucket=bucket, credentials=s3.credentials()).appoint()
        warehouse.appoint()
        site.tracking.appoint()
    return run


def test_the_api_and_the_worker_may_be_on_another_host(site: Site, loaded: "FlowRun") -> None:
    assert loaded.state is not None and loaded.state.is_completed(), f"{loaded.state!r}\n{site.log(loaded)}"
    [container] = site.containers(loaded)
    assert container.attrs["HostConfig"]["NetworkMode"] == "bridge"
    assert "127.0.0.1" not in json.dumps(container.attrs["Config"]["Env"])


def test_a_container_trains_on_the_warehouse_and_knows_no_secret(site: Site, loaded: "FlowRun") -> None:
    before = set(site.mlflow.artifacts())
    run = site.wait(site.start("train/docker", SMALL))
    assert run.state is not None and run.state.is_completed(), f"{run.state!r}\n{site.log(run)}"
    assert site.versions(run) == ["1"]
    assert any(key.endswith("model.onnx") for key in set(site.mlflow.artifacts()) - before)
    [container] = site.containers(run)
    # The run ends before the container does, which sends the last lines of its log when it ends.
    assert container.wait(timeout=WAIT)["StatusCode"] == 0
    container.reload()
    deadline = time.monotonic() + 60
    while "Registered" not in site.log(run) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert container.attrs["Config"]["User"] == "sentiment"
    image = container.image
    assert image is not None
    seen = {
        "container": json.dumps(container.attrs),
        "output": container.logs().decode(),
        "image": json.dumps(image.attrs),
        "history": json.dumps(image.history()),
        "log": site.log(run),
        "run": run.model_dump_json(),
    }
    assert "Registered" in seen["log"] and site.server.url in seen["container"]
    found = [(secret, place) for secret in site.secrets for place, text in seen.items() if secret in text]
    assert found == []
    assert files_with(site, *site.secrets, "--uid 10001") == [f"{HOME}/containers/train/Dockerfile"]


def files_with(site: Site, *texts: str) -> list[str]:
    """Return the files of the image, less the installed packages, that hold one of the texts."""
    search = ["grep", "--recursive", "--files-with-matches", "--exclude-dir=.venv", "--fixed-strings"]
    command = [*search, *(f"--regexp={text}" for text in texts), HOME, "/home", "/root", "/etc", "/tmp"]
    with site.engine.client() as client:
        output: bytes = client.containers.run(
            f"{IMAGE}:latest", command, entrypoint=[], user="root", remove=True
        )
    return output.decode().split()


def test_a_gpu_that_the_engine_lacks_is_named(site: Site, worker: None) -> None:
    with site.engine.client() as client:
        if "nvidia" in client.info()["Runtimes"]:
            pytest.skip("This machine has a GPU.")
    run = site.wait(site.start("train/docker-gpu", {"require_gpu": True}))
    assert run.state is not None and run.state.is_crashed()
    assert 'could not select device driver "nvidia"' in str(run.state.message)
    [container] = site.containers(run)  # created, and never started
    settings = container.attrs["HostConfig"]
    [request] = settings["DeviceRequests"]
    assert (request["Driver"], request["Count"], request["Capabilities"]) == ("nvidia", -1, [["gpu"]])
    assert (settings["ShmSize"], settings["Memory"]) == (2 << 30, 16 << 30)


def test_a_required_gpu_that_is_not_there_fails_the_run(site: Site, loaded: "FlowRun") -> None:
    run = site.wait(site.start("train/docker", SMALL | {"seed": 4, "require_gpu": True}))
    assert run.state is not None and run.state.is_failed()
    assert "TensorFlow sees no GPU" in str(run.state.message)
    assert site.versions(run) == []


def test_an_image_that_cannot_be_pulled_is_named(site: Site, worker: None) -> None:
    # Nothing listens on port 1.
    image = "127.0.0.1:1/sentiment-train:gone"
    run = site.wait(site.start("train/docker", SMALL, image=image, image_pull_policy="Always"))
    assert run.state is not None and run.state.is_crashed()
    assert "127.0.0.1:1" in str(run.state.message) and "connection refused" in str(run.state.message)
    assert site.containers(run) == []


def test_a_killed_container_is_a_crash_and_leaves_no_version(site: Site, loaded: "FlowRun") -> None:
    endless = SMALL | {"seed": 2, "epochs": 1000, "learning_rate": 1e-6}
    run = site.wait(site.start("train/docker", endless), until=site.trains)
    [container] = site.containers(run)
    container.kill()
    run = site.wait(run)
    assert run.state is not None and run.state.is_crashed()
    assert "status code 137" in str(run.state.message)
    assert site.versions(run) == []


def test_a_container_outlives_its_worker(site: Site, loaded: "FlowRun") -> None:
    queue = ("--work-queue", "doomed")
    with site.server.worker(POOL, "--type", "docker", *queue, DOCKER_HOST=site.engine.address) as worker:
        run = site.start("train/docker", SMALL | {"seed": 3}, queue="doomed")
        run = site.wait(run, until=site.trains)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert site.versions(run) == []
    run = site.wait(run)
    assert run.state is not None and run.state.is_completed(), f"{run.state!r}\n{site.log(run)}"
    assert len(site.versions(run)) == 1
